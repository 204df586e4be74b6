"""Ledgers in processes of their own, which can be killed and started again over what they left.

A ledger starts in two seconds, nearly all of them imports. So one process imports, and forks a ledger whenever it is
asked: `python -m tests.ledger_process` reads a line of JSON for each and answers with the number of its process.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.runtime.clock import ClockMode
from tests.conftest import ROOT, identifier_key


class Nursery:
    """Starts ledgers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ledger_process"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, environment: Mapping[str, str], log: Path) -> int:
        """The number of a new ledger's process; what it says goes to the end of a file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environment": dict(environment), "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends with all that it started."""
        self._process.communicate(timeout=20)


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery, and none of its ledgers left at the end."""
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


@dataclass(kw_only=True)
class LedgerProcess:
    """One ledger over a database; several may share one."""

    nursery: Nursery
    name: str
    folder: Path
    database_url: str
    programme: Path
    token_file: Path
    clock: ClockMode = ClockMode.SIMULATED
    pid: int = 0

    @property
    def listen(self) -> str:
        """Where it listens."""
        return f"unix:{self.folder}/{self.name}.sock"

    def start(self) -> None:
        """Starts it; it serves in a moment."""
        self.pid = self.nursery.start(
            {
                "LOYALTY_LISTEN": self.listen,
                "LOYALTY_DATABASE_URL": self.database_url,
                "LOYALTY_PROGRAMME": str(self.programme),
                "LOYALTY_TOKEN_FILE": str(self.token_file),
                "LOYALTY_IDENTIFIER_KEY_FILE": str(identifier_key(self.folder)),
                "LOYALTY_CLOCK": self.clock.value,
            },
            self.folder / f"{self.name}.log",
        )

    def kill(self) -> None:
        """Ends it with SIGKILL; raises ProcessLookupError where it was not running."""
        os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(self.pid, 0)
                time.sleep(0.001)


def _main() -> None:
    # All that a ledger imports.
    import services.ledger.app
    import services.ledger.check  # noqa: F401

    # Who has ended is gone at once.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    started: list[int] = []
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.environ.update(asked["environment"])
            sys.argv = ["services.ledger", "serve"]
            runpy.run_module("services.ledger", run_name="__main__")
            raise AssertionError("it exits by itself")
        started.append(pid)
        print(pid, flush=True)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main()
