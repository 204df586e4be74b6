"""Days see what the feeds held when they began: no less, and in a simulated installation no more either."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog

from services.notifier import consumer, days
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.feeds import ClockAdvanced, MemberJoined, ProgrammeApplied
from services.notifier.errors import PeerError
from services.notifier.store import Transaction
from services.notifier.store.campaigns import CampaignCursor
from services.programme.versions import Version, Versions
from services.runtime.clock import SIMULATED_START
from tests.campaign_desk import PARTITIONS, START, Desk, shop
from tests.integration.test_campaigns import OpenDesk, open_desk

__all__ = ["open_desk"]

ASLEEP = "{id: asleep, trigger: inactivity, when: {after: P10D}, points: 1}"
# Long enough for what would come wrongly to come.
A_WHILE = 0.1


def join(desk: Desk, *member_ids: str, time: datetime = START) -> None:
    """These have joined, as the ledger tells it."""
    desk.feeds.record(*(MemberJoined(member_id=member_id, joined_time=time) for member_id in member_ids))


async def in_real_time(open_desk: OpenDesk, *campaigns: str) -> Desk:
    desk = await open_desk(*campaigns, simulated=False)
    desk.machine_now = START
    return desk


async def test_a_day_waits_for_what_the_ledger_held_when_it_began(open_desk: OpenDesk) -> None:
    desk = await in_real_time(open_desk, ASLEEP)
    join(desk, "m-1", "m-2")
    async with desk.running(days=False):
        await desk.caught_up()
        await desk.days.catch_up()
        # Nobody reads the ledger over midnight, and somebody buys before it.
        desk.feeds.silent_ledger = True
        desk.feeds.record(desk.bought("m-1", START + timedelta(days=9)))
        desk.machine_now = datetime(2026, 1, 15, 0, 5, tzinfo=UTC)
        begun = asyncio.create_task(desk.days.catch_up())
        await asyncio.sleep(A_WHILE)
        assert not begun.done()
        assert await desk.given() == []
        desk.feeds.silent_ledger = False
        await begun
    assert await desk.given() == [("asleep", "m-2", "inactive:2026-01-05")]


async def test_while_a_day_waits_the_log_says_so(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "_WAIT_TOLD_SECONDS", 0.02)
    desk = await in_real_time(open_desk, ASLEEP)
    join(desk, "m-1")
    async with desk.running(days=False):
        await desk.caught_up()
        desk.feeds.silent_ledger = True
        desk.feeds.record(desk.bought("m-1", START), desk.bought("m-1", START))
        with structlog.testing.capture_logs() as logged:
            begun = asyncio.create_task(desk.days.catch_up())
            while sum(line["event"] == "days_wait" for line in logged) < 2:  # noqa: ASYNC110  # the log wakes nobody
                await asyncio.sleep(0.01)
            desk.feeds.silent_ledger = False
            await begun
    told = next(line for line in logged if line["event"] == "days_wait")
    assert told == {"event": "days_wait", "log_level": "warning", "partitions": 1, "lines": 2}


async def test_a_day_waits_for_changes_of_tier_that_were_made_when_it_began(open_desk: OpenDesk) -> None:
    desk = await in_real_time(
        open_desk, "{id: xmas, trigger: date, when: {day: '2026-01-07'}, audience: {tiers: [star]}, points: 1}"
    )
    join(desk, "m-1")
    async with desk.running(days=False):
        await desk.caught_up()
        await desk.days.catch_up()
        desk.feeds.silent_tiers = True
        desk.feeds.change(replace(desk.tier_change("m-1", 1, 3), cause_offset=None))
        desk.machine_now = datetime(2026, 1, 7, 0, 5, tzinfo=UTC)
        begun = asyncio.create_task(desk.days.catch_up())
        await asyncio.sleep(A_WHILE)
        assert not begun.done()
        desk.feeds.silent_tiers = False
        await begun
    assert await desk.given() == [("xmas", "m-1", "date:2026-01-07")]


async def test_no_day_begins_while_the_ledger_cannot_be_asked(open_desk: OpenDesk) -> None:
    desk = await in_real_time(open_desk, ASLEEP)
    join(desk, "m-1")
    async with desk.running(days=False):
        await desk.caught_up()
        await desk.days.catch_up()
        desk.machine_now += timedelta(days=10)
        desk.feeds.away = True
        with pytest.raises(PeerError):
            await desk.days.catch_up()
        assert await desk.given() == []
        desk.feeds.away = False
        await desk.days.catch_up()
        assert len(await desk.given()) == 1
        # What has begun is asked for no more.
        desk.feeds.away = True
        await desk.days.catch_up()


async def test_a_day_waits_for_profiles_that_are_being_read_up(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASLEEP)
    await desk.join("m-1")
    for partition in range(PARTITIONS):
        await desk.tell(partition, ClockAdvanced(to_time=START + timedelta(days=10)))
    partition = partition_of("m-1", PARTITIONS)
    behind = desk.cursors[partition]
    # A release or a version that asked for nothing has handled more since.
    ahead = replace(behind, ledger_offset=behind.ledger_offset + 1)

    async def move(transaction: Transaction) -> None:
        await transaction.move_cursors({partition: behind}, {partition: ahead})

    async def read_up(transaction: Transaction) -> None:
        await transaction.move_campaign_cursors({partition: ahead})

    await desk.store.transact(move)
    await desk.days.catch_up()
    assert await desk.given() == []
    await desk.store.transact(read_up)
    await desk.days.catch_up()
    assert len(await desk.given()) == 1


async def test_a_simulated_day_waits_for_entries_that_tiers_had_before(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASLEEP)
    desk.feeds.advance(START)
    join(desk, "m-1", "m-2")
    async with desk.running():
        await desk.caught_up()
        desk.feeds.silent_ledger = True
        desk.feeds.record(desk.bought("m-1", START))
        desk.feeds.advance(START + timedelta(days=5))
        desk.feeds.record(desk.bought("m-1", START + timedelta(days=5)))
        desk.feeds.advance(START + timedelta(days=12))
        # Tiers has come so far long ago.
        await asyncio.sleep(A_WHILE)
        assert await desk.given() == []
        assert desk.progress.handled_time() == START
        desk.feeds.silent_ledger = False
        await desk.caught_up()
    assert await desk.given() == [("asleep", "m-2", "inactive:2026-01-05")]


async def test_a_simulated_day_sees_nothing_that_was_recorded_after_it_came(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASLEEP, "{id: xmas, trigger: date, when: {day: '2026-01-20'}, points: 1}")
    desk.feeds.advance(START)
    join(desk, "m-1", "m-2")
    # All that follows is there at once: the days between, who buys on the last of them, and others.
    desk.feeds.advance(START + timedelta(days=13))
    desk.feeds.record(desk.bought("m-1", START + timedelta(days=13)))
    desk.feeds.advance(START + timedelta(days=15))
    join(desk, "m-3", time=START + timedelta(days=15))
    desk.feeds.advance(START + timedelta(days=40))
    async with desk.running():
        await desk.caught_up()
        assert desk.progress.days == START + timedelta(days=40)
    assert await desk.given() == [
        ("asleep", "m-1", "inactive:2026-01-05"),
        ("asleep", "m-1", "inactive:2026-01-18"),
        ("asleep", "m-2", "inactive:2026-01-05"),
        ("asleep", "m-3", "inactive:2026-01-20"),
        # Who joined on the day joined after it began.
        ("xmas", "m-1", "date:2026-01-20"),
        ("xmas", "m-2", "date:2026-01-20"),
    ]
    assert {row[0] for row in await desk.rows("campaign_cursors", "begun_day", "1")} == {date(2026, 2, 14)}


async def test_what_waits_for_a_day_holds_up_nothing_that_the_day_waits_for(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "MAX_HELD_ENTRIES", 3)
    desk = await open_desk(ASLEEP)
    desk.feeds.advance(START)
    join(desk, "m-1")
    home, to_time = partition_of("m-1", PARTITIONS), START + timedelta(days=10)
    # One partition is ahead of the others, by more than may wait.
    desk.feeds.line(home, ClockAdvanced(to_time=to_time))
    for minutes in range(5):
        desk.feeds.record(desk.bought("m-1", to_time + timedelta(minutes=minutes)))
    async with desk.running():
        await asyncio.sleep(A_WHILE)
        desk.feeds.advance(to_time)
        await desk.caught_up()
    assert await desk.given() == [("asleep", "m-1", "inactive:2026-01-05")]


async def test_after_a_restart_days_come_before_what_was_recorded_after_them(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASLEEP)
    desk.feeds.advance(START)
    join(desk, "m-1")
    desk.feeds.advance(START + timedelta(days=10))
    feeds = desk.feeds
    feeds.record(desk.bought("m-1", START + timedelta(days=10)))
    async with desk.running(days=False):
        await asyncio.sleep(A_WHILE)
        # The days did not come to it.
        assert desk.progress.days == SIMULATED_START
        cursors = await desk.store.read(Transaction.read_cursors)
    home = partition_of("m-1", PARTITIONS)
    assert cursors[home].ledger_offset < feeds.head(home)
    desk.cursors = cursors
    desk.begin(desk.programme)
    desk.feeds = feeds
    desk.consumer._ledger = desk.consumer._tiers = feeds
    async with desk.running():
        await desk.caught_up()
    assert await desk.given() == [("asleep", "m-1", "inactive:2026-01-05")]


async def test_messages_on_a_channel_that_is_not_set_up_are_told_of_once_in_the_log(open_desk: OpenDesk) -> None:
    def campaign(name: str, channel: str) -> str:
        message = f"message: {{subject: Hello, text: Here you are, channel: {channel}}}"
        return f"{{id: {name}, trigger: birthday, variants: [{{id: a, share: '100', {message}}}]}}"

    before = [campaign("right", "email"), campaign("wrong", "emial")]
    desk = await open_desk(*before)
    feeds, later = desk.feeds, shop(*before, campaign("other", "sms"))
    feeds.advance(START)
    told = []
    for _ in range(2):
        with structlog.testing.capture_logs() as logged:
            async with desk.running():
                await desk.caught_up()
                feeds.known = Versions([*feeds.known[:1], Version(programme=later, from_time=START)])
                feeds.line(0, ProgrammeApplied(version=later.version, from_time=START, announced_time=None))
                await desk.caught_up()
        told += [(line["campaign_id"], line["channel"]) for line in logged if line["event"] == "channel_not_set_up"]
    assert told == [("wrong", "emial"), ("other", "sms")]


async def test_a_version_that_brings_the_first_days_loses_none_of_them(open_desk: OpenDesk) -> None:
    visits = "{id: visits, trigger: purchase, points: 1}"
    desk = await open_desk(visits)
    feeds, later = desk.feeds, shop(visits, ASLEEP)
    feeds.advance(START - timedelta(days=1))
    join(desk, "m-1", "m-2", time=START - timedelta(days=1))
    async with desk.running():
        await desk.caught_up()
        feeds.known = Versions([*feeds.known, Version(programme=later, from_time=START)])
        # All that follows comes at once: the version, ten days, who buys on the last of them, and more days.
        feeds.silent_ledger = True
        for partition in range(PARTITIONS):
            feeds.line(partition, ProgrammeApplied(version=later.version, from_time=START, announced_time=START))
        feeds.advance(START)
        feeds.advance(START + timedelta(days=10))
        feeds.record(desk.bought("m-1", START + timedelta(days=10)))
        feeds.advance(START + timedelta(days=15))
        await asyncio.sleep(A_WHILE)
        feeds.silent_ledger = False
        await desk.caught_up()
    asleep = [given for given in await desk.given() if given[0] == "asleep"]
    assert asleep == [("asleep", "m-1", "inactive:2026-01-04"), ("asleep", "m-2", "inactive:2026-01-04")]


async def test_a_notifier_that_is_late_with_a_day_gives_it_to_nobody_who_came_after_it(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: xmas, trigger: date, when: {day: '2026-01-20'}, points: 1}")
    desk.feeds.advance(START)
    join(desk, "m-1")
    desk.feeds.advance(START + timedelta(days=15))
    async with desk.running():
        await desk.caught_up()
        join(desk, "m-3", time=START + timedelta(days=15))
        desk.feeds.advance(START + timedelta(days=16))
        await desk.caught_up()
        # Another one began with the day when nobody had done it.
        before = CampaignCursor(begun_day=date(2026, 1, 19))
        for partition in range(PARTITIONS):
            await desk.days._begin(partition, before, date(2026, 1, 20))
    assert await desk.given() == [("xmas", "m-1", "date:2026-01-20")]


async def test_what_tiers_refuses_for_good_holds_up_no_simulated_day(open_desk: OpenDesk) -> None:
    desk = await open_desk("{id: keep, trigger: tier_at_risk, tiers: [star], when: {before: P14D}, points: 5}", ASLEEP)
    desk.losing.refuses = True
    desk.feeds.advance(START)
    join(desk, "m-1")
    desk.feeds.advance(START + timedelta(days=10))
    with structlog.testing.capture_logs() as logged:
        async with desk.running():
            await desk.caught_up()
    assert await desk.given() == [("asleep", "m-1", "inactive:2026-01-05")]
    refused = [(line["log_level"], line["day"]) for line in logged if line["event"] == "campaign_day_refused"]
    assert refused[-1] == ("error", "2026-01-15")
