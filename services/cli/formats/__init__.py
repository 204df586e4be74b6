"""The formats that history comes in: a module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.cli.formats import cdnow, complete_journey, online_retail
from services.cli.history import Format

FORMATS: Final[Mapping[str, Format]] = {one.FORMAT.name: one.FORMAT for one in (complete_journey, online_retail, cdnow)}
