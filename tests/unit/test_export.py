"""Exports: from entries to lines, and a stream of entries that breaks off on the way."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.tiers.v1 import tier_service_pb2 as tiers_pb
from loyalty.type.v1.money_pb2 import Money

from services.cli.display import time_text
from services.cli.errors import CommandError
from services.cli.exporting import (
    ENTRY_COLUMNS,
    MEMBER_COLUMNS,
    PURCHASE_COLUMNS,
    STANDING_COLUMNS,
    Lines,
    Members,
    Moment,
    entries_of,
    entry_row,
    purchase_row,
    standing_row,
)
from services.cli.remote import RemoteError, Services, resumed_stream

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
ACCOUNTS = {name.removeprefix("ACCOUNT_").lower(): number for name, number in entry_pb2.Account.items() if number}


def stamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def entry(kind: str, member_id: str = "m-1", time: datetime = NOON, amount: int | None = None, **more: Any) -> Any:
    """An entry; points are named by account, rules as pairs."""
    postings = [
        entry_pb2.Posting(account=account, points=more.pop(name)) for name, account in ACCOUNTS.items() if name in more
    ]
    rules = [entry_pb2.RulePoints(rule=rule, points=points) for rule, points in more.pop("rules", ())]
    made = entry_pb2.Entry(
        kind=entry_pb2.EntryKind.Value(f"ENTRY_KIND_{kind}"),
        member_id=member_id,
        occurred_time=stamp(time),
        recorded_time=stamp(time + timedelta(seconds=1, microseconds=20)),
        postings=postings,
        rules=rules,
        **more,
    )
    if amount is not None:
        made.amount.CopyFrom(Money(currency_code="USD", minor_units=amount))
        made.goods_paid.CopyFrom(Money(currency_code="USD", minor_units=amount - 1))
    return made


def by_column(columns: Sequence[str], row: Sequence[object]) -> dict[str, object]:
    return dict(zip(columns, row, strict=True))


def test_times_are_utc_and_have_microseconds_only_where_there_are_any() -> None:
    assert time_text(NOON) == "2024-02-29T12:00:00Z"
    assert time_text(NOON + timedelta(microseconds=120)) == "2024-02-29T12:00:00.000120Z"
    assert time_text(datetime(1970, 1, 1, tzinfo=UTC)) == "1970-01-01T00:00:00Z"
    assert time_text(None) == ""


@pytest.mark.parametrize(
    ("balance", "shown"),
    [
        ({"balance": Money(currency_code="USD", minor_units=30150)}, (30150, "USD", "")),
        ({"balance": Money(currency_code="USD", minor_units=0)}, (0, "USD", "")),
        ({"balance_count": 1234}, (0, "", 1234)),
        # Nothing has been earned yet, where points are counted.
        ({}, (0, "", 0)),
    ],
)
def test_a_standing_is_a_line_with_its_balance_in_money_or_as_a_count(
    balance: dict[str, Any], shown: tuple[object, ...]
) -> None:
    standing = tiers_pb.MemberStanding(member_id="m-1", tier_number=2, tier="Green", **balance)
    assert by_column(STANDING_COLUMNS, standing_row(standing)) == {
        "member_id": "m-1",
        "tier_number": 2,
        "tier": "Green",
        "balance_minor_units": shown[0],
        "currency_code": shown[1],
        "balance_count": shown[2],
    }
    assert STANDING_COLUMNS[-1] == "balance_count"


def test_an_entry_is_a_line_with_all_of_it() -> None:
    bought = entry(
        "PURCHASE_RECORDED",
        amount=31_500,
        partition=3,
        offset=17,
        request_id="r-1",
        principal="till-1",
        on_behalf_of="anna",
        programme_version="p@1",
        purchase_id="receipt-1",
        available=300,
        debt=-15,
        issued=315,
        pending=20,
        held=-7,
        redeemed=7,
        rules=[("base", 300), ("happy_hour", 10), ("base", 5)],
        reference="hold-1",
        exchange_id="swap-1",
        flags=[entry_pb2.ENTRY_FLAG_BACK_DATED, entry_pb2.ENTRY_FLAG_OFFLINE_OVERDRAWN],
        available_points_after=400,
        debt_points_after=2,
        earning_class="green",
        channel="pos",
        detail_commitment=b"\x01\xff",
        hash=b"\xab" * 32,
    )
    assert by_column(ENTRY_COLUMNS, entry_row(bought, NOON)) == {
        "partition": 3,
        "offset": 17,
        "kind": "purchase_recorded",
        "member_id": "m-1",
        "request_id": "r-1",
        "principal": "till-1",
        "on_behalf_of": "anna",
        "occurred_time": "2024-02-29T12:00:00Z",
        "recorded_time": "2024-02-29T12:00:01.000020Z",
        "programme_version": "p@1",
        "purchase_id": "receipt-1",
        "amount_minor_units": 31_500,
        "currency_code": "USD",
        "goods_paid_minor_units": 31_499,
        "available_points": 300,
        "debt_points": -15,
        "issued_points": 315,
        "available_points_after": 400,
        "debt_points_after": 2,
        "rules": '{"base":305,"happy_hour":10}',
        "earning_class": "green",
        "effective_time": "",
        "reason": "",
        "channel": "pos",
        "detail_commitment": "01ff",
        "hash": "ab" * 32,
        "pending_points": 20,
        "held_points": -7,
        "redeemed_points": 7,
        "expired_points": 0,
        "adjusted_points": 0,
        "reference": "hold-1",
        "exchange_id": "swap-1",
        "flags": "back_dated offline_overdrawn",
    }


def test_what_an_entry_has_not_is_empty_and_points_it_does_not_move_are_zero() -> None:
    moved = entry("CLOCK_ADVANCED", member_id="", partition=1, offset=1)
    row = by_column(ENTRY_COLUMNS, entry_row(moved, NOON))
    assert (row["kind"], row["member_id"]) == ("clock_advanced", "")
    for name in ("amount_minor_units", "currency_code", "goods_paid_minor_units", "rules", "effective_time", "hash"):
        assert row[name] == "", name
    assert (row["available_points"], row["debt_points"], row["issued_points"]) == (0, 0, 0)
    free = entry("PURCHASE_RECORDED", amount=1, effective_time=stamp(NOON))
    row = by_column(ENTRY_COLUMNS, entry_row(free, NOON))
    assert (row["goods_paid_minor_units"], row["effective_time"]) == (0, "2024-02-29T12:00:00Z")


def test_every_kind_of_entry_has_a_name_in_the_file() -> None:
    for name in entry_pb2.EntryKind.keys():  # noqa: SIM118  # the wrapper is no mapping
        kind = name.removeprefix("ENTRY_KIND_")
        assert by_column(ENTRY_COLUMNS, entry_row(entry(kind), NOON))["kind"] == kind.lower()


def test_a_return_is_negative_so_that_columns_add_up() -> None:
    bought = entry("PURCHASE_RECORDED", amount=1_000, available=10, issued=10, purchase_id="p", earning_class="green")
    brought = entry("RETURN_RECORDED", amount=400, available=-3, debt=1, issued=-4, purchase_id="p", channel="web")
    lines = [by_column(PURCHASE_COLUMNS, purchase_row(one, NOON)) for one in (bought, brought)]
    assert [(line["kind"], line["purchase_id"]) for line in lines] == [("purchase", "p"), ("return", "p")]
    assert [line["amount_minor_units"] for line in lines] == [1_000, -400]
    assert [line["goods_paid_minor_units"] for line in lines] == [999, -399]
    assert [line["points"] for line in lines] == [10, -4]
    assert (lines[0]["earning_class"], lines[1]["channel"]) == ("green", "web")


def test_members_are_what_their_entries_add_up_to_whatever_came_late() -> None:
    day = timedelta(days=1)
    members = Members("USD")
    for one in (
        entry("MEMBER_JOINED", "b", NOON, available=100, issued=100, channel="web"),
        entry("CLOCK_ADVANCED", "", NOON),
        entry("PURCHASE_RECORDED", "b", NOON + 3 * day, 5_000, available=50, issued=50),
        entry("PURCHASE_RECORDED", "b", NOON + 9 * day, 700, available=7, issued=7),
        entry("PURCHASE_RECORDED", "b", NOON + 2 * day, 300, available=3, issued=3),
        entry("RETURN_RECORDED", "b", NOON + 10 * day, 6_200, available=-160, debt=2, issued=-162),
        entry("RETURN_WAITING", "b", NOON + 10 * day, 999),
        entry("REQUEST_REFUSED", "b", NOON + 10 * day, 999),
        entry("POINTS_AWARDED", "b", NOON + 11 * day, available=13, debt=-2, issued=10, pending=30, adjusted=30),
        entry("POINTS_REDEEMED", "b", NOON + 11 * day, available=-5, redeemed=5),
        entry("MEMBER_JOINED", "B", NOON, channel="pos"),
        entry("PURCHASE_RECORDED", "never-joined", NOON, 5),
    ):
        members.add(one, one.occurred_time.ToDatetime(UTC))
    first, second = (by_column(MEMBER_COLUMNS, row) for row in members.rows())
    assert list(first.values()) == ["B", "2024-02-29T12:00:00Z", "pos", 0, 0, 0, 0, 0, 0, "USD", "", "", 0, 0, 0]
    assert second == {
        "member_id": "b",
        "joined_time": "2024-02-29T12:00:00Z",
        "channel": "web",
        "available_points": 8,
        "debt_points": 0,
        "earned_points": 8,
        "purchases": 3,
        "returns": 1,
        "spent_minor_units": -200,
        "currency_code": "USD",
        "first_purchase_time": "2024-03-02T12:00:00Z",
        "last_purchase_time": "2024-03-09T12:00:00Z",
        "pending_points": 30,
        "held_points": 0,
        "redeemed_points": 5,
    }


def test_lines_are_quoted_where_they_must_be_and_end_with_one_character() -> None:
    file = io.StringIO()
    lines = Lines(file, ("a", "b"))
    lines.add(('say "so"', "x,y"))
    lines.add((json.dumps({"base": 1}), -3))
    assert file.getvalue() == 'a,b\n"say ""so""","x,y"\n"{""base"": 1}",-3\n'
    assert lines.count == 2
    assert list(csv.reader(io.StringIO(file.getvalue())))[1] == ['say "so"', "x,y"]


# --- the stream -----------------------------------------------------------------------------------------------------


class Ledger(ledger_service_pb2_grpc.LedgerServiceServicer):
    """A feed of three partitions, up to three entries of each in one response; it breaks off as it is told to."""

    def __init__(self) -> None:
        self.log = {0: 20, 1: 10, 2: 0}
        self.responses_before_it_breaks: list[int] = []
        self.error = grpc.StatusCode.UNAVAILABLE
        self.asked: list[dict[int, int]] = []
        self.grows = False

    async def StreamEntries(self, request: Any, context: Any) -> AsyncIterator[Any]:
        after = {place.partition: place.offset for place in request.after}
        self.asked.append(dict(after))
        left = self.responses_before_it_breaks.pop(0) if self.responses_before_it_breaks else -1
        while True:
            if left == 0:
                await context.abort(self.error, "on its way down")
            left -= 1
            if self.grows:
                self.log = {partition: last + 2 for partition, last in self.log.items()}
            response = pb.StreamEntriesResponse()
            for partition, last in self.log.items():
                for offset in range(after[partition] + 1, min(after[partition] + 3, last) + 1):
                    response.entries.add(partition=partition, offset=offset)
                    after[partition] = offset
            if not response.entries:
                return
            yield response


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest_asyncio.fixture
async def services(ledger: Ledger, folder: Path) -> AsyncIterator[Services]:
    server = grpc.aio.server()
    ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(ledger, server)
    server.add_insecure_port(f"unix:{folder}/ledger.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder}/ledger.sock") as channel:
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        yield Services(ledger=stub, tiers=None, notifier=None)
    await server.stop(None)


MOMENT = Moment(at_time=NOON, heads={0: 20, 1: 10, 2: 0}, members=0, currency="USD")


async def offsets(services: Services, partition: int, moment: Moment = MOMENT) -> list[int]:
    read: list[int] = []
    async with contextlib.aclosing(entries_of(services, moment, partition)) as responses:
        async for entries in responses:
            assert {one.partition for one in entries} == {partition}
            read += [one.offset for one in entries]
    return read


async def test_a_partition_is_read_alone_and_up_to_the_head_though_the_ledger_goes_on(
    services: Services, ledger: Ledger
) -> None:
    ledger.grows = True
    assert await offsets(services, 0) == list(range(1, 21))
    assert await offsets(services, 1) == list(range(1, 11))
    assert ledger.asked == [{0: 0, 1: 10, 2: 0}, {0: 20, 1: 0, 2: 0}]


async def test_an_empty_partition_is_not_asked_for(services: Services, ledger: Ledger) -> None:
    assert await offsets(services, 2) == []
    assert ledger.asked == []


async def test_a_stream_that_breaks_off_goes_on_where_it_was(services: Services, ledger: Ledger) -> None:
    ledger.responses_before_it_breaks = [2, 1, 0, 3]
    assert await offsets(services, 0) == list(range(1, 21))
    assert [asked[0] for asked in ledger.asked] == [0, 6, 9, 9, 18]


async def test_a_stream_that_ends_before_the_head_is_an_error_and_no_shorter_file(
    services: Services, ledger: Ledger
) -> None:
    ledger.log[0] = 19
    with pytest.raises(CommandError, match="ended at entry 19, and it had 20"):
        await offsets(services, 0)


async def test_what_is_refused_is_not_asked_again(services: Services, ledger: Ledger) -> None:
    ledger.responses_before_it_breaks, ledger.error = [1], grpc.StatusCode.OUT_OF_RANGE
    with pytest.raises(RemoteError, match="OUT_OF_RANGE"):
        await offsets(services, 0)
    assert len(ledger.asked) == 1


async def test_a_ledger_that_stays_away_is_given_up_after_a_while(services: Services, ledger: Ledger) -> None:
    ledger.responses_before_it_breaks = [1, *[0] * 1000]
    request = pb.StreamEntriesRequest(after=[{"partition": partition} for partition in (0, 1, 2)])
    seen: list[Any] = []

    async def read() -> None:
        async for response in resumed_stream(services.ledger.StreamEntries, lambda: request, patience=0.3):
            seen.extend(response.entries)

    with pytest.raises(RemoteError, match="on its way down"):
        await read()
    assert [one.offset for one in seen] == [1, 2, 3, 1, 2, 3]
    assert len(ledger.asked) > 2
