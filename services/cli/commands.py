"""`loyalty import`, `export`, `advance`, `check` and `demo`: what they take. What they do is loaded when asked for."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from services.cli.installation import DEFAULT_DIRECTORY

DEMO_DIRECTORY = Path("var/demo")

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of the installation.")]
AsJson = Annotated[bool, typer.Option("--json", help="The report as one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("import")(import_history)
    app.command()(export)
    app.command()(advance)
    app.command()(check)
    app.command()(demo)


def import_history(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What to load: a file or a folder.")],
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="complete-journey, online-retail or cdnow.")
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The folder of the installation; a new one is made.")
    ] = DEFAULT_DIRECTORY,
    programme: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The programme of a new folder (default: retail-demo).")
    ] = None,
    currency: Annotated[
        str | None, typer.Option(metavar="CODE", help="What the amounts are in (default: as the format has it).")
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Where the clock hung that the times were read off (default: the format's, else the programme's).",
        ),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where rejected lines go (default: DIR/imports).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a history through the public RPCs, day by day. Loading it again changes nothing.

    Prints an account of every line of the source; exit code 1 where it does not add up.
    """
    from services.cli import importing

    with interruptible("interrupted; the same command goes on where it was"):
        adds_up = importing.import_history(
            source,
            format_name,
            data=data,
            programme_file=programme,
            currency=currency,
            time_zone=time_zone,
            rejects=rejects,
            as_json=as_json,
        )
    if not adds_up:
        raise typer.Exit(1)


def export(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="standings, members, entries, purchases or journal.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The CSV file; it is whole or not there.")],
    data: Data = DEFAULT_DIRECTORY,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="The instant it is to be true of: an RFC 3339 time, or a date: the start of that local day "
            "(default: what the installation's clock shows).",
        ),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            "--period", metavar="PERIOD", help="Of the journal: a month, 2026-10, or a year (default: the open month)."
        ),
    ] = None,
) -> None:
    """Write what is true of an instant, or the journal of a period, into a CSV file."""
    from services.cli import exporting

    with interruptible(f"interrupted; {output} is as it was"):
        exporting.export(what, data=data, at=at, output=output, period=period)


def advance(
    to: Annotated[
        str, typer.Option("--to", metavar="TIME", help="An RFC 3339 time, or a date: the start of that local day.")
    ],
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Move the clock of a folder that lives in simulated time, and show what fell due."""
    from services.cli import advancing

    with interruptible("interrupted; the same command goes on where it was"):
        advancing.advance(data, to)


def check(data: Data = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Rebuild every state from the entries and compare; exit code 1 where anything differs."""
    from services.cli import checking

    with interruptible("interrupted"):
        clean = checking.check(data, as_json=as_json)
    if not clean:
        raise typer.Exit(1)


def demo(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The folder of the demo; made afresh each time.")
    ] = DEMO_DIRECTORY,
) -> None:
    """Live through a year of real purchases, then stand at a till."""
    from services.cli import demo as demonstration

    with interruptible("interrupted; `loyalty demo` goes on where the load was"):
        demonstration.run(data)


@contextlib.contextmanager
def interruptible(sentence: str) -> Iterator[None]:
    """Ctrl-C is a sentence and exit code 130; SIGTERM ends the command in the same order, with 143."""
    ended_by: int = signal.SIGINT

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by
        ended_by = number
        as_by_ctrl_c = signal.getsignal(signal.SIGINT)
        # Where Ctrl-C is ignored, as in the background of a shell, this is not.
        if not callable(as_by_ctrl_c):
            raise KeyboardInterrupt
        as_by_ctrl_c(number, frame)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        print(f"loyalty: {sentence}", file=sys.stderr)
        raise typer.Exit(128 + ended_by) from None
    finally:
        signal.signal(signal.SIGTERM, before)
