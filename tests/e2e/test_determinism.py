"""The same history again, through the real stack: the same entries, changes of tier and coupons, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from loyalty.notifier.v1 import coupon_pb2_grpc

from services.cli import installation
from services.cli.installation import Connection, connection
from services.cli.remote import open_service, reach
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import LOYALTY, loyalty
from tests.made_history import CLIMBER, open_days, write_history
from tests.outcomes import Outcome, assert_same, outcome_of

DAYS = open_days(before=15, between=4, after=15)
PROGRAMME = PROGRAMMES / "retail-demo.yaml"
FORMAT = ("--format", "online-retail", "--currency", "USD", "--programme", str(PROGRAMME))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 days, four in the year that follows, and 15 in which what was in the first leaves the window."""
    path = tmp_path_factory.mktemp("source") / "history.csv"
    write_history(path, DAYS, members=40, a_day=15, rush=500)
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that does not know of anything; at the end nothing runs in it."""
    made = Path(tempfile.mkdtemp(prefix="ly-again-"))
    yield made
    if (made / "installation.json").exists():
        loyalty("down", "--data", str(made))
    shutil.rmtree(made, ignore_errors=True)


def load(source: Path, folder: Path) -> Connection:
    """Into a new folder, that is up."""
    installation.open_or_create(folder, programme_file=PROGRAMME, clock=ClockMode.SIMULATED)
    up = start(folder)
    done = loyalty("import", str(source), *FORMAT, "--data", str(folder), seconds=600)
    assert done.returncode == 0, done.stderr
    return up


def start(folder: Path) -> Connection:
    started = loyalty("up", "--data", str(folder), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    return connection(folder)


def outcome(up: Connection) -> Outcome:
    async def read() -> Outcome:
        channel = open_service(up, "notifier")
        async with reach(up) as services:
            found = await outcome_of(coupon_pb2_grpc.RewardServiceStub(channel), services)
        await channel.close()
        return found

    return asyncio.run(read())


@pytest.fixture(scope="module")
def expected(source: Path) -> Iterator[Outcome]:
    """What becomes of it in one go."""
    folder = Path(tempfile.mkdtemp(prefix="ly-once-"))
    try:
        yield outcome(load(source, folder))
    finally:
        loyalty("down", "--data", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


class Import:
    """A load under way."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._folder = folder
        self.process = subprocess.Popen(
            [str(LOYALTY), "import", str(source), *FORMAT, "--data", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_closed(self, day: date) -> None:
        """Returns when the day is noted as over; the load is still under way then."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < deadline:
            noted = [json.loads(path.read_text())["through"] for path in self._folder.glob("imports/*.json")]
            if noted and noted[0] >= day.isoformat():
                break
            time.sleep(0.005)
        assert self.process.poll() is None, self.process.communicate()

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error, once it is over."""
        _, said = self.process.communicate(timeout=600)
        return self.process.returncode, said


def restarts(up: Connection) -> dict[str, int]:
    """How often the supervisor had to start each child again."""
    state = installation.running_state(up.installation)
    assert state is not None
    return {name: child["restarts"] for name, child in state["children"].items() if child["restarts"]}


def kill(up: Connection, name: str) -> None:
    state = installation.running_state(up.installation)
    assert state is not None
    os.kill(state["children"][name]["pid"], signal.SIGKILL)


def test_two_loads_into_two_folders_give_the_same(source: Path, folder: Path, expected: Outcome) -> None:
    # Something of everything: a load that gives nothing is always the same.
    assert len(expected.changes) > 20
    assert any(cause == "" for changes in expected.changes.values() for cause, _ in changes)
    assert [coupon.code for coupon in expected.coupons[CLIMBER]][:3] == ["GREEN", "SILVER", "GOLDEN"]
    assert_same(outcome(load(source, folder)), expected)


def test_a_load_that_is_killed_three_times_and_loses_ledger_and_tiers_on_its_way_gives_the_same(
    source: Path, folder: Path, expected: Outcome
) -> None:
    # The second of them just before the day of the rush, to be in the middle of it.
    for place in (6, len(DAYS) // 2 - 1, 21):
        under_way = Import(source, folder)
        under_way.until_closed(DAYS[place])
        under_way.process.kill()
        assert under_way.ended()[0] == -signal.SIGKILL
    up = start(folder)
    under_way = Import(source, folder)
    under_way.until_closed(DAYS[23])
    kill(up, "ledger")
    under_way.until_closed(DAYS[28])
    kill(up, "tiers")
    code, said = under_way.ended()
    assert code == 0, said
    assert restarts(up) == {"ledger": 1, "tiers": 1}
    assert_same(outcome(up), expected)
    checked = loyalty("check", "--data", str(folder), "--json")
    assert (checked.returncode, json.loads(checked.stdout)["clean"]) == (0, True), checked.stdout + checked.stderr
