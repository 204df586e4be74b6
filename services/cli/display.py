"""What several commands show in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table


def time_text(time: datetime | None) -> str:
    """A time in UTC as RFC 3339 has it, with microseconds where there are any; empty for None."""
    return "" if time is None else time.isoformat().removesuffix("+00:00") + "Z"


def facts(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    """A name and what is to be said about it, a line each; long ones go on below themselves. Markup is read."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in lines:
        table.add_row(name, text)
    console.print(Padding(table, (0, 0, 0, 2)))


def progress_bar(console: Console, unit: str) -> Progress:
    """A bar with a count and the time that is left."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
    )
