"""The figures of the notifier, behind a real ledger and real tiers."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvloop

from services.programme import load
from tests.benchmarks.client import Joining
from tests.benchmarks.figures import Bench
from tests.benchmarks.messages import empty
from tests.benchmarks.notifier_jobs import Importing, Issuing, Quoting, Redeeming, Telling
from tests.benchmarks.results import Figure
from tests.benchmarks.stack import PROGRAMME

_LEDGER = "notifier_ledger"
_TIERS = "notifier_tiers"
_COUPONS = "notifier_coupons"
_LEDGER_OF_BUYERS = "notifier_ledger_of_buyers"
_TIERS_OF_BUYERS = "notifier_tiers_of_buyers"
_CHECKOUTS = "notifier_checkouts"
_MESSAGES = "notifier_messages"
_WAITING = "notifier_waiting"
_LEDGER_OF_TOLD = "notifier_ledger_of_told"
_TIERS_OF_TOLD = "notifier_tiers_of_told"
_TOLD = "notifier_told"
_PART = 10_000


def coupons(bench: Bench) -> list[Figure]:
    """Coupons issued and redeemed, many calls at a time; then a pool of codes taken in."""
    stack, sizes = bench.stack, bench.sizes
    stack.create_database(_LEDGER)
    stack.create_database(_TIERS, service="tiers")
    stack.create_database(_COUPONS, service="notifier")
    count, in_flight = sizes.coupons, sizes.in_flight
    issued, redeemed = [], []
    with (
        stack.ledger(_LEDGER) as ledger,
        stack.tiers(_TIERS, ledger) as tiers,
        stack.notifier(_COUPONS, ledger, tiers) as notifier,
    ):
        for _ in range(sizes.rounds):
            # Both begin with as many coupons that are not redeemed as the round before.
            about = {**notifier.door, "count": count, "in_flight": in_flight}
            issued.append(stack.run(Issuing(**about, seed=next(bench.seeds))).rate)
            redeemed.append(stack.run(Redeeming(**about, seed=next(bench.seeds))).rate)
        bench.say("notifier: a pool of codes")
        size = min(_PART, sizes.pool_codes)
        job = Importing(**notifier.door, seed=next(bench.seeds), count=sizes.pool_codes, size=size)
        imported = stack.run(job).rate
    return [
        Figure(name="notifier: coupons issued", unit="coupons/s", values=issued, at_least=300, aim=1_000),
        Figure(name="notifier: coupons redeemed", unit="coupons/s", values=redeemed, at_least=500, aim=1_000),
        # A million in a minute.
        Figure(
            name=f"notifier: a pool of {sizes.pool_codes:,} codes taken in",
            unit="codes/s",
            values=[imported],
            at_least=16_700,
            aim=30_000,
        ),
    ]


def checkouts(bench: Bench) -> list[Figure]:
    """Baskets that are priced, one call after the other: each asks the ledger and tiers."""
    stack, sizes = bench.stack, bench.sizes
    stack.create_database(_LEDGER_OF_BUYERS)
    stack.create_database(_TIERS_OF_BUYERS, service="tiers")
    stack.create_database(_CHECKOUTS, service="notifier")
    with (
        stack.ledger(_LEDGER_OF_BUYERS) as ledger,
        stack.tiers(_TIERS_OF_BUYERS, ledger) as tiers,
        stack.notifier(_CHECKOUTS, ledger, tiers) as notifier,
    ):
        stack.run(Joining(**ledger.door, members=sizes.quoting_members, size=sizes.batch))
        asking = {**notifier.door, "count": sizes.quotes, "members": sizes.quoting_members}
        quoted = [stack.run(Quoting(**asking, seed=next(bench.seeds))) for _ in range(sizes.rounds)]
    p50, p99 = [one.median_ms for one in quoted], [one.p99_ms for one in quoted]
    return [
        Figure(name="notifier: QuoteCheckout, p50", unit="ms", values=p50, at_least=50, aim=20),
        Figure(name="notifier: QuoteCheckout, p99", unit="ms", values=p99, at_least=150, aim=60),
    ]


def messages(bench: Bench) -> list[Figure]:
    """E-mails to a mail server that takes everything; then many that wait for one that is away."""
    stack, sizes = bench.stack, bench.sizes
    rates = []
    for number in range(sizes.rounds):
        stack.create_database(f"{_MESSAGES}_{number}", service="notifier")
        dsn = stack.dsn(f"{_MESSAGES}_{number}", service="notifier")
        found = uvloop.run(empty(dsn, load(PROGRAMME), count=sizes.messages, away=False))
        assert (found.arrived, found.doubled) == (sizes.messages, 0)
        rates.append(found.rate)
    figures = [
        Figure(name="notifier: e-mails sent", unit="e-mails/s", values=rates, at_least=200, aim=400),
    ]
    if sizes.messages_waiting:
        bench.say(f"notifier: {sizes.messages_waiting:,} messages wait")
        stack.create_database(_WAITING, service="notifier")
        dsn = stack.dsn(_WAITING, service="notifier")
        found = uvloop.run(empty(dsn, load(PROGRAMME), count=sizes.messages_waiting, away=True))
        assert (found.arrived, found.doubled) == (sizes.messages_waiting, 0)
        figures.append(
            Figure(
                name=f"notifier: e-mails sent after {sizes.messages_waiting:,} had waited",
                unit="e-mails/s",
                values=[found.rate],
                at_least=200,
                aim=400,
            )
        )
        bench.notes["notifier_grown_mebibytes"] = round(found.grown_mebibytes, 1)
    return figures


def telling(bench: Bench) -> list[Figure]:
    """From a purchase that brings a level to the e-mail that says so, by way of ledger, tiers, notifier and SMTP."""
    stack, sizes = bench.stack, bench.sizes
    stack.create_database(_LEDGER_OF_TOLD)
    stack.create_database(_TIERS_OF_TOLD, service="tiers")
    stack.create_database(_TOLD, service="notifier")
    # Free by now; whoever takes it before the task does ends the run.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        stack.ledger(_LEDGER_OF_TOLD) as ledger,
        stack.tiers(_TIERS_OF_TOLD, ledger) as tiers,
        stack.notifier(_TOLD, ledger, tiers, mail_port=port) as notifier,
    ):
        job = Telling(
            **notifier.door, seed=next(bench.seeds), ledger=ledger.door["address"], port=port, members=sizes.told
        )
        told = stack.run(job)
    return [
        Figure(
            name="notifier: from purchase to e-mail, p50", unit="ms", values=[told.median_ms], at_least=500, aim=100
        ),
        Figure(name="notifier: from purchase to e-mail, p99", unit="ms", values=[told.p99_ms], at_least=1_000, aim=300),
    ]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "notifier.coupons": coupons,
    "notifier.checkouts": checkouts,
    "notifier.messages": messages,
    "notifier.telling": telling,
}
