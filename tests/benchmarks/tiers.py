"""The figures of tiers. Each part has databases of its own; the ledger beside them is the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import asyncpg

from services.runtime.clock import machine_now
from services.runtime.database import load_queries
from tests.benchmarks.client import Measured
from tests.benchmarks.figures import Bench, heads, join
from tests.benchmarks.purchases import member_id
from tests.benchmarks.results import Figure
from tests.benchmarks.stack import PARTITIONS, PROGRAMME, ROOT, BenchmarkError, Server
from tests.benchmarks.tier_jobs import CatchUp, DueMembers, DueRound, Histories, Redraw, Standings, TakingIn, Visible

_LEDGER = "tiers_ledger"
_BARE = "tiers_bare"
_JOINED = "tiers_joined"
_BEHIND = "tiers_behind"
_STANDINGS = "tiers_standings"
_DUE = "tiers_due"
_COMPANY = "tiers_company"
# The window has a year: nothing has left it yet, and something does within days.
_DAYS = 360
# Standings asked for while members are weighed anew, a second.
_MEANWHILE = 50
_QUERIES = ROOT / "services" / "tiers" / "sql" / "queries.sql"
# How members of whom something is due may be found.
_BY_INDEX = frozenset({"Index Scan", "Index Only Scan"})


def feed(bench: Bench) -> list[Figure]:
    """Catching up with purchases that are in the log already; then standings seen right after a purchase."""
    stack, sizes = bench.stack, bench.sizes
    stack.create_database(_LEDGER)
    stack.create_database(_JOINED, service="tiers")
    rates, visible = [], []
    with stack.ledger(_LEDGER) as ledger:
        join(stack, ledger, sizes)
        joined = heads(stack, ledger)
        with stack.tiers(_JOINED, ledger) as tiers:
            stack.run(_catch_up(bench, tiers, _JOINED, {}, joined))
        bench.batches(ledger, -(-sizes.tiers_log_purchases // sizes.batch))
        bought = heads(stack, ledger)
        for number in range(sizes.rounds):
            # Each round catches up from where all had joined.
            stack.cluster.create_database(_BEHIND, template=_JOINED)
            with stack.tiers(_BEHIND, ledger) as tiers:
                rates.append(stack.run(_catch_up(bench, tiers, _BEHIND, joined, bought)).rate)
                if number == sizes.rounds - 1:
                    visible = [_visible(bench, tiers, ledger).p99_ms for _ in range(sizes.rounds)]
            stack.cluster.drop_database(_BEHIND)
    return [
        Figure(name="tiers: catching up with a log", unit="purchases/s", values=rates, at_least=8_000, aim=20_000),
        Figure(
            name=f"tiers: standing seen after a purchase, {sizes.visible_rate} a second, p99",
            unit="ms",
            values=visible,
            at_least=50,
            aim=20,
        ),
    ]


def standing(bench: Bench) -> list[Figure]:
    """GetStanding beside a bare echo; then the same members under another version of the programme, and another."""
    stack, sizes = bench.stack, bench.sizes
    stack.create_database(_BARE)
    _histories(
        bench,
        _STANDINGS,
        members=sizes.standing_members,
        histories=sizes.standing_histories,
        purchases=sizes.standing_purchases,
    )
    with stack.ledger(_BARE) as ledger:
        figures = _beside_echo(bench, ledger)
        bench.say("tiers: other versions of the programme")
        with stack.tiers(_STANDINGS, ledger) as tiers:
            for what, document in other_versions():
                redrawn = stack.run(
                    Redraw(
                        **tiers.door,
                        seed=next(bench.seeds),
                        ledger=ledger.door["address"],
                        dsn=stack.dsn(_STANDINGS, service="tiers"),
                        document=document,
                        members=sizes.standing_members,
                        rate=_MEANWHILE,
                    )
                )
                name = f"tiers: {what}, {sizes.standing_members:,} members"
                figures += [
                    # A million in 240 seconds.
                    Figure(name=name, unit="members/s", values=[redrawn.rate], at_least=4_170, aim=8_000),
                    Figure(
                        name=f"tiers: {what}: GetStanding meanwhile, p99",
                        unit="ms",
                        values=[redrawn.p99_ms],
                        at_least=250,
                        aim=50,
                    ),
                ]
            peak = [tiers.peak_memory_mib()]
    stack.cluster.drop_database(_STANDINGS)
    return [
        *figures,
        Figure(name="tiers: peak memory of all that", unit="MiB", values=peak, at_least=512, aim=256),
    ]


def due(bench: Bench) -> list[Figure]:
    """A round of what is due: of many members, some, all at one time."""
    stack, sizes = bench.stack, bench.sizes
    now = machine_now()
    instants = [(now - timedelta(days=back)).isoformat() for back in range(sizes.rounds, 0, -1)]
    stack.create_database(_DUE, service="tiers")
    about: dict[str, Any] = {"dsn": stack.dsn(_DUE, service="tiers"), "programme": str(PROGRAMME)}
    members = DueMembers(
        **about, partitions=PARTITIONS, members=sizes.due_members, at_once=sizes.due_at_once, due=instants
    )
    stack.run(members)
    stack.vacuum(_DUE)
    bench.notes["due_plans"] = asyncio.run(_plans(stack.dsn(_DUE, service="tiers"), sizes.due_at_once))
    rounds = [
        stack.run(DueRound(**about, until=instant, members=sizes.due_at_once)).seconds * 1000 for instant in instants
    ]
    stack.cluster.drop_database(_DUE)
    name = f"tiers: due round, {sizes.due_at_once:,} of {sizes.due_members:,} members"
    return [Figure(name=name, unit="ms", values=rounds, at_least=1_000, aim=250)]


def company(bench: Bench) -> list[Figure]:
    """A member with very many purchases in its window."""
    stack, sizes = bench.stack, bench.sizes
    _histories(bench, _COMPANY, members=1, histories=1, purchases=sizes.company_purchases)
    stack.create_database(ledger_database := f"{_COMPANY}_ledger")
    with stack.ledger(ledger_database) as ledger, stack.tiers(_COMPANY, ledger) as tiers:
        asking = Standings(**tiers.door, count=sizes.company_calls, in_flight=1, member=member_id(0))
        asked = [stack.run(asking) for _ in range(sizes.rounds)]
    bought, seen = (
        [
            stack.run(
                TakingIn(
                    dsn=stack.dsn(_COMPANY, service="tiers"),
                    programme=str(PROGRAMME),
                    member=member_id(0),
                    count=sizes.company_calls,
                    standings=standings,
                )
            )
            for _ in range(sizes.rounds)
        ]
        for standings in (False, True)
    )
    stack.cluster.drop_database(_COMPANY)
    name = f"tiers: {sizes.company_purchases:,} purchases"
    return [
        Figure(name=f"{name}: {what}", unit="ms", values=values, at_least=5, aim=2)
        for what, values in (
            ("GetStanding, p50", [one.median_ms for one in asked]),
            ("GetStanding, p99", [one.p99_ms for one in asked]),
            ("standing after a purchase, p50", [one.median_ms for one in seen]),
            ("standing after a purchase, p99", [one.p99_ms for one in seen]),
            ("a new purchase, p50", [one.median_ms for one in bought]),
            ("a new purchase, p99", [one.p99_ms for one in bought]),
        )
    ]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "tiers.feed": feed,
    "tiers.standing": standing,
    "tiers.due": due,
    "tiers.company": company,
}


def _catch_up(bench: Bench, tiers: Server, database: str, before: dict[str, int], until: dict[str, int]) -> CatchUp:
    dsn = bench.stack.dsn(database, service="tiers")
    return CatchUp(**tiers.door, dsn=dsn, before=before, heads=until)


def _visible(bench: Bench, tiers: Server, ledger: Server) -> Measured:
    return bench.stack.run(
        Visible(
            **tiers.door,
            ledger=ledger.door["address"],
            seed=next(bench.seeds),
            rate=bench.sizes.visible_rate,
            seconds=bench.sizes.paced_seconds,
            members=bench.sizes.members,
        )
    )


def _histories(bench: Bench, database: str, *, members: int, histories: int, purchases: int) -> None:
    """A database with members in it."""
    stack = bench.stack
    bench.say(f"tiers: {members:,} members buy {purchases:,} times")
    stack.create_database(database, service="tiers")
    stack.run(
        Histories(
            dsn=stack.dsn(database, service="tiers"),
            programme=str(PROGRAMME),
            partitions=PARTITIONS,
            seed=next(bench.seeds),
            members=members,
            histories=histories,
            purchases=purchases,
            days=_DAYS,
        )
    )
    stack.vacuum(database)


def _beside_echo(bench: Bench, ledger: Server) -> list[Figure]:
    """Members taken at random, and members of whom nothing is in memory: the first of them are asked for once by a
    fresh process."""
    stack, sizes = bench.stack, bench.sizes
    count = min(sizes.calls, sizes.standing_members)

    def ask(server: Server, *, once: bool, echo: bool = False) -> float:
        return stack.run(
            Standings(
                **server.door,
                seed=next(bench.seeds),
                count=count,
                in_flight=sizes.in_flight,
                members=sizes.standing_members,
                once=once,
                echo=echo,
            )
        ).rate

    first, again, echo = [], [], []
    with stack.echo() as echoing:
        for _ in range(sizes.rounds):
            with stack.tiers(_STANDINGS, ledger) as tiers:
                first.append(ask(tiers, once=True))
                echo.append(ask(echoing, once=True, echo=True))
                again.append(ask(tiers, once=True))
    name = f"tiers: GetStanding, {sizes.standing_purchases} purchases"
    return [
        Figure(
            name=f"{name}, {which} / bare echo",
            unit="calls/s",
            values=values,
            references=echo,
            at_least=0.5,
            aim=0.65,
        )
        for which, values in (("once", first), ("again", again))
    ]


def other_versions() -> Iterator[tuple[str, str]]:
    """Other versions of the programme, one after the other, and what is other about them. They take nothing away from
    members: that would have to be announced."""
    document = PROGRAMME.read_text(encoding="utf-8")
    for what, before, after in (
        ("another threshold", 'from: "300.00"', 'from: "299.00"'),
        ("another window", "window: P365D", "window: P366D"),
    ):
        changed = document.replace(before, after)
        if changed == document:
            raise BenchmarkError(f"{PROGRAMME.name} has no {before}")
        yield what, (document := changed)


async def _plans(dsn: str, limit: int) -> dict[str, Any]:
    """How the database finds the members of whom something is due; raises BenchmarkError where it is not by index."""
    queries = load_queries(_QUERIES)
    partitions = list(range(PARTITIONS))
    connection = await asyncpg.connect(dsn)
    try:
        plans = {
            name: json.loads(
                await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queries[name]}", *arguments)
            )
            for name, arguments in (
                ("read_due_states", (partitions, machine_now(), limit)),
                ("read_next_due", (partitions,)),
            )
        }
    finally:
        await connection.close()
    for name, plan in plans.items():
        if unfit := scans(plan) - _BY_INDEX:
            raise BenchmarkError(f"{name} is planned as {', '.join(sorted(unfit))}")
    return plans


def scans(plan: Any) -> set[str]:
    """The kinds of nodes of a plan that read a table."""
    if isinstance(plan, list):
        return {kind for part in plan for kind in scans(part)}
    if not isinstance(plan, dict):
        return set()
    own = {plan["Node Type"]} if "Relation Name" in plan else set()
    return own.union(*(scans(part) for part in plan.values()))
