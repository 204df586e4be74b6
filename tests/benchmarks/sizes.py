"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of a run; they stand in its results. The loads end by themselves: all are counted, not timed."""

    members: int = 100_000
    rounds: int = 3
    warm_up_calls: int = 1_000
    # RecordPurchase, one call each.
    in_flight: int = 64
    calls: int = 10_000
    calls_one_by_one: int = 3_000
    connections_one_by_one: int = 16
    paced_seconds: int = 10
    # BatchRecord.
    batch: int = 1_000
    batches: int = 40
    batches_in_flight: int = 4
    # RecordStream, for each number of writes in a message.
    stream_messages: tuple[tuple[int, int], ...] = ((1, 10_000), (100, 200))
    stream_unanswered_writes: int = 1_000
    # A member of many entries against one of few, one call at a time.
    many_entries: int = 100_000
    few_entries: int = 10
    member_calls: int = 300
    member_rounds: int = 5
    # Tiers: how long a log they catch up with, how often a second somebody buys and looks, how many members there are.
    tiers_log_purchases: int = 100_000
    visible_rate: int = 500
    standing_members: int = 100_000
    standing_purchases: int = 20
    # Different histories; other members have the same ones.
    standing_histories: int = 2_000
    due_members: int = 300_000
    due_at_once: int = 1_000
    company_purchases: int = 200_000
    company_calls: int = 1_000
    # Notifier: coupons of a round, codes of a pool.
    coupons: int = 3_000
    pool_codes: int = 1_000_000
    # Quotes of a round, one at a time, and the members who ask.
    quotes: int = 500
    quoting_members: int = 100
    # Messages of a round, and those that wait for a mail server that is away (FULL alone; 0: none do).
    messages: int = 3_000
    messages_waiting: int = 0
    # Members who are told of a level, one after the other.
    told: int = 300
    # FULL.
    log_entries: int = 5_000_000
    memory_seconds: int = 600
    memory_first_seconds: int = 60


ORDINARY = Sizes()

FULL = replace(ORDINARY, messages_waiting=100_000, standing_members=1_000_000, due_members=10_000_000)

# To see that all of it runs; its figures mean nothing.
SMOKE = Sizes(
    members=500,
    warm_up_calls=50,
    calls=300,
    calls_one_by_one=100,
    paced_seconds=1,
    batch=100,
    batches=6,
    stream_messages=((1, 200), (100, 4)),
    many_entries=1_000,
    member_calls=20,
    tiers_log_purchases=600,
    visible_rate=50,
    standing_members=640,
    standing_histories=160,
    due_members=3_000,
    due_at_once=50,
    company_purchases=3_000,
    company_calls=50,
    coupons=200,
    pool_codes=2_000,
    quotes=20,
    quoting_members=5,
    messages=100,
    messages_waiting=300,
    told=5,
    log_entries=5_000,
    memory_seconds=6,
    memory_first_seconds=2,
)
