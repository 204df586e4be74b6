"""Processes of this machine, told apart from later ones that got the same number. Linux only."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process: its number, and the clock ticks since boot at which it started."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this number now; None where there is none, or only a dead one not yet waited for."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The name stands in parentheses and may hold anything, parentheses included; fields are counted after it.
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZX" else cls(pid=pid, started_ticks=int(fields[18]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to this very process; nothing where it is gone."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait_gone(self, seconds: float) -> bool:
        """Waits until the process is gone; False where it still runs after that time."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def tied(command: Sequence[str], *, death_signal: signal.Signals, account: tuple[int, int] | None = None) -> list[str]:
    """The command, made to get `death_signal` when the calling process dies; as `account` (uid, gid) where given.

    The kernel watches the thread that starts the child: start it from a thread that lives as long as it should.
    """
    uid, gid = ("-", "-") if account is None else map(str, account)
    return [
        sys.executable, "-I", "-S", str(_LAUNCHER), str(int(death_signal)), str(os.getpid()), uid, gid, *command,
    ]  # fmt: skip


def last_lines(path: Path, count: int, *, since: int = 0) -> str:
    """The last lines of a log, at most `count` and 4,000 characters, of what was written after byte `since`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - 4000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-count:])
