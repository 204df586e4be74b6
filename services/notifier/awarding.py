"""Asks the ledger for the points that campaigns give, until it has answered.

Each is asked for under a request id made of its cause: so the ledger gives it once, whoever asks how often. What it
refuses stays refused. While it cannot be reached the rest waits, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from services.notifier.domain.awards import AwardSettlement, AwardState, DueAward, asked, put_back, unanswered
from services.notifier.domain.deliveries import Random
from services.notifier.errors import PeerError, PeerRefusedError
from services.notifier.store import DueAwards, Store, Transaction
from services.runtime.clock import MachineClock

log = structlog.get_logger()

# Taken at once, of one campaign from one partition.
LEASED: Final = 200
LEASE: Final = timedelta(seconds=60)
_AT_ONCE: Final = 16
# How long nothing is asked for after nobody has answered.
_PAUSE: Final = timedelta(seconds=5)
_LONGEST_WAIT_SECONDS: Final = 30.0


class Points(Protocol):
    """What is asked of the ledger."""

    async def award(
        self,
        *,
        request_id: str,
        member_id: str,
        points: int,
        on_behalf_of: str,
        reason: str,
        purchase_id: str,
        lasting: str,
    ) -> None:
        """Gives points; raises PeerRefusedError where they are refused for good, PeerError where nobody answers."""


class Awarding:
    """Runs for as long as the service lives. Several may run at once, also in several processes."""

    def __init__(self, *, store: Store, points: Points, machine_now: MachineClock, random: Random) -> None:
        self._store = store
        self._points = points
        self._now = machine_now
        self._random = random
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be points to ask for."""
        self._woken.set()

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            self._woken.clear()
            next_time = await self.ask_for_all()
            wait = _LONGEST_WAIT_SECONDS
            if next_time is not None:
                wait = min(wait, max(0.0, (next_time - self._now()).total_seconds()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def ask_for_all(self) -> datetime | None:
        """Asks for all that is due, and says when the next will be: None where nothing waits."""
        while True:
            due = await self._store.read(_look)
            now = self._now()
            ready = [one for one in due if one.not_before <= now]
            if not ready:
                return min((one.not_before for one in due), default=None)
            for one in ready:
                if not await self._ask(one.partition, one.campaign_id):
                    return self._now() + _PAUSE

    async def _ask(self, partition: int, campaign_id: str) -> bool:
        """Asks for one lease of a campaign's points in a partition; False where nobody answers."""
        now = self._now()

        async def lease(transaction: Transaction) -> list[DueAward]:
            if campaign_id in await transaction.paused_campaigns():
                return []
            return await transaction.lease_awards(partition, campaign_id, now=now, until=now + LEASE, limit=LEASED)

        leased = await self._store.transact(lease)
        settlements: list[AwardSettlement] = []
        answered = True
        for first in range(0, len(leased), _AT_ONCE):
            if campaign_id in await self._store.read(Transaction.paused_campaigns):
                settlements += [put_back(due, self._now()) for due in leased[first:]]
                break
            answers = await asyncio.gather(*(self._settled(due) for due in leased[first : first + _AT_ONCE]))
            settlements += answers
            answered = all(one.state is not AwardState.QUEUED for one in answers)
            if not answered:
                # The others are not tried for nothing.
                settlements += [unanswered(due, "", self._now(), self._random) for due in leased[first + _AT_ONCE :]]
                break
        if settlements:
            await self._write_down(settlements)
        return answered

    async def _settled(self, due: DueAward) -> AwardSettlement:
        award = due.award
        try:
            await self._points.award(
                request_id=award.request_id,
                member_id=award.member_id,
                points=award.points,
                on_behalf_of="",
                reason=award.campaign_id,
                purchase_id=award.purchase_id,
                lasting=award.lasting,
            )
        except PeerRefusedError as error:
            log.warning("award_refused", campaign=award.campaign_id, error=str(error))
            return asked(due, str(error), self._now())
        except PeerError as error:
            return unanswered(due, str(error), self._now(), self._random)
        return asked(due, None, self._now())

    async def _write_down(self, settlements: Sequence[AwardSettlement]) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.settle_awards(settlements)

        await self._store.transact(work)
        states = [one.state for one in settlements]
        log.info(
            "awards_settled",
            given=states.count(AwardState.GIVEN),
            refused=states.count(AwardState.REFUSED),
            queued=states.count(AwardState.QUEUED),
        )


async def _look(transaction: Transaction) -> list[DueAwards]:
    return await transaction.due_awards(await transaction.paused_campaigns())
