"""Logs of a ledger that lives in simulated time, as tiers read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from services.tiers.domain import EntryKind, LedgerEntry

# In the nights after it there is an hour that comes twice.
START = datetime(2024, 10, 24, 22, 15, tzinfo=UTC)


def days_of(chance: Random) -> dict[int, list[LedgerEntry]]:
    """Days as a loader sends them, some things late: at the end of each the clock moves on in all partitions."""
    happened: dict[int, list[tuple[EntryKind, str, datetime, int]]] = {
        partition: [(EntryKind.JOINED, name, START, 0) for name in ("m1", "m2", "m3")] for partition in (0, 1)
    }
    now = START
    for _ in range(chance.randint(1, 12)):
        for _ in range(chance.randint(0, 8)):
            kind = chance.choice([EntryKind.PURCHASE, EntryKind.PURCHASE, EntryKind.RETURN, EntryKind.CLASS_SET])
            time = now + timedelta(hours=chance.randint(-6, 23))
            happened[chance.choice((0, 1))].append((kind, f"m{chance.randint(1, 3)}", time, chance.randint(1, 25)))
        now += timedelta(days=chance.choice([1, 1, 1, 2, 5]))
        for entries in happened.values():
            entries.append((EntryKind.CLOCK, "", now, 0))
    return {
        partition: [
            LedgerEntry(partition=partition, offset=offset, kind=kind, member_id=name, occurred_time=time, amount=total)
            for offset, (kind, name, time, total) in enumerate(entries, start=1)
        ]
        for partition, entries in happened.items()
    }
