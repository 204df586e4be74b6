"""`loyalty advance`: moves the clock of a folder that lives in simulated time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvloop
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from rich.console import Console
from rich.table import Table

from services.cli import installation
from services.cli.errors import CommandError, UsageError
from services.cli.history import end_of_day
from services.cli.installation import Connection
from services.cli.loader import advance_clock, alone, business_time, settle_everywhere
from services.cli.remote import Services, open_stream, reach
from services.programme import Programme
from services.runtime.clock import ClockMode

# What the contract takes.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """What the clock brought with it: members by tier before and after, and the changes that time alone made."""

    from_time: datetime
    to_time: datetime
    before: dict[str, int]
    after: dict[str, int]
    changes: list[Any]


def advance(data: Path, to: str) -> None:
    """Moves the clock, waits until all that fell due has had its effect, and shows it."""
    there = installation.find(data)
    if there.clock is not ClockMode.SIMULATED:
        raise CommandError(f"{there.directory} lives in real time: its clock moves by itself")
    rules = installation.load_programme(there.programme, applied=True)
    to_time = read_time(to, rules)
    console = Console(highlight=False)
    with alone(there), installation.running(there.directory) as up:
        advanced = uvloop.run(_advance(up, to_time, rules))
    show(console, advanced, rules)


def read_time(text: str, programme: Programme) -> datetime:
    """An RFC 3339 time, or the start of a local day; raises UsageError for anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"{text} is no time; write 2018-03-01, or 2018-03-01T10:00:00Z, or 2018-03-01T10:00:00-05:00"
            ) from None
        if time.utcoffset() is None:
            raise UsageError(
                f"{text} names no offset; write {text}Z for UTC, or the offset, as in {text}+01:00"
            ) from None
    else:
        try:
            time = end_of_day(day - timedelta(days=1), programme)
        except OverflowError:
            time = _END
    if not _EARLIEST <= time < _END:
        raise UsageError(f"{text} is outside what the clock can show: 1970 to 2199")
    return time.astimezone(UTC)


async def move_on(services: Services, to_time: datetime) -> Advanced:
    """Moves the clock and waits for everyone. Raises RemoteError."""
    from_time = await business_time(services)
    before = await settle_everywhere(services, "")
    after = await settle_everywhere(services, await advance_clock(services, to_time))
    changes = [change for change in await due_changes(services) if from_time < _changed(change) <= to_time]
    return Advanced(from_time=from_time, to_time=to_time, before=before, after=after, changes=changes)


async def due_changes(services: Services) -> list[Any]:
    """All changes of tier that time alone made, by instant. Raises RemoteError."""
    found: list[Any] = []
    async for response in open_stream(services.tiers.StreamTierChanges, tiers.StreamTierChangesRequest()):
        found += [change for change in response.changes if change.WhichOneof("cause") == "due_time"]
    return sorted(found, key=lambda change: (_changed(change), change.member_id))


async def _advance(up: Connection, to_time: datetime, rules: Programme) -> Advanced:
    async with reach(up) as services:
        now = await business_time(services)
        if to_time < now:
            raise CommandError(
                f"the clock of {up.installation.directory} shows {local(now, rules)} already and only goes forward; "
                "name a later time with --to"
            )
        return await move_on(services, to_time)


def show(console: Console, advanced: Advanced, rules: Programme) -> None:
    """The clock, members by tier before and after, and some of the changes."""
    console.print(f"The clock went from {local(advanced.from_time, rules)} to {local(advanced.to_time, rules)}.")
    table = Table("tier", box=None, padding=(0, 2))
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for tier, members in advanced.after.items():
        before = advanced.before.get(tier, 0)
        table.add_row(tier, f"{before:,}", f"{members:,}", f"{members - before:+,}" if members != before else "")
    console.print(table)
    console.print(
        f"{len(advanced.changes):,} changes of tier fell due, each at its own instant"
        + (":" if advanced.changes else ".")
    )
    show_changes(console, advanced.changes[:_SHOWN], rules)
    if len(advanced.changes) > _SHOWN:
        console.print(f"  and {len(advanced.changes) - _SHOWN:,} more")


def show_changes(console: Console, changes: list[Any], rules: Programme) -> None:
    """A line for each change: when, who, from where to where."""
    for change in changes:
        console.print(
            f"  {local(_changed(change), rules)}  {change.member_id}: {change.from_tier} → {change.to_tier} "
            f"at {rules.format_money(change.balance.minor_units)}"
        )


def local(time: datetime, rules: Programme) -> str:
    """A time as the clock on the programme's wall shows it."""
    return f"{time.astimezone(rules.zone):%Y-%m-%d %H:%M:%S %Z}"


def _changed(change: Any) -> datetime:
    time: datetime = change.changed_time.ToDatetime(UTC)
    return time
