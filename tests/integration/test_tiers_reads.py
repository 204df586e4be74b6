"""Standings of tiers over a real PostgreSQL: read together, told again from memory, and of members who bought a lot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest
import pytest_asyncio

from services import programme as programmes
from services.programme import Versions
from services.runtime.clock import ClockMode
from services.runtime.database import create_pool
from services.tiers import store
from services.tiers.domain.facts import FactKind, history_of
from services.tiers.domain.feed import EntryKind, LedgerEntry
from services.tiers.domain.standing import Standing, evaluate
from services.tiers.errors import MemberUnknownError
from services.tiers.gathered import Gathered
from services.tiers.service import Tiers
from tests.conftest import PROGRAMMES, Database

VERSIONS = Versions.only(programmes.load(PROGRAMMES / "tiered-365.yaml"))
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Green from 300.00, Silver from 1000.00, Golden from 2000.00.
GREEN, GOLDEN = 2, 4


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(database.dsn("loyalty_tiers"), service="tiers")
    try:
        yield made
    finally:
        await made.close()


async def started(pool: asyncpg.Pool) -> Tiers:
    tiers = Tiers(pool=pool, versions=VERSIONS)
    await tiers.prepare(partitions=(0, 1), clock_mode=ClockMode.SIMULATED)
    return tiers


def log_of(member_id: str, moved: Iterable[tuple[timedelta, int]], partition: int = 0) -> list[LedgerEntry]:
    """A member joins, and buys, or brings back what is less than nothing, so long after."""

    def entry(offset: int, kind: FactKind, after: timedelta, amount: int) -> LedgerEntry:
        return LedgerEntry(
            partition=partition,
            offset=offset,
            kind=EntryKind.FACT,
            member_id=member_id,
            occurred_time=START + after,
            recorded_time=START + after,
            fact_kind=kind,
            amount=amount,
        )

    kinds = {True: FactKind.PURCHASE, False: FactKind.RETURN}
    return [
        entry(1, FactKind.JOINED, timedelta(0), 0),
        *(entry(place, kinds[cents > 0], after, abs(cents)) for place, (after, cents) in enumerate(moved, start=2)),
    ]


async def from_history(pool: asyncpg.Pool, member_id: str, at_time: datetime) -> Standing:
    async with pool.acquire() as connection:
        facts = await store.read_facts(connection, [(0, member_id)])
    return evaluate(VERSIONS, history_of(facts[0, member_id]), at_time)


def hours(count: int) -> list[timedelta]:
    return [timedelta(hours=number) for number in range(1, count + 1)]


CHANCE = Random(5)
LIVES = {
    "buys every hour and falls when the last purchases leave": [(after, 39_00) for after in hours(1_500)],
    "brings some of it back": [
        (after, 39_00 if number % 9 else -20_00) for number, after in enumerate(hours(1_500), start=1)
    ],
    "brought back a lot at first": [
        (after, -30_00 if 20 < number < 60 else 25_00) for number, after in enumerate(hours(900))
    ],
    "falls soon, for it has hardly enough": [(after, 20) for after in hours(1_510)],
    "falls for an hour between its first purchase and the return of it": [
        *zip(hours(2), (700_00, -700_00), strict=True),
        *((after, 4_00) for after in hours(202)[2:]),
    ],
    "has nothing to lose": [(after, 1) for after in hours(400)],
    "buys ten times at one instant": [(timedelta(days=number // 10 + 1), 5_00) for number in range(1_300)],
    "whatever": [(after, CHANCE.choice((-900, 10, 200, 1_000))) for after in hours(1_300)],
}


@pytest.mark.parametrize("life", LIVES, ids=LIVES.keys())
async def test_of_a_member_with_very_many_movements_is_foretold_what_its_history_foretells(
    pool: asyncpg.Pool, life: str
) -> None:
    tiers = await started(pool)
    await tiers.take_in(log_of("company", LIVES[life]))
    found = await tiers.standing("company", None)
    assert found == await from_history(pool, "company", found.at_time)


async def test_a_standing_is_told_again_until_the_member_moves(pool: asyncpg.Pool) -> None:
    tiers = await started(pool)
    *before, last = log_of("m", [(timedelta(days=1), 299_99), (timedelta(days=2), 1)])
    await tiers.take_in(before)
    first = await tiers.standing("m", None)
    later = first.at_time + timedelta(hours=1)
    assert await tiers.standing("m", later) == first._replace(at_time=later)
    gone = START + timedelta(days=400)
    assert await tiers.standing("m", gone) == await from_history(pool, "m", gone)
    await tiers.take_in([last])
    found = await tiers.standing("m", None)
    assert (found.level.number, found) == (GREEN, await from_history(pool, "m", found.at_time))


async def test_what_was_told_is_not_told_again_once_another_process_has_moved_the_member(pool: asyncpg.Pool) -> None:
    one, other = await started(pool), await started(pool)
    *before, last = log_of("m", [(timedelta(days=1), 299_99), (timedelta(days=2), 1)])
    await one.take_in(before)
    assert (await one.standing("m", None)).level.number == 1
    await other.recover()
    await other.take_in([last])
    # The feed brings it here, too, where it was taken in already.
    await one.take_in([last])
    assert (await one.standing("m", None)).level.number == GREEN


async def test_calls_at_one_time_each_get_their_own_member(pool: asyncpg.Pool) -> None:
    tiers = await started(pool)
    await tiers.take_in(log_of("rich", [(timedelta(days=1), 5_000_00)]))
    await tiers.take_in(log_of("poor", [(timedelta(days=1), 5)], partition=1))
    asked = ["rich", "nobody", "poor", "rich"]
    answers = await asyncio.gather(*(tiers.standing(one, None) for one in asked), return_exceptions=True)
    assert [one.level.number if isinstance(one, Standing) else type(one) for one in answers] == [
        GOLDEN,
        MemberUnknownError,
        1,
        GOLDEN,
    ]


async def test_what_is_asked_for_during_a_read_is_read_afterwards_and_together() -> None:
    reads: list[set[str]] = []
    go_on = asyncio.Event()

    async def read(keys: Iterable[str]) -> dict[str, str]:
        reads.append(set(keys))
        await go_on.wait()
        return {key: key.upper() for key in keys}

    gathered: Gathered[str, str] = Gathered(read)
    asking = []
    for key in ("a", "b", "c", "d"):
        asking.append(asyncio.create_task(gathered.get(key)))
        await asyncio.sleep(0.01)
    # Who gives up takes nothing from the others.
    asking[2].cancel()
    go_on.set()
    assert await asyncio.gather(*asking[:2], asking[3]) == ["A", "B", "D"]
    assert reads == [{"a"}, {"b"}, {"c", "d"}]
