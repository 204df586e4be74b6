"""The command line that every service shares: `python -m services.<name> {serve,migrate,check}`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from services.runtime import audit, config, contract, logging
from services.runtime.channels import Between
from services.runtime.contract import ContractError
from services.runtime.database import CONNECTION_ERRORS, PostgresError
from services.runtime.identity import Identities, SharedSecret
from services.runtime.migrations import MigrationError, migrate
from services.runtime.server import ListenError, Service, running, until_stopped
from services.runtime.tls import Certificates, TlsFiles
from services.runtime.tokens import MAX_KEY_HOURS, MAX_TOKEN_DAYS, TokenRules, TokenVerifier

# A composition root: from the configuration to a service; what must be closed goes onto the stack.
Build = Callable[[Any, contextlib.AsyncExitStack], Awaitable[Service]]

# Exit codes of `check`.
CLEAN, DIFFERENT, NOT_RUN = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What every service needs.

    `tls_*`: the certificate by which it is known, and whose certificates it trusts; where they are empty it listens on
    a unix socket alone, and `token_file` holds the secret by which services know each other. `token_keys` (a file or a
    URL that gives a JWKS) says whose tokens are accepted; where it is empty nobody's are. `token_keys_max_hours`: how
    long keys of a URL hold that cannot be read again; `token_max_days`: how long a token may last.
    """

    listen: str = config.setting()
    database_url: str = config.setting()
    programme: Path = config.setting()
    tls_certificate: str = config.setting(default="")
    tls_key: str = config.setting(default="")
    tls_authority: str = config.setting(default="")
    token_file: Path | None = config.setting(default=None)
    token_keys: str = config.setting(default="")
    token_keys_max_hours: int = config.setting(default=MAX_KEY_HOURS, minimum=1, maximum=24 * 366)
    token_max_days: int = config.setting(default=MAX_TOKEN_DAYS, minimum=1, maximum=10 * 366)
    token_issuer: str = config.setting(default="loyalty")
    token_audience: str = config.setting(default="loyalty")
    revoked_tokens: str = config.setting(default="")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `serve` and `check` are made of."""

    config_class: type[Any]
    build: Build
    check: Check


def run(name: str, *, migrations: Path, parts: Callable[[], Parts]) -> int:
    """Runs one command of a service and says the exit code.

    `parts` imports the service: that takes longer than all else of `migrate`, which does without.
    """
    _leave_no_core_file()
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    parser.add_argument("command", choices=("serve", "migrate", "check"), nargs="?", default="serve")
    command = parser.parse_args().command
    try:
        return _run(command, name, migrations, parts)
    except Exception as error:
        cause = _root(error)
        if isinstance(cause, CONNECTION_ERRORS):
            print(f"{name}: the database cannot be reached: {cause}", file=sys.stderr)
        elif isinstance(cause, PostgresError):
            # What follows the first line shows rows.
            print(f"{name}: the database refuses: {str(cause).partition(chr(10))[0]}", file=sys.stderr)
        elif isinstance(cause, (config.ConfigurationError, MigrationError, ContractError, ListenError)):
            print(f"{name}: {cause}", file=sys.stderr)
        else:
            print(logging.traceback_text(error), file=sys.stderr)
            return 1
    return NOT_RUN


def _run(command: str, name: str, migrations: Path, parts: Callable[[], Parts]) -> int:
    if command == "migrate":
        settings = config.load(MigrationConfig, os.environ)
        ran = asyncio.run(migrate(settings.migration_database_url, name, migrations))
        print(json.dumps({"service": name, "migrations_run": ran}))
        return 0
    service = parts()
    loaded = config.load(service.config_class, os.environ)
    if command == "check":
        report = asyncio.run(_checked(service.check, loaded, name))
        print(report.to_json())
        return DIFFERENT if report.differences else CLEAN
    logging.configure(name, loaded.log_level)
    uvloop.run(_serve(loaded, service.build))
    return 0


def _leave_no_core_file() -> None:
    """Memory holds secrets: with a limit of 1 the kernel neither writes a core file nor starts a program that would
    take one (a limit of 0 forbids files alone, and cannot be raised)."""
    limit = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


async def _checked(check: Check, loaded: CommonConfig, name: str) -> CheckReport:
    """The report of a service, with that of its audit log."""
    report = await check(loaded)
    found = await audit.check(loaded.database_url, name)
    return replace(
        report,
        checked={**report.checked, "audit_lines": found.lines},
        differences=(*report.differences, *found.differences),
    )


def _root(error: Exception) -> Exception:
    """The first error inside a group of task groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(loaded: Any, build: Build) -> None:
    issued = _issued_tokens(loaded)
    if issued is not None:
        await issued.begin()
    # What was imported lives as long as the process; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    async with contextlib.AsyncExitStack() as stack:
        service = await build(loaded, stack)
        if issued is not None:
            service = replace(service, background=(*service.background, issued.keep_fresh))
        between = own_identity(loaded, service.name)
        identities = Identities(
            issued=issued,
            shared=None if between.certificates else SharedSecret(between.secret),
            services=contract.SERVICES,
        )
        async with running(service, listen=loaded.listen, identities=identities, certificates=between.certificates):
            await until_stopped()


@functools.cache
def own_identity(loaded: CommonConfig, principal: str) -> Between:
    """How a service makes itself known to others, the same whenever it is asked; raises ConfigurationError where
    nothing says how."""
    files = TlsFiles.of(loaded.tls_certificate, loaded.tls_key, loaded.tls_authority)
    if files is not None:
        return Between(principal=principal, certificates=Certificates(files))
    if loaded.token_file is None:
        raise config.ConfigurationError(
            "services know each other by certificates: set LOYALTY_TLS_CERTIFICATE, LOYALTY_TLS_KEY and "
            "LOYALTY_TLS_AUTHORITY (or, where all of them are behind unix sockets, LOYALTY_TOKEN_FILE)"
        )
    return Between(principal=principal, certificates=None, secret=config.read_secret(loaded.token_file))


def _issued_tokens(loaded: CommonConfig) -> TokenVerifier | None:
    if not loaded.token_keys:
        return None
    rules = TokenRules(
        issuer=loaded.token_issuer,
        audience=loaded.token_audience,
        key_set=loaded.token_keys,
        revoked=loaded.revoked_tokens,
        max_token_days=loaded.token_max_days,
        max_key_hours=loaded.token_keys_max_hours,
    )
    return TokenVerifier(rules, roles=contract.roles(), now=time.time)
