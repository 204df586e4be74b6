"""`python -m services.tiers {serve,migrate,check}`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.runtime.command import run
from services.tiers.app import build
from services.tiers.check import check
from services.tiers.config import TiersConfig

if __name__ == "__main__":
    sys.exit(
        run(
            "tiers",
            config_class=TiersConfig,
            migrations=Path(__file__).parent / "sql" / "migrations",
            build=build,
            check=check,
        )
    )
