"""Handles both feeds in their one order: what campaigns give or take back, members, and the cursors, in one transaction
per batch.

What comes while one is written down is the next. A batch takes a fixed number of statements, whatever its size, and
none where it only passes entries that mean nothing to us: that waits for another. What reaches beyond a commit -
waiting reads, the worker - is told after it; if the process dies in between, both find out from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

import structlog

from services.notifier.domain.campaigns import Gifts
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.feeds import (
    Batch,
    Cursor,
    Happening,
    LedgerEntry,
    LedgerLayout,
    MemberEvent,
    MemberJoined,
    ProgrammeApplied,
    Sequencer,
    TierChange,
    TierNews,
    undone,
)
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FeedError, PeerError
from services.notifier.progress import Progress
from services.notifier.service.campaign_engine import CampaignEngine, Given
from services.notifier.store import Store, Transaction
from services.programme.versions import Versions
from services.runtime.clock import SIMULATED_START
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
# Purchases that are asked about at once.
_ASKED_AT_ONCE: Final = 32


class Ledger(Protocol):
    """What the consumer asks of the ledger. All raise PeerError."""

    async def layout(self) -> LedgerLayout:
        """Partitions and clock."""

    async def versions(self) -> Versions:
        """The versions of the programme that the ledger goes by."""

    def entries(
        self, after: Mapping[int, int], *, follow: bool = True, members: bool = False
    ) -> AsyncIterator[Sequence[LedgerEntry]]:
        """The entries after these offsets, live, until the stream breaks off, or to the end; with what campaigns ask of
        members or without it."""

    async def purchase_detail(self, member_id: str, purchase_id: str) -> tuple[str, frozenset[str]]:
        """The store of a purchase, and the departments of its goods."""


class Tiers(Protocol):
    """What the consumer asks of tiers."""

    def news(self, after: Mapping[int, int], *, follow: bool = True) -> AsyncIterator[TierNews]:
        """The changes after these offsets, live, until the stream breaks off, or to the end; raises PeerError."""


class Consumer:
    """Runs for as long as the service lives; every start begins at the cursors in the database."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tiers: Tiers,
        store: Store,
        gifts: Gifts,
        engine: CampaignEngine,
        programmes: Programmes,
        partitions: int,
        simulated: bool,
        progress: Progress,
        channels: Collection[str],
        time_passed: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._tiers = tiers
        self._store = store
        self._gifts = gifts
        self._engine = engine
        self._programmes = programmes
        self._partitions = partitions
        self._simulated = simulated
        self._progress = progress
        self._channels = channels
        self._time_passed = time_passed
        # Campaigns with channels that are not set up, of which the log has told.
        self._told: set[tuple[str, str]] = set()
        # Whether this run keeps what campaigns ask of members.
        self._asks = False
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
        self._asks = self._engine.asks
        if self._asks:
            # What was passed by had not been asked about: it is read again.
            self._passed = None
        cursors = self._resumed(await self._store.read(Transaction.read_cursors))
        self._progress.stand(cursors)
        sequencer = Sequencer(cursors)
        arrived = asyncio.Event()
        ended = PeerError("the stream ended")
        if self._asks:
            await self._read_up(cursors)
            if self._simulated and self._progress.days is None:
                # A version has come that asks for days, too: they come first.
                self._progress.begin_days(SIMULATED_START)
        self._time_passed()
        self._progress.follow_days(arrived.set)
        lines = self._ledger.entries(_ledger_offsets(cursors), members=self._asks)
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
                    await self._learn_of((change.programme_version, None) for change in response.changes)
                    sequencer.add_news(response)
                # What a day waits for may lie behind any number of entries that wait for the day.
                if sequencer.held_entries < MAX_HELD_ENTRIES or sequencer.awaits_clock:
                    for part in entries.take():
                        self._check_homes(part)
                        facts = [entry.fact for entry in part]
                        await self._learn_of(
                            (fact.version, fact.from_time) for fact in facts if isinstance(fact, ProgrammeApplied)
                        )
                        sequencer.add_entries(await self._with_detail(part))
                # A version that was just heard of may be the first with days: what is recorded after it waits for them.
                sequencer.begin_days(self._progress.days if self._engine.has_days else None)
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
        came_back = undone(whole.entries)
        taking_back = [change for change in whole.changes if change.taken_back_to is not None]

        async def work(transaction: Transaction) -> tuple[Given, int]:
            await transaction.move_cursors(whole.before, whole.after)
            await transaction.insert_members(whole.entries)
            await transaction.mark_checkouts_undone(came_back)
            if self._asks:
                await transaction.move_campaign_cursors(whole.after)
            occasions, profiles = await self._engine.take_in(transaction, whole.changes, whole.entries)
            given = await self._engine.give(transaction, self._engine.claims(occasions), profiles)
            # What comes after it in the batch is there already, and not touched: it has a later offset.
            return given, await self._take_back(transaction, taking_back) if taking_back else 0

        given, voided = await self._store.transact(work, over)
        self._passed = None
        self._progress.stand(batch.after)
        self._engine.told(given)
        times = [(whole.before[partition], cursor) for partition, cursor in whole.after.items()]
        moved = any(
            (before.business_time, before.due_time) != (after.business_time, after.due_time) for before, after in times
        )
        if moved or any(isinstance(entry.fact, ProgrammeApplied) for entry in whole.entries):
            self._time_passed()
        if voided:
            log.info("coupons_voided", coupons=voided, changes=len(taking_back))

    async def _take_back(self, transaction: Transaction, changes: Sequence[TierChange]) -> int:
        """Voids what these changes take back, and says how many coupons; what is void already stays as it is."""
        held = await transaction.find_tier_gifts({change.member_key for change in changes})
        voided = self._gifts.take_back(changes, held)
        if voided:
            await transaction.void_coupons(voided)
        return len(voided)

    async def _read_up(self, cursors: Mapping[int, Cursor]) -> None:
        """Takes in what the feeds told of members up to the cursors, and was not asked about then; nothing is given for
        it."""

        async def begin(transaction: Transaction) -> dict[int, Cursor]:
            return {**await transaction.read_campaign_cursors(cursors)}

        at = await self._store.transact(begin)
        behind = sum(at[partition].is_behind(cursor) for partition, cursor in cursors.items())
        if not behind:
            return
        log.info("profiles_read_up", partitions=behind)
        async for news in self._tiers.news(_change_offsets(at), follow=False):
            changes = [one for one in news.changes if one.offset <= cursors[one.partition].change_offset]
            for change in changes:
                at[change.partition] = replace(at[change.partition], change_offset=change.offset)
            await self._take_in(changes, (), at)
        async for part in self._ledger.entries(_ledger_offsets(at), follow=False, members=True):
            entries = [one for one in part if one.first_offset <= cursors[one.partition].ledger_offset]
            for entry in entries:
                offset = min(entry.offset, cursors[entry.partition].ledger_offset)
                at[entry.partition] = replace(at[entry.partition], ledger_offset=offset)
            await self._take_in((), entries, at)

    async def _take_in(
        self, changes: Sequence[TierChange], entries: Sequence[LedgerEntry], at: Mapping[int, Cursor]
    ) -> None:
        if not changes and not entries:
            return

        async def work(transaction: Transaction) -> None:
            for partition in sorted({one.partition for one in changes} | {one.partition for one in entries}):
                await transaction.lock_partition(partition)
            await transaction.move_campaign_cursors(at)
            await self._engine.take_in(transaction, changes, [one for one in entries if _of_a_member(one)])

        await self._store.transact(work)

    async def _with_detail(self, entries: Sequence[LedgerEntry]) -> Sequence[LedgerEntry]:
        """The entries; purchases with their store and departments, where some campaign goes by those."""
        if not self._asks or not self._engine.asks_detail:
            return entries
        asked = [
            (place, entry.fact)
            for place, entry in enumerate(entries)
            if isinstance(entry.fact, MemberEvent) and entry.fact.happening is Happening.PURCHASE
        ]
        told = list(entries)
        for first in range(0, len(asked), _ASKED_AT_ONCE):
            some = asked[first : first + _ASKED_AT_ONCE]
            details = await asyncio.gather(
                *(self._ledger.purchase_detail(fact.member_id, fact.purchase_id) for _, fact in some)
            )
            for (place, fact), (store, departments) in zip(some, details, strict=True):
                told[place] = replace(told[place], fact=replace(fact, store=store, departments=departments))
        return told

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
        self._take_over(versions)

    def _take_over(self, versions: Versions) -> None:
        """Goes by these versions. Messages of the last one on channels that are not set up would wait for ever: the log
        tells of each."""
        self._programmes.learn(versions)
        used = {
            (campaign.id, variant.actions.message.channel)
            for campaign in self._programmes.newest.campaigns
            for variant in campaign.variants
            if variant.actions.message is not None and variant.actions.message.channel not in self._channels
        }
        for campaign_id, channel in sorted(used - self._told):
            log.error("channel_not_set_up", campaign_id=campaign_id, channel=channel)
        self._told |= used

    async def _learn_of(self, versions: Iterable[tuple[str, datetime | None]]) -> None:
        """Asks the ledger for its versions where one is told of that is not known, by its name and from when it holds;
        whoever tells the name alone means one that the ledger told of before."""
        for version, from_time in versions:
            if version and not self._programmes.knows(version, from_time):
                self._take_over(await self._ledger.versions())
                log.info("programme_applied", version=version)
                if self._engine.asks and not self._asks:
                    raise PeerError("campaigns ask for more: the feeds are begun again")


def _of_a_member(entry: LedgerEntry) -> bool:
    return isinstance(entry.fact, MemberJoined | MemberEvent)


def _size_of_lines(entries: Sequence[LedgerEntry]) -> int:
    return sum(entry.count for entry in entries)


def _size_of_news(news: TierNews) -> int:
    return len(news.changes) + len(news.progress)


def _ledger_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.ledger_offset for partition, cursor in cursors.items()}


def _change_offsets(cursors: Mapping[int, Cursor]) -> dict[int, int]:
    return {partition: cursor.change_offset for partition, cursor in cursors.items()}
