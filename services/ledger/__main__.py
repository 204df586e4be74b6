"""`python -m services.ledger {serve,migrate,check}`."""

from __future__ import annotations

import sys

from services.ledger.app import MIGRATIONS, build
from services.ledger.check import check
from services.ledger.config import Config
from services.runtime.command import run

if __name__ == "__main__":
    sys.exit(run("ledger", config_class=Config, migrations=MIGRATIONS, build=build, check=check))
