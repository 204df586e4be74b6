"""One stack per worker, as `loyalty up` starts it, in real time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.installation import Connection, connection
from tests.conftest import PROGRAMMES

LOYALTY = Path(sys.executable).parent / "loyalty"


def loyalty(*arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """The command, as a person would call it."""
    return subprocess.run([str(LOYALTY), *arguments], capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture(scope="session")
def live() -> Iterator[Connection]:
    """A running stack; tests use members of their own."""
    directory = Path(tempfile.mkdtemp(prefix="ly-live-"))
    programme = str(PROGRAMMES / "retail-demo.yaml")
    started = loyalty("up", "--data", str(directory), "--programme", programme, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)
