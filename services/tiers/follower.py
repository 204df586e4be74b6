"""The work that never ends: following the ledger's feed, running what is due, telling the ledger earning classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol

import structlog

from services.runtime.clock import ClockMode, MachineClock, machine_now
from services.runtime.database import keep_going
from services.runtime.inlet import reading
from services.runtime.signal import woken
from services.tiers.domain.feed import EntryKind, LedgerEntry
from services.tiers.errors import FeedBrokenError, LedgerDiffersError, LedgerUnavailableError, TiersError
from services.tiers.service import POLL_SECONDS, Tiers
from services.tiers.store import ClassNotice, StoredVersion

log = structlog.get_logger()

# Entries read ahead while others are taken in; then they are, in one transaction.
_ENTRIES_AHEAD = 2000
# Earning classes of one BatchRecord.
_NOTICES_PER_BATCH = 500
# The longest sleep of a real-time installation: an earlier instant may have come in meanwhile, and is due within 1 s.
_LONGEST_SLEEP_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDescription:
    """What the ledger says of itself."""

    versions: tuple[StoredVersion, ...]
    partitions: tuple[int, ...]
    clock_mode: ClockMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the ledger said to a notice. `refused`: why, where it was; not `final`: it is to be sent again."""

    final: bool
    refused: str = ""


class Ledger(Protocol):
    """The ledger as tiers need it. Whatever keeps it from answering is a LedgerUnavailableError."""

    async def describe(self) -> LedgerDescription:
        """Programme, partitions and clock."""

    async def heads(self) -> Mapping[int, int]:
        """The offset of the last entry of each partition."""

    def entries(self, after: Mapping[int, int], *, follow: bool) -> AsyncIterator[list[LedgerEntry]]:
        """The feed after these offsets, response by response; with `follow` it only ends by an error."""

    async def set_classes(self, notices: Sequence[ClassNotice]) -> list[Answer]:
        """Sends earning classes and gives an answer for each, in the same order."""


class Follower:
    """Ties the service to the ledger. Each method runs for as long as the service does."""

    def __init__(self, *, tiers: Tiers, ledger: Ledger, now: MachineClock = machine_now) -> None:
        self._tiers = tiers
        self._ledger = ledger
        self._now = now
        # Set while the feed is followed.
        self._following = asyncio.Event()

    async def follow_ledger(self) -> None:
        """Takes in the feed from where the cursors stand."""
        await keep_going("ledger_feed", self._follow, also=(TiersError,))

    async def run_due(self) -> None:
        """In a real-time installation: changes tiers at the instants when movements leave the window."""
        await keep_going("due_changes", self._run_due, also=(TiersError,))

    async def run_programme(self) -> None:
        """In a real-time installation: brings standings to the version of the programme that holds."""
        await keep_going("programme", self._run_programme, also=(TiersError,))

    async def send_notices(self) -> None:
        """Empties the outbox of earning classes into the ledger."""
        await keep_going("earning_classes", self._send, also=(TiersError,))

    async def _follow(self) -> None:
        described = await self._ledger.describe()
        try:
            # Tiers by other rules than those that points were given by would be guesses.
            await self._tiers.learn(described.versions, simulated=described.clock_mode is ClockMode.SIMULATED)
            await self._tiers.prepare(partitions=described.partitions, clock_mode=described.clock_mode)
        except LedgerDiffersError as error:
            log.error("ledger_differed", problem=str(error))
            raise
        await self._complete_facts()
        positions = self._tiers.positions
        after = {partition: cursor.ledger_offset for partition, cursor in positions.cursors.items()}
        log.info("feed_followed", partitions=len(after), clock_mode=described.clock_mode.value)
        self._following.set()
        try:
            await self._take_in(after)
        except FeedBrokenError as error:
            # Never skipped: what follows would be counted upon a hole.
            log.error("feed_broke", problem=str(error))
            raise
        except LedgerUnavailableError as error:
            log.warning("feed_ended", problem=str(error))
            raise
        finally:
            self._following.clear()

    async def _complete_facts(self) -> None:
        """Reads again what an older release took in without keeping the facts."""
        missing = {p: c for p, c in self._tiers.positions.cursors.items() if c.facts_missing}
        if not missing:
            return
        log.info("facts_found_missing", partitions=len(missing), entries=sum(c.facts_missing for c in missing.values()))
        after = {partition: cursor.facts_read for partition, cursor in missing.items()}
        async for entries in self._ledger.entries(after, follow=False):
            await self._tiers.complete_facts(entries)
            if self._tiers.positions.facts_read:
                break
        await self._tiers.mend_standings()

    async def _take_in(self, after: Mapping[int, int]) -> NoReturn:
        """Takes in the feed after these offsets, whatever has come at once, until it breaks off."""
        arrived = asyncio.Event()
        feed = reading(
            self._ledger.entries(after, follow=True),
            arrived,
            size=len,
            room=_ENTRIES_AHEAD,
            ended=LedgerUnavailableError("the ledger ended the stream"),
        )
        async with self._tiers.writing() as connection, feed as responses:
            await self._tiers.run_passed(over=connection)
            while True:
                await arrived.wait()
                arrived.clear()
                if entries := [entry for response in responses.take() for entry in response]:
                    if told := [entry for entry in entries if entry.kind is EntryKind.PROGRAMME]:
                        await self._hear(told)
                    await self._tiers.take_in(entries, over=connection)
                    await self._tiers.run_passed(over=connection)

    async def _hear(self, told: Sequence[LedgerEntry]) -> None:
        """Hears of versions of the programme: each partition does, before anything is decided by them."""
        simulated = self._tiers.positions.is_simulated
        if not all(self._tiers.knows(entry) for entry in told):
            await self._tiers.learn((await self._ledger.describe()).versions, simulated=simulated)
        if simulated:
            await self._tiers.date_versions(told)

    async def _read_until(self) -> datetime:
        """An instant of now, returned when all is taken in that the ledger had then.

        Time alone changes nothing before that: of a member who bought enough while tiers were down, or the ledger could
        not be reached, a fall would be told that never was. While the feed is not followed, this waits.
        """
        await self._following.wait()
        now = self._now()
        await self._tiers.taken_in(await self._ledger.heads())
        return now

    async def _run_due(self) -> None:
        positions = self._tiers.positions
        while True:
            pause = _LONGEST_SLEEP_SECONDS
            if positions.clock_mode is ClockMode.REAL:
                now = self._now()
                due = await self._tiers.next_due()
                if due is not None and due <= now:
                    await self._tiers.run_due(await self._read_until())
                    continue
                if due is not None:
                    pause = min(pause, (due - now).total_seconds())
            await asyncio.sleep(pause)

    async def _run_programme(self) -> None:
        while True:
            positions = self._tiers.positions
            is_run_here = positions.clock_mode is ClockMode.REAL and not positions.facts_missing
            if is_run_here and self._tiers.standings_are_behind(self._now()):
                await self._tiers.run_programme(await self._read_until())
            await asyncio.sleep(_LONGEST_SLEEP_SECONDS)

    async def _send(self) -> None:
        waits = self._tiers.notices_wait
        while True:
            waits.clear()
            notices = await self._tiers.waiting_notices(_NOTICES_PER_BATCH)
            if not notices:
                await woken(waits, POLL_SECONDS)
                continue
            answers = await self._ledger.set_classes(notices)
            answered = []
            for notice, answer in zip(notices, answers, strict=True):
                if answer.final:
                    answered.append(notice)
                if answer.refused and answer.final:
                    log.warning("earning_class_refused", request_id=notice.request_id, reason=answer.refused)
            await self._tiers.forget_notices(answered)
            if len(answered) < len(notices):
                raise LedgerUnavailableError("the ledger left earning classes unanswered")
