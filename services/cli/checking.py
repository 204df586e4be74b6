"""`loyalty check`: every service rebuilds its states from the entries and says what differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli import installation
from services.cli.errors import CommandError
from services.cli.installation import Connection
from services.cli.processes import tied

# Far beyond what the largest ledger of one machine takes.
_SECONDS: Final = 3600.0
_CLEAN, _DIFFERENT = 0, 1

Report = dict[str, Any]


def check(data: Path, *, as_json: bool) -> bool:
    """Checks a folder, prints what was found, and says whether it is clean."""
    console = Console(stderr=as_json, highlight=False)
    there = installation.find(data)
    with installation.running(there.directory) as up:
        reports = collect(up)
    clean = not any(report["differences"] for report in reports)
    if as_json:
        print(json.dumps({"data": str(there.directory), "clean": clean, "services": reports}, indent=2))
    else:
        show(console, reports)
    return clean


def collect(up: Connection) -> list[Report]:
    """The report of each service; raises CommandError where one could not check. Call it from the main thread."""
    # The stack's own machinery takes its time to load.
    from services.cli.local_stack import SERVICES, attached

    stack = attached(up)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOYALTY_", "PG"))}
    started: list[tuple[str, subprocess.Popen[bytes], IO[bytes], IO[bytes]]] = []
    try:
        for service in SERVICES:
            said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed below
            complained: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed below
            process = subprocess.Popen(
                tied([sys.executable, "-m", f"services.{service}", "check"], death_signal=signal.SIGTERM),
                env={**inherited, **stack.environment(service)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
            )
            started.append((service, process, said, complained))
        return [_report(*one) for one in started]
    finally:
        for _, process, said, complained in started:
            if process.poll() is None:
                process.terminate()
                process.wait()
            said.close()
            complained.close()


def _report(service: str, process: subprocess.Popen[bytes], said: IO[bytes], complained: IO[bytes]) -> Report:
    try:
        code = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        raise CommandError(f"the check of {service} was not done after {_SECONDS:.0f} s") from None
    said.seek(0)
    complained.seek(0)
    if code in (_CLEAN, _DIFFERENT):
        try:
            report: Report = json.loads(said.read())
        except ValueError:
            pass
        else:
            return report
    lines = complained.read().decode(errors="replace").strip().splitlines()
    raise CommandError(f"the check of {service} could not run: {lines[-1] if lines else f'exit code {code}'}")


def show(console: Console, reports: list[Report]) -> None:
    """What was looked at, then each difference."""
    table = Table("service", "checked", box=None, padding=(0, 2))
    table.add_column("differences", justify="right")
    for report in reports:
        checked = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report["checked"].items())
        table.add_row(report["service"], checked or "nothing yet", f"{len(report['differences']):,}")
    console.print(table)
    for report in reports:
        for one in report["differences"]:
            console.print(
                f"{report['service']}: {escape(one['what'])}, {escape(one['where'])}: "
                f"expected {escape(str(one['expected']))}, found {escape(str(one['found']))}"
            )
    if not any(report["differences"] for report in reports):
        console.print("Clean: everything stored follows from the entries.")
