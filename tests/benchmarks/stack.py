"""What is measured: an own PostgreSQL cluster, and servers that are processes of their own.

The cluster is the one of `loyalty up`, with its settings (fsync and synchronous_commit on), on the disk of the
checkout; the ledger is `python -m services.ledger serve` with all it has, its log written to a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from services.cli.certificates import LocalAuthority
from services.cli.installation import new_key
from services.cli.postgres import OWNER, Cluster, socket_folder
from services.cli.processes import last_lines, tied
from services.cli.token_keys import TokenKeys
from services.runtime.identity import bearer
from services.runtime.migrations import migrate
from tests.benchmarks.client import Measured, Task, to_json

ROOT = Path(__file__).resolve().parents[2]
PROGRAMME = ROOT / "programmes" / "retail-demo.yaml"
PARTITIONS = 16
PRINCIPAL = "bench"

# What must be on for a commit to be durable, and what else is told of the database.
_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
_TOLD = (*_DURABLE, "server_version", "shared_buffers", "max_wal_size", "checkpoint_timeout")

_JOB_SECONDS = 1800.0
_STOP_SECONDS = 30.0


class BenchmarkError(Exception):
    """The benchmark could not be carried out; the message says why."""


class Server:
    """A server that runs, as a process; `door` is what a job must know to reach it."""

    def __init__(self, process: subprocess.Popen[bytes], door: dict[str, Any]) -> None:
        self.door = door
        self._process = process

    def memory_mib(self) -> float:
        """What the process holds of the machine's memory (its resident set)."""
        return self._mib("VmRSS:")

    def peak_memory_mib(self) -> float:
        """The most that it has held."""
        return self._mib("VmHWM:")

    def _mib(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith(name))
        return int(kib) / 1024


class Stack:
    """The cluster, and servers started over it."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self._sockets = socket_folder(folder)
        self._log = folder / "log"
        secret = secrets.token_hex(16)
        self._token_file = folder / "token"
        self._token_file.write_text(secret)
        self._identifier_key_file = folder / "identifier-key"
        self._identifier_key_file.write_text(new_key())
        self._master_key_file = folder / "master-key"
        self._master_key_file.write_text(new_key())
        self._authorization = bearer(PRINCIPAL, secret)
        self._authority = LocalAuthority(folder / "tls")
        self._token_keys = TokenKeys(folder, run=folder / "run")
        self._numbers = itertools.count(1)

    def create_database(self, name: str, *, service: str = "ledger") -> None:
        """A database, migrated for a service, with nothing in it."""
        self.cluster.create_database(name)
        migrations = ROOT / "services" / service / "sql" / "migrations"
        asyncio.run(migrate(self.cluster.dsn(OWNER, database=name), service, migrations))

    def vacuum(self, database: str) -> None:
        """Does to a database at once what autovacuum would have done by and by."""

        async def work() -> None:
            connection = await asyncpg.connect(self.cluster.dsn(OWNER, database=database))
            try:
                await connection.execute("VACUUM (ANALYZE)")
            finally:
                await connection.close()

        asyncio.run(work())

    def database_settings(self) -> dict[str, str]:
        """The settings of the database; raises BenchmarkError where a commit would not be durable."""

        async def read() -> dict[str, str]:
            connection = await asyncpg.connect(self.cluster.dsn("loyalty_ledger"))
            try:
                return {name: await connection.fetchval(f"SHOW {name}") for name in _TOLD}
            finally:
                await connection.close()

        told = asyncio.run(read())
        off = [name for name in _DURABLE if told[name] != "on"]
        if off:
            raise BenchmarkError(f"the database is not durable: {', '.join(off)} is not on")
        return told

    def dsn(self, database: str, *, service: str = "ledger") -> str:
        """The address of a database for a service's role."""
        return self.cluster.dsn(f"loyalty_{service}", database=database)

    @contextlib.contextmanager
    def ledger(self, database: str, *, known: bool = False) -> Iterator[Server]:
        """The ledger over a database; with `known` it knows its callers by certificates and tokens."""
        about, door = self._about(database), {}
        if known:
            about |= self._identity()
            files = self._authority.files("cli")
            issued = self._token_keys.issue(principal=PRINCIPAL, roles=["backend"], ttl=timedelta(days=1))
            door = {
                "authorization": f"Bearer {issued.token}",
                "tls": [str(path) for path in (files.certificate, files.key, files.authority)],
            }
        with self._running(f"ledger-{database}", "services.ledger", "serve", environment=about, door=door) as made:
            yield made

    @contextlib.contextmanager
    def tiers(self, database: str, ledger: Server) -> Iterator[Server]:
        """Tiers over a database, behind a ledger."""
        about = {
            **self._about(database),
            "LOYALTY_DATABASE_URL": self.dsn(database, service="tiers"),
            "LOYALTY_LEDGER_ADDRESS": ledger.door["address"],
        }
        with self._running(f"tiers-{database}", "services.tiers", "serve", environment=about) as made:
            yield made

    @contextlib.contextmanager
    def notifier(self, database: str, ledger: Server, tiers: Server, *, mail_port: int = 9) -> Iterator[Server]:
        """The notifier over a database, behind a ledger and tiers; where no port is named no mail server is there."""
        about = {
            **self._about(database),
            "LOYALTY_DATABASE_URL": self.dsn(database, service="notifier"),
            "LOYALTY_LEDGER_ADDRESS": ledger.door["address"],
            "LOYALTY_TIERS_ADDRESS": tiers.door["address"],
            "LOYALTY_SMTP_HOST": "127.0.0.1",
            "LOYALTY_SMTP_PORT": str(mail_port),
            "LOYALTY_MAIL_FROM": "Bench <bench@example.com>",
            "LOYALTY_MASTER_KEY_FILE": str(self._master_key_file),
        }
        with self._running(f"notifier-{database}", "services.notifier", "serve", environment=about) as made:
            yield made

    @contextlib.contextmanager
    def echo(self) -> Iterator[Server]:
        """The bare echo."""
        with self._running("echo", "tests.benchmarks.echo") as made:
            yield made

    @contextlib.contextmanager
    def one_by_one(self, database: str, connections: int) -> Iterator[Server]:
        """The reference that has one transaction for each call."""
        about = {**self._about(database), "BENCH_CONNECTIONS": str(connections)}
        with self._running("one-by-one", "tests.benchmarks.one_by_one", environment=about) as made:
            yield made

    def run(self, task: Task) -> Measured:
        """Lets a process of its own do a task."""
        done = subprocess.run(
            tied([sys.executable, "-m", type(task).__module__], death_signal=signal.SIGTERM),
            input=to_json(task).encode(),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            timeout=_JOB_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            logs = "\n".join(f"{log.name}: {last_lines(log, 3)}" for log in sorted(self._log.glob("*.out")))
            raise BenchmarkError(f"the task {type(task).__name__} failed, see above; the servers said last:\n{logs}")
        return Measured(**json.loads(done.stdout))

    def check(self, database: str) -> None:
        """Lets the ledger rebuild all states from its log; raises BenchmarkError where one differs."""
        done = subprocess.run(
            [sys.executable, "-m", "services.ledger", "check"],
            env=_environment("unix:unused", self._about(database)),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"the ledger's log and its states differ: {done.stdout} {done.stderr}")

    def _identity(self) -> dict[str, str]:
        """Certificates and keys, as `loyalty up` makes them."""
        self._authority.ready()
        self._token_keys.ready()
        files = self._authority.files("ledger")
        return {
            "LOYALTY_TLS_CERTIFICATE": str(files.certificate),
            "LOYALTY_TLS_KEY": str(files.key),
            "LOYALTY_TLS_AUTHORITY": str(files.authority),
            "LOYALTY_TOKEN_KEYS": str(self._token_keys.key_set_file),
            "LOYALTY_REVOKED_TOKENS": str(self._token_keys.revoked_file),
        }

    def _about(self, database: str) -> dict[str, str]:
        return {
            "LOYALTY_DATABASE_URL": self.dsn(database),
            "LOYALTY_PROGRAMME": str(PROGRAMME),
            "LOYALTY_TOKEN_FILE": str(self._token_file),
            "LOYALTY_IDENTIFIER_KEY_FILE": str(self._identifier_key_file),
            "LOYALTY_CLOCK": "real",
            "LOYALTY_PARTITIONS": str(PARTITIONS),
            "LOYALTY_LOG_LEVEL": "info",
        }

    @contextlib.contextmanager
    def _running(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        door: Mapping[str, Any] | None = None,
    ) -> Iterator[Server]:
        address = f"unix:{self._sockets}/{name}-{next(self._numbers)}.sock"
        with (self._log / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                tied([sys.executable, "-m", module, *arguments], death_signal=signal.SIGTERM),
                env=_environment(address, environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
            try:
                yield Server(process, {"address": address, "authorization": self._authorization, **(door or {})})
            finally:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _environment(address: str, about: Mapping[str, str]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("LOYALTY_")}
    return {**own, "LOYALTY_LISTEN": address, **about}


@contextlib.contextmanager
def running_stack() -> Iterator[Stack]:
    """A stack of its own; nothing of it is left at the end."""
    parent = ROOT / "var"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    sockets = socket_folder(folder)
    cluster = Cluster(folder)
    try:
        cluster.init()
        cluster.start()
        yield Stack(folder, cluster)
    finally:
        cluster.stop()
        for made in (folder, sockets):
            shutil.rmtree(made, ignore_errors=True)


def machine() -> dict[str, Any]:
    """What the benchmark runs on, and how busy it was before."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
