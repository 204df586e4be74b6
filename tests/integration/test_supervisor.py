"""The supervisor with real children: order, restarts, and that nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from services.cli import supervisor as machinery
from services.cli.errors import CommandError
from services.cli.installation import Installation, locked, open_or_create
from services.cli.local_stack import reserved_port
from services.cli.processes import ProcessId, tied
from services.cli.supervisor import Child, ChildSpec, Stage, Supervisor, TaskSpec

# Says that it lives by a file, removes it on SIGTERM, and notes both in a common diary.
CHILD = """
import pathlib, signal, sys
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with (folder / "diary").open("a") as diary:
        diary.write(f"{what} {name}\\n")
def end(*_):
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("begin")
(folder / name).touch()
while True:
    signal.pause()
"""


def spec(folder: Path, name: str, *, code: str = CHILD, ready_seconds: float = 10.0) -> ChildSpec:
    async def ready() -> bool:
        return (folder / name).exists()

    return ChildSpec(
        name=name,
        command=tuple(tied([sys.executable, "-c", code, name, str(folder)], death_signal=signal.SIGTERM)),
        ready=ready,
        ready_seconds=ready_seconds,
        prepare=lambda: (folder / name).unlink(missing_ok=True),
    )


def task(folder: Path, name: str, code: str) -> TaskSpec:
    return TaskSpec(name=name, command=(sys.executable, "-c", code, str(folder)))


def diary(folder: Path) -> list[str]:
    return (folder / "diary").read_text().splitlines()


class Stack:
    """A running supervisor and what it says of its children."""

    def __init__(self, stages: tuple[Stage, ...], folder: Path) -> None:
        self.children: Mapping[str, Child] = {}
        self.stop = asyncio.Event()
        self._supervisor = Supervisor(stages, log=folder, changed=self._changed, say=lambda _: None)

    def _changed(self, children: Mapping[str, Child]) -> None:
        self.children = children

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        run = asyncio.create_task(self._supervisor.run(self.stop, ready=ready.set))
        ready_task = asyncio.create_task(ready.wait())
        await asyncio.wait({run, ready_task}, return_when=asyncio.FIRST_COMPLETED)
        ready_task.cancel()
        if run.done():
            run.result()
        try:
            yield
        finally:
            self.stop.set()
            await asyncio.wait_for(run, 30)

    async def until(self, what: Callable[[], bool]) -> None:
        """Waits, within a bound, until the children are as wanted."""
        async with asyncio.timeout(15):
            while not what():  # noqa: ASYNC110  # what is waited for happens in other processes
                await asyncio.sleep(0.01)


async def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    stages: tuple[Stage, ...] = (
        (spec(tmp_path, "a"),),
        (task(tmp_path, "t", "import sys, pathlib; (pathlib.Path(sys.argv[1]) / 'diary').open('a').write('task\\n')"),),
        (spec(tmp_path, "b"),),
        (spec(tmp_path, "c"),),
    )
    stack = Stack(stages, tmp_path)
    async with stack.running():
        assert {name: child.state for name, child in stack.children.items()} == dict.fromkeys("abc", "healthy")
    assert diary(tmp_path) == ["begin a", "task", "begin b", "begin c", "end c", "end b", "end a"]
    assert all(child.process is None for child in stack.children.values())


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    stack = Stack(((spec(tmp_path, "a"), spec(tmp_path, "b")),), tmp_path)
    async with stack.running():
        first = stack.children["a"].process
        untouched = stack.children["b"].process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        await stack.until(lambda: stack.children["a"].restarts == 1 and stack.children["a"].state == "healthy")
        assert stack.children["a"].process != first
        assert stack.children["b"].process == untouched


async def test_each_death_in_a_row_is_followed_by_a_longer_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "FIRST_DELAY", 0.05)
    stack = Stack(((spec(tmp_path, "a"),),), tmp_path)
    waits = []
    async with stack.running():
        for restarts in (1, 2, 3):
            process = stack.children["a"].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await stack.until(lambda: stack.children["a"].state == "waiting")
            began = time.monotonic()
            await stack.until(lambda n=restarts: stack.children["a"].restarts == n)  # type: ignore[misc]
            waits.append(time.monotonic() - began)
            await stack.until(lambda: stack.children["a"].state == "healthy")
    assert waits[0] < waits[2]


async def test_a_child_that_never_starts_stops_the_rest_and_says_why(tmp_path: Path) -> None:
    broken = spec(tmp_path, "broken", code="import sys; sys.exit('the cable is out')")
    stack = Stack(((spec(tmp_path, "a"),), (broken,)), tmp_path)
    with pytest.raises(CommandError, match=r"broken does not start \(exit code 1: the cable is out\)"):
        async with stack.running():
            pass
    assert diary(tmp_path) == ["begin a", "end a"]


async def test_a_child_that_is_never_healthy_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    mute = spec(tmp_path, "mute", code="import signal; signal.pause()", ready_seconds=0.5)
    stack = Stack(((mute,),), tmp_path)
    with pytest.raises(CommandError, match="mute was not ready after"):
        async with stack.running():
            pass
    assert stack.children["mute"].process is None


async def test_a_task_that_fails_stops_the_start_and_says_why(tmp_path: Path) -> None:
    stages: tuple[Stage, ...] = (
        (spec(tmp_path, "a"),),
        (task(tmp_path, "migrate", "import sys; sys.exit('no such table')"),),
        (spec(tmp_path, "b"),),
    )
    stack = Stack(stages, tmp_path)
    with pytest.raises(CommandError, match=r"migrate failed \(exit code 1\): no such table"):
        async with stack.running():
            pass
    assert diary(tmp_path) == ["begin a", "end a"]


async def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    code = CHILD.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    made = spec(tmp_path, "deaf", code=code)
    deaf = ChildSpec(name="deaf", command=made.command, ready=made.ready, stops=((signal.SIGTERM, 0.2),))
    stack = Stack(((deaf,),), tmp_path)
    async with stack.running():
        process = stack.children["deaf"].process
    assert process is not None
    assert not process.alive()


async def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    slow = spec(tmp_path, "slow", code="import signal; signal.pause()", ready_seconds=60)
    stack = Stack(((spec(tmp_path, "a"),), (slow,)), tmp_path)
    run = asyncio.create_task(stack._supervisor.run(stack.stop, ready=lambda: None))
    await stack.until(lambda: "slow" in stack.children and stack.children["slow"].process is not None)
    process = stack.children["slow"].process
    stack.stop.set()
    await asyncio.wait_for(run, 30)
    assert process is not None
    assert not process.alive()
    assert diary(tmp_path) == ["begin a", "end a"]


def test_children_end_with_their_parent_even_by_kill_9() -> None:
    code = (
        "import signal, subprocess, sys; from services.cli.processes import tied; "
        "p = subprocess.Popen(tied([sys.executable, '-c', "
        "'import signal; print(\"on\", flush=True); signal.pause()'], death_signal=signal.SIGTERM)); "
        "print(p.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        child = ProcessId.of(int((said - {"on"}).pop()))
        assert child is not None
        parent.kill()
    assert child.wait_gone(10)


def test_a_number_that_was_given_again_is_another_process() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert not ProcessId(pid=me.pid, started_ticks=me.started_ticks - 1).alive()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return open_or_create(tmp_path / "shop")


def test_a_folder_has_one_supervisor(installation: Installation) -> None:
    who = f"already up .* by the process {os.getpid()}"
    with locked(installation), pytest.raises(CommandError, match=who), locked(installation):
        pass
    with locked(installation):
        pass


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CommandError, match=rf"port {port} .* is in use; .*--port 0"), reserved_port(port):
            pass


def test_a_reserved_port_can_be_listened_on_by_a_child() -> None:
    # create_server sets SO_REUSEADDR, as Envoy and asyncio do.
    with (
        reserved_port(0) as port,
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port)),
    ):
        assert server.getsockname()[1] == port
