"""Another version of the programme: all standings go by it from one instant on, and the past stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import grpc
import pytest
from loyalty.tiers.v1 import tier_service_pb2 as pb

from services import programme as programmes
from services.runtime.clock import ClockMode, machine_now
from services.tiers import service
from services.tiers.service import Tiers
from tests.conftest import Database, StartLedger
from tests.tiers_desk import SECONDS, CheckTiers, Desk, OpenShop, StartTiers, Till, at, refused, stamp

FILE = """
programme: shop
currency: PLN
time_zone: Europe/Warsaw
earning: {{base: total, points: 1, per: "1.00"}}
{markets}
tiers:
  base: total
  window: {window}
  {more}
  levels:
    - name: White
    - {{name: {green}, from: "{first}", discount_percent: "5"}}
    - {{name: Silver, from: "{second}", discount_percent: "8"}}
"""
DAY = at("2024-02-01T00:00")
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
BOUGHT = DAY + 10 * HOUR
SWITCH = at("2024-05-01T08:30")
# What takes something away is announced thirty days before.
ANNOUNCED = SWITCH - timedelta(days=31)

AMOUNTS = (10_000, 25_000, 29_999, 30_000, 90_000, 100_000, 119_999, 120_000)


def document(
    *,
    window: str = "P365D",
    first: str = "300.00",
    second: str = "1000.00",
    green: str = "Green",
    more: str = "",
    markets: str = "",
) -> str:
    return FILE.format(window=window, first=first, second=second, green=green, more=more, markets=markets)


async def peopled(till: Till, amounts: tuple[int, ...] = AMOUNTS) -> list[str]:
    """Members who have bought for so much each at BOUGHT."""
    await till.advance(DAY)
    members = []
    for number, amount in enumerate(amounts):
        members.append(f"m-{number}")
        await till.enroll(members[-1], DAY)
        await till.buy(members[-1], amount, BOUGHT)
    return members


async def tiers_of(desk: Desk, members: list[str], token: str = "", time: datetime | None = None) -> list[str]:
    return [(await desk.standing(member, token, time)).tier for member in members]


async def preview(desk: Desk, text: str, from_time: datetime | None = None, **more: int) -> pb.PreviewProgrammeResponse:
    request = pb.PreviewProgrammeRequest(
        document=text, from_time=None if from_time is None else stamp(from_time), **more
    )
    answer: pb.PreviewProgrammeResponse = await desk.stub.PreviewProgramme(request, timeout=SECONDS)
    return answer


async def versions_of(database: Database) -> list[int]:
    """The versions that the members' standings go by."""
    connection = await asyncpg.connect(database.dsn("loyalty_tiers"))
    try:
        rows = await connection.fetch("SELECT version FROM tiers.standings ORDER BY member_id")
    finally:
        await connection.close()
    return [row["version"] for row in rows]


async def test_other_thresholds_hold_for_everybody_from_one_instant_on(open_shop: OpenShop, database: Database) -> None:
    till, desk = await open_shop(document())
    members = await peopled(till)
    before = ["White", "White", "White", "Green", "Green", "Silver", "Silver", "Silver"]
    after = ["White", "Green", "Green", "Green", "Green", "Green", "Green", "Silver"]
    changed = document(first="250.00", second="1200.00")
    await till.advance(ANNOUNCED)
    token = await till.apply(changed, SWITCH)
    # It is known what will be, and nothing has changed.
    assert await tiers_of(desk, members, token, SWITCH - TICK) == before
    assert await tiers_of(desk, members, token, SWITCH) == after
    assert await desk.count(token, SWITCH) == {"White": 1, "Green": 6, "Silver": 1}
    ahead = await desk.standing("m-1", token)
    assert (ahead.next_change_time.ToDatetime(UTC), ahead.next_change_tier_number) == (SWITCH, 2)
    assert ahead.next_change_reason == pb.CHANGE_REASON_PROGRAMME
    assert ahead.missing_for_next_tier.minor_units == 5_000
    token = await till.advance(SWITCH - TICK)
    assert await tiers_of(desk, members, token) == before
    token = await till.advance(SWITCH)
    assert await tiers_of(desk, members, token) == after
    new = programmes.parse(changed, "x").version
    assert {(await desk.standing(member)).programme_version for member in members} == {new}
    assert await versions_of(database) == [1] * len(members)
    # The past is as it was.
    assert await tiers_of(desk, members, time=SWITCH - TICK) == before
    assert await desk.count(time=SWITCH - TICK) == {"White": 3, "Green": 2, "Silver": 3}
    changes = [change for change in await desk.changes() if change.changed_time.ToDatetime(UTC) == SWITCH]
    assert sorted((c.member_id, c.from_tier, c.to_tier) for c in changes) == [
        ("m-1", "White", "Green"),
        ("m-2", "White", "Green"),
        ("m-5", "Silver", "Green"),
        ("m-6", "Silver", "Green"),
    ]
    assert {(c.reason, c.programme_version, c.WhichOneof("cause")) for c in changes} == {
        (pb.CHANGE_REASON_PROGRAMME, new, "due_time")
    }
    # What happened before and comes late is weighed by what held then, and by what holds now.
    token = await till.buy("m-0", 15_000, SWITCH - HOUR)
    assert (await desk.standing("m-0", token)).tier == "Green"
    assert (await desk.standing("m-0", time=SWITCH - TICK)).tier == "White"
    await desk.count(await till.advance(SWITCH + timedelta(days=1)))
    assert [name for name, _ in await till.classes("m-5")] == ["silver", "green"]
    assert (await till.classes("m-1")) == [("green", at("2024-05-01T22:00"))]


async def test_who_was_told_its_standing_before_a_version_was_applied_is_told_of_it_afterwards(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(document())
    await peopled(till, (25_000,))
    await desk.count(await till.advance(DAY + timedelta(days=1)))
    for _ in range(3):
        # White it stays, if nothing more happens.
        assert not (await desk.standing("m-0")).HasField("next_change_time")
    token = await till.apply(document(first="250.00"), SWITCH)
    standing = await desk.standing("m-0", token)
    assert (standing.next_change_time.ToDatetime(UTC), standing.next_change_tier_number) == (SWITCH, 2)
    assert standing == await desk.standing("m-0")
    token = await till.advance(SWITCH)
    assert (await desk.standing("m-0", token)).tier == "Green"


async def test_another_window_weighs_everything_anew_even_what_had_left_the_old_one(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document(window="P30D"))
    await till.advance(DAY)
    for member in ("m-1", "m-2", "m-3"):
        await till.enroll(member, DAY)
    await till.buy("m-1", 30_000, BOUGHT)
    advanced = await till.advance(ANNOUNCED)
    await till.buy("m-2", 20_000, ANNOUNCED)
    late = await till.buy("m-2", 20_000, BOUGHT + HOUR)
    # To advance to where the clock stands writes no entry, and there is none to wait for.
    assert await tiers_of(desk, ["m-1"], advanced) == await tiers_of(desk, ["m-2"], late) == ["White"]
    await till.apply(document(), SWITCH)
    await till.advance(SWITCH - HOUR)
    await till.buy("m-3", 30_000, SWITCH - HOUR)
    standing = await desk.standing("m-1", await till.advance(SWITCH - TICK))
    request = pb.BatchGetStandingsRequest(member_ids=["m-1"])
    (batched,) = (await desk.stub.BatchGetStandings(request, timeout=SECONDS)).results
    assert batched.standing == standing
    listed = await desk.listed(time=SWITCH - TICK, losing_within_days=40)
    assert [(one.member_id, one.tier) for one in listed.standings] == []
    assert [one.tier for one in (await desk.listed()).standings] == ["White", "White", "Green"]
    assert (standing.tier, standing.balance.minor_units) == ("White", 0)
    assert (standing.next_change_time.ToDatetime(UTC), standing.next_change_tier_number) == (SWITCH, 2)
    standing = await desk.standing("m-1", await till.advance(SWITCH))
    assert (standing.tier, standing.balance.minor_units) == ("Green", 30_000)
    assert standing.since_time.ToDatetime(UTC) == SWITCH
    assert standing.next_change_time.ToDatetime(UTC) == at("2025-01-31T10:00")
    assert (await desk.standing("m-2")).balance.minor_units == 40_000
    # Who held the tier goes on holding it, and longer.
    third = await desk.standing("m-3")
    assert (third.since_time.ToDatetime(UTC), third.next_change_time.ToDatetime(UTC)) == (
        SWITCH - HOUR,
        at("2025-05-01T07:30"),
    )
    for member, balance in (("m-1", 30_000), ("m-2", 40_000)):
        first, lines = await desk.explained(member, size=1)
        assert sum(line.amount.minor_units for line in lines if line.counted) == balance
        first, lines = await desk.explained(member, at_time=SWITCH - TICK)
        assert sum(line.amount.minor_units for line in lines if line.counted) == first.standing.balance.minor_units
    # And what is due by it, falls due.
    token = await till.advance(at("2025-01-31T10:00"))
    assert (await desk.standing("m-1", token)).tier == "White"


async def test_a_shorter_window_takes_what_is_too_old_at_the_instant_of_the_switch(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await peopled(till, (30_000,))
    await till.advance(ANNOUNCED)
    await till.buy("m-0", 100_000, ANNOUNCED)
    await till.apply(document(window="calendar_quarter"), SWITCH)
    standing = await desk.standing("m-0", await till.advance(SWITCH))
    assert (standing.tier, standing.balance.minor_units) == ("White", 0)
    change = (await desk.changes())[-1]
    assert (change.reason, change.changed_time.ToDatetime(UTC)) == (pb.CHANGE_REASON_PROGRAMME, SWITCH)
    assert (change.from_tier, change.balance.minor_units) == ("Silver", 0)
    standing = await desk.standing("m-0", await till.buy("m-0", 30_000, SWITCH + HOUR))
    assert (standing.tier, standing.next_change_time.ToDatetime(UTC)) == ("Green", at("2024-06-30T22:00"))
    _, lines = await desk.explained("m-0")
    assert [line.counted for line in lines] == [False, False, True]


async def test_two_versions_in_a_row_are_passed_one_after_the_other_by_a_clock_that_jumps(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    members = await peopled(till)
    await till.apply(document(first="250.00"), SWITCH)
    await till.apply(document(first="100.00", window="P2Y"), SWITCH + timedelta(days=1))
    token = await till.advance(SWITCH + timedelta(days=30))
    assert await tiers_of(desk, members, token) == ["Green"] * 5 + ["Silver"] * 3
    moved = [
        (c.member_id, c.changed_time.ToDatetime(UTC))
        for c in await desk.changes()
        if c.reason == pb.CHANGE_REASON_PROGRAMME
    ]
    assert sorted(moved) == [("m-0", SWITCH + timedelta(days=1)), ("m-1", SWITCH), ("m-2", SWITCH)]
    for member in members:
        balance = (await desk.standing(member)).balance
        _, lines = await desk.explained(member)
        assert sum(line.amount.minor_units for line in lines if line.counted) == balance.minor_units
    # Who joins by the newest version goes by it.
    await till.enroll("new", SWITCH + timedelta(days=30))
    token = await till.buy("new", 10_000, SWITCH + timedelta(days=30, hours=1))
    assert (await desk.standing("new", token)).tier == "Green"


async def test_a_tier_that_is_called_otherwise_is_told_to_the_ledger(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await peopled(till, (30_000, 1_000))
    await till.advance(ANNOUNCED)
    await till.apply(document(green="Emerald"), SWITCH)
    standing = await desk.standing("m-0", await till.advance(SWITCH))
    assert (standing.tier, standing.tier_number) == ("Emerald", 2)
    change = (await desk.changes())[-1]
    assert (change.member_id, change.from_tier, change.to_tier) == ("m-0", "Green", "Emerald")
    await desk.count(await till.advance(SWITCH + timedelta(days=1)))
    assert [name for name, _ in await till.classes("m-0")] == ["green", "emerald"]
    assert await till.classes("m-1") == []


async def test_a_policy_that_changes_in_the_middle_of_a_cycle(open_shop: OpenShop) -> None:
    retained = "retention: {cycle: P12M, at_end: one_down}"
    till, desk = await open_shop(document(more=retained))
    await peopled(till, (100_000, 30_000))
    await till.advance(ANNOUNCED)
    # The cycle that has begun goes on to its end, by the new thresholds.
    await till.apply(document(more=retained, second="1200.00"), SWITCH)
    token = await till.advance(SWITCH)
    first = await desk.standing("m-0", token)
    ends = at("2025-02-01T10:00")
    assert (first.tier, first.held_until_time.ToDatetime(UTC), first.to_keep.missing.minor_units) == (
        "Silver",
        ends,
        120_000,
    )
    await till.advance(at("2024-06-01T00:00"))
    await till.buy("m-1", 80_000, at("2024-06-01T10:00"))
    await till.buy("m-0", 119_999, at("2024-06-01T10:00"))
    token = await till.advance(ends)
    assert await tiers_of(desk, ["m-0", "m-1"], token) == ["Green", "Green"]


async def test_a_retention_that_begins_with_a_version_holds_what_is_held_then(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await peopled(till, (30_000,))
    await till.apply(document(more="retention: {cycle: P12M, at_end: earned}"), SWITCH)
    standing = await desk.standing("m-0", await till.advance(SWITCH))
    assert (standing.tier, standing.held_until_time.ToDatetime(UTC)) == ("Green", at("2025-05-01T08:30"))
    assert (await desk.standing("m-0", await till.advance(at("2025-04-01T00:00")))).tier == "Green"
    assert (await desk.standing("m-0", await till.advance(at("2025-05-01T08:30")))).tier == "White"


@pytest.mark.parametrize("window", ["P365D", "P30D"])
async def test_a_run_that_is_killed_in_the_middle_goes_on_and_reads_are_right_all_along(
    open_shop: OpenShop,
    start_tiers: StartTiers,
    check_tiers: CheckTiers,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    window: str,
) -> None:
    monkeypatch.setattr(service, "_BROUGHT_ON", 2)
    bring_on, done, stuck = Tiers._bring_on, 0, asyncio.Event()

    async def some(tiers: Tiers, partition: int, after: str, version: int, to_time: datetime) -> str | None:
        nonlocal done
        if done == 5:
            stuck.set()
            await asyncio.Event().wait()
        done += 1
        return await bring_on(tiers, partition, after, version, to_time)

    later = at("2024-05-03T00:00")
    amounts = AMOUNTS * 3
    async with contextlib.AsyncExitStack() as own:
        till, desk = await open_shop(document(), own=own)
        members = await peopled(till, amounts)
        await till.advance(ANNOUNCED)
        text = document(first="250.00", second="1200.00", window=window)
        await desk.count(await till.apply(text, SWITCH))
        with monkeypatch.context() as ending:
            ending.setattr(Tiers, "_bring_on", some)
            await till.advance(later)
            await asyncio.wait_for(stuck.wait(), SECONDS)
            assert 0 < sum(await versions_of(database)) < len(members), "it stands in the middle"
            after = ["White", "Green", "Green", "Green", "Green", "Green", "Green", "Silver"] * 3
            if window == "P30D":
                after = ["White"] * len(members)
            expected = {name: after.count(name) for name in ("White", "Green", "Silver")}
            assert await tiers_of(desk, members) == after
            answer = await desk.stub.CountStandings(pb.CountStandingsRequest(), timeout=SECONDS)
            assert {one.tier: one.members for one in answer.counts} == expected
            listed = await desk.listed(page_size=1000)
            assert [one.tier for one in sorted(listed.standings, key=lambda one: int(one.member_id[2:]))] == after
            assert (await desk.standing("m-3", time=SWITCH - TICK)).tier == "Green"
    assert 0 < sum(await versions_of(database)) < len(members)
    assert (await check_tiers()).differences == (), "in the middle of it, too"
    desk = await start_tiers()
    token = await till.advance(later + HOUR)
    assert await desk.count(token) == expected
    assert await versions_of(database) == [1] * len(members)
    changes = [change for change in await desk.changes() if change.reason == pb.CHANGE_REASON_PROGRAMME]
    moved = [change.member_id for change in changes]
    assert len(set(moved)) == len(moved) == (4 * 3 if window == "P365D" else 5 * 3)
    assert {change.changed_time.ToDatetime(UTC) for change in changes} == {SWITCH}


async def test_in_real_time_the_switch_comes_by_the_clock_and_reads_need_not_wait_for_the_run(
    start_ledger: StartLedger,
    start_tiers: StartTiers,
    check_tiers: CheckTiers,
    database: Database,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = folder / "programme.yaml"
    path.write_text(document())
    till = Till(await start_ledger(programme=path, partitions=2, clock=ClockMode.REAL))
    ahead, hold = timedelta(0), asyncio.Event()
    bring_on = Tiers._bring_on

    async def held(tiers: Tiers, partition: int, after: str, version: int, to_time: datetime) -> str | None:
        await hold.wait()
        return await bring_on(tiers, partition, after, version, to_time)

    monkeypatch.setattr(Tiers, "_bring_on", held)
    desk = await start_tiers(programme=path, clock=lambda: machine_now() + ahead)
    now = machine_now()
    await till.enroll("m-1", now - timedelta(days=2))
    await till.enroll("m-2", now - timedelta(days=2))
    await till.buy("m-1", 25_000, now - timedelta(days=1))
    token = await till.apply(document(first="250.00", window="P2Y"), now + HOUR)
    assert (await desk.standing("m-1", token)).tier == "White"
    ahead = 2 * HOUR
    assert (await desk.standing("m-1")).tier == "Green"
    assert await versions_of(database) == [0, 0]
    # What happened before it is decided by what held then, and shown by what holds.
    token = await till.buy("m-2", 25_000, now - HOUR)
    assert (await desk.standing("m-2", token)).tier == "Green"
    assert (await desk.standing("m-2", time=now)).tier == "White"
    assert await versions_of(database) == [0, 0]
    hold.set()
    call = desk.stub.StreamTierChanges(pb.StreamTierChangesRequest(follow=True), timeout=SECONDS)
    changes: list[pb.TierChange] = []
    while len(changes) < 2:
        changes.extend((await call.read()).changes)
    call.cancel()
    assert sorted((c.member_id, c.to_tier) for c in changes) == [("m-1", "Green"), ("m-2", "Green")]
    (switched,) = [c for c in changes if c.member_id == "m-1"]
    assert (switched.reason, abs(switched.changed_time.ToDatetime(UTC) - now - HOUR) < timedelta(seconds=1)) == (
        pb.CHANGE_REASON_PROGRAMME,
        True,
    )
    assert await versions_of(database) == [1, 1]
    await desk.count()
    assert (await check_tiers()).differences == ()


# --- preview --------------------------------------------------------------------------------------------------------


async def test_a_preview_says_what_then_happens(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    members = await peopled(till)
    await till.enroll("gone", DAY)
    await till.resign("gone", BOUGHT)
    await desk.count(await till.advance(ANNOUNCED))
    text = document(first="250.00", second="1200.00")
    told = await preview(desk, text, SWITCH)
    assert told.version == programmes.parse(text, "x").version
    assert (told.members, told.rising, told.falling) == (len(members), 2, 2)
    assert told.at_time.ToDatetime(UTC) == SWITCH
    assert [(one.member_id, one.from_tier, one.to_tier) for one in told.moves] == [
        ("m-1", "White", "Green"),
        ("m-2", "White", "Green"),
        ("m-5", "Silver", "Green"),
        ("m-6", "Silver", "Green"),
    ]
    # 5 % of 30,000 and 90,000 minor units, 8 % of 100,000, 119,999 and 120,000: each rounded down.
    assert told.discounts_before.minor_units == 1_500 + 4_500 + 8_000 + 9_599 + 9_600
    assert told.discounts_after.minor_units == 1_250 + 1_499 + 1_500 + 4_500 + 5_000 + 5_999 + 9_600
    assert told.discounts_before.currency_code == "PLN"
    assert list(told.losses) == ["Silver begins at 1200.00 PLN instead of 1000.00 PLN."]
    # Nothing is kept of it.
    assert await desk.count(time=SWITCH) == {"White": 3, "Green": 2, "Silver": 3}
    await till.apply(text, SWITCH)
    await till.advance(SWITCH - TICK)
    before = await desk.count(time=SWITCH - TICK)
    after = await desk.count(await till.advance(SWITCH))
    assert {one.tier: (one.members_before, one.members_after) for one in told.tiers} == {
        name: (before[name], after[name]) for name in ("White", "Green", "Silver")
    }
    moved = {
        (c.member_id, c.from_tier, c.to_tier) for c in await desk.changes() if c.reason == pb.CHANGE_REASON_PROGRAMME
    }
    assert moved == {(one.member_id, one.from_tier, one.to_tier) for one in told.moves}


async def test_a_preview_of_another_window_says_what_then_happens(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await peopled(till)
    await desk.count(await till.advance(ANNOUNCED))
    told = await preview(desk, document(window="P30D"), SWITCH)
    assert (told.falling, told.rising) == (5, 0)
    await till.apply(document(window="P30D"), SWITCH)
    after = await desk.count(await till.advance(SWITCH))
    assert {one.tier: one.members_after for one in told.tiers} == after


async def test_a_preview_looks_at_as_many_and_lists_as_many_as_it_is_asked_to(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await peopled(till)
    await desk.count(await till.advance(ANNOUNCED))
    text = document(first="100.00", green="Emerald")
    told = await preview(desk, text, most_moves=2)
    assert (told.members, told.at_time.ToDatetime(UTC), len(told.moves)) == (8, ANNOUNCED, 2)
    assert [(one.tier, one.members_before, one.members_after) for one in told.tiers] == [
        ("White", 3, 0),
        ("Emerald", 0, 5),
        ("Silver", 3, 3),
        ("Green", 2, 0),
    ]
    few = await preview(desk, text, most_members=3)
    assert few.members == 3


async def test_what_cannot_be_previewed_says_why(open_shop: OpenShop) -> None:
    till, desk = await open_shop(document())
    await desk.count(await till.advance(DAY))
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(preview(desk, "nonsense")) == (invalid, "PROGRAMME_INVALID")
    assert await refused(preview(desk, document(first="-1.00"))) == (invalid, "PROGRAMME_INVALID")
    assert await refused(preview(desk, document(first="250.00"), DAY - TICK)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PROGRAMME_ORDER",
    )


# --- which versions are known ---------------------------------------------------------------------------------------


async def test_a_service_that_starts_with_any_file_of_theirs_goes_by_the_versions_of_the_ledger(
    open_shop: OpenShop, start_tiers: StartTiers, folder: Path
) -> None:
    changed = document(first="250.00")
    async with contextlib.AsyncExitStack() as own:
        till, desk = await open_shop(document(), own=own)
        await peopled(till)
        await desk.count(await till.apply(changed, SWITCH))
    token = await till.advance(SWITCH)
    path = folder / "changed.yaml"
    path.write_text(changed)
    for programme in (path, folder / "programme.yaml"):
        async with contextlib.AsyncExitStack() as own:
            desk = await start_tiers(programme=programme, own=own)
            assert (await desk.standing("m-1", token)).tier == "Green"
            assert (await desk.standing("m-1", time=SWITCH - TICK)).tier == "White"
    # A version that was told while tiers were down is known before anything is decided by it.
    await till.apply(document(first="200.00"), SWITCH + HOUR)
    token = await till.advance(SWITCH + HOUR)
    desk = await start_tiers(programme=folder / "programme.yaml")
    assert (await desk.standing("m-1", token)).programme_version == programmes.parse(
        document(first="200.00"), "x"
    ).version


async def test_a_version_is_known_from_the_same_instant_whether_it_was_heard_at_once_or_after_downtime(
    open_shop: OpenShop, start_tiers: StartTiers, database: Database, folder: Path
) -> None:
    applied, switch = BOUGHT + timedelta(days=20), BOUGHT + timedelta(days=25)

    async def tiers_known(desk: Desk) -> list[str]:
        """The tier at the switch, as it was known before the version was applied, then, and later."""
        times = (applied - HOUR, applied - TICK, applied, switch)
        return [(await desk.standing("m-0", time=switch, known=known)).tier for known in times]

    async with contextlib.AsyncExitStack() as own:
        till, desk = await open_shop(document(), own=own)
        await peopled(till, (26_000,))
        await desk.count(await till.advance(BOUGHT + HOUR))
    # While tiers are away.
    await till.advance(applied)
    await till.apply(document(first="250.00"), switch)
    token = await till.advance(switch + HOUR)
    programme = folder / "programme.yaml"
    for _ in range(2):
        async with contextlib.AsyncExitStack() as own:
            desk = await start_tiers(programme=programme, own=own)
            assert (await desk.standing("m-0", token)).tier == "Green"
            assert await tiers_known(desk) == ["White", "White", "Green", "Green"]
    # And while tiers are there; the document is that of the first version.
    applied, switch = switch + timedelta(days=20), switch + timedelta(days=60)
    desk = await start_tiers(programme=programme)
    await till.advance(applied)
    await till.apply(document(first="300.00"), switch)
    await desk.count(await till.advance(switch + HOUR))
    assert await tiers_known(desk) == ["Green", "Green", "White", "White"]
    assert (await desk.standing("m-0", time=switch, known=BOUGHT)).tier == "White"


async def test_changes_read_back_name_tiers_and_money_as_those_told_at_once(
    open_shop: OpenShop, start_tiers: StartTiers
) -> None:
    markets = """
markets:
  us:
    currency: USD
    time_zone: America/New_York
    per: "0.25"
    thresholds: {green: {from: "80.00"}, silver: {from: "250.00"}}
"""
    moved = markets.replace("80.00", "60.00")
    async with contextlib.AsyncExitStack() as own:
        till, desk = await open_shop(document(markets=markets), own=own)
        await till.advance(DAY)
        await till.enroll("m-1", DAY, "us")
        await till.enroll("m-2", DAY, "us")
        await till.buy("m-1", 7_000, BOUGHT, "", "USD")
        await till.buy("m-2", 9_000, BOUGHT, "", "USD")
        await till.apply(document(markets=moved), SWITCH)
        await desk.count(await till.advance(SWITCH))
        told = await desk.changes()
    desk = await start_tiers()
    assert await desk.changes() == told
    assert sorted((c.member_id, c.balance.currency_code, c.balance.minor_units) for c in told) == [
        ("m-1", "USD", 7_000),
        ("m-2", "USD", 9_000),
    ]
