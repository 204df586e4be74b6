"""Campaigns: what sets them off, whom they are for, what they give, and never twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import asyncpg
import pytest
import pytest_asyncio

from services.notifier.domain.assignments import Claim, Spent
from services.notifier.domain.awards import Award, AwardSettlement, AwardState
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.feeds import Happening, MemberEvent
from services.notifier.domain.profiles import Losing
from services.notifier.errors import CampaignUnknownError
from services.notifier.service.campaigns import Entered
from services.notifier.store import QUERIES, Transaction
from services.notifier.store.privacy import ErasureKept
from services.programme.campaigns import TriggerKind
from services.programme.templates import VARIABLES, known
from services.runtime.status import NotCaughtUpError
from tests.campaign_desk import PARTITIONS, START, Desk, campaign_desk, shop
from tests.conftest import Database
from tests.plans import rows_touched


class OpenDesk(Protocol):
    async def __call__(self, *campaigns: str, simulated: bool = True) -> Desk: ...


@pytest_asyncio.fixture
async def open_desk(database: Database) -> AsyncIterator[OpenDesk]:
    async with contextlib.AsyncExitStack() as stack:

        async def opened(*campaigns: str, simulated: bool = True) -> Desk:
            return await stack.enter_async_context(campaign_desk(database, campaigns, simulated=simulated))

        yield opened


async def erase(desk: Desk, member_id: str) -> None:
    """A member is erased."""
    partition = partition_of(member_id, PARTITIONS)
    erasure = ErasureKept(
        partition=partition,
        member_id=member_id,
        request_id="e",
        reason="asked",
        principal="staff",
        asked_time=desk.machine_now,
        erased_time=None,
    )

    async def work(transaction: Transaction) -> None:
        await transaction.insert_erasure(erasure)
        await transaction.forget(partition, member_id)

    await desk.store.transact(work)


async def test_a_purchase_gives_points_a_badge_a_message_and_an_event_once(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: big, trigger: purchase, when: {minimum: '50.00', channels: [pos]}, points: 30, badge: explorer, "
        "message: {subject: Thanks, text: For buying}}"
    )
    await desk.join("m-1")
    await desk.buy("m-1", 4999)
    assert await desk.given() == []
    batch = await desk.buy("m-1", 5000, purchase_id="p-9")
    trigger = f"entry:{batch.entries[0].offset}"
    assert await desk.given() == [("big", "m-1", trigger)]
    assert await desk.rows("badges", "member_id, badge_id, campaign_id") == [("m-1", "explorer", "big")]
    assert await desk.rows("deliveries", "member_id, campaign_id, trigger") == [("m-1", "big", trigger)]
    assert await desk.awarding.ask_for_all() is None
    assert list(desk.points.given.values()) == [("m-1", 30, "p-9")]
    assert await desk.awarding.ask_for_all() is None
    assert desk.points.asked == 1


async def test_the_first_purchase_and_a_later_visit_come_once_in_a_life(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: welcome, trigger: first_purchase, points: 10}",
        "{id: third, trigger: nth_visit, when: {visits: 3}, points: 5}",
    )
    await desk.join("m-1")
    for _ in range(4):
        await desk.buy("m-1")
    assert await desk.given() == [("third", "m-1", "visit:3"), ("welcome", "m-1", "first")]
    # A purchase that is undone is no visit, and the next first one was had.
    for _ in range(4):
        await desk.happen("m-1", Happening.VOID)
    await desk.buy("m-1")
    assert len(await desk.given()) == 2


async def test_points_that_cross_a_threshold_bring_it_once_a_year(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: shipping, trigger: points_reached, when: {points: 25000}, "
        "coupon: {prefix: SHIP, free_shipping: true, valid: P60D}}"
    )
    await desk.join("m-1")
    for available in (24999, 25000, 20000, 30000):
        await desk.happen("m-1", Happening.OTHER, available=available)
    assert await desk.given() == [("shipping", "m-1", "points:2026")]
    ((code, offer),) = await desk.rows("coupons", "code, offer")
    assert code.startswith("SHIP-")
    assert "free_shipping" in offer
    desk.business_now = datetime(2027, 2, 1, tzinfo=UTC)
    for available in (20000, 30000):
        await desk.happen("m-1", Happening.OTHER, available=available)
    assert [trigger for _, _, trigger in await desk.given()] == ["points:2026", "points:2027"]


async def test_points_for_joining_reach_a_threshold_as_any_others(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: shipping, trigger: points_reached, when: {points: 500}, badge: explorer}")
    await desk.join("m-1", available=500)
    await desk.join("m-2", available=499)
    assert await desk.given() == [("shipping", "m-1", "points:2026")]
    await desk.happen("m-1", Happening.OTHER, available=0)
    for member in ("m-1", "m-2"):
        await desk.happen(member, Happening.OTHER, available=600)
    assert await desk.given() == [("shipping", "m-1", "points:2026"), ("shipping", "m-2", "points:2026")]


async def test_a_level_that_is_lost_sets_off_what_is_for_that_level(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: sorry, trigger: tier_lost, tiers: [star], points: 5}",
        "{id: hello, trigger: tier_reached, tiers: [regular, star], points: 5}",
    )
    await desk.join("m-1")
    await desk.change("m-1", 1, 3)
    await desk.change("m-1", 3, 2)
    await desk.change("m-1", 2, 1)
    assert await desk.given() == [("hello", "m-1", "change:1"), ("sorry", "m-1", "change:2")]


async def test_days_bring_what_is_due_on_them_and_each_day_once(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: miss-you, trigger: inactivity, when: {after: P10D}, points: 1}",
        "{id: year, trigger: anniversary, points: 2}",
        "{id: xmas, trigger: date, when: {day: '2026-01-09'}, points: 3}",
    )
    await desk.join("m-1", time=datetime(2025, 1, 8, 12, tzinfo=UTC))
    await desk.join("m-2")
    await desk.buy("m-1")
    await desk.advance(START + timedelta(hours=1))
    await desk.pass_days(5)
    assert await desk.given() == [
        ("xmas", "m-1", "date:2026-01-09"),
        ("xmas", "m-2", "date:2026-01-09"),
        ("year", "m-1", "anniversary:2026"),
    ]
    await desk.happen("m-2", Happening.ACTIVITY)
    await desk.pass_days(12)
    inactive = [one for one in await desk.given() if one[0] == "miss-you"]
    assert inactive == [("miss-you", "m-1", "inactive:2026-01-05"), ("miss-you", "m-2", "inactive:2026-01-10")]
    await desk.days.catch_up()
    desk.begin(desk.programme)
    await desk.days.catch_up()
    assert len(await desk.given()) == 5


async def test_days_that_were_missed_are_made_up_for(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: xmas, trigger: date, when: {day: '2026-01-09'}, points: 3}")
    await desk.join("m-1")
    await desk.advance(START + timedelta(hours=1))
    await desk.advance(START + timedelta(days=40))
    assert await desk.given() == [("xmas", "m-1", "date:2026-01-09")]
    assert {row[0] for row in await desk.rows("campaign_cursors", "begun_day", "1")} == {date(2026, 2, 14)}


async def test_a_birthday_comes_once_a_year_and_leap_days_on_the_28th(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: cake, trigger: birthday, points: 50}")
    await desk.join("m-1", "m-2", "m-3")
    await desk.advance(START + timedelta(hours=1))
    await desk.born("m-1", date(1990, 1, 20))
    await desk.born("m-2", date(1992, 2, 29))
    await desk.pass_days(60)
    assert await desk.given() == [("cake", "m-1", "birthday:2026"), ("cake", "m-2", "birthday:2026")]
    times = dict(await desk.rows("assignments", "member_id, assigned_time"))
    assert times["m-2"] == datetime(2026, 2, 27, 23, tzinfo=UTC)
    # Another date than the one told before counts 30 days later, and not twice in a year.
    await desk.born("m-1", date(1990, 3, 20), request_id="again")
    await desk.pass_days(30)
    assert len(await desk.given()) == 2


async def test_points_and_coupons_that_end_soon_are_told_of_before(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: use-them, trigger: points_expiring, when: {before: P7D}, message: {subject: Hurry, text: Up}}",
        "{id: use-it, trigger: coupon_expiring, when: {before: P2D}, message: {subject: Hurry, text: Up}}",
        "{id: gift, trigger: first_purchase, coupon: {prefix: GIFT, discount_amount: '5.00', valid: P20D}}",
    )
    await desk.join("m-1")
    await desk.advance(START + timedelta(hours=1))
    await desk.buy("m-1", available=40, lapsing=(("2026-01-15", 30), ("2026-03-01", 10)))
    await desk.happen("m-1", Happening.OTHER, available=10, lapsing=(("2026-03-01", -10),))
    await desk.pass_days(30)
    ((code,),) = await desk.rows("coupons", "code", "1")
    told = [one for one in await desk.given() if one[0] != "gift"]
    assert told == [("use-it", "m-1", f"coupon:{code}"), ("use-them", "m-1", "expiring:2026-01-15")]
    coupon, points = [json.loads(facts) for (facts,) in await desk.rows("deliveries", "facts", "campaign_id")]
    assert (points["points"], points["day"]) == (30, "2026-01-15")
    # It ends in the course of the 25th: the day before is the last on which it is good all day.
    assert (coupon["code"], coupon["day"]) == (code, "2026-01-24")


async def test_who_is_about_to_lose_a_level_is_told_so_many_days_before(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: keep, trigger: tier_at_risk, tiers: [star], when: {before: P14D}, points: 5}")
    await desk.join("m-1", "m-2", "m-3")
    noon = datetime(2026, 1, 24, 11, tzinfo=UTC)
    desk.losing.losing_soon = [
        Losing(member_id="m-1", tier_number=3, losing_time=noon),
        Losing(member_id="m-2", tier_number=3, losing_time=noon + timedelta(days=1)),
        Losing(member_id="m-3", tier_number=2, losing_time=noon),
    ]
    await desk.advance(START + timedelta(hours=1))
    await desk.pass_days(4)
    assert await desk.given() == []
    await desk.pass_days(2)
    assert await desk.given() == [("keep", "m-1", "risk:star:2026-01-24"), ("keep", "m-2", "risk:star:2026-01-25")]


async def test_a_campaign_whose_question_nobody_answers_holds_up_no_other_and_is_made_up_for(
    open_desk: OpenDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = await open_desk(
        "{id: keep, trigger: tier_at_risk, tiers: [star], when: {before: P3D}, points: 5}",
        "{id: xmas, trigger: date, when: {day: '2026-01-07'}, points: 3}",
        "{id: new, trigger: date, when: {day: '2026-01-08'}, points: 3}",
    )
    await desk.join("m-1", "m-2")
    noon = datetime(2026, 1, 9, 11, tzinfo=UTC)
    desk.losing.losing_soon = [
        Losing(member_id="m-1", tier_number=3, losing_time=noon),
        Losing(member_id="m-2", tier_number=3, losing_time=noon + timedelta(days=1)),
    ]
    await desk.advance(START + timedelta(hours=1))
    desk.losing.away = True
    await desk.pass_days(3)
    others = [("new", member, "date:2026-01-08") for member in ("m-1", "m-2")]
    others += [("xmas", member, "date:2026-01-07") for member in ("m-1", "m-2")]
    assert await desk.given() == others
    assert {row[0] for row in await desk.rows("campaign_cursors", "begun_day", "1")} == {date(2026, 1, 8)}
    written = [line for line in capsys.readouterr().out.splitlines() if "campaign_day_delayed" in line]
    assert written
    assert all("keep" in line for line in written)
    desk.losing.away = False
    await desk.days.catch_up()
    kept = [("keep", "m-1", "risk:star:2026-01-09"), ("keep", "m-2", "risk:star:2026-01-10")]
    assert await desk.given() == kept + others
    # Asked again after a restart, it gives nothing twice.
    desk.begin(desk.programme)
    await desk.days.catch_up()
    assert await desk.given() == kept + others


async def test_a_day_nobody_answered_is_given_up_when_the_level_is_lost(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: keep, trigger: tier_at_risk, tiers: [star], when: {before: P2D}, points: 5}")
    await desk.join("m-1")
    lost = datetime(2026, 1, 8, 11, tzinfo=UTC)
    desk.losing.losing_soon = [Losing(member_id="m-1", tier_number=3, losing_time=lost)]
    await desk.advance(START + timedelta(hours=1))
    desk.losing.away = True
    await desk.pass_days(3)
    desk.losing.away = False
    await desk.pass_days(1)
    assert await desk.given() == []


async def test_messages_know_just_what_templates_may_use_of_their_trigger(open_desk: OpenDesk) -> None:
    when = {
        TriggerKind.TIER_REACHED: "tiers: [star]",
        TriggerKind.TIER_LOST: "tiers: [star]",
        TriggerKind.TIER_AT_RISK: "tiers: [star], when: {before: P14D}",
        TriggerKind.POINTS_REACHED: "when: {points: 5}",
        TriggerKind.POINTS_EXPIRING: "when: {before: P7D}",
        TriggerKind.NTH_VISIT: "when: {visits: 1}",
        TriggerKind.INACTIVITY: "when: {after: P2D}",
        TriggerKind.COUPON_EXPIRING: "when: {before: P2D}",
        TriggerKind.SURPRISE: "when: {probability: '100'}",
        TriggerKind.SEGMENT_ENTERED: "when: {segment: vip}",
        TriggerKind.DATE: "when: {day: '2026-01-07'}",
    }
    message = "message: {subject: Hello, text: 'You are {{ tier }} and have {{ points_balance }} points.'}"
    campaigns = [
        f"{{id: {kind.replace('_', '-')}, trigger: {kind}, {when[kind] + ', ' if kind in when else ''}{message}}}"
        for kind in TriggerKind
    ]
    gift = "{id: gift, trigger: first_purchase, coupon: {prefix: GIFT, discount_amount: '5.00', valid: P4D}}"
    desk = await open_desk(*campaigns, gift)
    await desk.join("m-1", time=datetime(2025, 1, 8, 12, tzinfo=UTC))
    await desk.born("m-1", date(1990, 1, 8))
    await desk.advance(START + timedelta(hours=1))
    await desk.campaigns.enter_segment("vip", ["m-1"])
    await desk.buy("m-1", available=40, lapsing=(("2026-01-15", 40),))
    await desk.change("m-1", 1, 3)
    await desk.change("m-1", 3, 2)
    lost = datetime(2026, 1, 21, 11, tzinfo=UTC)
    desk.losing.losing_soon = [Losing(member_id="m-1", tier_number=3, losing_time=lost)]
    await desk.pass_days(5)
    later = shop("{id: x, trigger: birthday, points: 1}")
    await desk.announce(later, desk.business_now + timedelta(days=30))
    told = {
        campaign_id.replace("-", "_"): json.loads(facts)
        for campaign_id, facts in await desk.rows("deliveries", "campaign_id, facts")
    }
    of_all = {"currency", "member_id", "name", "programme", "unsubscribe_url"}
    assert {kind: set(facts) & set(VARIABLES) for kind, facts in told.items()} == {
        kind: known(kind, ()) - of_all for kind in TriggerKind
    }
    assert (told["birthday"]["tier"], told["birthday"]["points_balance"]) == ("Regular", 40)
    assert (told["segment_entered"]["tier"], told["segment_entered"]["points_balance"]) == ("Guest", 0)
    assert (told["tier_lost"]["tier"], told["tier_lost"]["previous_tier"]) == ("Regular", "Star")


async def test_everybody_hears_of_a_version_that_is_announced(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: news, trigger: programme_change, message: {subject: News, text: There are some}}")
    await desk.join("m-1", "m-2")
    await desk.advance(START + timedelta(hours=1))
    await desk.happen("m-2", Happening.LEFT)
    later = shop("{id: news, trigger: programme_change, message: {subject: More, text: There is more}}")
    await desk.announce(later, desk.business_now + timedelta(days=30))
    assert await desk.given() == [("news", "m-1", f"version:{later.version}")]
    assert await desk.rows("announcements", "version", "1") == []


async def test_nobody_hears_of_a_version_that_is_in_force_by_then(open_desk: OpenDesk) -> None:
    news = "{id: news, trigger: programme_change, points: %d}"
    desk = await open_desk(news % 1, simulated=False)
    await desk.join("m-1")
    old, new = shop(news % 2), shop(news % 3)
    # The log is read years later.
    await desk.announce(old, desk.business_now + timedelta(days=30))
    desk.business_now = desk.machine_now - timedelta(days=60)
    await desk.announce(new, desk.machine_now + timedelta(days=1))
    assert await desk.given() == [("news", "m-1", f"version:{new.version}")]
    assert await desk.rows("announcements", "version", "1") == []


async def test_a_simulated_history_is_told_its_versions_as_they_came(open_desk: OpenDesk) -> None:
    news = "{id: news, trigger: programme_change, points: %d}"
    desk = await open_desk(news % 1)
    await desk.join("m-1")
    await desk.advance(START + timedelta(days=400))
    desk.business_now = START
    later, at_once = shop(news % 2), shop(news % 3)
    await desk.announce(later, START + timedelta(days=30))
    desk.business_now = START + timedelta(days=60)
    await desk.announce(at_once, desk.business_now)
    assert await desk.given() == [("news", "m-1", f"version:{later.version}")]


async def test_a_segment_brings_its_campaign_when_it_is_entered(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: vip-hello, trigger: segment_entered, when: {segment: vip}, points: 100}",
        "{id: vip-buys, trigger: purchase, audience: {segments: [vip]}, points: 5}",
        "{id: others, trigger: purchase, audience: {not_segments: [vip]}, points: 1}",
    )
    await desk.join("m-1", "m-2")
    assert (await desk.campaigns.enter_segment("vip", ["m-1", "m-1"])).added == 1
    assert (await desk.campaigns.enter_segment("vip", ["m-1"])).added == 0
    assert (await desk.campaigns.enter_segment("press", ["m-2"])).added == 1
    for member in ("m-1", "m-2"):
        await desk.buy(member)
    assert [(campaign, member) for campaign, member, _ in await desk.given()] == [
        ("others", "m-2"),
        ("vip-buys", "m-1"),
        ("vip-hello", "m-1"),
    ]
    await desk.campaigns.leave_segment("vip", ["m-1"])
    await desk.buy("m-1")
    assert [one[:2] for one in await desk.given()].count(("others", "m-1")) == 1


async def test_nothing_is_known_of_a_member_once_the_feed_tells_of_the_erasure(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: big, trigger: purchase, points: 3}")
    await desk.join("m-1", "m-2")
    for member in ("m-1", "m-2"):
        await desk.buy(member, available=50, lapsing=(("2027-01-05", 50),))
    await erase(desk, "m-1")
    await desk.happen("m-1", Happening.OTHER, lapsing=(("2027-01-05", -50),))
    assert await desk.rows("profiles", "member_id", "1") == [("m-2",)]
    assert await desk.rows("lapsing_points", "member_id, points") == [("m-2", 50)]


async def test_a_preview_counts_nobody_who_was_erased(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: big, trigger: purchase, points: 3, coupon: {prefix: BIG, discount_percent: '5', valid: P3D}}",
        "{id: soon, trigger: coupon_expiring, when: {before: P1D}, points: 1}",
    )
    await desk.join("m-1", "m-2")
    for member in ("m-1", "m-2"):
        await desk.buy(member)
    await erase(desk, "m-1")
    for campaign in ("big", "soon"):
        seen = await desk.campaigns.preview(campaign, day=date(2026, 1, 7), sample=10)
        assert [one.member_id for one in seen.sample] == ["m-2"]


async def test_an_erased_member_is_given_nothing_whatever_the_feeds_tell_late_and_days_bring(
    open_desk: OpenDesk,
) -> None:
    desk = await open_desk(
        "{id: up, trigger: tier_reached, tiers: [regular], webhook: tier.up, "
        "coupon: {prefix: UP, discount_percent: '5', valid: P3D}, message: {subject: Hi, text: '{{ balance }}'}}",
        "{id: soon, trigger: coupon_expiring, when: {before: P1D}, points: 1}",
        "{id: fair, trigger: date, when: {day: '2026-01-08'}, points: 5}",
    )
    await desk.join("m-1", "m-2")
    await desk.change("m-1", 1, 2)
    given = await desk.given()
    await erase(desk, "m-1")
    await erase(desk, "m-2")
    await desk.change("m-2", 1, 2)
    await desk.buy("m-2")
    await desk.pass_days(5)
    assert await desk.given() == given
    assert await desk.rows("coupons", "member_id", "1") == [("m-1",)]
    assert set(await desk.rows("deliveries", "member_id, facts")) == {("m-1", "{}")}


async def test_a_segment_takes_members_alone_and_waits_for_whom_it_was_told_of(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: hello, trigger: segment_entered, when: {segment: vip}, points: 100}")
    await desk.join("m-1", "gone")
    await erase(desk, "gone")
    ids = ["m-1", "m-2", "gone", "nobody"]
    assert await desk.campaigns.enter_segment("vip", ids) == Entered(added=1, unknown=["gone", "m-2", "nobody"])
    assert await desk.rows("segments", "member_id", "1") == [("m-1",)]
    home = partition_of("m-2", PARTITIONS)
    told_of = {home: desk.cursors[home].ledger_offset + 1}

    async def update(wait_seconds: float) -> Entered:
        return await desk.campaigns.update_segment(
            "vip", add=["m-2"], remove=["m-1"], after=told_of, wait_seconds=wait_seconds
        )

    with pytest.raises(NotCaughtUpError):
        await update(0.05)
    assert await desk.rows("segments", "member_id", "1") == [("m-1",)]
    updating = asyncio.create_task(update(30))
    await asyncio.sleep(0.05)
    await desk.join("m-2")
    assert await updating == Entered(added=1, unknown=[])
    assert await desk.rows("segments", "member_id", "1") == [("m-2",)]
    assert [member for _, member, _ in await desk.given()] == ["m-1", "m-2"]


async def test_campaigns_are_for_their_tiers_and_attributes_and_for_nobody_who_left_or_is_suspended(
    open_desk: OpenDesk,
) -> None:
    desk = await open_desk(
        "{id: stars, trigger: purchase, audience: {tiers: [star]}, points: 5}",
        "{id: tea, trigger: purchase, audience: {attributes: {hobby: tea}}, points: 5}",
        "{id: all, trigger: purchase, points: 5}",
    )
    await desk.join("m-1", "m-2", "m-3", "m-4")
    await desk.change("m-1", 1, 3)
    await desk.change("m-3", 1, 0)
    await desk.happen("m-4", Happening.LEFT)
    contact = Contact(name="Bo", email="bo@example.com", demographics={"hobby": "tea"})
    await desk.contacts.set_contact(request_id="c", member_id="m-2", contact=contact)
    for member in ("m-1", "m-2", "m-3", "m-4"):
        await desk.buy(member)
    assert [(campaign, member) for campaign, member, _ in await desk.given()] == [
        ("all", "m-1"),
        ("all", "m-2"),
        ("stars", "m-1"),
        ("tea", "m-2"),
    ]


async def test_who_joined_and_had_no_change_is_in_the_first_level(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: guests, trigger: purchase, audience: {tiers: [guest]}, points: 5}",
        "{id: regulars, trigger: purchase, audience: {tiers: [regular]}, points: 5}",
    )
    await desk.join("m-1", "m-2", "m-3")
    await desk.change("m-2", 1, 2)
    await desk.change("m-3", 1, 0)
    seen = await desk.campaigns.preview("guests", day=None, sample=0)
    assert {(one.member_id, one.tier) for one in seen.sample} == {("m-1", "guest")}
    for member in ("m-1", "m-2", "m-3"):
        await desk.buy(member)
    assert [one[:2] for one in await desk.given()] == [("guests", "m-1"), ("regulars", "m-2")]


async def test_the_control_group_gets_nothing_and_is_kept_and_variants_get_their_own(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: test, trigger: first_purchase, control: '30', variants: "
        "[{id: a, share: '50', points: 10}, {id: b, share: '50', points: 20}]}"
    )
    members = [f"m-{number}" for number in range(60)]
    await desk.join(*members)
    for member in members:
        await desk.buy(member)
    rows = await desk.rows("assignments", "member_id, variant, in_control, points")
    assert len(rows) == 60
    control = {row[0] for row in rows if row[2]}
    assert 5 < len(control) < 35
    assert all(row[3] == (0 if row[2] else {"a": 10, "b": 20}[row[1]]) for row in rows)
    awarded = dict(await desk.rows("awards", "member_id, points"))
    assert awarded.keys() == set(members) - control
    (view,) = await desk.campaigns.list_campaigns()
    assert view.given.count == 60 - len(control)
    assert view.given.points == sum(awarded.values())


async def test_a_budget_is_never_overspent_and_two_at_once_share_it(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: few, trigger: segment_entered, when: {segment: s}, points: 10, budget: {count: 7, points: 65}}"
    )
    members = [f"m-{number}" for number in range(40)]
    await desk.join(*members)
    halves = [members[0::4], members[1::4], members[2::4], members[3::4]]
    await asyncio.gather(*(desk.campaigns.enter_segment("s", half) for half in halves))
    assert len(await desk.given()) == 6
    (view,) = await desk.campaigns.list_campaigns()
    assert (view.given, view.left) == (Spent(count=6, points=60, minor_units=60), Spent(count=1, points=5))


async def test_a_budget_counts_what_was_given_before_a_pause_and_before_there_was_a_budget(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: few, trigger: purchase, points: 10}")
    await desk.join("m-1")
    await desk.campaigns.pause("few")
    await desk.campaigns.resume("few")
    await desk.buy("m-1")
    await desk.buy("m-1")
    desk.begin(shop("{id: few, trigger: purchase, points: 10, budget: {count: 3}}"))
    await desk.buy("m-1")
    await desk.buy("m-1")
    assert len(await desk.given()) == 3
    assert await desk.rows("campaign_states", "given, points, minor_units") == [(3, 30, 30)]


async def test_a_budget_has_back_what_the_ledger_refuses_once(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: few, trigger: segment_entered, when: {segment: s}, points: 10, budget: {count: 2, points: 20}}",
        "{id: both, trigger: segment_entered, when: {segment: s}, points: 10, "
        "coupon: {prefix: BOTH, gift_card: '5.00', valid: P30D}}",
    )
    await desk.join("m-1", "m-2", "m-3", "m-4")
    desk.points.refuses = {"m-1"}
    await desk.campaigns.enter_segment("s", ["m-1", "m-2", "m-3"])
    assert {member for campaign, member, _ in await desk.given() if campaign == "few"} < {"m-1", "m-2", "m-3"}
    awards = await desk.rows("awards", "partition, campaign_id, member_id, trigger, points, minor_units, alone")
    refusals = [
        AwardSettlement(
            award=Award(**dict(zip(columns, row, strict=True))),
            state=AwardState.REFUSED,
            attempts=1,
            not_before=desk.machine_now,
        )
        for columns in [
            ("partition", "campaign_id", "member_id", "trigger", "points", "minor_units", "alone"),
        ]
        for row in awards
        if row[2] == "m-1"
    ]
    await desk.awarding.ask_for_all()
    # Another notifier that had asked, too, says the same.
    await desk.store.transact(lambda transaction: transaction.settle_awards(refusals))
    few, both = await desk.campaigns.list_campaigns()
    assert (few.given, few.left) == (
        Spent(count=1, points=10, minor_units=10),
        Spent(count=1, points=10),
    )
    # A coupon was had; its points were not.
    assert both.given == Spent(count=3, points=20, minor_units=1520)
    for check in (Transaction.check_campaigns, Transaction.check_budgets):
        assert await desk.store.read(check) == []
    # What is left is given to others, and not again to whom it was refused.
    await desk.campaigns.leave_segment("s", ["m-1"])
    await desk.campaigns.enter_segment("s", ["m-1", "m-4"])
    assert (await desk.campaigns.list_campaigns())[0].given == Spent(count=2, points=20, minor_units=20)
    assert [member for (member,) in await desk.rows("awards", "member_id", "1")].count("m-1") == 2


async def test_the_check_finds_a_budget_that_gave_more_than_is_counted(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: few, trigger: purchase, points: 10, budget: {count: 3}}")
    await desk.join("m-1")
    await desk.buy("m-1")
    assert await desk.store.read(Transaction.check_budgets) == []

    async def spoil(transaction: Transaction) -> None:
        await transaction.spend_budgets({"few": Spent(count=2, points=10, minor_units=10)})

    await desk.store.transact(spoil)
    assert await desk.store.read(Transaction.check_budgets) == [("few", 1, 2)]


async def test_the_same_claims_of_two_notifiers_at_once_are_given_once(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: date, when: {day: '2026-01-06'}, points: 10}")
    members = [f"m-{number}" for number in range(20)]
    await desk.join(*members)
    await desk.advance(START + timedelta(hours=1))
    programme = desk.programme
    (campaign,) = programme.campaigns
    claims: dict[int, list[Claim]] = {}
    for partition in range(PARTITIONS):
        async for page in desk.days._candidates.of(programme, campaign, partition, date(2026, 1, 6)):
            claims[partition] = page
    await asyncio.gather(*(desk.days._give(partition, claims[partition]) for partition in [*claims, *claims]))
    assert len(await desk.given()) == 20
    (view,) = await desk.campaigns.list_campaigns()
    assert view.given.count == 20


async def test_a_cap_holds_for_a_member_in_a_span_of_days(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: often, trigger: purchase, points: 1, cap: {times: 2, in: P10D}}")
    await desk.join("m-1", "m-2")
    await desk.advance(START + timedelta(hours=1))
    for _ in range(3):
        await desk.buy("m-1")
    await desk.buy("m-2")
    assert [member for _, member, _ in await desk.given()] == ["m-1", "m-1", "m-2"]
    await desk.pass_days(9)
    await desk.buy("m-1")
    assert len(await desk.given()) == 3
    await desk.pass_days(1)
    await desk.buy("m-1")
    assert len(await desk.given()) == 4


async def test_a_cap_is_the_same_whether_claims_come_at_once_or_one_by_one(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: often, trigger: purchase, points: 1, cap: {times: 1, in: P10D}}")
    await desk.join("m-1", "m-2")

    def bought(member_id: str, day: int) -> MemberEvent:
        return MemberEvent(
            member_id=member_id,
            happening=Happening.PURCHASE,
            occurred_time=START + timedelta(days=day),
            available=0,
            purchase_id=f"p-{day}",
            currency="EUR",
        )

    days = (0, 20, 29, 10, 15, 31)
    await desk.tell(partition_of("m-1", PARTITIONS), *(bought("m-1", day) for day in days))
    for day in days:
        await desk.tell(partition_of("m-2", PARTITIONS), bought("m-2", day))
    rows = await desk.rows("assignments", "member_id, assigned_time")
    expected = [START + timedelta(days=day) for day in (0, 10, 20, 31)]
    assert rows == [(member, time) for member in ("m-1", "m-2") for time in expected]


async def test_a_paused_campaign_gives_nothing_owes_on_and_makes_nothing_up(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: purchase, points: 1}", "{id: two, trigger: purchase, points: 2}")
    await desk.join("m-1")
    await desk.buy("m-1")
    view = await desk.campaigns.pause("one")
    assert view.paused_time == desk.machine_now
    desk.machine_now += timedelta(minutes=1)
    assert (await desk.campaigns.pause("one")).paused_time == view.paused_time
    await desk.buy("m-1")
    assert [campaign for campaign, _, _ in await desk.given()] == ["one", "two", "two"]
    # What it owed before waits with it.
    await desk.awarding.ask_for_all()
    assert sorted(points for _, points, _ in desk.points.given.values()) == [2, 2]
    assert (await desk.campaigns.resume("one")).paused_time is None
    await desk.awarding.ask_for_all()
    assert sorted(points for _, points, _ in desk.points.given.values()) == [1, 2, 2]
    await desk.buy("m-1")
    assert [campaign for campaign, _, _ in await desk.given()].count("one") == 2
    for call in (desk.campaigns.pause, desk.campaigns.resume):
        with pytest.raises(CampaignUnknownError):
            await call("three")


async def test_a_campaign_that_is_paused_while_its_points_are_asked_for_gets_few_more(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await open_desk("{id: one, trigger: purchase, points: 1}")
    await desk.join("m-1")
    for _ in range(40):
        await desk.buy("m-1")
    award = desk.points.award

    async def then_pause(**asked: Any) -> None:
        await award(**asked)
        if desk.points.asked == 1:
            await desk.campaigns.pause("one")

    monkeypatch.setattr(desk.points, "award", then_pause)
    await desk.awarding.ask_for_all()
    # Those that were being asked for.
    assert len(desk.points.given) == 16
    assert set(await desk.rows("awards", "state, attempts")) == {("given", 1), ("queued", 0)}
    await desk.campaigns.resume("one")
    assert await desk.awarding.ask_for_all() is None
    assert len(desk.points.given) == desk.points.asked == 40


async def test_points_that_wait_for_a_paused_campaign_cost_nothing(open_desk: OpenDesk, database: Database) -> None:
    """However many wait, neither looking for what is due nor taking it touches more than a row of them."""
    desk = await open_desk("{id: one, trigger: purchase, points: 1}", "{id: two, trigger: purchase, points: 2}")
    await desk.join("m-1")
    await desk.buy("m-1")
    await desk.campaigns.pause("one")
    partition = partition_of("m-1", PARTITIONS)
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute(
            """INSERT INTO notifier.awards
                   (partition, campaign_id, member_id, trigger, points, minor_units, alone, purchase_id, lasting,
                    not_before)
               SELECT $1, 'one', 'm-1', 'waiting:' || number, 1, 0, true, '', '', $2
               FROM generate_series(1, 20000) AS number""",
            partition, desk.machine_now - timedelta(hours=1),
        )  # fmt: skip
        now, later = desk.machine_now, desk.machine_now + timedelta(seconds=60)
        types = "integer, text, timestamptz, timestamptz, integer"
        await owner.execute(f"PREPARE look (text[]) AS {QUERIES['due_awards']}")
        await owner.execute(f"PREPARE lease ({types}) AS {QUERIES['lease_awards']}")
        for mode in ("force_generic_plan", "force_custom_plan"):
            await owner.execute(f"SET plan_cache_mode = {mode}")
            assert 1 <= await rows_touched(owner, "awards", "look ('{one}')") <= 4
            assert 1 <= await rows_touched(owner, "awards", f"lease ({partition}, 'two', '{now}', '{later}', 200)") <= 4
            await owner.execute("ANALYZE notifier.awards")
    finally:
        await owner.close()
    assert await desk.awarding.ask_for_all() is None
    assert [points for _, points, _ in desk.points.given.values()] == [2]


async def test_a_ledger_that_is_away_is_not_asked_by_each_campaign_and_partition_in_turn(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: purchase, points: 1}", "{id: two, trigger: purchase, points: 2}")
    members = [f"m-{number}" for number in range(20)]
    await desk.join(*members)
    for member in members:
        await desk.buy(member)
    desk.points.away = True
    again = await desk.awarding.ask_for_all()
    assert again == desk.machine_now + timedelta(seconds=5)
    assert desk.points.asked <= 16
    desk.points.away = False
    desk.machine_now += timedelta(hours=2)
    assert await desk.awarding.ask_for_all() is None
    assert len(desk.points.given) == 40


async def test_messages_of_a_paused_campaign_wait(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: purchase, message: {subject: Thanks, text: For buying}}")
    await desk.join("m-1")
    await desk.born("m-1", date(1990, 1, 20))
    await desk.buy("m-1")

    async def look(transaction: Transaction) -> list[Any]:
        return await transaction.due_deliveries(["email"], await transaction.paused_campaigns())

    await desk.campaigns.pause("one")
    assert await desk.store.read(look) == []
    await desk.campaigns.resume("one")
    (due,) = await desk.store.read(look)
    assert (due.campaign_id, due.route) == ("one", "email")


async def test_points_are_asked_for_until_the_ledger_has_answered(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: purchase, points: 1}")
    await desk.join("m-1", "m-2")
    await desk.buy("m-1")
    await desk.buy("m-2")
    desk.points.away = True
    later = await desk.awarding.ask_for_all()
    assert later is not None
    assert later > desk.machine_now
    assert not desk.points.given
    desk.points.away = False
    desk.points.refuses = {"m-2"}
    desk.machine_now = later + timedelta(minutes=1)
    assert await desk.awarding.ask_for_all() is None
    assert [member for member, _, _ in desk.points.given.values()] == ["m-1"]
    assert await desk.rows("awards", "member_id, state, last_error") == [
        ("m-1", "given", ""),
        ("m-2", "refused", "the member was erased"),
    ]


async def test_an_award_whose_notifier_died_is_asked_for_again_under_the_same_id(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: one, trigger: purchase, points: 1}")
    await desk.join("m-1")
    await desk.buy("m-1")

    async def lease(transaction: Transaction) -> Any:
        now = desk.machine_now
        return [
            await transaction.lease_awards(partition, "one", now=now, until=now + timedelta(seconds=60), limit=9)
            for partition in range(PARTITIONS)
        ]

    (leased,) = [one for page in await desk.store.transact(lease) for one in page]
    await desk.awarding.ask_for_all()
    assert not desk.points.given
    desk.machine_now += timedelta(minutes=2)
    await desk.awarding.ask_for_all()
    assert list(desk.points.given) == [leased.award.request_id]


async def test_a_preview_says_who_would_get_what_and_changes_nothing(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: stars, trigger: purchase, audience: {tiers: [star]}, control: '20', points: 100, budget: {count: 30}}",
        "{id: xmas, trigger: date, when: {day: '2026-12-24'}, coupon: {prefix: X, gift_card: '5.00', valid: P9D}}",
    )
    members = [f"m-{number}" for number in range(50)]
    await desk.join(*members)
    for member in members[:40]:
        await desk.change(member, 1, 3)
    seen = await desk.campaigns.preview("stars", day=None, sample=5)
    assert (seen.looked_at, seen.complete, len(seen.sample)) == (50, True, 5)
    assert seen.groups.keys() == {("", False, "star"), ("", True, "star")}
    paid, control = seen.groups["", False, "star"], seen.groups["", True, "star"]
    assert (paid.points, paid.minor_units) == (100 * paid.count, 100 * paid.count)
    assert paid.count == min(30, 40 - control.count)
    seen = await desk.campaigns.preview("xmas", day=date(2026, 12, 24), sample=0)
    assert sum(spent.count for spent in seen.groups.values()) == 50
    assert sum(spent.minor_units for spent in seen.groups.values()) == 50 * 500
    assert not (await desk.campaigns.preview("xmas", day=date(2026, 12, 25), sample=0)).groups
    assert await desk.given() == []
    with pytest.raises(CampaignUnknownError):
        await desk.campaigns.preview("none", day=None, sample=0)


async def test_what_no_campaign_asks_for_is_not_kept_and_is_no_work(open_desk: OpenDesk) -> None:
    desk = await open_desk(
        "{id: hello, trigger: tier_reached, tiers: [star], coupon: {prefix: S, discount_percent: '5', valid: P9D}}"
    )
    assert not desk.engine.asks
    await desk.join("m-1")
    await desk.change("m-1", 1, 3)
    assert await desk.rows("profiles", "member_id", "1") == []
    assert await desk.given() == [("hello", "m-1", "change:1")]
    assert len(await desk.rows("coupons", "code", "1")) == 1


async def test_a_coupon_of_a_birthday_stays_where_a_level_is_taken_back(open_desk: OpenDesk) -> None:
    coupon = "coupon: {prefix: A, discount_percent: '5', valid: P90D}"
    desk = await open_desk(
        f"{{id: hello, trigger: tier_reached, tiers: [star], {coupon}}}",
        f"{{id: first, trigger: first_purchase, {coupon}}}",
    )
    await desk.join("m-1")
    await desk.buy("m-1")
    await desk.change("m-1", 1, 3)
    await desk.change("m-1", 3, 1, taken_back_to=1)
    rows = await desk.rows("coupons", "campaign_id, voided_time IS NOT NULL")
    assert rows == [("first", False), ("hello", True)]


async def test_what_else_comes_at_once_changes_nothing_of_what_a_level_brings(open_desk: OpenDesk) -> None:
    coupon = "coupon: {prefix: A, discount_percent: '5', valid: P90D}"
    desk = await open_desk(
        f"{{id: hello, trigger: tier_reached, tiers: [star], {coupon}}}",
        "{id: first, trigger: first_purchase, points: 1}",
    )
    await desk.join("m-1")
    left = MemberEvent(member_id="m-1", happening=Happening.LEFT, occurred_time=START, available=0)
    await desk.tell(partition_of("m-1", PARTITIONS), desk.tier_change("m-1", 1, 3), left)
    assert await desk.given() == [("hello", "m-1", "change:1")]


async def test_history_that_is_brought_in_in_real_time_sets_off_nothing(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: first, trigger: first_purchase, points: 1}", "{id: any, trigger: purchase, points: 1}")
    desk.engine._simulated = False
    await desk.join("m-1")
    desk.machine_now = desk.business_now + timedelta(days=8)
    await desk.buy("m-1")
    assert await desk.given() == []
    # It is known, though: the next purchase is not the first.
    desk.machine_now = desk.business_now + timedelta(days=6)
    await desk.buy("m-1")
    assert [campaign for campaign, _, _ in await desk.given()] == ["any"]


async def test_campaigns_begin_and_end_on_their_days(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: week, trigger: purchase, points: 1, from: '2026-01-07', until: '2026-01-08'}")
    await desk.join("m-1")
    for _ in range(6):
        await desk.buy("m-1")
        desk.business_now += timedelta(days=1)
    assert len(await desk.given()) == 2


async def test_a_new_version_may_ask_for_more(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: hello, trigger: tier_reached, tiers: [star], points: 1}")
    assert not desk.engine.asks
    desk.begin(shop("{id: bye, trigger: tier_lost, tiers: [star], points: 1}"))
    assert desk.engine.asks
