"""`loyalty segments`: takes in lists of members that were made elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli import installation
from services.cli.accounts import Account
from services.cli.commands import AsJson, Data, interruptible
from services.cli.errors import UsageError
from services.cli.formats.text import check_text, read_csv
from services.cli.history import MEMBER_ID
from services.cli.installation import DEFAULT_DIRECTORY, Connection

# Members of a call, as many as the contract takes, and calls under way at once.
_PART: Final = 1000
_AT_ONCE: Final = 4
_COLUMN: Final = "member_id"

group = typer.Typer(help="Segments: lists of members that campaigns and rewards go by.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.add_typer(group, name="segments")


@group.command("import")
def import_members(
    segment: Annotated[str, typer.Argument(metavar="SEGMENT", help="The segment that they go to.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A CSV file with a column member_id, or with a member in each line."),
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Take them out of the segment instead.")] = False,
    data: Data = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Put members into a segment; who is in it already stays. Doing it again changes nothing.

    Tells of each line that is left out: no member id, there already, or no member.
    """
    there = installation.find(data)
    check_text(file)
    with (
        interruptible("interrupted; the same command goes on where it was"),
        installation.running(there.directory) as up,
    ):
        account, added = asyncio.run(_import(up, segment, file, remove=remove))
    if as_json:
        print(json.dumps({"segment": segment, "members": account.taken, "added": added, **account.as_json()}))
    else:
        print(sentence(account, segment, added, remove=remove))
        account.show_problems()
    if account.nothing_but_malformed:
        raise UsageError(f"{file} has no member ids: it needs a column {_COLUMN}, or one in each line")


def sentence(account: Account, segment: str, added: int, *, remove: bool) -> str:
    """What came of a list: how many members, `added` of them new, are in the segment or, with `remove`, out of it."""
    who = "1 member" if account.taken == 1 else f"{account.taken:,} members"
    lines = "1 line" if account.lines == 1 else f"{account.lines:,} lines"
    are = "is" if account.taken == 1 else "are"
    state = f"not in the segment {segment}" if remove else f"in the segment {segment}, {added:,} of them new"
    return f"{who} of {lines} {are} {state}"


async def _import(up: Connection, segment: str, file: Path, *, remove: bool) -> tuple[Account, int]:
    """What became of the lines, and how many members were not in the segment before."""
    from loyalty.notifier.v1 import campaign_pb2

    from services.cli import remote

    account, added = Account(), 0
    # By member, the line that named it first.
    lines: dict[str, int] = {}

    async with remote.reach(up) as services:

        async def send(members: list[str]) -> Any:
            request = campaign_pb2.UpdateSegmentRequest(segment=segment)
            (request.remove_member_ids if remove else request.add_member_ids).extend(members)
            return await remote.call(services.notifier.UpdateSegment, request)

        members = _members(file, account, lines)
        while some := list(islice(members, _PART * _AT_ONCE)):
            parts = [some[first : first + _PART] for first in range(0, len(some), _PART)]
            account.taken += len(some)
            for answer in await remote.together(send(part) for part in parts):
                added += answer.added
                account.taken -= answer.unknown
                account.problems += [(lines[one], "no member", 0) for one in answer.unknown_member_ids]
    account.problems.sort()
    return account, added


def _members(file: Path, account: Account, lines: dict[str, int]) -> Iterator[str]:
    """The member ids of a file, each once; what is none, or there twice, is told the account."""
    place = 0
    for row, (number, record) in enumerate(read_csv(file)):
        names = [name.strip() for name in record]
        if row == 0 and _COLUMN in names:
            place = names.index(_COLUMN)
            continue
        if not any(names):
            continue
        account.lines += 1
        member_id = names[place] if place < len(names) else ""
        if not MEMBER_ID.fullmatch(member_id):
            account.problems.append((number, "malformed", 0))
        elif member_id in lines:
            account.problems.append((number, "duplicate", lines[member_id]))
        else:
            lines[member_id] = number
            yield member_id
