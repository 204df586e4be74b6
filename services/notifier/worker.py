"""Delivers messages: takes what is due, sends it, writes down what came of it.

A message is leased before it is sent and settled after it. If the process dies in between, the lease runs out and the
message is sent again, under the same Message-ID: at least once, and once unless the process dies in that moment.
While the mail server cannot be reached nothing is tried and nothing counted; the worker knocks with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import structlog

from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import (
    DeliveryState,
    DueDelivery,
    Outcome,
    Random,
    Settlement,
    Verdict,
    release,
    retry_delay,
    settle,
)
from services.notifier.errors import ContactError, MailServerError, SealError, VersionsAwaitedError
from services.notifier.store import SealedContact, Store, Transaction
from services.notifier.vault import Vault
from services.runtime.clock import MachineClock
from services.runtime.database import CONNECTION_ERRORS

log = structlog.get_logger()

T = TypeVar("T")

# Messages taken at once, from one partition.
LEASED: Final = 200
LEASE: Final = timedelta(seconds=90)
# Towards the end of its lease nothing more of a batch is begun: what a channel may take for one message fits in.
_MARGIN: Final = timedelta(seconds=50)
_SENDERS: Final = 8
_LONGEST_WAIT_SECONDS: Final = 30.0
_MOST_KNOCKS: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0


class Channel(Protocol):
    """Carries one message to one contact."""

    async def deliver(self, due: DueDelivery, contact: Contact) -> Outcome:
        """Says what came of it; raises MailServerError, before anything was sent, or ContactError or LookupError."""


class Worker:
    """Runs for as long as the service lives. Several may run at once, also in several processes."""

    def __init__(
        self, *, store: Store, vault: Vault, channel: Channel, machine_now: MachineClock, random: Random
    ) -> None:
        self._store = store
        self._vault = vault
        self._channel = channel
        self._now = machine_now
        self._random = random
        self._woken = asyncio.Event()
        self._stopping = False
        self._knocks = 0
        self._closed_until: datetime | None = None

    def wake(self) -> None:
        """There may be messages due."""
        self._woken.set()

    async def run(self) -> None:
        """Delivers for ever. When cancelled, it ends what is under way and gives back what is not begun."""
        while True:
            self._woken.clear()
            next_time = await self.deliver_due()
            wait = _LONGEST_WAIT_SECONDS
            if next_time is not None:
                wait = min(wait, max(0.0, (next_time - self._now()).total_seconds()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def deliver_due(self) -> datetime | None:
        """Delivers all that is due, and says when the next will be: None where nothing waits."""
        while True:
            now = self._now()
            if self._closed_until is not None and now < self._closed_until:
                return self._closed_until
            due = await self._store.read(Transaction.due_partitions)
            ready = [partition for partition, not_before in due.items() if not_before <= now]
            if not ready:
                return min(due.values(), default=None)
            for partition in ready:
                if not await _finish(self._deliver(partition), self._stop):
                    break

    async def _deliver(self, partition: int) -> bool:
        """Delivers one lease of a partition; False where the mail server cannot be reached."""
        now = self._now()

        async def lease(transaction: Transaction) -> tuple[tuple[DueDelivery, ...], dict[str, SealedContact]]:
            batch = await transaction.lease_deliveries(partition, now=now, until=now + LEASE, limit=LEASED)
            members = {due.coupon.member_id for due in batch}
            return batch, await transaction.find_contacts(partition, sorted(members)) if batch else {}

        batch, contacts = await self._store.transact(lease)
        if not batch:
            return True
        without = [due for due in batch if not _has_address(contacts.get(due.coupon.member_id))]
        if without:
            await self._put_aside(partition, without)
        with_address = [due for due in batch if _has_address(contacts.get(due.coupon.member_id))]
        settlements = await self._send(with_address, contacts)
        if settlements:
            await self._write_down(partition, batch[0].leased_until, settlements)
        states = [settlement.state for settlement in settlements]
        log.info(
            "messages_settled",
            delivered=states.count(DeliveryState.DELIVERED),
            queued=states.count(DeliveryState.QUEUED),
            dead=states.count(DeliveryState.DEAD),
            without_contact=len(without),
        )
        return self._closed_until is None

    async def _write_down(self, partition: int, leased_until: datetime, settlements: Sequence[Settlement]) -> None:
        """Settles a lease. What was sent must not be sent again because the database was away for a moment: so it is
        tried for as long as the lease holds."""

        async def work(transaction: Transaction) -> None:
            await transaction.settle_deliveries(partition, leased_until, settlements)

        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._store.transact(work)
            except CONNECTION_ERRORS as error:
                if self._stopping or self._now() > leased_until:
                    raise
                log.warning("settling_delayed", messages=len(settlements), error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _put_aside(self, partition: int, without: Sequence[DueDelivery]) -> None:
        ids = [due.letter.delivery_id for due in without]

        async def work(transaction: Transaction) -> None:
            # A contact that is being set is seen by us, or sees what we put aside.
            await transaction.lock_partition(partition)
            await transaction.settle_without_contact(partition, without[0].leased_until, ids, self._now())

        await self._store.transact(work)

    async def _send(self, batch: Sequence[DueDelivery], contacts: dict[str, SealedContact]) -> list[Settlement]:
        """Sends over several connections at once; what was not begun is given back."""
        self._closed_until = None
        settlements: list[Settlement] = []
        waiting = iter(batch)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(_SENDERS, len(batch))):
                tasks.create_task(self._send_from(waiting, contacts, settlements))
        left = list(waiting)
        if self._closed_until is not None:
            log.warning("mail_server_not_reached", messages=len(left), next_try_time=self._closed_until.isoformat())
        elif settlements:
            self._knocks = 0
        not_before = self._closed_until or self._now()
        return settlements + [release(due, not_before=not_before, error=None) for due in left]

    async def _send_from(
        self,
        waiting: Iterator[DueDelivery],
        contacts: dict[str, SealedContact],
        settlements: list[Settlement],
    ) -> None:
        while not self._stopping and self._closed_until is None and (due := next(waiting, None)) is not None:
            if self._now() > due.leased_until - _MARGIN:
                settlements.append(release(due, not_before=self._now(), error=None))
                continue
            try:
                outcome = await self._try(due, contacts[due.coupon.member_id])
            except MailServerError as error:
                if self._closed_until is None:
                    self._close()
                assert self._closed_until is not None
                settlements.append(release(due, not_before=self._closed_until, error=str(error)))
                return
            if outcome.verdict is Verdict.REFUSED:
                log.warning("message_refused", delivery_id=due.letter.delivery_id, error=outcome.error)
            settlements.append(settle(due, outcome, now=self._now(), random=self._random))

    async def _try(self, due: DueDelivery, sealed: SealedContact) -> Outcome:
        assert sealed.wrapped_key is not None
        try:
            contact = self._vault.open_contact(due.coupon.member_id, sealed.wrapped_key, sealed.name, sealed.email)
            return await self._channel.deliver(due, contact)
        except SealError:
            return Outcome(verdict=Verdict.REFUSED, error="the contact cannot be opened")
        except ContactError as error:
            return Outcome(verdict=Verdict.REFUSED, error=str(error))
        except VersionsAwaitedError as error:
            return Outcome(verdict=Verdict.DEFERRED, error=str(error))
        except LookupError:
            return Outcome(verdict=Verdict.REFUSED, error="the programme has this campaign no more")
        except MailServerError:
            raise
        except Exception as error:
            # One message that we fail on must not stop the others. The error's text may hold the contact.
            log.error("message_failed", delivery_id=due.letter.delivery_id, error=type(error).__name__)
            return Outcome(verdict=Verdict.DEFERRED, error="a fault of the notifier; its log has it")

    def _close(self) -> None:
        """Nothing is tried for a while: 5 seconds at first, two minutes when the server has long been away."""
        self._knocks = min(self._knocks + 1, _MOST_KNOCKS)
        self._closed_until = self._now() + retry_delay(self._knocks, self._random)

    def _stop(self) -> None:
        self._stopping = True


async def _finish(work: Awaitable[T], stop: Callable[[], None]) -> T:
    """The outcome of `work`; a cancellation lets it come to its end, bounded by its own timeouts, and then goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _has_address(sealed: SealedContact | None) -> bool:
    return sealed is not None and sealed.email is not None and sealed.wrapped_key is not None
