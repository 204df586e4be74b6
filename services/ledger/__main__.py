"""`python -m services.ledger {serve,migrate,check}`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.runtime.command import Parts, run


def parts() -> Parts:
    """The service, imported now."""
    from services.ledger.app import build
    from services.ledger.check import check
    from services.ledger.config import Config

    return Parts(config_class=Config, build=build, check=check)


if __name__ == "__main__":
    sys.exit(run("ledger", migrations=Path(__file__).with_name("sql") / "migrations", parts=parts))
