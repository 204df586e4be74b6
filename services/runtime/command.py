"""The command line that every service shares: `python -m services.<name> {serve,migrate,check}`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from services.runtime import config, logging
from services.runtime.contract import ContractError
from services.runtime.database import CONNECTION_ERRORS, PostgresError
from services.runtime.identity import DevelopmentTokens
from services.runtime.migrations import MigrationError, migrate
from services.runtime.server import ListenError, Service, running, until_stopped

# A composition root: from the configuration to a service; what must be closed goes onto the stack.
Build = Callable[[Any, contextlib.AsyncExitStack], Awaitable[Service]]

# Exit codes of `check`.
CLEAN, DIFFERENT, NOT_RUN = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What every service needs."""

    listen: str = config.setting()
    database_url: str = config.setting()
    programme: Path = config.setting()
    token_file: Path = config.setting()
    log_level: str = config.setting(default="info")


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationConfig:
    """What `migrate` needs: the DSN of the role that owns the schemas."""

    migration_database_url: str = config.setting()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check looked at (name to count) and what differs from what the entries say."""

    service: str
    checked: Mapping[str, int]
    differences: tuple[Mapping[str, Any], ...]

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(
            {"service": self.service, "checked": dict(self.checked), "differences": list(self.differences)}
        )


# Rebuilds a service's states from the entries and compares.
Check = Callable[[Any], Coroutine[Any, Any, CheckReport]]


def run(
    name: str,
    *,
    config_class: type[Any],
    migrations: Path,
    build: Build,
    check: Check,
) -> int:
    """Runs one command of a service and says the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    parser.add_argument("command", choices=("serve", "migrate", "check"), nargs="?", default="serve")
    command = parser.parse_args().command
    try:
        return _run(command, name, config_class, migrations, build, check)
    except Exception as error:
        cause = _root(error)
        if isinstance(cause, CONNECTION_ERRORS):
            print(f"{name}: the database cannot be reached: {cause}", file=sys.stderr)
        elif isinstance(cause, PostgresError):
            print(f"{name}: the database refuses: {cause}", file=sys.stderr)
        elif isinstance(cause, (config.ConfigurationError, MigrationError, ContractError, ListenError)):
            print(f"{name}: {cause}", file=sys.stderr)
        else:
            raise
    return NOT_RUN


def _run(
    command: str,
    name: str,
    config_class: type[Any],
    migrations: Path,
    build: Build,
    check: Check,
) -> int:
    if command == "migrate":
        settings = config.load(MigrationConfig, os.environ)
        ran = asyncio.run(migrate(settings.migration_database_url, name, migrations))
        print(json.dumps({"service": name, "migrations_run": ran}))
        return 0
    loaded = config.load(config_class, os.environ)
    if command == "check":
        report = asyncio.run(check(loaded))
        print(report.to_json())
        return DIFFERENT if report.differences else CLEAN
    logging.configure(name, loaded.log_level)
    uvloop.run(_serve(loaded, build))
    return 0


def _root(error: Exception) -> Exception:
    """The first error inside a group of task groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(loaded: Any, build: Build) -> None:
    tokens = DevelopmentTokens(config.read_secret(loaded.token_file))
    # What was imported lives as long as the process; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    async with contextlib.AsyncExitStack() as stack:
        service = await build(loaded, stack)
        async with running(service, listen=loaded.listen, tokens=tokens):
            await until_stopped()
