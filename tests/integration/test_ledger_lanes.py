"""Group commit: lanes, batches, and commands that the database refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from services.ledger import service, store
from services.ledger.domain.commands import AwardPoints, CatchUp, EnrollMember, RecordPurchase, RecordReturn
from services.ledger.domain.events import Entry, EntryKind, Event
from services.ledger.domain.keys import Keys
from services.ledger.domain.rules import Rules as KnownRules
from services.ledger.errors import LedgerError, PoisonedError
from services.programme import load, parse
from services.programme.model import Programme
from services.runtime.clock import ClockMode, MachineClock, machine_now
from services.runtime.database import create_pool, transact
from services.runtime.status import OverloadedError
from services.runtime.tail import Tail
from tests.conftest import PROGRAMMES, Database
from tests.ledger_model import Rules


@contextlib.asynccontextmanager
async def ledger_with(
    database: Database,
    *,
    lanes: int = 1,
    running: bool = True,
    programme: Programme | None = None,
    clock: MachineClock = machine_now,
) -> AsyncIterator[service.Ledger]:
    dsn = database.dsn("loyalty_ledger")
    pool = await create_pool(dsn, service="test")
    installation = await transact(pool, lambda c: store.create(c, 8, ClockMode.REAL))
    ledger = service.Ledger(
        dsn=dsn,
        pool=pool,
        rules=KnownRules.only(programme or load(PROGRAMMES / "tiered-365.yaml")),
        installation=installation,
        keys=Keys(bytes(32)),
        lanes=lanes,
        clock=clock,
    )
    tasks = [asyncio.create_task(lane.run()) for lane in ledger.lanes if running]
    try:
        yield ledger
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close()


def common(member_id: str, request_id: str) -> dict[str, Any]:
    return {
        "member_id": member_id,
        "request_id": request_id,
        "principal": "test",
        "on_behalf_of": "",
        "occurred_time": None,
        "request": request_id.encode(),
    }


def enrol(member_id: str) -> EnrollMember:
    return EnrollMember(**common(member_id, "join"), channel="pos")


def award(member_id: str, number: int) -> AwardPoints:
    return AwardPoints(**common(member_id, f"a{number}"), points=number, reason="x", note="")


def bought(kind: Any, request_id: str, purchase_id: str, amount: int, **more: Any) -> Any:
    """A purchase, or its return, by amount."""
    what = {"purchase_id": purchase_id, "currency": "EUR", "amount": amount, "lines": ()}
    return kind(**common("m", request_id), **what, store_id="", receipt_number="", channel="", **more)


async def test_a_sweep_and_returns_in_one_batch_know_what_lapsed_before_and_what_lapses_now(database: Database) -> None:
    now, day = datetime(2026, 1, 10, 12, tzinfo=UTC), timedelta(days=1)
    lapsing = parse(Rules(policy="after", period=(1, "D")).yaml(), "lapsing")
    async with ledger_with(database, programme=lapsing, clock=lambda: now) as ledger:
        await ledger.record(enrol("m"))
        now += timedelta(minutes=1)
        await ledger.record(bought(RecordPurchase, "b1", "p1", 10_000))
        now += day
        await ledger.record(bought(RecordPurchase, "b2", "p2", 5_000))
        now += day
        assert await ledger.sweep() == 1
        now += day
        together: list[Any] = [
            CatchUp(member_id="m"),
            bought(RecordReturn, "r1", "p1", 10_000, reason=""),
            bought(RecordReturn, "r2", "p2", 5_000, reason=""),
        ]
        outcomes = await ledger.record_all(together)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes)
        member = await ledger.member("m")
        entries, _ = await ledger.entries("m", "", 100, store.EntryFilter())
    # What lapsed is gone once: nobody owes what he no longer has.
    assert (member.available, member.debt, member.earned) == (0, 0, 0)
    assert [listed.entry.event.kind for listed in reversed(entries)] == [
        EntryKind.MEMBER_JOINED,
        EntryKind.PURCHASE_RECORDED,
        EntryKind.PURCHASE_RECORDED,
        EntryKind.POINTS_EXPIRED,
        EntryKind.POINTS_EXPIRED,
        EntryKind.RETURN_RECORDED,
        EntryKind.RETURN_RECORDED,
    ]


async def test_a_command_that_the_database_refuses_fails_alone(database: Database) -> None:
    async with ledger_with(database) as ledger:
        # NUL is refused by the contract's rules; here it comes past them, as a fault would.
        commands = [enrol(f"m{number}") for number in range(20)] + [enrol("bad\0id")] + [award("m3", 5)]
        outcomes = await ledger.record_all(commands)
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [20]
    assert isinstance(outcomes[20], PoisonedError)


async def test_a_fault_of_a_rule_fails_its_command_alone_and_the_lane_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = service.decide

    def faulty(*arguments: Any) -> Any:
        if arguments[-1].request_id == "a13":
            raise ZeroDivisionError
        return rules(*arguments)

    monkeypatch.setattr(service, "decide", faulty)
    async with ledger_with(database) as ledger:
        await ledger.record(enrol("m"))
        outcomes = await ledger.record_all([award("m", number) for number in range(1, 31)])
        assert [n for n, outcome in enumerate(outcomes, 1) if isinstance(outcome, Exception)] == [13]
        assert isinstance(outcomes[12], PoisonedError)
        assert (await ledger.member("m")).available == sum(range(31)) - 13


def test_a_tail_shared_by_very_many_partitions_still_holds_the_newest_entry() -> None:
    entry = Entry(
        partition=0,
        offset=1,
        event=Event(kind=EntryKind.MEMBER_JOINED, member_id="m", request_id="r", occurred_time=machine_now()),
        recorded_time=machine_now(),
        principal="p",
        on_behalf_of="",
        programme_version="v",
        detail_commitment=b"",
        request_hash=b"",
        hash=b"1",
    )
    tail: Tail[Entry] = Tail(service.tail_length(65_536))
    tail.add([entry])
    tail.add([entry._replace(offset=2)])
    assert [held.offset for held in service.newest(tail, {0: 1}, 10) or ()] == [2]


async def test_more_than_a_lane_will_hold_is_turned_away_and_what_was_taken_in_is_done(database: Database) -> None:
    async with ledger_with(database, running=False) as ledger:
        held = asyncio.create_task(ledger.record_all([enrol(f"m{n}") for n in range(20_000)]))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await ledger.record_all([enrol("late")])
        lane = asyncio.create_task(ledger.lanes[0].run())
        outcomes = await held
        lane.cancel()
        await asyncio.gather(lane, return_exceptions=True)
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)


@pytest.mark.parametrize("lanes", [1, 3, 8])
async def test_the_number_of_lanes_changes_nothing_for_a_member(database: Database, lanes: int) -> None:
    async with ledger_with(database, lanes=lanes) as ledger:
        await ledger.record_all([enrol(f"m{n}") for n in range(10)])
        await asyncio.gather(
            *(ledger.record_all([award(f"m{n % 10}", n) for n in range(start, 200, 5)]) for start in range(5))
        )
        for number in range(10):
            member = await ledger.member(f"m{number}")
            assert member.available == sum(n for n in range(200) if n % 10 == number)


async def test_a_lane_whose_connection_is_cut_goes_on_with_a_new_one(database: Database) -> None:
    async with ledger_with(database) as ledger:
        await ledger.record(enrol("m"))
        killer = await asyncpg.connect(database.dsn("loyalty_ledger"))
        try:
            for number in range(1, 6):
                await killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger-lane'"
                )
                for _ in range(200):
                    outcome = (await ledger.record_all([award("m", number)]))[0]
                    if not isinstance(outcome, Exception):
                        break
                    assert not isinstance(outcome, LedgerError)
                    await asyncio.sleep(0.02)
        finally:
            await killer.close()
        assert (await ledger.member("m")).available == 15
