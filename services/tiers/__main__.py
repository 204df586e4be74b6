"""`python -m services.tiers {serve,migrate,check}`."""

from __future__ import annotations

import sys

from services.runtime.command import run
from services.tiers.app import MIGRATIONS, build
from services.tiers.check import check
from services.tiers.config import Config

if __name__ == "__main__":
    sys.exit(run("tiers", config_class=Config, migrations=MIGRATIONS, build=build, check=check))
