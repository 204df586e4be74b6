"""Handles both feeds in their one order: coupons (given, or taken back) and messages, members, and the cursors, in one
transaction per batch.

What comes while one is written down is the next. A batch takes a fixed number of statements, whatever its size, and
none where it only passes entries that mean nothing to us: that waits for another. What reaches beyond a commit -
waiting reads, the worker - is told after it; if the process dies in between, both find out from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import structlog

from services.notifier.domain.campaigns import Reward, Rewards
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.deliveries import DeliveryState
from services.notifier.domain.feeds import (
    Batch,
    Cursor,
    LedgerEntry,
    LedgerLayout,
    MemberJoined,
    ProgrammeApplied,
    Sequencer,
    TierChange,
    TierNews,
)
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FeedError, PeerError
from services.notifier.progress import Progress
from services.notifier.store import Store, Transaction
from services.programme.versions import Versions
from services.runtime.clock import MachineClock
from services.runtime.database import Connection
from services.runtime.inlet import reading

log = structlog.get_logger()

# Lines handled in one transaction at most.
BATCH: Final = 4000
# Entries that may wait for tiers; beyond that the ledger's stream is not read on.
MAX_HELD_ENTRIES: Final = 20_000
# Entries that may be passed by before that is written down.
MOST_PASSED: Final = 10_000
_PROGRAMME_PAUSE_SECONDS: Final = 10.0
_MAX_VARIANTS: Final = 8


class Ledger(Protocol):
    """What the consumer asks of the ledger. All raise PeerError."""

    async def layout(self) -> LedgerLayout:
        """Partitions and clock."""

    async def versions(self) -> Versions:
        """The versions of the programme that the ledger goes by."""

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
        programmes: Programmes,
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
        self._programmes = programmes
        self._partitions = partitions
        self._simulated = simulated
        self._progress = progress
        self._messages_queued = messages_queued
        self._machine_now = machine_now
        # What was passed by, and is not written down.
        self._passed: Batch | None = None

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
        cursors = self._resumed(await self._store.read(Transaction.read_cursors))
        self._progress.stand(cursors)
        sequencer = Sequencer(cursors)
        arrived = asyncio.Event()
        ended = PeerError("the stream ended")
        lines = self._ledger.entries(_ledger_offsets(cursors))
        changes = self._tiers.news(_change_offsets(cursors))
        async with (
            self._store.writing() as connection,
            reading(lines, arrived, size=_size_of_lines, room=BATCH, ended=ended) as entries,
            reading(changes, arrived, size=_size_of_news, room=BATCH, ended=ended) as news,
        ):
            log.info("feeds_opened", partitions=len(cursors))
            while True:
                await arrived.wait()
                arrived.clear()
                for response in news.take():
                    await self._learn_of(change.programme_version for change in response.changes)
                    sequencer.add_news(response)
                if sequencer.held_entries < MAX_HELD_ENTRIES:
                    for part in entries.take():
                        self._check_homes(part)
                        facts = [entry.fact for entry in part]
                        await self._learn_of(fact.version for fact in facts if isinstance(fact, ProgrammeApplied))
                        sequencer.add_entries(part)
                while (batch := sequencer.take(BATCH)) is not None:
                    await self.handle(batch, over=connection)
                    # Entries given out make room for others that were left in the stream.
                    arrived.set()

    def _resumed(self, cursors: Mapping[int, Cursor]) -> Mapping[int, Cursor]:
        """The cursors as they are written down, and what was passed by from there on since."""
        passed = self._passed
        if passed is None or any(cursors[partition] != cursor for partition, cursor in passed.before.items()):
            self._passed = None
            return cursors
        return {**cursors, **passed.after}

    async def handle(self, batch: Batch, *, over: Connection | None = None) -> None:
        """Carries out one batch, all of it or nothing. `over`: the connection of `Store.writing`."""
        whole = batch.following(self._passed) if self._passed else batch
        if 0 < whole.passes_by < MOST_PASSED:
            self._passed = whole
            self._progress.stand(batch.after)
            return
        rewards = self._rewards.decide(whole.changes)
        taking_back = [change for change in whole.changes if change.taken_back_to is not None]

        async def work(transaction: Transaction) -> tuple[int, int, int]:
            await transaction.move_cursors(whole.before, whole.after)
            await transaction.insert_members(whole.entries)
            issued, queued = await self._issue(transaction, rewards) if rewards else (0, 0)
            # What comes after it in the batch is there already, and not touched: it has a later offset.
            return issued, queued, await self._take_back(transaction, taking_back) if taking_back else 0

        issued, queued, voided = await self._store.transact(work, over)
        self._passed = None
        self._progress.stand(batch.after)
        if queued:
            self._messages_queued()
        if issued:
            log.info("coupons_issued", coupons=issued, messages_queued=queued, changes=len(whole.changes))
        if voided:
            log.info("coupons_voided", coupons=voided, changes=len(taking_back))

    async def _issue(self, transaction: Transaction, rewards: list[Reward]) -> tuple[int, int]:
        """Keeps coupons with their messages; what was given before is not given again.

        A message without an address to go to waits for one from the start. Says how many coupons there are, and how
        many messages are queued.
        """
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
        if not issued:
            return 0, 0
        # The partitions are ours: a contact that is being set was there before, or finds what waits for it.
        addressed = await transaction.find_addressed([reward.coupon.member_key for reward in issued])
        states = [
            DeliveryState.QUEUED if reward.coupon.member_key in addressed else DeliveryState.NO_CONTACT
            for reward in issued
        ]
        await transaction.insert_deliveries(issued, states, self._machine_now())
        return len(issued), states.count(DeliveryState.QUEUED)

    async def _take_back(self, transaction: Transaction, changes: Sequence[TierChange]) -> int:
        """Voids what these changes take back, and says how many coupons; what is void already stays as it is."""
        held = await transaction.find_rewards({change.member_key for change in changes})
        voided = self._rewards.take_back(changes, held)
        if voided:
            await transaction.void_coupons(voided)
        return len(voided)

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
        """Waits until the ledger goes, or has gone, by the programme that this service was started with; then takes
        over all its versions.

        Raises FeedError where it is another ledger than the one that the database was made for.
        """
        layout = await self._ledger.layout()
        if set(layout.heads) != set(range(self._partitions)) or layout.simulated != self._simulated:
            log.error("ledger_mismatch_found", own=self._partitions, ledger=len(layout.heads))
            raise FeedError("the ledger has other partitions or another clock than the one we were set up with")
        configured, told = self._programmes.configured.version, False
        while (versions := await self._ledger.versions()).named(configured) is None:
            if not told:
                log.error("programme_mismatch_found", own=configured, ledger=versions[-1].programme.version)
                told = True
            await asyncio.sleep(_PROGRAMME_PAUSE_SECONDS)
        self._programmes.learn(versions)

    async def _learn_of(self, versions: Iterable[str]) -> None:
        """Asks the ledger for its versions where one is told of that is not known."""
        for version in versions:
            if version and not self._programmes.knows(version):
                self._programmes.learn(await self._ledger.versions())
                log.info("programme_applied", version=version)


def _size_of_lines(entries: Sequence[LedgerEntry]) -> int:
    return sum(entry.count for entry in entries)


def _size_of_news(news: TierNews) -> int:
    return len(news.changes) + len(news.progress)


def _ledger_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.ledger_offset for partition, cursor in cursors.items()}


def _change_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.change_offset for partition, cursor in cursors.items()}
