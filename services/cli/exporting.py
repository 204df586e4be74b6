"""`loyalty export`: what is true of an instant, as a CSV file.

UTF-8, quoted as RFC 4180 has it, lines end with "\\n", the first one names the columns. Money in minor units, times in
UTC. All of it comes over the public RPCs: standings from tiers, the journal of a period from the ledger; everything
else is told by the entries that occurred up to the instant, in the order of the log.
"""

from __future__ import annotations

import contextlib
import csv
import heapq
import json
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import uvloop
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from loyalty.type.v1 import log_pb2
from rich.console import Console

from services.cli import installation
from services.cli.advancing import read_time
from services.cli.display import progress_bar, time_text
from services.cli.errors import CommandError, UsageError
from services.cli.files import refuse_over, whole_file
from services.cli.installation import Connection
from services.cli.remote import Services, call, reach, resumed_stream
from services.programme import Programme
from services.runtime.causality import format_token

STANDING_COLUMNS: Final = (
    "member_id",
    "tier_number",
    "tier",
    "balance_minor_units",
    "currency_code",
    "balance_count",
)
MEMBER_COLUMNS: Final = (
    "member_id",
    "joined_time",
    "channel",
    "available_points",
    "debt_points",
    "earned_points",
    "purchases",
    "returns",
    "spent_minor_units",
    "currency_code",
    "first_purchase_time",
    "last_purchase_time",
    "pending_points",
    "held_points",
    "redeemed_points",
)
ENTRY_COLUMNS: Final = (
    "partition",
    "offset",
    "kind",
    "member_id",
    "request_id",
    "principal",
    "on_behalf_of",
    "occurred_time",
    "recorded_time",
    "programme_version",
    "purchase_id",
    "amount_minor_units",
    "currency_code",
    "goods_paid_minor_units",
    "available_points",
    "debt_points",
    "issued_points",
    "available_points_after",
    "debt_points_after",
    "rules",
    "earning_class",
    "effective_time",
    "reason",
    "channel",
    "detail_commitment",
    "hash",
    "pending_points",
    "held_points",
    "redeemed_points",
    "expired_points",
    "adjusted_points",
    "reference",
    "exchange_id",
    "flags",
)
PURCHASE_COLUMNS: Final = (
    "member_id",
    "purchase_id",
    "kind",
    "occurred_time",
    "amount_minor_units",
    "currency_code",
    "goods_paid_minor_units",
    "points",
    "earning_class",
    "channel",
    "programme_version",
    "request_id",
    "partition",
    "offset",
)
JOURNAL_COLUMNS: Final = (
    "posting_day",
    "movement",
    "market",
    "expiry_month",
    "points",
    "value_minor_units",
    "currency_code",
)

_PAGE: Final = 1000
_FOLDING_SECONDS: Final = 300.0
_PURCHASE: Final = entry_pb2.ENTRY_KIND_PURCHASE_RECORDED
_BACK: Final = {entry_pb2.ENTRY_KIND_RETURN_RECORDED: "return", entry_pb2.ENTRY_KIND_PURCHASE_VOIDED: "void"}
_AVAILABLE: Final = entry_pb2.ACCOUNT_AVAILABLE
_PENDING: Final = entry_pb2.ACCOUNT_PENDING
_HELD: Final = entry_pb2.ACCOUNT_HELD
_DEBT: Final = entry_pb2.ACCOUNT_DEBT
_ISSUED: Final = entry_pb2.ACCOUNT_ISSUED
_REDEEMED: Final = entry_pb2.ACCOUNT_REDEEMED
_EXPIRED: Final = entry_pb2.ACCOUNT_EXPIRED
_ADJUSTED: Final = entry_pb2.ACCOUNT_ADJUSTED
_FLAGS: Final = {number: name.removeprefix("ENTRY_FLAG_").lower() for name, number in entry_pb2.EntryFlag.items()}
_KINDS: Final = {number: name.removeprefix("ENTRY_KIND_").lower() for name, number in entry_pb2.EntryKind.items()}

Row = Sequence[object]
# Told how many members or entries more have been read.
Progressed = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is exported: everything up to the heads of the log that is true of `at_time`."""

    at_time: datetime
    heads: Mapping[int, int]
    members: int
    currency: str
    # Of the journal: a month or a year; empty: the open month.
    period: str = ""

    @property
    def causal_token(self) -> str:
        """Who has taken in this has taken in everything up to the heads."""
        return format_token({partition: offset for partition, offset in self.heads.items() if offset})


class Lines:
    """The lines of a CSV file; `count` leaves out the one with the columns."""

    def __init__(self, file: TextIO, columns: Row) -> None:
        self.count = 0
        self._write = csv.writer(file, lineterminator="\n").writerow
        self._write(columns)

    def add(self, row: Row) -> None:
        """Writes one line."""
        self._write(row)
        self.count += 1


def export(what: str, *, data: Path, at: str | None, output: Path, period: str | None = None) -> None:
    """Writes a file and says how many lines it has. Raises CommandError, and the file is then as it was."""
    if what not in _EXPORTS:
        raise UsageError(f"there is no export of {what}; known are {', '.join(_EXPORTS)}")
    if what == "journal" and at is not None:
        raise UsageError("the journal is that of a --period, whole; --at is for the other exports")
    if what != "journal" and period is not None:
        raise UsageError(f"--period is for the journal; {what} are those of an instant, which --at names")
    there = installation.find(data)
    refuse_over("--output", output, data=there.directory)
    rules = installation.load_programme(there.programme, applied=True)
    at_time = None if at is None else read_time(at, rules)
    console = Console(stderr=True, highlight=False)
    with (
        whole_file(output) as file,
        installation.running(there.directory, say=lambda text: console.print(f"  {text}", style="dim")) as up,
    ):
        count = uvloop.run(_export(what, up, rules, at_time, period or "", file, console))
    print(f"{count:,} lines in {output}")


async def _export(
    what: str,
    up: Connection,
    rules: Programme,
    at_time: datetime | None,
    period: str,
    file: TextIO,
    console: Console,
) -> int:
    columns, unit, write = _EXPORTS[what]
    lines = Lines(file, columns)
    async with reach(up) as services:
        log = await call(services.ledger.ListPartitions, ledger.ListPartitionsRequest())
        moment = Moment(
            at_time=at_time or log.business_time.ToDatetime(UTC),
            heads={one.partition: one.last_offset for one in log.partitions},
            members=sum(one.members for one in log.partitions),
            currency=rules.currency,
            period=period,
        )
        total = moment.members if unit == "members" else sum(moment.heads.values())
        with _shown(console, unit, total) as progressed:
            await write(services, moment, lines, progressed)
    return lines.count


# --- standings ------------------------------------------------------------------------------------------------------


async def _write_standings(services: Services, moment: Moment, lines: Lines, progressed: Progressed) -> None:
    request = tiers.ListStandingsRequest(page_size=_PAGE, causal_token=moment.causal_token)
    request.at_time.FromDatetime(moment.at_time)
    while True:
        page = await call(services.tiers.ListStandings, request)
        for one in page.standings:
            lines.add(standing_row(one))
        progressed(len(page.standings))
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def standing_row(standing: Any) -> Row:
    """A line of the list by STANDING_COLUMNS."""
    balance = standing.balance
    return (
        standing.member_id,
        standing.tier_number,
        standing.tier,
        balance.minor_units,
        balance.currency_code,
        "" if standing.HasField("balance") else standing.balance_count,
    )


# --- entries and purchases ------------------------------------------------------------------------------------------


async def entries_of(services: Services, moment: Moment, partition: int) -> AsyncGenerator[list[Any], None]:
    """The entries of one partition up to its head, in order, some at a time. Raises CommandError."""
    head = moment.heads[partition]
    reached = 0

    def request() -> Any:
        # The other partitions have nothing to send but what is new.
        places = {**moment.heads, partition: reached}
        return ledger.StreamEntriesRequest(
            after=[log_pb2.PartitionOffset(partition=number, offset=offset) for number, offset in places.items()]
        )

    if not head:
        return
    async with contextlib.aclosing(resumed_stream(services.ledger.StreamEntries, request)) as responses:
        async for response in responses:
            entries = [one for one in response.entries if one.partition == partition and one.offset <= head]
            if not entries:
                continue
            reached = entries[-1].offset
            yield entries
            if reached == head:
                return
    raise CommandError(
        f"the log of partition {partition} ended at entry {reached}, and it had {head} a moment ago; was the database "
        "restored from a backup? export again"
    )


async def _read(
    services: Services, moment: Moment, partition: int, progressed: Progressed, take: Callable[[Any, datetime], None]
) -> None:
    """Hands on what had occurred in one partition by the instant, entry by entry, each with its time."""
    async with contextlib.aclosing(entries_of(services, moment, partition)) as responses:
        async for entries in responses:
            for entry in entries:
                occurred = entry.occurred_time.ToDatetime(UTC)
                if occurred <= moment.at_time:
                    take(entry, occurred)
            progressed(len(entries))


async def _write_entries(services: Services, moment: Moment, lines: Lines, progressed: Progressed) -> None:
    def take(entry: Any, occurred: datetime) -> None:
        lines.add(entry_row(entry, occurred))

    for partition in sorted(moment.heads):
        await _read(services, moment, partition, progressed, take)


async def _write_purchases(services: Services, moment: Moment, lines: Lines, progressed: Progressed) -> None:
    def take(entry: Any, occurred: datetime) -> None:
        if entry.kind == _PURCHASE or entry.kind in _BACK:
            lines.add(purchase_row(entry, occurred))

    for partition in sorted(moment.heads):
        await _read(services, moment, partition, progressed, take)


def entry_row(entry: Any, occurred: datetime) -> Row:
    """A line of the log by ENTRY_COLUMNS."""
    amount, goods_paid = entry.amount, entry.goods_paid
    points = posted(entry)
    return (
        entry.partition,
        entry.offset,
        _KINDS[entry.kind],
        entry.member_id,
        entry.request_id,
        entry.principal,
        entry.on_behalf_of,
        time_text(occurred),
        time_text(entry.recorded_time.ToDatetime(UTC)),
        entry.programme_version,
        entry.purchase_id,
        amount.minor_units if entry.HasField("amount") else "",
        amount.currency_code,
        goods_paid.minor_units if entry.HasField("goods_paid") else "",
        points[_AVAILABLE],
        points[_DEBT],
        points[_ISSUED],
        entry.available_points_after,
        entry.debt_points_after,
        rules_text(entry.rules),
        entry.earning_class,
        time_text(entry.effective_time.ToDatetime(UTC)) if entry.HasField("effective_time") else "",
        entry.reason,
        entry.channel,
        entry.detail_commitment.hex(),
        entry.hash.hex(),
        points[_PENDING],
        points[_HELD],
        points[_REDEEMED],
        points[_EXPIRED],
        points[_ADJUSTED],
        entry.reference,
        entry.exchange_id,
        " ".join(_FLAGS[flag] for flag in entry.flags),
    )


def purchase_row(entry: Any, occurred: datetime) -> Row:
    """A purchase or a return by PURCHASE_COLUMNS; what a return gives back and takes away is negative."""
    back = _BACK.get(entry.kind)
    sign = -1 if back else 1
    return (
        entry.member_id,
        entry.purchase_id,
        back or "purchase",
        time_text(occurred),
        sign * entry.amount.minor_units,
        entry.amount.currency_code,
        sign * entry.goods_paid.minor_units,
        posted(entry)[_ISSUED],
        entry.earning_class,
        entry.channel,
        entry.programme_version,
        entry.request_id,
        entry.partition,
        entry.offset,
    )


def posted(entry: Any) -> Counter[int]:
    """What an entry adds to each account, by the account's number."""
    points: Counter[int] = Counter()
    for posting in entry.postings:
        points[posting.account] += posting.points
    return points


def rules_text(rules: Iterable[Any]) -> str:
    """Points by rule as a JSON object; empty where no rule gave or took any."""
    points: dict[str, int] = {}
    for one in rules:
        points[one.rule] = points.get(one.rule, 0) + one.points
    return json.dumps(points, separators=(",", ":"), ensure_ascii=False) if points else ""


# --- members --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Member:
    joined_time: datetime | None = None
    channel: str = ""
    points: Counter[int] = field(default_factory=Counter)
    purchases: int = 0
    returns: int = 0
    spent: int = 0
    first_purchase: datetime | None = None
    last_purchase: datetime | None = None


class Members:
    """What entries add up to, by member. They may come in any order of their times."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._members: dict[str, _Member] = {}

    def add(self, entry: Any, occurred: datetime) -> None:
        """Takes in one entry."""
        if not entry.member_id:
            return
        member = self._members.setdefault(entry.member_id, _Member())
        member.points.update(posted(entry))
        if entry.kind == entry_pb2.ENTRY_KIND_MEMBER_JOINED:
            member.joined_time = occurred
            member.channel = entry.channel
        elif entry.kind == _PURCHASE:
            member.purchases += 1
            member.spent += entry.amount.minor_units
            member.first_purchase = min(occurred, member.first_purchase or occurred)
            member.last_purchase = max(occurred, member.last_purchase or occurred)
        elif entry.kind in _BACK:
            member.returns += 1
            member.spent -= entry.amount.minor_units

    def rows(self) -> Iterator[Row]:
        """Everybody who had joined, by MEMBER_COLUMNS and in the order of the ids, bytewise."""
        for member_id, member in sorted(self._members.items()):
            if member.joined_time is None:
                continue
            yield (
                member_id,
                time_text(member.joined_time),
                member.channel,
                member.points[_AVAILABLE],
                member.points[_DEBT],
                member.points[_ISSUED],
                member.purchases,
                member.returns,
                member.spent,
                self._currency,
                time_text(member.first_purchase),
                time_text(member.last_purchase),
                member.points[_PENDING],
                member.points[_HELD],
                member.points[_REDEEMED],
            )


async def _write_members(services: Services, moment: Moment, lines: Lines, progressed: Progressed) -> None:
    # The members of one partition are held in memory; those of the others lie, in order, in files without a name.
    with _room(), contextlib.ExitStack() as stack:
        parts: list[TextIO] = []
        for partition in sorted(moment.heads):
            members = Members(moment.currency)
            await _read(services, moment, partition, progressed, members.add)
            part = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline=""))
            csv.writer(part).writerows(members.rows())
            part.seek(0)
            parts.append(part)
        for row in heapq.merge(*map(csv.reader, parts), key=lambda row: row[0]):
            lines.add(row)


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"members cannot be kept on disk while they are put in order: {error.strerror}; name a folder with more "
            "space in TMPDIR"
        ) from None


# --- the journal ----------------------------------------------------------------------------------------------------


async def _write_journal(services: Services, moment: Moment, lines: Lines, progressed: Progressed) -> None:
    request = ledger.GetLiabilityRequest(period=moment.period, with_journal=True)
    # The first to ask folds what the ledger has not come to yet.
    response = await call(services.ledger.GetLiability, request, seconds=_FOLDING_SECONDS)
    for line in response.liability.journal:
        lines.add(journal_row(line))
    progressed(sum(moment.heads.values()))


def journal_row(line: Any) -> Row:
    """A line of the journal by JOURNAL_COLUMNS."""
    return (
        line.date,
        line.movement,
        line.market,
        line.expiry_month,
        line.points,
        line.value.minor_units if line.HasField("value") else "",
        line.value.currency_code,
    )


# --- what there is --------------------------------------------------------------------------------------------------


Write = Callable[[Services, Moment, Lines, Progressed], Awaitable[None]]
# By name: the columns, what is counted on the way, and what writes the lines.
_EXPORTS: Final[Mapping[str, tuple[Row, str, Write]]] = {
    "standings": (STANDING_COLUMNS, "members", _write_standings),
    "members": (MEMBER_COLUMNS, "entries", _write_members),
    "entries": (ENTRY_COLUMNS, "entries", _write_entries),
    "purchases": (PURCHASE_COLUMNS, "entries", _write_purchases),
    "journal": (JOURNAL_COLUMNS, "entries", _write_journal),
}


@contextlib.contextmanager
def _shown(console: Console, unit: str, total: int) -> Iterator[Progressed]:
    """A bar on a terminal."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with progress_bar(console, unit) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda more: progress.advance(task, more)
