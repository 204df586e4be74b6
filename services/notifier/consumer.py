"""Handles both feeds in their one order: coupons and messages, members, and the cursors, in one transaction per batch.

A batch takes a fixed number of statements, whatever its size. What reaches beyond a commit - waiting reads, the worker
- is told after it; if the process dies in between, both find out from the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Generic, Protocol, TypeVar

import structlog

from services.notifier.domain.campaigns import Reward, Rewards
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.feeds import Batch, Cursor, LedgerEntry, LedgerLayout, MemberJoined, Sequencer, TierNews
from services.notifier.errors import FeedError, PeerError
from services.notifier.progress import Progress
from services.notifier.store import Store, Transaction
from services.runtime.clock import MachineClock

log = structlog.get_logger()

T = TypeVar("T")

# Lines handled in one transaction at most.
BATCH: Final = 4000
# Entries that may wait for tiers; beyond that the ledger's stream is not read on.
MAX_HELD_ENTRIES: Final = 20_000
# Responses of a stream read ahead while a batch is handled.
_READ_AHEAD: Final = 4
_PROGRAMME_PAUSE_SECONDS: Final = 10.0
_MAX_VARIANTS: Final = 8


class Ledger(Protocol):
    """What the consumer asks of the ledger. All raise PeerError."""

    async def layout(self) -> LedgerLayout:
        """Partitions and clock."""

    async def programme_version(self) -> str:
        """The version of the programme in force."""

    def entries(self, after: Mapping[int, int]) -> AsyncIterator[Sequence[LedgerEntry]]:
        """The entries after these offsets, live, until the stream breaks off."""


class Tiers(Protocol):
    """What the consumer asks of tiers."""

    def news(self, after: Mapping[int, int]) -> AsyncIterator[TierNews]:
        """The changes after these offsets, live, until the stream breaks off; raises PeerError."""


class Consumer:
    """Runs for as long as the service lives; every start begins at the cursors in the database."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tiers: Tiers,
        store: Store,
        rewards: Rewards,
        programme_version: str,
        partitions: int,
        simulated: bool,
        progress: Progress,
        messages_queued: Callable[[], None],
        machine_now: MachineClock,
    ) -> None:
        self._ledger = ledger
        self._tiers = tiers
        self._store = store
        self._rewards = rewards
        self._programme_version = programme_version
        self._partitions = partitions
        self._simulated = simulated
        self._progress = progress
        self._messages_queued = messages_queued
        self._machine_now = machine_now

    async def run(self) -> None:
        """Handles the feeds until one breaks off (PeerError), breaks its promise (FeedError) or the database fails."""
        try:
            await self._follow()
        except FeedError as error:
            # Nothing that goes away by itself: someone has to look.
            log.error("feed_broken", problem=str(error))
            raise

    async def _follow(self) -> None:
        await self._agree_with_ledger()
        cursors = await self._store.read(Transaction.read_cursors)
        self._progress.stand(cursors)
        sequencer = Sequencer(cursors)
        arrived = asyncio.Event()
        async with (
            _reading(self._ledger.entries(_ledger_offsets(cursors)), arrived) as entries,
            _reading(self._tiers.news(_change_offsets(cursors)), arrived) as news,
        ):
            log.info("feeds_opened", partitions=len(cursors))
            while True:
                await arrived.wait()
                arrived.clear()
                for response in news.take():
                    sequencer.add_news(response)
                if sequencer.held_entries < MAX_HELD_ENTRIES:
                    for part in entries.take():
                        self._check_homes(part)
                        sequencer.add_entries(part)
                while (batch := sequencer.take(BATCH)) is not None:
                    await self.handle(batch)
                    # Entries given out make room for others that were left in the stream.
                    arrived.set()

    async def handle(self, batch: Batch) -> None:
        """Carries out one batch, all of it or nothing."""
        rewards = self._rewards.decide(batch.changes)

        async def work(transaction: Transaction) -> int:
            await transaction.move_cursors(batch.before, batch.after)
            await transaction.insert_members(batch.entries)
            return await self._issue(transaction, rewards) if rewards else 0

        issued = await self._store.transact(work)
        self._progress.stand(batch.after)
        if issued:
            self._messages_queued()
            log.info("coupons_issued", coupons=issued, changes=len(batch.changes))

    async def _issue(self, transaction: Transaction, rewards: list[Reward]) -> int:
        """Keeps coupons and queues their messages; what was given before is not given again. Says how many."""
        issued: list[Reward] = []
        pending = rewards
        for variant in range(1, _MAX_VARIANTS + 1):
            kept = await transaction.insert_coupons([reward.coupon for reward in pending])
            issued += [reward for reward in pending if reward.coupon.key in kept]
            left = [reward for reward in pending if reward.coupon.key not in kept]
            if not left:
                break
            given = await transaction.find_coupon_keys([reward.coupon.key for reward in left])
            pending = [self._varied(reward, variant) for reward in left if reward.coupon.key not in given]
            if not pending:
                break
        else:
            raise FeedError(f"no code is free for {len(pending)} coupons")
        if issued:
            await transaction.insert_deliveries(issued, self._machine_now())
        return len(issued)

    def _varied(self, reward: Reward, variant: int) -> Reward:
        code = self._rewards.varied(reward.coupon, variant)
        return replace(reward, coupon=replace(reward.coupon, code=code, variant=variant))

    def _check_homes(self, entries: Sequence[LedgerEntry]) -> None:
        """Contacts lie where we reckon a member's home to be; the ledger must mean the same."""
        for entry in entries:
            fact = entry.fact
            if isinstance(fact, MemberJoined):
                home = partition_of(fact.member_id, self._partitions)
                if home != entry.partition:
                    raise FeedError(f"the ledger keeps a member in partition {entry.partition} whose home is {home}")

    async def _agree_with_ledger(self) -> None:
        """Waits until the ledger decides by the programme that this service was started with.

        Raises FeedError where it is another ledger than the one that the database was made for.
        """
        layout = await self._ledger.layout()
        if set(layout.heads) != set(range(self._partitions)) or layout.simulated != self._simulated:
            log.error("ledger_mismatch_found", own=self._partitions, ledger=len(layout.heads))
            raise FeedError("the ledger has other partitions or another clock than the one we were set up with")
        told = ""
        while (version := await self._ledger.programme_version()) != self._programme_version:
            if version != told:
                log.error("programme_mismatch_found", own=self._programme_version, ledger=version)
                told = version
            await asyncio.sleep(_PROGRAMME_PAUSE_SECONDS)


class _Inlet(Generic[T]):
    """A stream read ahead, a few responses at most: who does not take holds the sender up."""

    def __init__(self, stream: AsyncIterator[T], arrived: asyncio.Event) -> None:
        self._stream = stream
        self._arrived = arrived
        self._items: deque[T] = deque()
        self._room = asyncio.Event()
        self.failed: Exception | None = None

    async def read(self) -> None:
        try:
            async for item in self._stream:
                self._items.append(item)
                self._arrived.set()
                while len(self._items) >= _READ_AHEAD:
                    self._room.clear()
                    await self._room.wait()
            self.failed = PeerError("the stream ended")
        except Exception as error:
            self.failed = error
        self._arrived.set()

    def take(self) -> list[T]:
        """What has come; raises what broke the stream off once all before it is taken."""
        taken = list(self._items)
        self._items.clear()
        self._room.set()
        if not taken and self.failed is not None:
            raise self.failed
        if self.failed is not None:
            self._arrived.set()
        return taken


@contextlib.asynccontextmanager
async def _reading(stream: AsyncIterator[T], arrived: asyncio.Event) -> AsyncIterator[_Inlet[T]]:
    inlet = _Inlet(stream, arrived)
    task = asyncio.create_task(inlet.read())
    try:
        yield inlet
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _ledger_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.ledger_offset for partition, cursor in cursors.items()}


def _change_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.change_offset for partition, cursor in cursors.items()}
