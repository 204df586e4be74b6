"""`python -m services.notifier {serve,migrate,check}`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.runtime.command import Parts, run


def parts() -> Parts:
    """The service, imported now."""
    from services.notifier.app import build
    from services.notifier.check import check
    from services.notifier.config import NotifierConfig

    return Parts(config_class=NotifierConfig, build=build, check=check)


if __name__ == "__main__":
    sys.exit(run("notifier", migrations=Path(__file__).with_name("sql") / "migrations", parts=parts))
