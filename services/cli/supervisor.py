"""Starts children in order, restarts those that die, stops them in reverse order. Knows no service by name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from services.cli.errors import CommandError
from services.cli.processes import ProcessId, last_lines

FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 10.0
# After so long in health a death is a new one, and not one more of a row.
STEADY_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 2.0
_POLL_SECONDS = 0.05
# A child that dies so often before it was healthy once will not get so: starting the stack fails.
_FIRST_ATTEMPTS = 3
_MAX_LOG_BYTES = 32 * 1024 * 1024

Probe = Callable[[], Awaitable[bool]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process that is to run for as long as the stack does.

    `stops` are the signals that end it, with the seconds each is given; the last resort, SIGKILL, is not among them.
    The command itself sees to it that the child ends with the supervisor (`processes.tied`).
    """

    name: str
    command: tuple[str, ...]
    ready: Probe
    ready_seconds: float = 30.0
    environment: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 15.0),)
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A process that is to run to its end, with exit code 0, before the stack goes on."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 300.0


# What is started together; the next stage begins when all of this one is healthy, or done.
Stage = tuple[ChildSpec | TaskSpec, ...]


@dataclass(slots=True, kw_only=True)
class Child:
    """A child and how it fares. `state` is starting, healthy, unhealthy, waiting (for its restart) or stopped."""

    spec: ChildSpec
    state: str = "starting"
    process: ProcessId | None = None
    started: datetime | None = None
    restarts: int = 0
    was_healthy: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    failures_at_first: int = 0
    log_start: int = 0

    def to_json(self) -> dict[str, Any]:
        """As it stands in the state file; without a process there is no pid."""
        return {
            "pid": self.process.pid if self.process else None,
            "started_ticks": self.process.started_ticks if self.process else None,
            "started": self.started.isoformat(timespec="seconds") if self.started else None,
            "restarts": self.restarts,
            "state": self.state,
        }


class Supervisor:
    """Runs the stages of a stack; `changed` is called after everything that the state file should show."""

    def __init__(
        self, stages: Sequence[Stage], *, log: Path, changed: Callable[[Mapping[str, Child]], None], say: Say
    ) -> None:
        self._stages = stages
        self._log = log
        self._changed = changed
        self._say = say
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None]) -> None:
        """Starts all, calls `ready`, keeps all running until `stop`; everything is stopped when this returns.

        Raises CommandError where a child does not get healthy, or a task fails, at the start.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            for stage in self._stages:
                starting = asyncio.create_task(self._start(stage))
                await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    starting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await starting
                    return
                starting.result()
                if stop.is_set():
                    return
            ready()
            while not stop.is_set():
                await asyncio.wait({stopped}, timeout=PROBE_SECONDS)
                if not stop.is_set():
                    await self._look()
        finally:
            stopped.cancel()
            await self._stop()

    async def _start(self, stage: Stage) -> None:
        """Starts a stage and returns when all of it is healthy, or done."""
        began = time.monotonic()
        work = [
            asyncio.create_task(self._start_child(spec) if isinstance(spec, ChildSpec) else self._run_task(spec))
            for spec in stage
        ]
        try:
            await asyncio.gather(*work)
        except BaseException:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            raise
        names = ", ".join(spec.name for spec in stage)
        done = "ready" if isinstance(stage[0], ChildSpec) else "done"
        self._say(f"{names} {done} after {time.monotonic() - began:.1f} s")

    async def _run_task(self, spec: TaskSpec) -> None:
        """Runs a task to its end; a cancelled or late one is ended."""
        path, before = self._open_log(spec.name)
        with path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                env={**_clean_environment(), **spec.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            code = await asyncio.wait_for(process.wait(), spec.seconds)
        except TimeoutError:
            raise CommandError(f"{spec.name} was not done after {spec.seconds:.0f} s; see {path}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise CommandError(f"{spec.name} failed ({_ending(code)}): {_tail(path, before)}; see {path}")

    async def _start_child(self, spec: ChildSpec) -> None:
        """Starts a child and returns when it is healthy for the first time."""
        child = Child(spec=spec)
        self._children[spec.name] = child
        keeper = asyncio.create_task(self._keep(child))
        self._keepers[spec.name] = keeper
        healthy = asyncio.create_task(child.was_healthy.wait())
        try:
            done, _ = await asyncio.wait(
                {keeper, healthy}, timeout=spec.ready_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            healthy.cancel()
        if keeper in done:
            keeper.result()
        if not done:
            path = self._path(spec.name)
            said = _tail(path, child.log_start)
            raise CommandError(f"{spec.name} was not ready after {spec.ready_seconds:.0f} s: {said}; see {path}")

    async def _keep(self, child: Child) -> None:
        """Starts the child, and again when it ends, until it is to stop."""
        delay = FIRST_DELAY
        while not child.stopping.is_set():
            steady = False
            try:
                process = await self._spawn(child)
            except (CommandError, OSError) as error:
                ending = str(error)
            else:
                code, steady = await self._live(child, process)
                ending = _ending(code)
                if code > 0:
                    ending += f": {_tail(self._path(child.spec.name), child.log_start)}"
            if child.stopping.is_set():
                break
            note("child_ended", child=child.spec.name, how=ending)
            if not child.was_healthy.is_set():
                child.failures_at_first += 1
                if child.failures_at_first >= _FIRST_ATTEMPTS:
                    raise CommandError(
                        f"{child.spec.name} does not start ({ending}); see {self._path(child.spec.name)}"
                    )
            if steady:
                delay = FIRST_DELAY
            self._set(child, "waiting")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stopping.wait(), delay)
            delay = min(delay * 2, LONGEST_DELAY)
            child.restarts += 1
        self._set(child, "stopped")

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        spec = child.spec
        spec.prepare()
        path, child.log_start = self._open_log(spec.name)
        with path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                env={**_clean_environment(), **spec.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the supervisor, which stops its children in order.
                start_new_session=True,
            )
        child.process = ProcessId.of(process.pid)
        child.started = datetime.now(UTC)
        self._set(child, "starting")
        return process

    async def _live(self, child: Child, process: asyncio.subprocess.Process) -> tuple[int, bool]:
        """Follows a process to its end: its exit code, and whether it was healthy for long."""
        ended = asyncio.create_task(process.wait())
        healthy_since: float | None = None
        while not ended.done():
            if await child.spec.ready() and not ended.done() and not child.stopping.is_set():
                healthy_since = time.monotonic()
                self._set(child, "healthy")
                child.was_healthy.set()
                break
            await asyncio.wait({ended}, timeout=_POLL_SECONDS)
        code = await ended
        child.process = None
        return code, healthy_since is not None and time.monotonic() - healthy_since >= STEADY_SECONDS

    async def _look(self) -> None:
        """Asks the children that were healthy whether they still are."""
        for keeper in self._keepers.values():
            if keeper.done():
                keeper.result()
        running = [child for child in self._children.values() if child.state in ("healthy", "unhealthy")]
        for child, healthy in zip(running, await asyncio.gather(*(c.spec.ready() for c in running)), strict=True):
            # It may have ended while it was asked.
            if child.state in ("healthy", "unhealthy"):
                self._set(child, "healthy" if healthy else "unhealthy")

    async def _stop(self) -> None:
        """Stops the children, the last one started first."""
        for child in self._children.values():
            child.stopping.set()
        for stage in reversed(self._stages):
            names = [spec.name for spec in stage if spec.name in self._children]
            await asyncio.gather(*(self._stop_child(self._children[name]) for name in names))

    async def _stop_child(self, child: Child) -> None:
        keeper = self._keepers[child.spec.name]
        for number, seconds in (*child.spec.stops, (signal.SIGKILL, 10.0)):
            if keeper.done():
                break
            if child.process is not None:
                child.process.send(number)
            await asyncio.wait({keeper}, timeout=seconds)
        if not keeper.done():
            keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)

    def _set(self, child: Child, state: str) -> None:
        if child.state != state or state == "starting":
            child.state = state
            self._changed(self._children)

    def _path(self, name: str) -> Path:
        return self._log / f"{name}.log"

    def _open_log(self, name: str) -> tuple[Path, int]:
        """The log of a child, and where in it this start begins. One that has grown large is put aside."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _MAX_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
        return path, path.stat().st_size if path.exists() else 0


def _clean_environment() -> dict[str, str]:
    """This process's environment without what would change how children behave."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LOYALTY_", "PG"))}


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _tail(path: Path, since: int) -> str:
    return last_lines(path, 3, since=since).replace("\n", " / ")[-500:] or "it says nothing"


def note(event: str, **values: str) -> None:
    """A line in the supervisor's own log."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
    print(json.dumps(line), file=sys.stderr, flush=True)
