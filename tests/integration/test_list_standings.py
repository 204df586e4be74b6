"""The list of standings over a real PostgreSQL: at any instant, and however it is paged, what `evaluate` says."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from services import programme as programmes
from services.runtime.clock import ClockMode
from services.runtime.database import create_pool, load_queries
from services.tiers.domain.facts import Fact, FactKind, MemberKey, history_of, movement_of
from services.tiers.domain.feed import EntryKind, LedgerEntry, fact_of
from services.tiers.domain.standing import Standing, evaluate
from services.tiers.errors import NotReadyError, PageTokenError
from services.tiers.paging import Place, page_token_of, read_page_token
from services.tiers.service import StandingPage, Tiers
from tests.conftest import PROGRAMMES, ROOT, Database
from tests.ledger_logs import Kind, entry_of

RULES = programmes.load(PROGRAMMES / "tiered-365.yaml")
VERSIONS = programmes.Versions.only(RULES)
HOME = RULES.market("")
PARTITIONS = 4
DAY = datetime(2024, 2, 1, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)
# Small letters come after capital ones, and a dash, which other collations pass over, before both.
NAMES = ["0", "A", "Z-1", "Z1", "a", "a+1", "a-b", "a.b", "aB", "ab", "b~", "m-1", "m-10", "m-2"]

Row = tuple[str, int, int, datetime]


@dataclass
class Log:
    """The ledger's feed as a list: what happens goes to tiers, and is kept to be evaluated."""

    tiers: Tiers
    heads: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    facts: dict[MemberKey, list[Fact]] = field(default_factory=dict)

    async def happen(self, *events: LedgerEntry) -> None:
        """Takes in events; each gets the next offset of its partition."""
        entries = []
        for event in events:
            self.heads[event.partition] += 1
            entry = event._replace(offset=self.heads[event.partition])
            entries.append(entry)
            if entry.kind is EntryKind.FACT:
                known = self.facts.setdefault((entry.partition, entry.member_id), [])
                known.append(fact_of(RULES, "", entry, None))
        await self.tiers.take_in(sorted(entries, key=lambda entry: (entry.partition, entry.offset)))
        await self.tiers.run_passed()

    def expected(self, at_time: datetime) -> list[Row]:
        """Everybody who had joined by then, as `evaluate` has it."""
        rows = []
        for key, facts in self.facts.items():
            history = history_of(facts)
            if history.joined_time <= at_time:
                standing = evaluate(VERSIONS, history, at_time)
                rows.append((key[1], standing.level.number, standing.balance, history.joined_time))
        return sorted(rows, key=lambda row: row[0].encode())

    def instants(self) -> list[datetime]:
        """Every instant at which something begins or ends."""
        found = []
        for facts in self.facts.values():
            joined_time = history_of(facts).joined_time
            for fact in facts:
                movement = movement_of(HOME, joined_time, fact)
                found += [fact.occurred_time] if movement is None else [movement.occurred_time, movement.end_time]
        return found


def event(kind: Kind, member_id: str, time: datetime, amount: int = 0) -> LedgerEntry:
    return entry_of(kind, member_id, time, amount, partition=sum(member_id.encode()) % PARTITIONS)


def clock(time: datetime) -> list[LedgerEntry]:
    return [entry_of(EntryKind.CLOCK, "", time, partition=partition) for partition in range(PARTITIONS)]


def rows(standings: Sequence[tuple[str, Standing]]) -> list[Row]:
    return [(member_id, one.level.number, one.balance, one.joined_time) for member_id, one in standings]


async def page(
    tiers: Tiers, at_time: datetime | None = None, *, size: int = 0, token: str = ""
) -> tuple[list[Row], StandingPage]:
    found = await tiers.standings(at_time, page_size=size, page_token=token)
    return rows(found.standings), found


async def whole(tiers: Tiers, at_time: datetime | None, size: int) -> list[Row]:
    """All pages; each but the last is full."""
    listed: list[Row] = []
    token = ""
    while True:
        shown, found = await page(tiers, at_time, size=size, token=token)
        listed += shown
        token = found.next_page_token
        if not token:
            return listed
        assert len(shown) == size


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(database.dsn("loyalty_tiers"), service="tiers")
    yield made
    await made.close()


@pytest_asyncio.fixture
async def tiers(pool: asyncpg.Pool) -> Tiers:
    made = Tiers(pool=pool, versions=VERSIONS)
    await made.prepare(partitions=range(PARTITIONS), clock_mode=ClockMode.SIMULATED)
    return made


async def live(log: Log, chance: random.Random) -> datetime:
    """Two and a half years: people join, buy, bring back, some of it late; the instant that the clock shows then."""
    now = DAY
    waiting = chance.sample(NAMES, len(NAMES))
    members: list[str] = []
    for _ in range(60):
        events = []
        for _ in range(chance.randint(1, 6)):
            time = now + timedelta(seconds=chance.randint(0, 86_400 * 15), microseconds=chance.randint(0, 999_999))
            if waiting and chance.random() < 0.3:
                members.append(waiting.pop())
                events.append(event(FactKind.JOINED, members[-1], time))
            elif members:
                if chance.random() < 0.25:
                    time -= timedelta(days=chance.randint(0, 450))
                kind = chance.choice([FactKind.PURCHASE, FactKind.PURCHASE, FactKind.RETURN])
                events.append(event(kind, chance.choice(members), time, chance.choice([1, 15_000, 29_999, 70_000])))
        if chance.random() < 0.7:
            now += timedelta(days=chance.randint(0, 15))
            events += clock(now)
        if events:
            await log.happen(*events)
    return now


@pytest.mark.parametrize("seed", range(4))
async def test_before_at_and_after_the_clock_the_list_is_what_evaluate_says_of_everybody(
    tiers: Tiers, seed: int
) -> None:
    chance = random.Random(seed)
    log = Log(tiers)
    now = await live(log, chance)
    instants = [now, now - A_MOMENT, now + A_MOMENT, DAY - A_MOMENT, DAY + timedelta(days=2000)]
    for instant in chance.sample(log.instants(), 25):
        instants += [instant - A_MOMENT, instant, instant + A_MOMENT]
    instants += [DAY + timedelta(seconds=chance.randint(-86_400, 86_400 * 1300)) for _ in range(10)]
    negative = 0
    for at_time in instants:
        expected = log.expected(at_time)
        assert await whole(tiers, at_time, chance.choice([1, 2, 3, 7, 1000])) == expected, at_time
        counted_at, counts = await tiers.count(at_time)
        assert counted_at == at_time
        assert {number: members for (_, number), members in counts.items() if members} == Counter(
            row[1] for row in expected
        )
        negative += any(row[2] < 0 for row in expected)
    assert negative
    assert await whole(tiers, None, 5) == log.expected(now)


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_pages_of_any_size_hold_everybody_once_in_bytewise_order(tiers: Tiers, size: int) -> None:
    log = Log(tiers)
    chance = random.Random(size)
    await log.happen(*(event(FactKind.JOINED, name, DAY) for name in chance.sample(NAMES, len(NAMES))))
    listed = await whole(tiers, DAY, size)
    assert [row[0].encode() for row in listed] == sorted(name.encode() for name in NAMES)


async def test_a_page_is_fifty_where_no_number_is_named_and_a_full_last_one_has_no_token(tiers: Tiers) -> None:
    log = Log(tiers)
    await log.happen(*(event(FactKind.JOINED, f"m-{number:03}", DAY) for number in range(100)))
    first, found = await page(tiers, DAY)
    assert (len(first), first[-1][0]) == (50, "m-049")
    last, found = await page(tiers, DAY, token=found.next_page_token)
    assert (len(last), found.next_page_token) == (50, "")


async def test_who_joins_at_that_very_instant_is_in_and_a_moment_earlier_is_not(tiers: Tiers) -> None:
    log = Log(tiers)
    await log.happen(event(FactKind.JOINED, "m-1", DAY))
    assert (await page(tiers, DAY - A_MOMENT))[0] == []
    assert (await page(tiers, DAY))[0] == [("m-1", 1, 0, DAY)]


async def test_where_nothing_is_there_yet_the_list_is_empty(tiers: Tiers) -> None:
    shown, found = await page(tiers)
    assert (shown, found.next_page_token) == ([], "")
    assert (await page(tiers, DAY))[0] == []


async def test_before_the_ledger_was_reached_there_is_no_answer(pool: asyncpg.Pool) -> None:
    with pytest.raises(NotReadyError):
        await Tiers(pool=pool, versions=VERSIONS).standings(DAY, page_size=0, page_token="")


async def test_all_pages_are_true_of_the_instant_of_the_first_though_the_clock_goes_on(pool: asyncpg.Pool) -> None:
    now = DAY
    tiers = Tiers(pool=pool, versions=VERSIONS, now=lambda: now)
    await tiers.prepare(partitions=range(PARTITIONS), clock_mode=ClockMode.REAL)
    log = Log(tiers)
    soon = DAY + timedelta(minutes=1)
    await log.happen(
        *(event(FactKind.JOINED, name, DAY - timedelta(days=1)) for name in ("a", "b")),
        *(event(FactKind.JOINED, name, soon) for name in ("aa", "c")),
    )
    first, found = await page(tiers, size=1)
    now = DAY + timedelta(hours=1)
    await log.happen(event(FactKind.PURCHASE, "b", soon, 50_000))
    second, following = await page(tiers, size=1, token=found.next_page_token)
    assert (first[0][0], second[0][:3]) == ("a", ("b", 1, 0))
    assert (found.at_time, following.at_time) == (DAY, DAY)
    assert following.next_page_token == ""
    # Asked anew it is another instant.
    assert [row[:3] for row in (await page(tiers))[0]] == [("a", 1, 0), ("aa", 1, 0), ("b", 2, 50_000), ("c", 1, 0)]


async def test_a_token_of_another_instant_and_a_damaged_one_are_refused(tiers: Tiers) -> None:
    log = Log(tiers)
    await log.happen(*(event(FactKind.JOINED, name, DAY) for name in NAMES), *clock(DAY))
    of_instant = (await page(tiers, DAY, size=1))[1].next_page_token
    of_clock = (await page(tiers, None, size=1))[1].next_page_token
    other = DAY + A_MOMENT
    for at_time, token in ((other, of_instant), (None, of_instant), (DAY, of_clock), (other, of_clock)):
        with pytest.raises(PageTokenError):
            await page(tiers, at_time, token=token)
    wrong = ["nonsense", "=", "ä", "0", of_instant[:-4], of_instant + "AAAA", of_instant.rstrip("="), of_instant * 2]
    wrong += [
        of_instant[:index] + letter + of_instant[index + 1 :]
        for index in range(len(of_instant))
        for letter in ("A", "z", "-", "=", " ")
        if of_instant[index] != letter
    ]
    for token in wrong:
        with pytest.raises(PageTokenError):
            await page(tiers, DAY, token=token)


def test_what_a_token_says_is_read_as_it_was_written() -> None:
    for asked in (None, DAY):
        for after in ("0", "Z" * 64):
            place = Place(at_time=DAY + A_MOMENT, after=after)
            token = page_token_of(place, asked)
            assert len(token) <= 128
            assert read_page_token(token, asked) == place
    # A checksum can be made by anyone; what no list ever said is refused all the same.
    forged = page_token_of(Place(at_time=DAY, after="a\0"), DAY)
    assert base64.urlsafe_b64decode(forged).endswith(b"\0")
    with pytest.raises(PageTokenError):
        read_page_token(forged, DAY)


async def test_the_primary_key_serves_the_pages_whatever_the_collation_of_the_database(
    tiers: Tiers, database: Database
) -> None:
    query = load_queries(ROOT / "services" / "tiers" / "sql" / "queries.sql")["list_states"]
    connection = await asyncpg.connect(database.dsn("loyalty_tiers"))
    try:
        # Of tables this small the planner would read all.
        await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", DAY, "a", 10))
    finally:
        await connection.close()
    assert "standings_pkey" in plan
    assert "member_id > 'a'" in plan.split("standings_pkey")[1].split("Filter")[0]
    # Only what the partitions gave is sorted, and bytewise.
    assert plan.count("Sort Key") == plan.count('Sort Key: d.member_id COLLATE "C"') == 1, plan
