"""Tiers over real gRPC, behind a real ledger, both on a real PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.clock import ClockMode, machine_now
from services.runtime.database import load_queries
from tests.conftest import PROGRAMMES, ROOT, Database, StartLedger
from tests.tiers_desk import (
    SECONDS,
    CheckTiers,
    Desk,
    StartTiers,
    Till,
    at,
    execute,
    reason_of,
    refused,
)


@pytest_asyncio.fixture
async def till(start_ledger: StartLedger) -> Till:
    return Till(await start_ledger(partitions=4))


DAY = at("2024-02-01T00:00")


async def test_a_purchase_makes_green_at_once_and_the_ledger_hears_it_when_the_next_local_day_begins(
    till: Till, start_tiers: StartTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("m-1", DAY + timedelta(hours=9))
    token = await till.buy("m-1", 29_500, DAY + timedelta(hours=10))
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.next_tier, standing.missing_for_next_tier.minor_units) == ("White", "Green", 500)
    bought = DAY + timedelta(hours=11)
    token = await till.buy("m-1", 1_000, bought)
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.tier_number, standing.balance.minor_units) == ("Green", 2, 30_500)
    assert standing.since_time.ToDatetime(UTC) == bought
    assert standing.at_time.ToDatetime(UTC) == bought
    assert standing.discount_basis_points == 500
    # The first purchase leaves after 365 days; what is left makes White.
    assert standing.next_change_time.ToDatetime(UTC) == at("2025-01-31T10:00")
    assert standing.next_change_tier_number == 1
    assert await desk.count(token) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}
    midnight_in_warsaw = at("2024-02-01T23:00")
    await desk.count(await till.advance(midnight_in_warsaw - timedelta(microseconds=1)))
    assert await till.classes("m-1") == []
    await desk.count(await till.advance(midnight_in_warsaw))
    assert await till.classes("m-1") == [("green", midnight_in_warsaw)]


async def test_a_return_takes_the_tier_back(till: Till, start_tiers: StartTiers) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, DAY + timedelta(hours=10), "p-1")
    token = await till.give_back("m-1", 1_000, DAY + timedelta(hours=12), "p-1")
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance.minor_units) == ("White", 29_000)
    await desk.count(await till.advance(DAY + timedelta(days=1)))
    assert [name for name, _ in await till.classes("m-1")] == ["green", "white"]
    changes = await desk.changes()
    assert [(c.from_tier, c.to_tier, c.sequence, c.ledger_offset > 0) for c in changes] == [
        ("White", "Green", 1, True),
        ("Green", "White", 2, True),
    ]


PURCHASE, CLASS = entry_pb2.ENTRY_KIND_PURCHASE_RECORDED, entry_pb2.ENTRY_KIND_EARNING_CLASS_SET


async def test_lived_through_again_a_day_of_a_member_holds_no_class_however_slowly_it_goes_by(
    till: Till, start_tiers: StartTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("slow", DAY)
    await till.enroll("fast", DAY)
    for hour in range(4):
        token = await till.buy("slow", 30_000, DAY + timedelta(hours=10 + hour))
        # All of it has had its effect before the next one comes.
        assert sum((await desk.count(token)).values()) == 2
    for hour in range(4):
        token = await till.buy("fast", 30_000, DAY + timedelta(hours=10 + hour))
    await desk.count(await till.advance(DAY + timedelta(days=1)))
    for member in ("slow", "fast"):
        told = [(entry.kind, entry.earning_class) for entry in (await till.entries(member))[1:]]
        assert told == [*[(PURCHASE, "white")] * 4, (CLASS, "green"), (CLASS, "silver")], member


async def test_a_clock_that_jumps_over_years_tells_the_ledger_each_members_classes_in_their_order(
    till: Till, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    members = [f"m-{number}" for number in range(8)]
    for member in members:
        await till.enroll(member, DAY)
        await till.buy(member, 35_000, DAY + timedelta(hours=10))
        await till.buy(member, 70_000, DAY + timedelta(hours=40))
    jump = DAY + timedelta(days=1000)
    await desk.count(await till.advance(jump))
    first, second = at("2024-02-01T23:00"), at("2024-02-02T23:00")
    expected = [
        ("green", first),
        ("silver", second),
        ("green", first + timedelta(days=365)),
        ("white", second + timedelta(days=365)),
    ]
    for member in members:
        assert await till.classes(member) == expected
        assert {e.occurred_time.ToDatetime(UTC) for e in await till.entries(member) if e.kind == CLASS} == {jump}
    report = await check_tiers()
    assert (report.differences, report.checked["earning_classes_answered"]) == ((), 4 * len(members))


async def test_classes_whose_day_begins_while_tiers_are_down_are_told_by_those_that_come_after(
    till: Till, start_tiers: StartTiers, check_tiers: CheckTiers, database: Database
) -> None:
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    async with contextlib.AsyncExitStack() as own:
        desk = await start_tiers(own=own)
        await desk.count(await till.buy("m-1", 50_000, DAY + timedelta(hours=10)))
    report = await check_tiers()
    assert (report.differences, report.checked["earning_classes_waiting"]) == ((), 1)
    keep = "CREATE TABLE tiers.kept AS TABLE tiers.class_outbox"
    await execute(database, "loyalty_owner", keep, "GRANT SELECT ON tiers.kept TO loyalty_tiers")
    token = await till.advance(DAY + timedelta(days=1))
    async with contextlib.AsyncExitStack() as own:
        desk = await start_tiers(own=own)
        await desk.count(token)
        entries = await till.entries("m-1")
        assert [entry.kind for entry in entries][1:] == [PURCHASE, CLASS]
    # As if they had died between the ledger's answer and what they do with it.
    await execute(database, "loyalty_tiers", "INSERT INTO tiers.class_outbox SELECT * FROM tiers.kept")
    desk = await start_tiers()
    await desk.count(token)
    assert await till.entries("m-1") == entries
    report = await check_tiers()
    assert (report.differences, report.checked["earning_classes_answered"]) == ((), 1)


async def test_a_downgrade_comes_at_its_exact_instant_when_all_partitions_have_passed_it(
    till: Till, start_tiers: StartTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, DAY + timedelta(hours=10))
    due = at("2025-01-31T10:00")
    token = await till.advance(due - timedelta(microseconds=1))
    assert (await desk.standing("m-1", token)).tier == "Green"
    assert [change.to_tier for change in await desk.changes()] == ["Green"]
    token = await till.advance(due)
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance.minor_units) == ("White", 0)
    assert standing.since_time.ToDatetime(UTC) == due
    change = (await desk.changes())[-1]
    assert (change.to_tier, change.WhichOneof("cause")) == ("White", "due_time")
    assert change.changed_time.ToDatetime(UTC) == change.due_time.ToDatetime(UTC) == due
    assert await desk.count(token) == {"White": 1, "Green": 0, "Silver": 0, "Golden": 0}
    assert await till.classes("m-1") == [("green", at("2024-02-01T23:00"))]
    await desk.count(await till.advance(at("2025-01-31T23:00")))
    assert await till.classes("m-1") == [("green", at("2024-02-01T23:00")), ("white", at("2025-01-31T23:00"))]


async def test_a_purchase_right_after_the_due_instant_comes_after_the_downgrade(
    till: Till, start_tiers: StartTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, DAY + timedelta(hours=10))
    await till.advance(at("2025-01-31T00:00"))
    token = await till.buy("m-1", 40_000, at("2025-01-31T10:00"))
    await desk.standing("m-1", token)
    changes = await desk.changes()
    assert [(c.to_tier, c.WhichOneof("cause"), c.changed_time.ToDatetime(UTC)) for c in changes] == [
        ("Green", "ledger_offset", at("2024-02-01T10:00")),
        ("White", "due_time", at("2025-01-31T10:00")),
        ("Green", "ledger_offset", at("2025-01-31T10:00")),
    ]
    # The roll-off is known from the purchase, and was decided before it was taken in.
    assert changes[1].ledger_offset_processed == changes[2].ledger_offset - 1


async def test_standings_of_the_past_and_of_a_future_without_events(till: Till, start_tiers: StartTiers) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.enroll("m-2", DAY + timedelta(hours=12))
    token = await till.buy("m-1", 100_000, DAY + timedelta(hours=10))
    assert (await desk.standing("m-1", token, DAY + timedelta(hours=9))).tier == "White"
    assert (await desk.standing("m-1", token, DAY + timedelta(hours=10))).tier == "Silver"
    assert (await desk.standing("m-1", token, at("2025-01-31T10:00"))).tier == "White"
    none = {"Green": 0, "Golden": 0}
    assert await desk.count(token, DAY + timedelta(hours=9)) == {"White": 1, "Silver": 0, **none}
    assert await desk.count(token, DAY + timedelta(hours=12)) == {"White": 1, "Silver": 1, **none}
    assert await desk.count(token, at("2025-01-31T10:00")) == {"White": 2, "Silver": 0, **none}


async def test_everybody_is_listed_at_the_clock_or_at_any_other_instant(till: Till, start_tiers: StartTiers) -> None:
    desk = await start_tiers()
    token = await till.advance(DAY)
    assert (await desk.listed(token)).standings == []
    await till.enroll("m-1", DAY)
    await till.enroll("m-2", DAY + timedelta(hours=12))
    token = await till.buy("m-1", 100_000, DAY + timedelta(hours=10))
    at_clock = await desk.listed(token)
    assert at_clock.at_time.ToDatetime(UTC) == DAY
    assert [(one.member_id, one.tier) for one in at_clock.standings] == [("m-1", "White")]
    later = await desk.listed(token, DAY + timedelta(hours=12), page_size=1)
    (first,) = later.standings
    assert (first.member_id, first.tier_number, first.tier, first.balance) == (
        "m-1",
        3,
        "Silver",
        Money(currency_code="PLN", minor_units=100_000),
    )
    assert first.joined_time.ToDatetime(UTC) == DAY
    assert later.at_time.ToDatetime(UTC) == DAY + timedelta(hours=12)
    standing = await desk.standing("m-1", token)
    assert later.programme_version == standing.programme_version
    rest = await desk.listed(time=DAY + timedelta(hours=12), page_size=1, page_token=later.next_page_token)
    assert ([one.member_id for one in rest.standings], rest.next_page_token) == (["m-2"], "")
    gone = await desk.listed(token, at("2025-01-31T10:00"))
    assert [(one.tier, one.balance.minor_units) for one in gone.standings] == [("White", 0), ("White", 0)]


async def test_what_cannot_be_answered_says_why(till: Till, start_tiers: StartTiers) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    token = await till.enroll("m-1", DAY)
    await desk.standing("m-1", token)

    assert await refused(desk.standing("nobody")) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    before = desk.standing("m-1", time=DAY - timedelta(seconds=1))
    assert await refused(before) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED")
    for wrong in ("nonsense", "999-1"):
        invalid = (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID")
        assert await refused(desk.standing("m-1", wrong)) == invalid
    token_invalid = (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    assert await refused(desk.listed(page_token="nonsense")) == token_invalid
    field_invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    for wrong_field in ({"page_size": -1}, {"page_size": 1001}, {"page_token": "a" * 129}):
        assert await refused(desk.listed(**wrong_field)) == field_invalid
    no_time = pb.ListStandingsRequest(at_time=Timestamp(seconds=1, nanos=-1))
    assert await refused(desk.stub.ListStandings(no_time, timeout=SECONDS)) == field_invalid
    late = desk.stub.GetStanding(pb.GetStandingRequest(member_id="m-1", causal_token="0-1000000"), timeout=0.5)
    assert await refused(late) == (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_CAUGHT_UP")
    assert await refused(desk.changes({0: 1})) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG")
    assert await refused(desk.changes({77: 1})) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG")


async def test_the_stream_goes_on_live_and_its_progress_never_runs_ahead_of_its_changes(
    till: Till, start_tiers: StartTiers
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    call = desk.stub.StreamTierChanges(pb.StreamTierChangesRequest(follow=True), timeout=SECONDS)
    seen: list[pb.TierChange] = []
    processed: dict[int, int] = {}
    due: dict[int, datetime] = {}

    async def read_until(done: Callable[[], bool]) -> None:
        while not done():
            response = await call.read()
            for change in response.changes:
                assert change.ledger_offset > processed.get(change.partition, 0) or change.HasField("due_time")
                if change.HasField("due_time") and change.partition in due:
                    assert change.due_time.ToDatetime(UTC) > due[change.partition]
                seen.append(change)
            for progress in response.progress:
                assert progress.ledger_offset_processed >= processed.get(progress.partition, 0)
                processed[progress.partition] = progress.ledger_offset_processed
                if progress.HasField("due_time_processed"):
                    due[progress.partition] = progress.due_time_processed.ToDatetime(UTC)

    members = [f"m-{number}" for number in range(8)]
    for member in members:
        await till.enroll(member, DAY)
        await till.buy(member, 30_000, DAY + timedelta(hours=10))
    await read_until(lambda: len(seen) == len(members))
    await till.advance(at("2025-02-01T00:00"))
    await read_until(lambda: len(due) == 4 and min(due.values()) == at("2025-02-01T00:00"))
    assert [change.to_tier for change in seen[len(members) :]] == ["White"] * len(members)
    heads = (await till.stub.ListPartitions(ledger_pb.ListPartitionsRequest(), timeout=SECONDS)).partitions
    await read_until(lambda: all(processed[head.partition] >= head.last_offset for head in heads if head.members))
    call.cancel()
    places = [(change.partition, change.offset) for change in seen]
    assert len(set(places)) == len(places)
    # Read from a cursor it goes on behind it.
    after = {partition: 1 for partition, offset in places if offset == 2}
    rest = await desk.changes(after)
    assert {(c.partition, c.offset) for c in rest} == {place for place in places if place[1] > after.get(place[0], 0)}


async def test_a_restart_in_the_middle_handles_nothing_twice_and_loses_nothing(
    till: Till, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    await till.advance(DAY)
    members = [f"m-{number}" for number in range(10)]
    for member in members:
        await till.enroll(member, DAY)
    token = ""
    for round_number in range(4):
        async with contextlib.AsyncExitStack() as own:
            desk = await start_tiers(own=own)
            for member in members:
                token = await till.buy(member, 10_000, DAY + timedelta(hours=10 + round_number))
            if round_number % 2:
                await desk.standing(members[0], token)
            # Stopped wherever it is.
    desk = await start_tiers()
    tokens = ".".join(
        f"{p.partition}-{p.last_offset}"
        for p in (await till.stub.ListPartitions(ledger_pb.ListPartitionsRequest(), timeout=SECONDS)).partitions
    )
    assert await desk.count(tokens) == {"White": 0, "Green": 10, "Silver": 0, "Golden": 0}
    changes = await desk.changes()
    assert sorted(change.member_id for change in changes) == sorted(members)
    assert {change.balance.minor_units for change in changes} == {30_000}
    await desk.count(await till.advance(DAY + timedelta(days=1)))
    for member in members:
        assert await till.classes(member) == [("green", at("2024-02-01T23:00"))]
    report = await check_tiers()
    assert report.differences == ()
    assert (report.checked["movements"], report.checked["tier_changes"]) == (40, 10)


async def test_reads_are_answered_from_what_is_stored_while_the_ledger_is_away(
    start_ledger: StartLedger, start_tiers: StartTiers
) -> None:
    async with contextlib.AsyncExitStack() as ledgers, contextlib.AsyncExitStack() as own:
        till = Till(await start_ledger(partitions=4, own=ledgers))
        desk = await start_tiers(own=own)
        await till.advance(DAY)
        await till.enroll("m-1", DAY)
        token = await till.buy("m-1", 30_000, DAY + timedelta(hours=10))
        assert (await desk.standing("m-1", token)).tier == "Green"
    desk = await start_tiers()
    assert (await desk.standing("m-1", token)).tier == "Green"


async def test_nothing_is_taken_in_by_another_programme_than_the_ledgers(
    till: Till, start_tiers: StartTiers, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = await start_tiers(programme=PROGRAMMES / "tiered-365-gbp.yaml")
    token = await till.advance(DAY)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.stub.CountStandings(pb.CountStandingsRequest(causal_token=token), timeout=1)
    assert reason_of(caught.value) == (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_CAUGHT_UP")
    assert "ledger_differed" in capsys.readouterr().out


async def test_in_real_time_a_downgrade_is_due_by_the_machines_clock(
    start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL))
    ahead = timedelta(0)
    desk = await start_tiers(clock=lambda: machine_now() + ahead)
    started = machine_now()
    await till.enroll("m-1", started - timedelta(days=2))
    bought = (started - timedelta(days=1)).replace(hour=12)
    token = await till.buy("m-1", 30_000, bought)
    standing = await desk.standing("m-1", token)
    assert standing.tier == "Green"
    due = standing.next_change_time.ToDatetime(UTC)
    # In real time the ledger hears of it at once, before the day begins.
    await desk.count(token)
    assert [name for name, _ in await till.classes("m-1")] == ["green"]
    ahead = due - started + timedelta(minutes=1)
    call = desk.stub.StreamTierChanges(pb.StreamTierChangesRequest(follow=True), timeout=SECONDS)
    changes: list[pb.TierChange] = []
    while len(changes) < 2:
        changes.extend((await call.read()).changes)
    call.cancel()
    assert (changes[1].to_tier, changes[1].due_time.ToDatetime(UTC)) == ("White", due)
    # A purchase older than what has been processed counts from there on, and the check understands it.
    token = await till.buy("m-1", 40_000, started)
    await desk.count(token)
    changes = await desk.changes()
    assert [change.to_tier for change in changes] == ["Green", "White", "Green"]
    assert changes[2].changed_time.ToDatetime(UTC) > due
    assert (await check_tiers()).differences == ()


async def test_every_named_query_prepares_against_the_migrated_schema(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn("loyalty_tiers"))
    try:
        for query in load_queries(ROOT / "services" / "tiers" / "sql" / "queries.sql").values():
            await connection.prepare(query)
    finally:
        await connection.close()


async def test_changes_facts_and_decisions_are_append_only_for_the_service_and_for_everyone(
    database: Database,
) -> None:
    statements = [
        statement
        for table, column in (("tier_changes", "balance"), ("facts", "total"), ("decisions", "ledger_offset"))
        for statement in (
            f"UPDATE tiers.{table} SET {column} = 0",
            f"DELETE FROM tiers.{table}",
            f"TRUNCATE tiers.{table}",
        )
    ]
    for statement in ("UPDATE tiers.programme_versions SET document = ''", "DELETE FROM tiers.programme_versions"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(database, "loyalty_tiers", statement)
    for statement in statements:
        for role in ("loyalty_tiers", "loyalty_owner"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await execute(database, role, statement)


async def _lived(till: Till, desk: Desk) -> None:
    """Some history: purchases, a return, a late one, a year that passes."""
    await till.advance(DAY)
    for number in range(5):
        await till.enroll(f"m-{number}", DAY)
        await till.buy(f"m-{number}", 30_000 * (number + 1), DAY + timedelta(hours=10), "p")
    await till.give_back("m-0", 1_000, DAY + timedelta(hours=11), "p")
    await till.advance(at("2024-06-01T00:00"))
    await till.buy("m-1", 50_000, at("2024-03-01T00:00"))
    await till.buy("m-2", 50_000, at("2024-06-01T10:00"))
    await desk.count(await till.advance(at("2025-02-15T00:00")))


async def test_members_are_counted_as_each_standing_says(till: Till, start_tiers: StartTiers) -> None:
    desk = await start_tiers()
    await _lived(till, desk)
    instants = [f"2024-{month:02}-15T00:00" for month in range(2, 13)]
    for text in (
        *instants,
        "2025-01-31T09:59",
        "2025-01-31T10:00",
        "2025-02-15T00:00",
        "2025-03-01T00:00",
        "2026-01-01",
    ):
        time = at(text)
        standings = [(await desk.standing(f"m-{number}", time=time)).tier for number in range(5)]
        counted = await desk.count(time=time)
        assert counted == {tier: standings.count(tier) for tier in ("White", "Green", "Silver", "Golden")}, text


async def test_lost_connections_to_the_database_are_made_again(
    till: Till, start_tiers: StartTiers, check_tiers: CheckTiers, database: Database
) -> None:
    desk = await start_tiers()
    await till.advance(DAY)
    token = await till.enroll("m-1", DAY)
    for number in range(30):
        token = await till.buy("m-1", 1_000, DAY + timedelta(minutes=number + 1))
        if number % 10 == 5:
            # A role may end its own connections.
            await execute(
                database,
                "loyalty_tiers",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'loyalty_tiers' AND datname = current_database() AND pid <> pg_backend_pid()",
            )
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance.minor_units) == ("Green", 30_000)
    await desk.count(token)
    report = await check_tiers()
    assert (report.differences, report.checked["movements"]) == ((), 30)


async def test_the_check_is_clean_after_a_life(till: Till, start_tiers: StartTiers, check_tiers: CheckTiers) -> None:
    desk = await start_tiers()
    await _lived(till, desk)
    report = await check_tiers()
    assert report.differences == ()
    assert report.checked["members"] == 5
    assert report.checked["movements"] == 8
    assert report.checked["tier_changes"] == report.checked["earning_classes_answered"] > 5


DAMAGE = {
    "a balance": ("UPDATE tiers.standings SET balance = balance + 1 WHERE member_id = 'm-1'", "state of a member"),
    "a tier": ("UPDATE tiers.standings SET tier_number = 4 WHERE member_id = 'm-1'", "state of a member"),
    "the tier of the benefits": (
        "UPDATE tiers.standings SET benefits_number = 4 WHERE member_id = 'm-1'",
        "state of a member",
    ),
    "what a standing carries": (
        """UPDATE tiers.standings SET carried = '{"matured_level":2}' WHERE member_id = 'm-2'""",
        "state of a member",
    ),
    "what a standing no longer carries": (
        "UPDATE tiers.standings SET carried = NULL WHERE member_id = 'm-4'",
        "state of a member",
    ),
    "when something is due": (
        "UPDATE tiers.standings SET next_due = next_due + interval '1 second' WHERE member_id = 'm-2'",
        "state of a member",
    ),
    "that something is due": ("UPDATE tiers.standings SET next_due = NULL", "state of a member"),
    "a member": ("DELETE FROM tiers.standings WHERE member_id = 'm-1'", "state of a member"),
    "a fact": ("DELETE FROM tiers.facts WHERE member_id = 'm-1' AND kind = 2", "fact"),
    "the amount of a fact": ("UPDATE tiers.facts SET total = total + 1 WHERE member_id = 'm-1'", "fact"),
    "the time of a fact": (
        "UPDATE tiers.facts SET recorded_time = recorded_time + interval '1 second' WHERE member_id = 'm-3'",
        "fact",
    ),
    "a fact too many": (
        "INSERT INTO tiers.facts SELECT partition, member_id, occurred_time, ledger_offset + 1000, number, kind, "
        "recorded_time, applied_time, total, goods_paid, points, bonuses, purchase_id, purchase_time, name, "
        "start_time, until_time, scope, reason, principal FROM tiers.facts WHERE member_id = 'm-1' AND kind = 2",
        "fact",
    ),
    "a fact of a decision": ("DELETE FROM tiers.facts WHERE number > 0", "fact of a decision"),
    "the tier of a decision": ("UPDATE tiers.facts SET name = 'green' WHERE number > 0", "change of a tier"),
    "a decision": ("DELETE FROM tiers.decisions", "fact"),
    "the number of a decision": ("UPDATE tiers.decisions SET number = number + 1", "fact of a decision"),
    "the number of the last decision": ("UPDATE tiers.cursors SET decision_number = 7", "last decision"),
    "a movement": ("DELETE FROM tiers.movements WHERE member_id = 'm-1'", "movements"),
    "an amount": ("UPDATE tiers.movements SET amount = amount + 1 WHERE member_id = 'm-1'", "movements"),
    "an end": (
        "UPDATE tiers.movements SET end_time = end_time + interval '1 microsecond' WHERE member_id = 'm-2'",
        "movements",
    ),
    "when a movement matures": (
        "UPDATE tiers.movements SET matures_time = occurred_time + interval '1 day' WHERE member_id = 'm-2'",
        "movements",
    ),
    "a change": ("UPDATE tiers.tier_changes SET balance = 1 WHERE member_id = 'm-1'", "change of a tier"),
    "the instant of a change": (
        "UPDATE tiers.tier_changes SET changed_time = changed_time - interval '1 second' WHERE member_id = 'm-3'",
        "change of a tier",
    ),
    "the reason of a change": (
        "UPDATE tiers.tier_changes SET reason = 'window' WHERE member_id = 'm-1' AND sequence = 1",
        "change of a tier",
    ),
    "the benefits of a change": (
        "UPDATE tiers.tier_changes SET to_benefits_number = 1 WHERE member_id = 'm-1' AND sequence = 1",
        "change of a tier",
    ),
    "what a change corrects": (
        "UPDATE tiers.tier_changes SET corrects = 1 WHERE member_id = 'm-2' AND sequence = 2",
        "change of a tier",
    ),
    "the decision that a change comes from": (
        "UPDATE tiers.tier_changes SET cause_number = NULL WHERE cause_number IS NOT NULL",
        "change of a tier",
    ),
    "a change removed": (
        "DELETE FROM tiers.tier_changes WHERE member_id = 'm-1' AND sequence = 1",
        "number without a gap",
    ),
    "a version": (
        "UPDATE tiers.tier_changes SET programme_version = 'other@000000000000'",
        "version of the programme",
    ),
    "a cursor": ("UPDATE tiers.cursors SET ledger_offset = ledger_offset + 1000", "last entry taken in"),
    "an outbox row too many": (
        "INSERT INTO tiers.class_outbox VALUES (0, 999, 'm-1', 99, 'green', now(), '~tiers/class/m-1/99')",
        "earning class in the outbox",
    ),
}


async def test_the_check_finds_what_was_damaged(
    till: Till, start_tiers: StartTiers, check_tiers: CheckTiers, database: Database
) -> None:
    async with contextlib.AsyncExitStack() as own:
        desk = await start_tiers(own=own)
        await _lived(till, desk)
        await desk.override("m-4", 4)
    tables = ("cursors", "standings", "facts", "decisions", "movements", "tier_changes", "class_outbox")
    await execute(
        database,
        "loyalty_owner",
        *(f"CREATE TABLE tiers.{table}_kept AS TABLE tiers.{table}" for table in tables),
        *(f"ALTER TABLE tiers.{table} DISABLE TRIGGER USER" for table in ("facts", "decisions", "tier_changes")),
    )
    for name, (damage, what) in DAMAGE.items():
        await execute(database, "loyalty_owner", damage)
        report = await check_tiers()
        assert what in {difference["what"] for difference in report.differences}, name
        for table in tables:
            await execute(
                database,
                "loyalty_owner",
                f"DELETE FROM tiers.{table}",
                f"INSERT INTO tiers.{table} SELECT * FROM tiers.{table}_kept",
            )
    assert (await check_tiers()).differences == ()
