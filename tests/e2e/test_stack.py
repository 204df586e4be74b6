"""A command that comes while the stack of its folder is on its way out."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import installation
from services.cli.installation import connection
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import loyalty


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ly-stack-"))
    yield made
    loyalty("down", "--data", str(made))
    shutil.rmtree(made, ignore_errors=True)


def test_a_command_that_comes_while_the_stack_stops_waits_and_starts_it_anew(folder: Path) -> None:
    programme = str(PROGRAMMES / "tiered-365.yaml")
    started = loyalty("up", "--data", str(folder), "--programme", programme, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    before = connection(folder).supervisor
    before.send(signal.SIGTERM)
    while (state := installation.last_state(installation.find(folder))) and not state["stopping"]:
        time.sleep(0.001)
    assert state, "it takes longer to stop than to look"
    with installation.running(folder) as up:
        assert not before.alive()
        assert up.supervisor != before
        checked = loyalty("check", "--data", str(folder))
        assert checked.returncode == 0, checked.stderr
