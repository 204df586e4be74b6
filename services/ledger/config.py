"""What the ledger needs from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.runtime.clock import ClockMode
from services.runtime.command import CommonConfig
from services.runtime.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(CommonConfig):
    """`partitions`, `clock` and the key in `identifier_key_file` (32 bytes in base64) are fixed when the ledger is
    created; later starts with others are refused."""

    identifier_key_file: Path = setting()
    clock: ClockMode = setting(default=ClockMode.REAL)
    partitions: int = setting(default=16, minimum=1, maximum=65_536)
    # Lanes on two cores: more than one made unary calls slower (DESIGN §4).
    lanes: int = setting(default=1, minimum=1, maximum=64)
