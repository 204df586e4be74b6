"""Logs of a ledger that lives in simulated time, as tiers read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from services.tiers.domain.facts import FactKind
from services.tiers.domain.feed import EntryKind, LedgerEntry

# In the nights after it there is an hour that comes twice.
START = datetime(2024, 10, 24, 22, 15, tzinfo=UTC)

# What an entry is: a fact of some kind, or else what else a ledger says.
Kind = FactKind | EntryKind


def entry_of(
    kind: Kind, member_id: str, time: datetime, amount: int = 0, *, partition: int = 0, offset: int = 0
) -> LedgerEntry:
    """An entry of a member, or, without one, of a whole partition."""
    return LedgerEntry(
        partition=partition,
        offset=offset,
        kind=EntryKind.FACT if isinstance(kind, FactKind) else kind,
        fact_kind=kind if isinstance(kind, FactKind) else None,
        member_id=member_id,
        occurred_time=time,
        recorded_time=time,
        amount=amount,
        goods_paid=amount,
    )


def days_of(chance: Random) -> dict[int, list[LedgerEntry]]:
    """Days as a loader sends them, some things late: at the end of each the clock moves on in all partitions."""
    happened: dict[int, list[tuple[Kind, str, datetime, int]]] = {
        partition: [(FactKind.JOINED, name, START, 0) for name in ("m1", "m2", "m3")] for partition in (0, 1)
    }
    now = START
    for _ in range(chance.randint(1, 12)):
        for _ in range(chance.randint(0, 8)):
            kinds: list[Kind] = [FactKind.PURCHASE, FactKind.PURCHASE, FactKind.RETURN, EntryKind.CLASS_SET]
            kind = chance.choice(kinds)
            time = now + timedelta(hours=chance.randint(-6, 23))
            happened[chance.choice((0, 1))].append((kind, f"m{chance.randint(1, 3)}", time, chance.randint(1, 25)))
        now += timedelta(days=chance.choice([1, 1, 1, 2, 5]))
        for entries in happened.values():
            entries.append((EntryKind.CLOCK, "", now, 0))
    return {
        partition: [
            entry_of(kind, name, time, total, partition=partition, offset=offset)
            for offset, (kind, name, time, total) in enumerate(entries, start=1)
        ]
        for partition, entries in happened.items()
    }
