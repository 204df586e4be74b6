"""A real PostgreSQL for every worker, a database of its own for every test, services over real gRPC."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from services.cli.installation import Connection, connection
from services.cli.postgres import Cluster
from services.ledger.app import build as build_ledger
from services.ledger.config import Config as LedgerConfig
from services.runtime.channels import open_channel
from services.runtime.clock import ClockMode
from services.runtime.identity import Identities, SharedSecret
from services.runtime.migrations import migrate
from services.runtime.server import Service, running

ROOT = Path(__file__).resolve().parent.parent
PROGRAMMES = ROOT / "programmes"
SECRET = "secret-of-the-tests"
LOYALTY = Path(sys.executable).parent / "loyalty"

# Processes are started by the hundred: what they import is compiled once, though the environment forbids to keep that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# By default a fault is shown with all that its frames hold, which takes seconds.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# Databases are made by the hundred, and none outlives its test: what guards them against a machine that loses power
# only takes time. A server that is killed loses nothing by this.
NO_LOSS_OF_POWER = """
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
min_wal_size = 32MB
max_wal_size = 128MB
"""
# A database is hundreds of files: ten times as fast to make in memory. A worker needs a fraction of this.
ROOM_IN_MEMORY = 2 * 2**30

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL of this worker; its folder has a short path, because a socket lies in it."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_IN_MEMORY
    folder = Path(tempfile.mkdtemp(prefix="loyalty-test-", dir=memory if has_room else None))
    made = Cluster(folder)
    try:
        made.init()
        with (made.data / "postgresql.conf").open("a") as settings:
            settings.write(NO_LOSS_OF_POWER)
        made.start()
        made.create_database("migrated")
        for schema in ("ledger", "tiers", "notifier"):
            migrations = ROOT / "services" / schema / "sql" / "migrations"
            asyncio.run(migrate(made.dsn("loyalty_owner", database="migrated"), schema, migrations))
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def loyalty(*arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """The command, as a person would call it."""
    return subprocess.run([str(LOYALTY), *arguments], capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture(scope="session")
def live() -> Iterator[Connection]:
    """A stack of this worker, as `loyalty up` starts it, in real time; tests use members of their own."""
    directory = Path(tempfile.mkdtemp(prefix="ly-live-"))
    programme = str(PROGRAMMES / "retail-demo.yaml")
    started = loyalty("up", "--data", str(directory), "--programme", programme, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A migrated database of one test."""

    cluster: Cluster
    name: str

    def dsn(self, role: str) -> str:
        """Its address for a role."""
        return self.cluster.dsn(role, database=self.name)


@contextlib.contextmanager
def fresh_database(cluster: Cluster) -> Iterator[Database]:
    """A migrated database, dropped at the end."""
    name = f"test_{next(_numbers)}"
    cluster.create_database(name, template="migrated")
    yield Database(cluster=cluster, name=name)
    cluster.drop_database(name)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """A fresh, migrated database."""
    with fresh_database(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data, in the one that LOYALTY_SHARED names, else `../shared`.

    Where it is missing the test is skipped; where it was named, and at the gate it is, the test fails.
    """
    named = os.environ.get("LOYALTY_SHARED")
    data = Path(named or ROOT.parent / "shared") / "data"
    if not data.is_dir():
        missing = f"the real data is not there: no folder {data}"
        if named:
            pytest.fail(missing)
        pytest.skip(f"{missing}; name its parent in LOYALTY_SHARED")
    return data


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    made = Path(tempfile.mkdtemp(prefix="ly-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def token_file(folder: Path) -> Path:
    """The file with the installation's secret."""
    path = folder / "token"
    path.write_text(SECRET)
    return path


def identifier_key(folder: Path) -> Path:
    """The file of a ledger's key for identifiers; the same key in every folder."""
    path = folder / "identifier-key"
    path.write_text(base64.b64encode(bytes(range(32))).decode())
    return path


@contextlib.asynccontextmanager
async def serving(service: Service, listen: str) -> AsyncIterator[Any]:
    """The service over real gRPC, and a channel to it as the principal `test`."""
    async with running(service, listen=listen, identities=Identities(shared=SharedSecret(SECRET))):
        channel = open_channel(listen, principal="test", secret=SECRET)
        try:
            yield channel
        finally:
            await channel.close()


StartLedger = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def start_ledger(database: Database, folder: Path, token_file: Path) -> AsyncIterator[StartLedger]:
    """Starts ledgers over the test's database: `await start_ledger(programme=..., clock=...)` gives a channel."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *,
            programme: Path = PROGRAMMES / "tiered-365.yaml",
            clock: ClockMode = ClockMode.SIMULATED,
            partitions: int = 16,
            lanes: int = 1,
            name: str = "ledger",
            database_url: str = "",
            own: contextlib.AsyncExitStack | None = None,
        ) -> Any:
            listen = f"unix:{folder}/{name}.sock"
            config = LedgerConfig(
                listen=listen,
                database_url=database_url or database.dsn("loyalty_ledger"),
                programme=programme,
                token_file=token_file,
                identifier_key_file=identifier_key(folder),
                clock=clock,
                partitions=partitions,
                lanes=lanes,
            )
            inside = own or stack
            service = await build_ledger(config, inside)
            return await inside.enter_async_context(serving(service, listen))

        yield start
