"""What the load is made of: purchases of three lines, by members taken at random, under request ids never seen before.

Ids and members come from a seeded generator: another seed, other ids. Ids are spread over their whole range, so that
an index finds no order in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

LINES = 3
CURRENCY = "USD"

_DEPARTMENTS = ("GROCERY", "PRODUCE", "MEAT", "DAIRY", "DRUG GM", "PASTRY", "FLORAL", "NUTRITION")


def member_id(number: int) -> str:
    """The id of the member of this number."""
    return f"member-{number:07d}"


def purchases(
    seed: int, count: int, *, members: int = 0, member: str = "", times: Iterable[datetime] = ()
) -> Iterator[pb.RecordPurchaseRequest]:
    """Purchases: of one member, or of members with the numbers below `members`; now, or at `times`."""
    chance = Random(seed)
    occurred = iter(times)
    for _ in range(count):
        amounts = [chance.randint(99, 2_500) for _ in range(LINES)]
        request = pb.RecordPurchaseRequest(
            request_id=f"{chance.getrandbits(128):032x}",
            member_id=member or member_id(chance.randrange(members)),
            amount=Money(currency_code=CURRENCY, minor_units=sum(amounts)),
            lines=[_line(chance, amount) for amount in amounts],
            store_id=f"store-{chance.randrange(400)}",
            receipt_number=f"{chance.randrange(10**9):09d}",
            channel="pos",
        )
        if times:
            request.occurred_time.FromDatetime(next(occurred))
        yield request


def joinings(first: int, count: int) -> Iterator[pb.EnrollMemberRequest]:
    """Members with the numbers from `first` on, joining now."""
    for number in range(first, first + count):
        yield pb.EnrollMemberRequest(request_id=f"join-{number}", member_id=member_id(number), channel="pos")


def past_days(count: int, days: int) -> list[datetime]:
    """Times spread evenly over the days before now, ascending; the first is after the first of these days began."""
    now = datetime.now(UTC)
    step = timedelta(days=days) / (count + 1)
    return [now - timedelta(days=days) + step * place for place in range(1, count + 1)]


def _line(chance: Random, amount: int) -> pb.Line:
    article = chance.randrange(90_000)
    return pb.Line(
        sku=f"{article:08d}",
        name=f"Article {article} of the shop",
        department=_DEPARTMENTS[article % len(_DEPARTMENTS)],
        category=f"CATEGORY {article % 300}",
        quantity=1 + article % 3,
        amount_minor_units=amount,
    )
