"""Begins local days: what a day that comes sets off, and what all members are to hear of.

Each partition has the last day that was begun. A day is gone through by pages, each a transaction of its own; if the
process dies in between, the day is gone through again, and what was given before is not given twice. Two notifiers may
do so at once; when one of them is through with a day, the other gives no more of it. A day that was missed is made up
for, up to a month; in a simulated installation all of them are.

No day is judged before all is handled that the feeds held when it began: in real time they are asked how far they go;
in a simulated installation its time comes with them, and what the ledger recorded after it waits (`Sequencer`). Changes
of tier do not wait, and may be of later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final

import structlog

from services.notifier.consumer import Ledger, Tiers
from services.notifier.domain.assignments import Claim
from services.notifier.domain.feeds import Cursor
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import PeerError, PeerRefusedError
from services.notifier.progress import Progress
from services.notifier.service.campaign_engine import CampaignEngine, Given
from services.notifier.service.candidates import Candidates
from services.notifier.store import Store, Transaction
from services.notifier.store.campaigns import CampaignCursor
from services.programme.campaigns import DAILY, Campaign, TriggerKind
from services.programme.model import Programme
from services.runtime.clock import SIMULATED_START, MachineClock

log = structlog.get_logger()

# Days further back are not made up for in real time: nobody wants the birthday wishes of last spring.
MOST_DAYS: Final = 31
_LONGEST_WAIT_SECONDS: Final = 60.0
# Until ops are told again that days wait.
_WAIT_TOLD_SECONDS: Final = 60.0
# Until tiers is asked again what it did not answer.
_PAUSE_SECONDS: Final = 10.0
_ONE_DAY: Final = timedelta(days=1)


class Days:
    """Runs for as long as the service lives."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tiers: Tiers,
        store: Store,
        engine: CampaignEngine,
        candidates: Candidates,
        programmes: Programmes,
        progress: Progress,
        partitions: int,
        simulated: bool,
        machine_now: MachineClock,
    ) -> None:
        self._ledger = ledger
        self._tiers = tiers
        self._store = store
        self._engine = engine
        self._candidates = candidates
        self._programmes = programmes
        self._progress = progress
        self._partitions = partitions
        self._simulated = simulated
        self._machine_now = machine_now
        self._woken = asyncio.Event()
        # The last day for which tiers was to be asked, and what it has not answered, by campaign and day. In memory
        # alone: after a restart today is asked about again, and nothing is given twice.
        self._asked_day: date | None = None
        self._unanswered: dict[tuple[str, date], tuple[Programme, Campaign]] = {}
        if simulated and engine.asks:
            progress.begin_days(SIMULATED_START)

    def wake(self) -> None:
        """Time has passed, or there is something for all members."""
        self._woken.set()

    async def run(self) -> None:
        """Begins each day when it comes, for ever."""
        while True:
            self._woken.clear()
            await self.catch_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS if self._unanswered else _LONGEST_WAIT_SECONDS):
                    await self._woken.wait()

    async def catch_up(self) -> None:
        """Begins all days up to now, and tells members what they are to hear of."""
        now = self._progress.handled_time() if self._simulated else self._machine_now()
        if not self._programmes.asked or now <= SIMULATED_START:
            return
        if not self._engine.asks:
            # No day brings anything, and nothing is told to all.
            self._progress.begin_days(None)
            return

        async def read(transaction: Transaction) -> tuple[dict[int, Cursor], dict[int, CampaignCursor]]:
            at = await transaction.read_cursors()
            return at, await transaction.read_campaign_cursors(at)

        at, cursors = await self._store.transact(read)
        if any(cursors[partition].is_behind(cursor) for partition, cursor in at.items()):
            # Profiles are being read up: whoever does so wakes us.
            return
        today = self._programmes.at(now).local_day(now)
        for partition in sorted(cursors):
            await self._announce(partition)
        if not self._simulated and self._engine.has_days:
            begun = {self._asked_day, *(cursor.begun_day for cursor in cursors.values())}
            if begun != {today}:
                await self._come_to_ends()
        for partition in sorted(cursors):
            await self._begin(partition, cursors[partition], today)
        await self._give_losing(today)
        if self._simulated and not self._unanswered:
            self._progress.begin_days(now)

    async def _come_to_ends(self) -> None:
        """Returns when all is handled that both feeds hold now, however long that takes.

        Of a member who bought while this service was down, or one of the others could not be reached, a day would say
        what is not so. Raises PeerError.
        """
        entries = (await self._ledger.layout()).heads
        changes = self._progress.change_offsets()
        async for news in self._tiers.news(dict(changes), follow=False):
            changes.update((change.partition, change.offset) for change in news.changes)
        while True:
            try:
                async with asyncio.timeout(_WAIT_TOLD_SECONDS):
                    return await self._progress.reach_ends(entries, changes)
            except TimeoutError:
                behind = self._progress.behind(entries, changes)
                log.warning("days_wait", partitions=len(behind), lines=sum(behind.values()))

    async def _begin(self, partition: int, cursor: CampaignCursor, today: date) -> None:
        begun, before = cursor.begun_day, cursor.begun_day
        if begun is None:
            begun = today - _ONE_DAY
        if not self._simulated:
            begun = max(begun, today - timedelta(days=MOST_DAYS))
        if not self._engine.has_days:
            begun = max(begun, today - _ONE_DAY)
        while begun < today:
            begun += _ONE_DAY
            await self._give_of(partition, begun)
            await self._write_down(partition, before, begun)
            before = begun

    async def _write_down(self, partition: int, before: date | None, day: date) -> None:
        async def work(transaction: Transaction) -> None:
            if await transaction.begin_day(partition, before, day):
                await transaction.forget_lapsed_points(partition, day)

        await self._store.transact(work)

    async def _give_of(self, partition: int, day: date) -> None:
        """Gives what a day brings the members of a partition, as far as the database says who they are."""
        programme = self._of_day(day)
        for campaign in programme.campaigns:
            if campaign.trigger.kind in DAILY and campaign.runs_on(day):
                async for claims in self._candidates.of(programme, campaign, partition, day):
                    await self._give(partition, claims, day)

    async def _give_losing(self, today: date) -> None:
        """Gives what is for members who will lose a level by time alone, once for all partitions.

        Tiers is asked, and tells of now: a day that was missed is not made up for. Where it does not answer, the
        campaign's day is tried again until the levels it is about are lost; no other campaign waits for that. What it
        refuses it would refuse again: that day of the campaign is left out.
        """
        if self._asked_day != today:
            self._asked_day = today
            programme = self._of_day(today)
            for campaign in programme.campaigns:
                if campaign.trigger.kind is TriggerKind.TIER_AT_RISK and campaign.runs_on(today):
                    self._unanswered[campaign.id, today] = programme, campaign
        for (campaign_id, day), (programme, campaign) in list(self._unanswered.items()):
            if day + timedelta(days=campaign.trigger.days) >= today:
                try:
                    async for claims in self._candidates.losing(programme, campaign, day):
                        for home in sorted({claim.partition for claim in claims}):
                            await self._give(home, [claim for claim in claims if claim.partition == home])
                except PeerRefusedError as error:
                    log.error("campaign_day_refused", campaign_id=campaign_id, day=f"{day}", problem=str(error))
                except PeerError as error:
                    log.error("campaign_day_delayed", campaign_id=campaign_id, day=f"{day}", problem=str(error))
                    continue
            del self._unanswered[campaign_id, day]

    def _of_day(self, day: date) -> Programme:
        """The version that holds when a local day begins."""
        return self._programmes.at(self._programmes.newest.start_of_local_day(day))

    async def _give(self, partition: int, claims: Sequence[Claim], day: date | None = None) -> None:
        """`day`: the one that the claims are of, where it is gone through by partitions."""
        if not claims:
            return

        async def work(transaction: Transaction) -> Given:
            await transaction.lock_partition(partition)
            if day is not None:
                begun = (await transaction.read_campaign_cursors([partition]))[partition].begun_day
                if begun is not None and begun >= day:
                    # Another notifier has done it, and may have let in since who came after it.
                    return Given()
            return await self._engine.give(transaction, claims)

        self._engine.told(await self._store.transact(work))

    async def _announce(self, partition: int) -> None:
        """Tells the members of a partition of versions that were announced, each by the campaigns of its moment.

        What is in force by then is news no more. A simulated installation lives through its history: there the moment
        is that of the announcement, whenever it is read.
        """

        async def waiting(transaction: Transaction) -> list[tuple[str, datetime]]:
            return await transaction.list_announcements(partition)

        for version, announced in await self._store.read(waiting):
            programme = self._programmes.at(announced)
            ahead = self._programmes.begins_after(version, announced if self._simulated else self._machine_now())
            for campaign in programme.campaigns:
                if campaign.trigger.kind is not TriggerKind.PROGRAMME_CHANGE or not ahead:
                    continue
                async for page in self._candidates.everybody(partition):
                    claims = [
                        Claim(
                            programme=programme,
                            campaign=campaign,
                            partition=partition,
                            member_id=one.profile.member_id,
                            trigger=f"version:{version}",
                            time=announced,
                            facts={"version": version},
                        )
                        for one in page
                    ]
                    await self._give(partition, claims)

            async def done(transaction: Transaction, version: str = version) -> None:
                await transaction.delete_announcement(partition, version)

            await self._store.transact(done)
