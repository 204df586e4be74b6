"""An installation: one folder that holds a programme, a clock, secrets, and all data of a local stack.

DIR/installation.json   what it is, written last: a folder without it is none yet
DIR/programme.yaml      the programme it was made with, a copy; the ledger has those that followed
DIR/secrets/            0700: keys and revocations of tokens, certificates, the master key, the key of identifiers
DIR/postgres/           the database cluster
DIR/mailbox/            a Maildir of what was sent
DIR/imports/            what is noted of imports, made by the first
DIR/log/                one log per child
DIR/run/                lock, state of the running stack, sockets
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services import programme
from services.cli.errors import CommandError, NotRunningError, UsageError
from services.cli.postgres import write_secret
from services.cli.processes import ProcessId, last_lines, tied
from services.runtime.clock import ClockMode

if TYPE_CHECKING:
    from services.cli.certificates import LocalAuthority
    from services.cli.token_keys import TokenKeys

FORMAT: Final = 1
PARTITIONS: Final = 16
DEFAULT_DIRECTORY: Final = Path("var/loyalty")
# How long a token lasts that a command makes for itself.
TOKEN_TTL: Final = timedelta(days=1)
_PRESETS: Final = Path(__file__).resolve().parents[2] / "programmes"
DEFAULT_PROGRAMME: Final = _PRESETS / "points-basic.yaml"
"""Of a new folder."""
DEMO_PROGRAMME: Final = _PRESETS / "retail-demo.yaml"
"""Of the demo, and of an imported history: with campaigns, so that all of the platform is seen."""

# A stop waits for every child in turn; the database alone may take a minute.
_STOP_SECONDS = 180.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What a folder is; `created` is an RFC 3339 time."""

    directory: Path
    clock: ClockMode
    partitions: int
    programme_version: str
    created: str

    @property
    def programme(self) -> Path:
        """The programme file that the services read."""
        return self.directory / "programme.yaml"

    @property
    def secrets(self) -> Path:
        """The folder of the secrets."""
        return self.directory / "secrets"

    @property
    def token_keys(self) -> TokenKeys:
        """What signs and revokes tokens."""
        # It takes its time to load, and most commands do without.
        from services.cli.token_keys import TokenKeys

        return TokenKeys(self.secrets, run=self.run)

    @property
    def authority(self) -> LocalAuthority:
        """Whose certificates the services know each other by."""
        from services.cli.certificates import LocalAuthority

        return LocalAuthority(self.secrets / "tls")

    @property
    def master_key_file(self) -> Path:
        """The file with the key that the members' keys are encrypted with: 32 bytes in base64."""
        return self.secrets / "master-key"

    @property
    def erasures_file(self) -> Path:
        """Who was erased: beside the database, so that a restored one learns of it."""
        return self.directory / "erasures.jsonl"

    @property
    def identifier_key_file(self) -> Path:
        """The file with the key that cards and phone numbers are kept by: 32 bytes in base64, for ever the same."""
        return self.secrets / "identifier-key"

    @property
    def log(self) -> Path:
        """The folder of the logs."""
        return self.directory / "log"

    @property
    def mailbox(self) -> Path:
        """The Maildir of what was sent."""
        return self.directory / "mailbox"

    @property
    def imports(self) -> Path:
        """The folder of what is noted of imports; made by the first."""
        return self.directory / "imports"

    @property
    def run(self) -> Path:
        """The folder of what only lives while the stack is up."""
        return self.directory / "run"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of itself and its children."""
        return self.run / "state.json"

    def ready(self) -> None:
        """Makes what is missing of keys and certificates, and renews what ends soon."""
        self.authority.ready()
        self.token_keys.ready()
        if not self.identifier_key_file.exists():
            write_secret(self.identifier_key_file, new_key())

    def hand_out(self) -> None:
        """Does nothing: the parts of a local stack read the folder of the secrets itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a running stack. Addresses of services are gRPC's; `gateway` is a URL."""

    installation: Installation
    ledger: str
    tiers: str
    notifier: str
    gateway: str
    smtp_port: int
    supervisor: ProcessId

    def authorization(self, principal: str) -> str:
        """The value of the authorization header for a principal who may do what the first token may, for TOKEN_TTL."""
        from services.cli.token_keys import FIRST_ROLES

        issued = self.installation.token_keys.issue(principal=principal, roles=FIRST_ROLES, ttl=TOKEN_TTL)
        return f"Bearer {issued.token}"


def new_key() -> str:
    """A key as its file holds it: 32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def find(directory: Path) -> Installation:
    """The installation in a folder; raises CommandError where there is none or it is of another release."""
    directory = directory.resolve()
    try:
        said = json.loads((directory / "installation.json").read_text(encoding="utf-8"))
        if said["format"] != FORMAT:
            raise CommandError(
                f"{directory} has the format {said['format']} and this release reads {FORMAT}; use the release that "
                "made it"
            )
        return Installation(
            directory=directory,
            clock=ClockMode(said["clock"]),
            partitions=int(said["partitions"]),
            programme_version=str(said["programme_version"]),
            created=str(said["created"]),
        )
    except FileNotFoundError:
        raise CommandError(
            f"there is no installation in {directory}; `loyalty up --data {directory}` makes one"
        ) from None
    except OSError as error:
        raise CommandError(f"{directory}/installation.json cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{directory}/installation.json is damaged; restore it from a backup") from None


def open_or_create(
    directory: Path, *, programme_file: Path | None = None, clock: ClockMode = ClockMode.REAL
) -> Installation:
    """The installation in a folder; a new one gets the programme (default: points-basic) and the clock.

    An existing one keeps both: another programme for it is refused (UsageError), and its clock is what it is.
    """
    directory = directory.resolve()
    # Read before anything is made: a broken file leaves no trace.
    exists = (directory / "installation.json").exists()
    wanted = None if programme_file is None else load_programme(programme_file, applied=exists)
    if exists:
        there = find(directory)
        kept = load_programme(there.programme, applied=True)
        if kept.version != there.programme_version:
            raise CommandError(
                f"{there.programme} was changed: it says {kept.version}, and this installation has lived by "
                f"{there.programme_version}; put the old file back, and change the programme with `loyalty "
                "programme apply`"
            )
        if wanted is not None and wanted.version != there.programme_version:
            raise UsageError(
                f"{directory} lives by the programme {there.programme_version} and {programme_file} is "
                f"{wanted.version}; leave --programme out, or choose another folder with --data; "
                "`loyalty programme apply` changes the programme of this one"
            )
        return there
    source = programme_file or DEFAULT_PROGRAMME
    wanted = wanted or load_programme(source)
    try:
        return _create(directory, source, wanted.version, clock)
    except OSError as error:
        raise CommandError(f"{error.filename or directory} cannot be written: {error.strerror}") from None


def connection(directory: Path) -> Connection:
    """How to reach the stack of a folder; raises NotRunningError where it is not up."""
    installation = find(directory)
    state = running_state(installation)
    if state is None:
        raise NotRunningError(
            f"the stack of {installation.directory} is not up; `loyalty up --data {installation.directory}` starts it"
        )
    addresses = state["addresses"]
    return Connection(
        installation=installation,
        ledger=addresses["ledger"],
        tiers=addresses["tiers"],
        notifier=addresses["notifier"],
        gateway=addresses["gateway"],
        smtp_port=addresses["smtp_port"],
        supervisor=ProcessId(**state["supervisor"]),
    )


@contextlib.contextmanager
def running(
    directory: Path,
    *,
    programme_file: Path | None = None,
    clock: ClockMode = ClockMode.REAL,
    port: int = 0,
    say: Say = lambda _: None,
) -> Iterator[Connection]:
    """The stack of a folder, started if it is not up and then stopped again at the end; `clock` is for a new folder.

    A stack started so ends with this process, whatever ends it. Call it from the main thread.
    """
    installation = open_or_create(directory, programme_file=programme_file, clock=clock)
    wait_while_stopping(installation)
    if running_state(installation) is not None:
        yield connection(installation.directory)
        return
    supervisor = start(installation, port=port, say=say, with_caller=True)
    try:
        yield connection(installation.directory)
    finally:
        stop(installation)
        supervisor.wait(_STOP_SECONDS)


def running_state(installation: Installation) -> dict[str, Any] | None:
    """What the supervisor last said, if it is alive and all is up."""
    state = last_state(installation)
    if state is None or not state["ready"] or not ProcessId(**state["supervisor"]).alive():
        return None
    return state


def wait_while_stopping(installation: Installation) -> None:
    """Returns when no stack of the folder is on its way out; raises CommandError where one takes too long."""
    state = last_state(installation)
    if state is None or not state.get("stopping"):
        return
    if not ProcessId(**state["supervisor"]).wait_gone(_STOP_SECONDS):
        raise CommandError(f"the stack of {installation.directory} does not stop; see {installation.log}")


def last_state(installation: Installation) -> dict[str, Any] | None:
    """What the last supervisor last said, alive or not; None where it ended properly, or none ever ran."""
    try:
        state = json.loads(installation.state_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def start(installation: Installation, *, port: int, say: Say, with_caller: bool = False) -> subprocess.Popen[bytes]:
    """Starts the stack in the background; returns when all is healthy, raises CommandError where it does not get so.

    `with_caller`: the stack ends when this process does.
    """
    reading, writing = os.pipe()
    command = [
        sys.executable, "-m", "services.cli.local_stack", "--data", str(installation.directory), "--port", str(port),
        "--report-fd", str(writing),
    ]  # fmt: skip
    if with_caller:
        command = tied(command, death_signal=signal.SIGTERM)
    installation.log.mkdir(mode=0o700, exist_ok=True)
    log_file = installation.log / "supervisor.log"
    with log_file.open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            # Ctrl-C in this terminal is for this process; the supervisor is stopped in order.
            start_new_session=True,
        )
    os.close(writing)
    try:
        for report in _reports(reading):
            if "ready" in report:
                return process
            if "error" in report:
                process.wait(_STOP_SECONDS)
                raise CommandError(report["error"])
            say(report["said"])
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
        raise
    finally:
        os.close(reading)
    process.wait(_STOP_SECONDS)
    said = last_lines(log_file, 3, since=before).replace("\n", " / ")
    raise CommandError(f"the supervisor ended before all was up: {said or 'it says nothing'}; see {log_file}")


def stop(installation: Installation) -> bool:
    """Stops the stack of a folder and waits until all is gone; False where it was not up."""
    state = last_state(installation)
    if state is None:
        return False
    supervisor = ProcessId(**state["supervisor"])
    was_up = supervisor.alive()
    supervisor.send(signal.SIGTERM)
    if not supervisor.wait_gone(_STOP_SECONDS):
        raise CommandError(
            f"the supervisor (process {supervisor.pid}) did not stop in {_STOP_SECONDS:.0f} s; see {installation.log}"
        )
    # Where the supervisor was killed, its children were told to end, and may not have been asked twice.
    for child in leftovers(state):
        was_up = True
        if not child.wait_gone(_STOP_SECONDS):
            child.send(signal.SIGKILL)
    return was_up


def leftovers(state: dict[str, Any]) -> list[ProcessId]:
    """The children of a supervisor that still run."""
    children = [
        ProcessId(pid=child["pid"], started_ticks=child["started_ticks"])
        for child in state["children"].values()
        if child["pid"] is not None
    ]
    return [child for child in children if child.alive()]


@contextlib.contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """Holds the folder for one supervisor; raises CommandError where another one has it, and says which."""
    directory = installation.directory
    with held(
        installation.run / "lock",
        f"{directory} is already up (or on its way), by the process {{holder}}; `loyalty status --data {directory}` "
        f"shows it and `loyalty down --data {directory}` stops it",
    ):
        yield


@contextlib.contextmanager
def held(path: Path, taken: str) -> Iterator[None]:
    """Holds a lock file, which goes with the process; raises CommandError(taken) where another one has it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise CommandError(taken.replace("{holder}", holder or "that holds it")) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a private JSON file, all of it or none."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    partial.replace(path)


def load_programme(path: Path, *, applied: bool = False) -> programme.Programme:
    """The programme in this file; raises CommandError where it is none. `applied`: an installation lives by it."""
    try:
        return programme.load(path, applied=applied)
    except programme.ProgrammeError as error:
        raise CommandError(str(error)) from None


_OWN_NAMES = {"installation.json", "programme.yaml", "secrets", "log", "mailbox", "run"}
_PARTIAL = re.compile(r"(\.[0-9a-f]{8})?\.partial$")


def _create(directory: Path, source: Path, version: str, clock: ClockMode) -> Installation:
    if directory.exists() and not directory.is_dir():
        raise CommandError(f"{directory} is a file; choose a folder with --data")
    # What an interrupted creation left is ours; anything else is not touched.
    if directory.exists():
        strange = sorted({_PARTIAL.sub("", path.name) for path in directory.iterdir()} - _OWN_NAMES)
        if strange:
            raise CommandError(
                f"{directory} holds other things ({', '.join(strange[:3])}) and no installation; choose another "
                "folder with --data"
            )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Installation(
        directory=directory,
        clock=clock,
        partitions=PARTITIONS,
        programme_version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    for folder in (made.secrets, made.log, made.run, made.mailbox):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not made.master_key_file.exists():
        write_secret(made.master_key_file, new_key())
    made.ready()
    partial = directory / "programme.yaml.partial"
    partial.write_bytes(source.read_bytes())
    partial.replace(made.programme)
    said = {
        "format": FORMAT,
        "clock": made.clock.value,
        "partitions": made.partitions,
        "programme_version": made.programme_version,
        "created": made.created,
    }
    write_secret(directory / "installation.json", json.dumps(said, indent=2))
    return made


def _reports(descriptor: int) -> Iterator[dict[str, str]]:
    """What the supervisor reports, one JSON object a line, until it closes its end."""
    buffer = b""
    while True:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        yield from (json.loads(line) for line in lines)
