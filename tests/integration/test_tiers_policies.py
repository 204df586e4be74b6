"""Policies of tiers through the whole service: what a member is shown, and what the ledger hears, at every instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.database import Connection
from services.tiers import store
from services.tiers.domain.facts import MemberKey
from services.tiers.domain.track import Agenda, MemberState
from tests.tiers_desk import SECONDS, Desk, OpenShop, at, reason_of, refused, stamp

SHOP = """
programme: shop
currency: PLN
time_zone: Europe/Warsaw
earning:
  base: total
  points: 1
  per: "1.00"
  sign_up_bonus: 20
  activities: [{{id: review, points: 25}}]
  bonuses: [{{id: happy, points: 7, minimum: "100.00"}}, {{id: idle, points: 3, minimum: "100.00"}}]
tiers:
  {policy}
  levels:
    - name: White
    - name: Green
      from: "300.00"
      discount_percent: "5"
      earning_multiplier: "2"
      benefits: [{{id: free-shipping, text: Free shipping, maximum: "20.00"}}]
    - name: Silver
      from: "1000.00"
      discount_percent: "8"
      benefits:
        - {{id: free-shipping, text: Free shipping, maximum: "20.00"}}
        - {{id: support-line, text: A line of its own}}
    - name: Golden
      from: "2000.00"
      discount_percent: "10"
"""
COUNTED = """
programme: shop
currency: PLN
time_zone: Europe/Warsaw
earning:
  base: total
  points: 1
  per: "1.00"
  sign_up_bonus: 20
  activities: [{{id: review, points: 25}}]
  bonuses: [{{id: happy, points: 7, minimum: "100.00"}}, {{id: idle, points: 3, minimum: "100.00"}}]
tiers:
  {policy}
  levels: [{{name: White}}, {{name: Green, from: {green}}}, {{name: Silver, from: {silver}}}]
"""
PLANS = """
programme: club
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00"}
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}, {name: Plus, plan: plus, discount_percent: "12"}]
"""

DAY = at("2024-02-01T00:00")
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
BOUGHT = DAY + 10 * HOUR


def rolling(*lines: str) -> str:
    """The policy of a rolling year, with more lines."""
    return SHOP.format(policy="\n  ".join(("base: total", "window: P365D", *lines)))


def when(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)


NOT_COUNTED: list[str] = pb.NotCountedReason.keys()
Told = tuple[str, str, str, datetime]


async def told(desk: Desk, member_id: str) -> list[Told]:
    """Reason, tier, tier of the benefits and instant of each change of a member, in their order."""
    changes = [change for change in await desk.changes() if change.member_id == member_id]
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    return [
        (
            pb.ChangeReason.Name(change.reason).removeprefix("CHANGE_REASON_"),
            change.to_tier,
            change.to_benefits_tier,
            when(change.changed_time),
        )
        for change in changes
    ]


# --- what is counted, and for how long ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "tier"),
    [
        (29_999, "White"),
        (30_000, "Green"),
        (99_999, "Green"),
        (100_000, "Silver"),
        (199_999, "Silver"),
        (200_000, "Golden"),
    ],
)
async def test_a_tier_begins_at_its_very_amount(open_shop: OpenShop, amount: int, tier: str) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    standing = await desk.standing("m-1", await till.buy("m-1", amount, BOUGHT))
    assert standing.tier == tier
    # Several levels in one step are one change.
    assert [(c.from_tier, c.to_tier) for c in await desk.changes()] == ([] if tier == "White" else [("White", tier)])


async def test_what_was_bought_in_a_calendar_year_counts_to_its_local_end(open_shop: OpenShop) -> None:
    till, desk = await open_shop(SHOP.format(policy="base: total\n  window: calendar_year"))
    await till.advance(DAY)
    new_year = at("2024-12-31T23:00")
    await till.advance(new_year - HOUR)
    await till.enroll("old", DAY)
    await till.enroll("new", DAY)
    await till.buy("old", 30_000, new_year - TICK)
    token = await till.buy("new", 30_000, new_year)
    assert (await desk.standing("old", token)).next_change_time == stamp(new_year)
    token = await till.advance(new_year)
    assert (await desk.standing("old", token)).tier == "White"
    new = await desk.standing("new", token)
    assert (new.tier, when(new.next_change_time)) == ("Green", at("2025-12-31T23:00"))
    assert await told(desk, "old") == [
        ("MOVEMENT", "Green", "Green", new_year - TICK),
        ("WINDOW", "White", "White", new_year),
    ]


async def test_qualifying_points_are_those_of_the_rules_that_are_named(open_shop: OpenShop) -> None:
    policy = "metric: qualifying_points\n  window: P365D\n  qualifying: [sign_up_bonus, award, happy]"
    till, desk = await open_shop(COUNTED.format(policy=policy, green=150, silver=300))
    await till.advance(DAY)
    standing = await desk.standing("m-1", await till.enroll("m-1", DAY))
    # What joining gave counts, though it happened at the joining time.
    assert (standing.metric, standing.balance_count, standing.missing_count) == (pb.METRIC_QUALIFYING_POINTS, 20, 130)
    assert not standing.HasField("balance")
    await till.do("m-1", "review", BOUGHT)
    standing = await desk.standing("m-1", await till.buy("m-1", 12_000, BOUGHT + HOUR, "p-1"))
    assert (standing.balance_count, standing.tier) == (20 + 120 + 7, "White")
    await till.advance(BOUGHT + 2 * HOUR)
    standing = await desk.standing("m-1", await till.award("m-1", 3))
    assert (standing.balance_count, standing.tier) == (150, "Green")
    # Half of it comes back, and with it half of its points, those of the bonus as well.
    standing = await desk.standing("m-1", await till.give_back("m-1", 6_000, BOUGHT + 3 * HOUR, "p-1"))
    assert (standing.balance_count, standing.tier) == (150 - 60 - 4, "White")
    first, lines = await desk.explained("m-1", size=1)
    assert [(line.count, line.counted) for line in lines] == [
        (20, True),
        (0, False),
        (127, True),
        (3, True),
        (-64, True),
    ]
    assert sum(line.count for line in lines if line.counted) == first.standing.balance_count == 86


async def test_visits_are_counted_and_a_purchase_that_was_undone_is_none(open_shop: OpenShop) -> None:
    till, desk = await open_shop(COUNTED.format(policy="metric: visits\n  window: lifetime", green=2, silver=3))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    for number in range(3):
        token = await till.buy("m-1", 100, BOUGHT + number * HOUR, f"p-{number}")
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance_count, standing.HasField("next_change_time")) == ("Silver", 3, False)
    await till.advance(BOUGHT + 4 * HOUR)
    standing = await desk.standing("m-1", await till.void("m-1", "p-1"))
    assert (standing.tier, standing.balance_count) == ("Green", 2)


async def test_activities_are_counted_whatever_they_are(open_shop: OpenShop) -> None:
    till, desk = await open_shop(COUNTED.format(policy="metric: activities\n  window: P30D", green=2, silver=3))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.do("m-1", "review", BOUGHT)
    await till.buy("m-1", 100_000, BOUGHT)
    standing = await desk.standing("m-1", await till.do("m-1", "visited_us", BOUGHT + HOUR))
    assert (standing.tier, standing.balance_count, standing.metric) == ("Green", 2, pb.METRIC_ACTIVITIES)
    token = await till.advance(at("2024-03-02T10:00"))
    assert (await desk.standing("m-1", token)).tier == "White"


# --- cool-off -------------------------------------------------------------------------------------------------------

COOL_OFF = rolling("cool_off: {period: P30D, applies_to: benefits}")
MATURED = at("2024-03-02T10:00")


async def test_benefits_that_cool_off_come_into_force_at_their_instant_and_the_ledger_hears_their_class_then(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(COOL_OFF)
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    standing = await desk.standing("m-1", await till.buy("m-1", 100_000, BOUGHT))
    assert (standing.tier, standing.benefits_tier_number, standing.discount_basis_points) == ("Silver", 1, 0)
    assert (standing.balance.minor_units, standing.matured_balance.minor_units) == (100_000, 0)
    assert [one.id for one in standing.pending_benefits] == ["free-shipping", "support-line"]
    assert [when(standing.pending_benefits_time), when(standing.next_change_time)] == [MATURED, MATURED]
    assert (standing.next_change_tier_number, standing.next_change_benefits_tier_number) == (3, 3)
    assert standing.next_change_reason == pb.CHANGE_REASON_MATURED
    await desk.count(await till.advance(MATURED - TICK))
    assert (await desk.standing("m-1")).benefits_tier_number == 1
    assert await till.classes("m-1") == []
    token = await till.advance(MATURED)
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.benefits_tier_number, standing.discount_basis_points) == ("Silver", 3, 800)
    assert standing.matured_balance.minor_units == 100_000
    assert ([one.id for one in standing.benefits], list(standing.pending_benefits)) == (
        ["free-shipping", "support-line"],
        [],
    )
    assert await told(desk, "m-1") == [
        ("MOVEMENT", "Silver", "White", BOUGHT),
        ("MATURED", "Silver", "Silver", MATURED),
    ]
    next_day = at("2024-03-02T23:00")
    await desk.count(await till.advance(next_day))
    assert await till.classes("m-1") == [("silver", next_day)]


async def test_a_return_before_the_cool_off_is_over_takes_benefits_that_never_came(open_shop: OpenShop) -> None:
    till, desk = await open_shop(COOL_OFF)
    await till.advance(DAY)
    for member in ("day-30", "day-31"):
        await till.enroll(member, DAY)
        await till.buy(member, 30_000, BOUGHT, "p")
    await till.advance(MATURED - HOUR)
    token = await till.give_back("day-30", 1, MATURED - TICK, "p")
    assert (await desk.standing("day-30", token)).tier == "White"
    token = await till.give_back("day-31", 1, MATURED, "p")
    assert (await desk.standing("day-31", token)).tier == "White"
    assert await told(desk, "day-30") == [
        ("MOVEMENT", "Green", "White", BOUGHT),
        ("MOVEMENT", "White", "White", MATURED - TICK),
    ]
    assert await told(desk, "day-31") == [
        ("MOVEMENT", "Green", "White", BOUGHT),
        ("MATURED", "Green", "Green", MATURED),
        ("MOVEMENT", "White", "White", MATURED),
    ]
    await desk.count(await till.advance(MATURED + timedelta(days=2)))
    assert await till.classes("day-30") == []
    assert [name for name, _ in await till.classes("day-31")] == ["green", "white"]


async def test_a_level_that_cools_off_is_shown_when_it_has_matured(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling("cool_off: {period: P30D, applies_to: level}"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    standing = await desk.standing("m-1", await till.buy("m-1", 30_000, BOUGHT))
    assert (standing.tier, standing.balance.minor_units, standing.missing_for_next_tier.minor_units) == (
        "White",
        30_000,
        30_000,
    )
    assert (when(standing.next_change_time), standing.next_change_tier_number) == (MATURED, 2)
    token = await till.advance(MATURED)
    assert (await desk.standing("m-1", token)).tier == "Green"
    assert await desk.count(time=MATURED - TICK) == {"White": 1, "Green": 0, "Silver": 0, "Golden": 0}
    assert await desk.count(time=MATURED) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}


# --- a level that is held for a cycle -------------------------------------------------------------------------------


async def test_a_level_is_held_for_its_cycle_and_lost_one_down_where_it_was_not_earned_again(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(rolling("retention: {cycle: P12M, at_end: one_down}"))
    await till.advance(DAY)
    for member in ("idle", "busy"):
        await till.enroll(member, DAY)
        token = await till.buy(member, 200_000, BOUGHT)
    ends = [at(f"{year}-02-01T10:00") for year in (2025, 2026, 2027)]
    standing = await desk.standing("idle", token)
    assert (standing.tier, when(standing.held_until_time)) == ("Golden", ends[0])
    assert (standing.to_keep.missing.minor_units, when(standing.to_keep.by_time)) == (200_000, ends[0])
    assert (when(standing.next_change_time), standing.next_change_tier_number) == (ends[0], 3)
    assert standing.next_change_reason == pb.CHANGE_REASON_CYCLE_ENDED
    # What is earned in the cycle keeps the level, in which part of it whatever.
    await till.advance(at("2024-07-01T00:00"))
    await till.buy("busy", 150_000, at("2024-06-01T10:00"))
    token = await till.buy("busy", 50_000, at("2024-07-01T10:00"))
    assert (await desk.standing("busy", token)).to_keep.missing.minor_units == 0
    # The window has lost what reached it, and the level stays.
    token = await till.advance(ends[0] - TICK)
    standing = await desk.standing("idle", token)
    assert (standing.tier, standing.balance.minor_units) == ("Golden", 0)
    token = await till.advance(ends[0])
    assert (await desk.standing("idle", token)).tier == "Silver"
    busy = await desk.standing("busy", token)
    assert (busy.tier, when(busy.held_until_time)) == ("Golden", ends[1])
    await desk.count(await till.advance(ends[2] + timedelta(days=1)))
    assert await told(desk, "idle") == [
        ("MOVEMENT", "Golden", "Golden", BOUGHT),
        *[("CYCLE_ENDED", tier, tier, end) for tier, end in zip(("Silver", "Green", "White"), ends, strict=True)],
    ]
    assert [name for name, _ in await till.classes("idle")] == ["golden", "silver", "green", "white"]
    assert await told(desk, "busy") == [
        ("MOVEMENT", "Golden", "Golden", BOUGHT),
        ("CYCLE_ENDED", "Silver", "Silver", ends[1]),
        ("CYCLE_ENDED", "Green", "Green", ends[2]),
    ]


async def test_a_return_in_its_cycle_takes_the_level_back_where_the_policy_says_so(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling("retention: {cycle: P12M, at_end: one_down, on_return: take_back}"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT, "p-1")
    await till.buy("m-1", 80_000, BOUGHT + HOUR, "p-2")
    standing = await desk.standing("m-1", await till.give_back("m-1", 80_000, BOUGHT + 2 * HOUR, "p-2"))
    assert standing.tier == "Green"
    assert (await told(desk, "m-1"))[-1] == ("TAKEN_BACK", "Green", "Green", BOUGHT + 2 * HOUR)


# --- paid memberships -----------------------------------------------------------------------------------------------


async def test_a_paid_membership_gives_its_level_from_its_start_to_its_end(open_shop: OpenShop) -> None:
    till, desk = await open_shop(PLANS)
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT)
    start, end = at("2024-02-10T00:00"), at("2024-03-10T00:00")
    standing = await desk.standing("m-1", await till.pay("m-1", "plus", BOUGHT + HOUR, start, end))
    assert (standing.tier, standing.next_tier) == ("Green", "")
    assert (when(standing.next_change_time), standing.next_change_tier_number) == (start, 3)
    assert standing.next_change_reason == pb.CHANGE_REASON_PLAN
    assert (await desk.standing("m-1", await till.advance(start - TICK))).tier == "Green"
    standing = await desk.standing("m-1", await till.advance(start))
    assert (standing.tier, standing.discount_basis_points, when(standing.next_change_time)) == ("Plus", 1200, end)
    assert (await desk.standing("m-1", await till.advance(end - TICK))).tier == "Plus"
    assert (await desk.standing("m-1", await till.advance(end))).tier == "Green"
    assert await told(desk, "m-1") == [
        ("MOVEMENT", "Green", "Green", BOUGHT),
        ("PLAN", "Plus", "Plus", start),
        ("PLAN", "Green", "Green", end),
    ]
    await desk.count(await till.advance(end + timedelta(days=1)))
    assert [name for name, _ in await till.classes("m-1")] == ["green", "plus", "green"]


async def test_a_membership_that_begins_with_its_payment_is_there_at_once_and_one_renewed_never_ends_between(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(PLANS)
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    ends = [BOUGHT + timedelta(days=30), BOUGHT + timedelta(days=60)]
    standing = await desk.standing("m-1", await till.pay("m-1", "plus", BOUGHT, BOUGHT, ends[0]))
    assert (standing.tier, when(standing.since_time), when(standing.next_change_time)) == ("Plus", BOUGHT, ends[0])
    token = await till.pay("m-1", "plus", BOUGHT + HOUR, ends[0], ends[1])
    assert when((await desk.standing("m-1", token)).next_change_time) == ends[1]
    await desk.standing("m-1", await till.advance(ends[1]))
    assert await told(desk, "m-1") == [("PLAN", "Plus", "Plus", BOUGHT), ("PLAN", "White", "White", ends[1])]


# --- who leaves and comes back --------------------------------------------------------------------------------------


NOT_ENROLLED = (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED")


async def test_who_has_left_has_no_standing_until_it_comes_back(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    for member in ("m-1", "m-2"):
        await till.enroll(member, DAY)
        await till.buy(member, 30_000, BOUGHT, "p")
    left, back = BOUGHT + timedelta(days=1), BOUGHT + timedelta(days=40)
    token = await till.resign("m-1", left)
    assert await refused(desk.standing("m-1", token)) == NOT_ENROLLED
    assert await refused(desk.explained("m-1", token)) == NOT_ENROLLED
    assert await refused(desk.override("m-1", 4)) == NOT_ENROLLED
    assert await refused(desk.standing("m-1", time=left)) == NOT_ENROLLED
    assert (await desk.standing("m-1", time=left - TICK)).tier == "Green"
    token = await till.advance(left)
    assert await desk.count(token) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}
    assert await desk.count(time=left - TICK) == {"White": 0, "Green": 2, "Silver": 0, "Golden": 0}
    assert [one.member_id for one in (await desk.listed(token)).standings] == ["m-2"]
    # What was bought before may still come back.
    token = await till.give_back("m-1", 1_000, left + timedelta(days=1), "p")
    assert await refused(desk.standing("m-1", token)) == NOT_ENROLLED
    assert len(await desk.changes()) == 2, "nobody is told of who is away"
    await till.advance(back - HOUR)
    standing = await desk.standing("m-1", await till.rejoin("m-1", back))
    assert (standing.tier, standing.balance.minor_units, when(standing.joined_time)) == ("White", 29_000, DAY)
    assert (await told(desk, "m-1"))[-1] == ("REJOINED", "White", "White", back)
    assert await refused(desk.standing("m-1", time=back - TICK)) == NOT_ENROLLED
    assert (await desk.standing("m-1", await till.buy("m-1", 1_000, back + HOUR))).tier == "Green"


async def test_who_comes_back_begins_anew_where_the_policy_counts_from_the_latest_joining(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling("rejoining: latest"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT)
    left, back = BOUGHT + timedelta(days=1), BOUGHT + timedelta(days=40)
    await till.resign("m-1", left)
    await till.advance(back - HOUR)
    standing = await desk.standing("m-1", await till.rejoin("m-1", back))
    assert (standing.tier, standing.balance.minor_units) == ("White", 0)
    await till.buy("m-1", 29_999, back)
    standing = await desk.standing("m-1", await till.buy("m-1", 30_000, back + TICK))
    assert (standing.tier, standing.balance.minor_units) == ("Green", 30_000)
    token = await till.advance(at("2025-02-15T00:00"))
    assert (await desk.standing("m-1", token)).tier == "Green"


# --- validity -------------------------------------------------------------------------------------------------------


async def test_an_account_is_warned_suspended_and_revived(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling("validity: {period: P3Y, transactions: 1, warning: P60D}"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.enroll("m-2", DAY)
    warned, ended = at("2026-12-03T00:00"), at("2027-02-01T00:00")
    bought = at("2026-12-15T10:00")
    await desk.count(await till.advance(at("2026-12-10T00:00")))
    standing = await desk.standing("m-1")
    assert (when(standing.valid_until_time), when(standing.next_change_time)) == (ended, ended)
    assert (standing.next_change_reason, standing.next_change_benefits_tier_number) == (pb.CHANGE_REASON_SUSPENDED, 0)
    assert await told(desk, "m-1") == [("WARNED", "White", "White", warned)]
    # A purchase alone renews nothing; a confirmation beside it does.
    await till.advance(bought)
    await till.buy("m-1", 30_000, bought)
    token = await till.buy("m-2", 30_000, bought)
    await till.advance(at("2026-12-20T00:00"))
    await desk.confirm("m-2")
    await desk.count(await till.advance(ended))
    standing = await desk.standing("m-1", token)
    assert (standing.suspended, standing.tier, standing.benefits_tier_number) == (True, "Green", 0)
    assert (standing.discount_basis_points, list(standing.benefits)) == (0, [])
    assert (await told(desk, "m-1"))[-1] == ("SUSPENDED", "Green", "", ended)
    assert (await till.classes("m-1"))[-1] == ("suspended", ended)
    assert not (await desk.standing("m-2")).suspended
    assert when((await desk.standing("m-2")).valid_until_time) == at("2030-02-01T00:00")
    # Purchases earn nothing meanwhile.
    receipt = (await till.bought("m-1", 10_000, ended + HOUR)).receipt
    assert receipt.points == 0
    revived = ended + timedelta(days=3)
    await desk.count(await till.advance(revived))
    answer = await desk.confirm("m-1")
    assert (answer.standing.suspended, answer.standing.tier, answer.standing.benefits_tier_number) == (
        False,
        "Green",
        2,
    )
    assert when(answer.standing.valid_until_time) == at("2030-02-04T00:00")
    assert (await told(desk, "m-1"))[-1] == ("REVIVED", "Green", "Green", revived)
    # At once, and not with the next day.
    await desk.count(await till.advance(revived + HOUR))
    assert (await till.classes("m-1"))[-1] == ("green", revived)
    receipt = (await till.bought("m-1", 10_000, revived + 2 * HOUR)).receipt
    assert receipt.points == 2 * 100 + 10
    assert (await desk.confirm("m-1")).replayed


async def test_a_suspension_is_not_undone_by_a_class_that_waits_for_its_day(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling("validity: {period: P1Y, transactions: 0, warning: P30D}"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    ended = at("2025-02-01T00:00")
    await till.advance(ended - HOUR)
    # Green from the next local day on, and suspended before it begins.
    await till.buy("m-1", 30_000, ended - HOUR)
    await desk.count(await till.advance(ended))
    await desk.count(await till.advance(ended + timedelta(days=2)))
    assert [reason for reason, *_ in await told(desk, "m-1")] == ["WARNED", "MOVEMENT", "SUSPENDED"]
    assert (await till.classes("m-1"))[-1] == ("suspended", ended)
    receipt = (await till.bought("m-1", 10_000, ended + timedelta(days=2))).receipt
    assert receipt.points == 0


async def test_a_late_return_takes_the_tier_from_now_on_and_the_ledger_hears_it_for_the_next_day(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT, "p")
    now = at("2024-06-01T09:00")
    await desk.count(await till.advance(now))
    # It should have been Green for an hour: that it was reached needs no correction, and that it was kept is over now.
    standing = await desk.standing("m-1", await till.give_back("m-1", 1, BOUGHT + HOUR, "p"))
    assert standing.tier == "White"
    change = (await desk.changes())[-1]
    assert (change.to_tier, when(change.changed_time), change.corrects_sequence) == ("White", now, 0)
    assert (await desk.standing("m-1", time=now - HOUR)).tier == "White"
    await desk.count(await till.advance(at("2024-06-02T00:00")))
    assert await till.classes("m-1") == [("green", at("2024-02-01T23:00")), ("white", at("2024-06-01T22:00"))]


# --- time -----------------------------------------------------------------------------------------------------------


async def test_a_late_purchase_cancels_a_downgrade_by_a_change_that_names_it(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT)
    due, now = at("2025-01-31T10:00"), at("2025-02-10T00:00")
    known = now - TICK
    await desk.count(await till.advance(now))
    between = at("2025-02-01T00:00")
    assert (await desk.standing("m-1", time=between)).tier == "White"
    token = await till.buy("m-1", 30_000, at("2025-01-20T10:00"))
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance.minor_units) == ("Green", 30_000)
    # As it is known now, and as it was known then.
    assert (await desk.standing("m-1", time=between)).tier == "Green"
    assert (await desk.standing("m-1", time=between, known=known)).tier == "White"
    assert (await desk.standing("m-1", time=at("2025-01-25T00:00"), known=known)).balance.minor_units == 30_000
    assert (await desk.standing("m-1", time=at("2025-01-25T00:00"))).balance.minor_units == 60_000
    changes = await desk.changes()
    assert [(c.sequence, c.to_tier, c.corrects_sequence, when(c.changed_time)) for c in changes] == [
        (1, "Green", 0, BOUGHT),
        (2, "White", 0, due),
        (3, "Green", 2, now),
    ]
    assert changes[2].reason == pb.CHANGE_REASON_CORRECTED
    before = desk.standing("m-1", known=DAY - TICK)
    assert await refused(before) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    # What ran ahead of the clock was known from when it happened.
    assert (await desk.standing("m-1", time=BOUGHT, known=BOUGHT - TICK)).tier == "White"
    assert (await desk.standing("m-1", time=BOUGHT, known=BOUGHT)).tier == "Green"
    # The pages of what was known then are of then.
    first, lines = await desk.explained("m-1", size=1, at_time=at("2025-01-25T00:00"), known_at_time=known)
    assert [line.amount.minor_units for line in lines if line.counted] == [30_000]
    assert first.standing.balance.minor_units == 30_000


# --- explanations ---------------------------------------------------------------------------------------------------


async def test_an_explanation_names_every_line_and_why_it_does_not_count_and_the_rest_is_the_balance(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(rolling("rejoining: latest", "cool_off: {period: P30D, applies_to: benefits}"))
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 1_000, DAY - HOUR, "early")
    await till.buy("m-1", 2_000, BOUGHT, "first")
    back = at("2024-03-01T00:00")
    await till.advance(back)
    await till.resign("m-1", at("2024-02-10T00:00"))
    await till.rejoin("m-1", back)
    await till.buy("m-1", 40_000, back + HOUR, "gone")
    await till.do("m-1", "review", back + 2 * HOUR)
    await till.give_back("m-1", 500, back + 3 * HOUR, "gone")
    last = at("2025-03-10T00:00")
    await till.advance(last)
    await till.buy("m-1", 35_000, last - timedelta(days=60), "ripe")
    await till.buy("m-1", 45_000, last + HOUR, "fresh")
    token = await till.give_back("m-1", 700, last + HOUR, exchange_id="swap")
    first, lines = await desk.explained("m-1", token, size=2)
    reasons = [
        (line.purchase_id, line.amount.minor_units, pb.NotCountedReason.Name(line.not_counted_reason)[19:])
        for line in lines
    ]
    assert reasons == [
        ("early", 1_000, "BEFORE_JOINING"),
        ("first", 2_000, "BEFORE_REJOINING"),
        ("gone", 40_000, "OUTSIDE_WINDOW"),
        ("", 0, "OTHER_METRIC"),
        ("gone", -500, "OUTSIDE_WINDOW"),
        ("ripe", 35_000, "UNSPECIFIED"),
        ("fresh", 45_000, "UNSPECIFIED"),
        ("", -700, "EXCHANGE_WAITS"),
    ]
    assert {name for _, _, name in reasons} >= {name.removeprefix("NOT_COUNTED_REASON_") for name in NOT_COUNTED}
    assert (
        sum(line.amount.minor_units for line in lines if line.counted) == first.standing.balance.minor_units == 80_000
    )
    assert [pb.LineKind.Name(line.kind)[10:] for line in lines] == [
        "PURCHASE",
        "PURCHASE",
        "PURCHASE",
        "ACTIVITY",
        "RETURN",
        "PURCHASE",
        "PURCHASE",
        "RETURN",
    ]
    ripe, fresh, waiting = lines[-3:]
    assert when(fresh.end_time) == at("2026-03-10T01:00")
    assert when(fresh.matures_time) == at("2025-04-09T00:00")
    assert not ripe.HasField("matures_time")
    assert not lines[0].HasField("end_time")
    assert not waiting.HasField("end_time")
    assert [(one.tier, one.reached_from.minor_units, one.kept_from.minor_units) for one in first.thresholds] == [
        ("White", 0, 0),
        ("Green", 30_000, 30_000),
        ("Silver", 100_000, 100_000),
        ("Golden", 200_000, 200_000),
    ]
    assert first.standing == await desk.standing("m-1")


async def test_the_pages_of_an_explanation_are_of_one_instant_and_their_token_of_one_question(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    for number in range(3):
        token = await till.buy("m-1", 1_000, BOUGHT + number * HOUR)
    request = pb.ExplainStandingRequest(member_id="m-1", causal_token=token, page_size=2)
    page = await desk.stub.ExplainStanding(request, timeout=SECONDS)
    token = await till.buy("m-1", 7_000, BOUGHT + 5 * HOUR)
    request.page_token, request.causal_token = page.next_page_token, token
    rest = await desk.stub.ExplainStanding(request, timeout=SECONDS)
    assert (rest.standing.balance.minor_units, len(rest.lines), rest.next_page_token) == (3_000, 1, "")
    request.at_time.CopyFrom(stamp(BOUGHT))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.stub.ExplainStanding(request, timeout=SECONDS)
    assert reason_of(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


# --- many at once, and markets --------------------------------------------------------------------------------------


async def test_a_batch_says_of_each_member_how_it_stands_or_why_not(open_shop: OpenShop) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    for member in ("m-1", "m-2", "gone"):
        await till.enroll(member, DAY)
    await till.buy("m-2", 30_000, BOUGHT)
    token = await till.resign("gone", BOUGHT + HOUR)
    for more in ({"causal_token": await till.advance(BOUGHT + HOUR)}, {"at_time": stamp(BOUGHT + HOUR)}):
        names = ["m-2", "nobody", "gone", "m-1"]
        request = pb.BatchGetStandingsRequest(member_ids=names, **more)
        results = (await desk.stub.BatchGetStandings(request, timeout=SECONDS)).results
        assert [result.member_id for result in results] == names
        assert [result.standing.tier for result in results] == ["Green", "", "", "White"]
        codes = [result.error.code for result in results]
        assert codes == [0, grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.FAILED_PRECONDITION.value[0], 0]
        assert results[0].standing == await desk.standing("m-2", token, BOUGHT + HOUR)
    early = pb.BatchGetStandingsRequest(member_ids=["gone", "m-2"], at_time=stamp(BOUGHT))
    results = (await desk.stub.BatchGetStandings(early, timeout=SECONDS)).results
    assert [result.standing.tier for result in results] == ["White", "Green"]
    for wrong in ([], ["m-1", "m-1"], ["-"]):
        call = desk.stub.BatchGetStandings(pb.BatchGetStandingsRequest(member_ids=wrong), timeout=SECONDS)
        assert (await refused(call))[0] == grpc.StatusCode.INVALID_ARGUMENT


MARKETS = """
programme: world
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00"}
rates:
  - {from: "2024-01-01", currency: USD, amount: "1.00", worth: "4.00"}
  - {from: "2024-02-02", currency: USD, amount: "1.00", worth: "5.00"}
markets:
  us:
    currency: USD
    time_zone: America/New_York
    per: "0.25"
    thresholds: {green: {from: "80.00"}, silver: {from: "250.00"}}
    rates:
      - {from: "2024-01-01", currency: EUR, amount: "1.00", worth: "1.10"}
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}, {name: Silver, from: "1000.00"}]
"""


async def test_a_member_of_another_market_stands_by_its_money_its_thresholds_and_its_clock(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(MARKETS)
    await till.advance(DAY)
    await till.enroll("home", DAY)
    await till.enroll("abroad", DAY, "us")
    token = await till.buy("abroad", 7_000, BOUGHT, "p-1", "USD")
    standing = await desk.standing("abroad", token)
    assert (standing.market, standing.tier, standing.missing_for_next_tier) == (
        "us",
        "White",
        Money(currency_code="USD", minor_units=1_000),
    )
    # A third currency by the rate of the day: 9.10 EUR are 10.01 USD.
    standing = await desk.standing("abroad", await till.buy("abroad", 910, BOUGHT + HOUR, "p-2", "EUR"))
    assert (standing.tier, standing.balance) == ("Green", Money(currency_code="USD", minor_units=8_001))
    await till.buy("home", 1_000, BOUGHT, "p-1", "USD")
    late_evening = at("2024-02-01T22:59:59")
    await till.buy("home", 1_000, late_evening, "p-2", "USD")
    standing = await desk.standing(
        "home", await till.buy("home", 1_000, late_evening + timedelta(seconds=1), "p-3", "USD")
    )
    assert standing.balance == Money(currency_code="PLN", minor_units=4_000 + 4_000 + 5_000)
    # What comes back does so by the rate at which it was bought.
    await till.advance(at("2024-02-05T00:00"))
    standing = await desk.standing("home", await till.give_back("home", 1_000, at("2024-02-05T10:00"), "p-1", "USD"))
    assert standing.balance.minor_units == 9_000
    _, lines = await desk.explained("abroad")
    assert [line.amount.minor_units for line in lines] == [7_000, 1_001]
    change = next(change for change in await desk.changes() if change.member_id == "abroad")
    assert change.balance == Money(currency_code="USD", minor_units=8_001)
    # The day in New York begins five hours after midnight in Greenwich.
    await desk.count(await till.advance(at("2024-02-06T00:00")))
    assert await till.classes("abroad") == [("green", at("2024-02-02T05:00"))]
    assert when((await desk.standing("abroad")).next_change_time) == at("2025-01-31T10:00")


async def test_members_are_counted_and_listed_by_market(open_shop: OpenShop) -> None:
    till, desk = await open_shop(MARKETS)
    await till.advance(DAY)
    for number in range(3):
        await till.enroll(f"home-{number}", DAY)
        await till.enroll(f"us-{number}", DAY, "us")
        await till.buy(f"us-{number}", 10_000, BOUGHT, "p", "USD")
    await till.buy("us-0", 20_000, BOUGHT + HOUR, "q", "USD")
    await till.buy("home-0", 30_000, BOUGHT)
    token = await till.advance(DAY + timedelta(days=1))
    for time in (DAY + timedelta(days=1), DAY + timedelta(days=2)):
        request = pb.CountStandingsRequest(causal_token=token, at_time=stamp(time))
        answer = await desk.stub.CountStandings(request, timeout=SECONDS)
        assert [(one.market, [count.members for count in one.counts]) for one in answer.markets] == [
            ("", [2, 1, 0]),
            ("us", [0, 2, 1]),
        ]
        assert [count.members for count in answer.counts] == [2, 3, 1]
    request = pb.CountStandingsRequest(at_time=stamp(BOUGHT))
    answer = await desk.stub.CountStandings(request, timeout=SECONDS)
    assert [[count.members for count in one.counts] for one in answer.markets] == [[2, 1, 0], [0, 3, 0]]

    async def listed(**asked: object) -> list[str]:
        return [one.member_id for one in (await desk.listed(token, **asked)).standings]

    assert await listed(market="us") == ["us-0", "us-1", "us-2"]
    assert await listed(market="-") == ["home-0", "home-1", "home-2"]
    assert await listed(market="nowhere") == []
    assert len(await listed()) == 6
    assert await listed(market="us", tier_numbers=[3]) == ["us-0"]
    # 300 cents are no 300 groszy: what is missing is asked of one market.
    per_field = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await refused(desk.listed(token, missing_at_most=300)) == per_field
    assert await refused(desk.listed(token, missing_at_most=300, tier_numbers=[1])) == per_field
    assert set(await listed(missing_at_most=100_000, market="us")) < {"us-0", "us-1", "us-2"}
    assert set(await listed(missing_at_most=100_000, market="-")) == {"home-0", "home-1", "home-2"}
    assert await listed(tier_numbers=[1, 3]) == ["home-1", "home-2", "us-0"]


async def test_an_audience_is_who_loses_a_tier_soon_or_has_nearly_reached_one(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    for number, amount in enumerate((29_000, 25_000, 30_000, 99_000, 200_000)):
        bought = BOUGHT + number * timedelta(days=10)
        await till.advance(bought)
        await till.enroll(f"m-{number}", DAY)
        await till.buy(f"m-{number}", amount, bought)
    lost = at("2025-01-31T10:00")
    now = lost + timedelta(days=15)
    # Two have lost what they had by then; of the others one falls in 5 days, one in 15, one in 25.
    token = await till.advance(now)

    async def listed(**asked: object) -> dict[str, datetime | None]:
        page = await desk.listed(token, **asked)
        return {one.member_id: when(one.losing_time) if one.HasField("losing_time") else None for one in page.standings}

    assert await listed(losing_within_days=4) == {}
    assert await listed(losing_within_days=5) == {"m-2": lost + timedelta(days=20)}
    assert await listed(losing_within_days=25) == {
        f"m-{number}": lost + number * timedelta(days=10) for number in (2, 3, 4)
    }
    assert await listed(losing_within_days=25, tier_numbers=[4]) == {"m-4": lost + timedelta(days=40)}
    then = stamp(BOUGHT + timedelta(days=45))
    assert list(await listed(missing_at_most=1_000, at_time=then)) == ["m-0", "m-3"]
    assert list(await listed(missing_at_most=5_000, at_time=then)) == ["m-0", "m-1", "m-3"]
    assert list(await listed(missing_at_most=999, at_time=then)) == []
    # A page holds who of so many meets the condition; who goes on reads the rest.
    found: list[str] = []
    page_token = ""
    while True:
        page = await desk.listed(token, page_size=2, page_token=page_token, losing_within_days=25)
        found += [one.member_id for one in page.standings]
        page_token = page.next_page_token
        if not page_token:
            break
    assert found == ["m-2", "m-3", "m-4"]
    # Whoever has nothing due by then, or another tier, is not looked at any closer.
    looked_at: list[int] = []
    read_agendas = store.read_agendas

    async def counted(
        connection: Connection, horizons: Sequence[tuple[MemberKey, MemberState, datetime]]
    ) -> dict[MemberKey, Agenda]:
        looked_at.append(len(horizons))
        return await read_agendas(connection, horizons)

    monkeypatch.setattr(store, "read_agendas", counted)
    assert list(await listed(losing_within_days=5)) == ["m-2"]
    assert list(await listed(tier_numbers=[4])) == ["m-4"]
    assert looked_at == [1, 1]


async def test_since_when_a_member_of_many_purchases_holds_its_tier_is_right_after_something_late(
    open_shop: OpenShop,
) -> None:
    till, desk = await open_shop(rolling())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    instants = [BOUGHT + number * HOUR / 20 for number in range(110)]
    for instant in instants:
        token = await till.buy("m-1", 300, instant)
    # The hundredth purchase of 3.00 reaches the level from 300.00.
    assert when((await desk.standing("m-1", token)).since_time) == instants[99]
    token = await till.buy("m-1", 600, BOUGHT - HOUR)
    for _ in range(2):
        assert when((await desk.standing("m-1", token)).since_time) == instants[97]
    token = await till.buy("m-1", 300, instants[-1] + HOUR)
    standing = await desk.standing("m-1", token)
    assert (when(standing.since_time), standing.balance.minor_units) == (instants[97], 33_900)
