"""The formats that history comes in: a module each, which makes a `history.Source` of a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.cli.formats import complete_journey
from services.cli.history import Source

FORMATS: Final[Mapping[str, Callable[[Path], Source]]] = {complete_journey.NAME: complete_journey.CompleteJourney}
