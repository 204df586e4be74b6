"""`python -m services.notifier {serve,migrate,check}`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.notifier.app import build
from services.notifier.check import check
from services.notifier.config import NotifierConfig
from services.runtime.command import run

if __name__ == "__main__":
    sys.exit(
        run(
            "notifier",
            config_class=NotifierConfig,
            migrations=Path(__file__).with_name("sql") / "migrations",
            build=build,
            check=check,
        )
    )
