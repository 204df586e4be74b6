"""`loyalty programme`: previews and applies another version of the programme, and shows those there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from services.cli import installation
from services.cli.commands import AsJson, Data, interruptible
from services.cli.errors import CommandError
from services.cli.installation import DEFAULT_DIRECTORY, Connection
from services.programme import ANNOUNCEMENT_DAYS, SINCE_EVER, Programme

T = TypeVar("T")

# In real time a version that begins now begins once every partition has heard of it.
_NOW: Final = timedelta(seconds=2)
# All members are looked at, some thousands a second.
_PREVIEW_SECONDS: Final = 1800

group = typer.Typer(help="The versions of the programme.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.add_typer(group, name="programme")


File = Annotated[Path, typer.Argument(metavar="FILE", help="The programme file.")]
From = typer.Option(
    "--from",
    metavar="TIME",
    help="From when it holds: an RFC 3339 time, a date (the start of that local day), or now.",
)


@group.command()
def preview(
    file: File,
    from_: Annotated[str, From] = "now",
    members: Annotated[int, typer.Option(help="Look at so many members only; 0: at all.", min=0)] = 0,
    data: Data = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Show what a version of the programme would do to members: who moves, and what their discounts cost.

    Nothing is kept.
    """
    there = installation.find(data)
    # Whether it may be a new version the services say, which know the versions that there were.
    wanted = installation.load_programme(file, applied=True)
    document = _read(file)
    with interruptible("interrupted"), installation.running(there.directory) as up:
        found = _run(_preview(up, wanted, document, from_, members))
    _show_preview(found, wanted, as_json=as_json)


@group.command()
def apply(file: File, from_: Annotated[str, From], data: Data = DEFAULT_DIRECTORY) -> None:
    """Make a version of the programme hold from an instant on, for all services. The past stays as it was.

    The same command again, with the same time, changes nothing.
    """
    there = installation.find(data)
    # Whether it may be a new version the services say, which know the versions that there were.
    wanted = installation.load_programme(file, applied=True)
    document = _read(file)
    with (
        interruptible("interrupted; the same command, with another time than now, goes on where it was"),
        installation.running(there.directory) as up,
    ):
        _run(_apply(up, wanted, document, from_))


@group.command("list")
def list_versions(data: Data = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """List the versions of the programme, and when each one holds."""
    with interruptible("interrupted"):
        _list(_told(data, ""), as_json=as_json)


@group.command()
def show(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="One that `loyalty programme list` shows (default: the one in force)."),
    ] = "",
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Print the file of a version."""
    with interruptible("interrupted"):
        sys.stdout.write(_told(data, version).programme.source)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    # It takes its time to load, and `--help` does without.
    import uvloop

    return uvloop.run(work)


async def _apply(up: Connection, wanted: Programme, document: str, text: str) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp
    from loyalty.ledger.v1 import ledger_service_pb2 as ledger

    from services.cli.advancing import local, read_time
    from services.cli.loader import business_time
    from services.cli.remote import call, reach
    from services.runtime.clock import ClockMode, microseconds

    async with reach(up) as services:
        if text == "now":
            now = await business_time(services)
            from_time = now if up.installation.clock is ClockMode.SIMULATED else now + _NOW
        else:
            from_time = read_time(text, wanted)
        seconds, rest = divmod(microseconds(from_time), 1_000_000)
        request = ledger.ApplyProgrammeRequest(
            request_id=f"apply/{wanted.version}/{microseconds(from_time)}",
            document=document,
            from_time=Timestamp(seconds=seconds, nanos=rest * 1000),
        )
        answer = await call(services.ledger.ApplyProgramme, request)
    said = "was applied before: it holds" if answer.replayed else "holds"
    print(f"{answer.version} {said} from {local(from_time, wanted)} on")


async def _preview(up: Connection, wanted: Programme, document: str, text: str, members: int) -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp
    from loyalty.tiers.v1 import tier_service_pb2 as tiers

    from services.cli.advancing import read_time
    from services.cli.remote import call, reach

    request = tiers.PreviewProgrammeRequest(document=document, most_members=members, most_moves=10)
    if text != "now":
        from_time = Timestamp()
        from_time.FromDatetime(read_time(text, wanted))
        request.from_time.CopyFrom(from_time)
    async with reach(up) as services:
        return await call(services.tiers.PreviewProgramme, request, seconds=_PREVIEW_SECONDS)


def _show_preview(found: Any, wanted: Programme, *, as_json: bool) -> None:
    from google.protobuf.json_format import MessageToJson
    from rich.console import Console
    from rich.table import Table

    from services.cli.advancing import local

    if as_json:
        print(MessageToJson(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        return
    at_time = local(_time(found.at_time), wanted)
    console = Console(highlight=False)
    console.print(f"{found.version} from {at_time} on, for {found.members:,} members")
    table = Table("tier", "as it is", "as it would be", box=None, padding=(0, 2))
    for tier in found.tiers:
        table.add_row(tier.tier, f"{tier.members_before:,}", f"{tier.members_after:,}")
    console.print(table)
    console.print(f"{found.rising:,} would rise, {found.falling:,} would fall")
    for move in found.moves:
        console.print(f"  {move.member_id}: {move.from_tier} -> {move.to_tier}", markup=False)
    before, after = found.discounts_before.minor_units, found.discounts_after.minor_units
    console.print(
        f"discounts on what they bought in a year: {wanted.format_money(before)} as it is, "
        f"{wanted.format_money(after)} as it would be"
    )
    if found.losses:
        console.print(f"It takes something away, and is announced {ANNOUNCEMENT_DAYS} days ahead:")
        for loss in found.losses:
            console.print(f"  - {loss}", markup=False)


def _list(told: Any, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    in_force = _time(told.from_time)
    versions = [(one.version, _time(one.from_time), _time(one.recorded_time)) for one in told.versions]
    if as_json:
        found = [
            {
                "version": version,
                "from_time": from_time.isoformat(),
                "recorded_time": recorded.isoformat(),
                "in_force": from_time == in_force,
            }
            for version, from_time, recorded in versions
        ]
        print(json.dumps({"versions": found}, indent=2))
        return
    table = Table("version", "holds from", "applied", "", box=None, padding=(0, 2))
    for version, from_time, recorded in versions:
        state = "in force" if from_time == in_force else "to come" if from_time > in_force else ""
        table.add_row(version, _shown(from_time), _shown(recorded), state)
    Console(highlight=False).print(table)


def _told(data: Path, version: str) -> Any:
    """What the ledger says of a version (empty: the one in force), and of when each one holds."""
    from loyalty.ledger.v1 import ledger_service_pb2 as ledger

    from services.cli.remote import call, reach

    async def ask(up: Connection) -> Any:
        async with reach(up) as services:
            return await call(services.ledger.GetProgramme, ledger.GetProgrammeRequest(version=version))

    there = installation.find(data)
    with installation.running(there.directory) as up:
        return _run(ask(up))


def _time(stamp: Any) -> datetime:
    time: datetime = stamp.ToDatetime(UTC)
    return time


def _shown(time: datetime) -> str:
    return "the start" if time == SINCE_EVER else f"{time:%Y-%m-%d %H:%M:%S} UTC"
