"""Delivers messages: takes what is due, sends it, writes down what came of it.

Each way that messages go (a channel, or one endpoint of it) has a loop of its own, so that one that is broken holds up
no other; what a loop holds is one lease.

A message is leased before it is sent and settled after it. If the process dies in between, the lease runs out and the
message is sent again, under the same id: at least once, and once unless the process dies in that moment. While the
database is away a loop keeps what it has sent, takes nothing more, and writes it down when it can. While a channel is
closed - the mail server cannot be reached, say - nothing is tried and nothing counted; the worker knocks with growing
pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from services.notifier.channels.adapter import Addressee, Channel
from services.notifier.domain.deliveries import (
    Aside,
    DeliveryState,
    DueDelivery,
    Outcome,
    Random,
    Settlement,
    Verdict,
    knock_delay,
    release,
    settle,
)
from services.notifier.domain.messages import endpoint_of, webhook_route
from services.notifier.domain.suppressions import AddressKey
from services.notifier.domain.webhooks import FAILING, GONE, Endpoint
from services.notifier.errors import ChannelClosedError, FieldError, SealError, VersionsAwaitedError
from services.notifier.gate import Gate, Ruling
from services.notifier.store import Due, Store, Transaction
from services.programme.messages import WEBHOOK
from services.runtime.clock import MachineClock
from services.runtime.database import CONNECTION_ERRORS, PASSING_ERRORS

log = structlog.get_logger()

LEASE: Final = timedelta(seconds=90)
# Towards the end of its lease nothing more of a batch is begun: what a channel may take for one message fits in.
_MARGIN: Final = timedelta(seconds=50)
# A ruling as old as this is asked for again before its message goes out.
FRESH_SECONDS: Final = 1.0
# So many may be sent again at most where the process dies, and those that were just being sent.
_WRITTEN_AT_ONCE: Final = 20
_LONGEST_WAIT_SECONDS: Final = 30.0
# Of what was held, so many of a partition are queued in one transaction.
_RELEASED_AT_ONCE: Final = 1000
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
_AFTER_FAULT: Final = timedelta(seconds=2)


class Worker:
    """Runs for as long as the service lives. Several may run at once, also in several processes."""

    def __init__(
        self,
        *,
        store: Store,
        gate: Gate,
        channels: Mapping[str, Channel],
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
        random: Random,
    ) -> None:
        self._store = store
        self._gate = gate
        self._channels = channels
        self._now = machine_now
        self._business_now = business_now
        self._random = random
        self._woken = asyncio.Event()
        self._lanes: dict[str, _Lane] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """There may be messages due."""
        self._woken.set()

    async def run(self) -> None:
        """Delivers for ever. When cancelled, it ends what is under way and gives back what is not begun."""
        try:
            while True:
                self._woken.clear()
                try:
                    next_time = await self._begin(self._guarded)
                except (*CONNECTION_ERRORS, *PASSING_ERRORS) as error:
                    # What is under way is not ended for that: it may know of messages that are sent already.
                    log.warning("messages_delayed", error=type(error).__name__)
                    next_time = self._now() + _AFTER_FAULT
                wait = _LONGEST_WAIT_SECONDS
                if next_time is not None:
                    wait = min(wait, max(0.0, (next_time - self._now()).total_seconds()))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
        finally:
            for lane in self._lanes.values():
                lane.stopping = True
            if self._running:
                await asyncio.shield(asyncio.gather(*self._running.values(), return_exceptions=True))
            self._lanes.clear()

    async def deliver_due(self) -> datetime | None:
        """Delivers all that is due, and says when the next will be: None where nothing waits."""
        while True:
            next_time = await self._begin(_Lane.drain)
            if not self._running and (next_time is None or next_time > self._now()):
                return next_time
            await asyncio.gather(*self._running.values())
            # Those that are done say so after this.
            await asyncio.sleep(0)

    async def _begin(self, drain: Callable[[_Lane], Coroutine[None, None, None]]) -> datetime | None:
        """Begins to deliver every way on which something is due, and says when the next will be."""
        more_held = await self._release_held()
        endpoints: dict[str, Endpoint] = {}
        if WEBHOOK in self._channels:
            found = await self._store.read(Transaction.list_endpoints)
            endpoints = {webhook_route(one.endpoint_id): one for one in found if one.disabled_time is None}
        routes = [name for name in self._channels if name != WEBHOOK] + list(endpoints)

        async def read(transaction: Transaction) -> list[Due]:
            return await transaction.due_deliveries(routes, await transaction.paused_campaigns())

        due: dict[str, datetime] = {}
        for one in await self._store.read(read):
            due.setdefault(one.route, one.not_before)
        now = self._now()
        times = [now] if more_held else []
        for gone in self._lanes.keys() - set(routes) - self._running.keys():
            del self._lanes[gone]
        for route, not_before in due.items():
            if route in self._running:
                continue
            lane = self._lane(route, endpoints.get(route))
            begins = max(not_before, lane.closed_until or not_before)
            if begins > now:
                times.append(begins)
                continue
            task = asyncio.create_task(drain(lane))
            self._running[route] = task
            task.add_done_callback(partial(self._ended, route))
        return min(times, default=None)

    def _lane(self, route: str, endpoint: Endpoint | None) -> _Lane:
        lane = self._lanes.get(route)
        if lane is None:
            channel = self._channels[WEBHOOK if endpoint is not None else route]
            lane = self._lanes[route] = _Lane(
                route=route, channel=channel, store=self._store, gate=self._gate, now=self._now, random=self._random
            )
        lane.endpoint = endpoint
        return lane

    def _ended(self, route: str, _: asyncio.Task[None]) -> None:
        del self._running[route]
        self._woken.set()

    async def _guarded(self, lane: _Lane) -> None:
        """Delivers one way; what goes wrong there stays there."""
        try:
            await lane.drain()
        except (*CONNECTION_ERRORS, *PASSING_ERRORS) as error:
            log.warning("way_interrupted", route=lane.route, error=type(error).__name__)
            lane.closed_until = self._now() + _AFTER_FAULT
        except Exception as error:
            log.error("way_failed", route=lane.route, exc_info=error)
            lane.closed_until = self._now() + _AFTER_FAULT

    async def _release_held(self) -> bool:
        """Queues some of what was held until now; whether there is more."""
        business_now = self._business_now()
        next_held = await self._store.read(Transaction.next_held)
        ready = [partition for partition, held_until in next_held.items() if held_until <= business_now]
        released = [await self._release(partition, business_now) for partition in ready]
        if released:
            log.info("messages_released", messages=sum(released))
        return _RELEASED_AT_ONCE in released

    async def _release(self, partition: int, business_now: datetime) -> int:
        async def work(transaction: Transaction) -> int:
            return await transaction.release_held(partition, business_now, self._now(), _RELEASED_AT_ONCE)

        return await self._store.transact(work)


class _Lane:
    """One way that messages go."""

    def __init__(
        self, *, route: str, channel: Channel, store: Store, gate: Gate, now: MachineClock, random: Random
    ) -> None:
        self.route = route
        self.endpoint: Endpoint | None = None
        self.closed_until: datetime | None = None
        self.stopping = False
        self._channel = channel
        self._store = store
        self._gate = gate
        self._now = now
        self._random = random
        self._knocks = 0

    async def drain(self) -> None:
        """Delivers until nothing is due, or the channel is closed."""

        async def read(transaction: Transaction) -> list[Due]:
            return await transaction.due_deliveries([self.route], await transaction.paused_campaigns())

        while not self.stopping:
            now = self._now()
            ready = [due for due in await self._store.read(read) if due.not_before <= now]
            if not ready:
                return
            for due in ready:
                if self.stopping or not await self._deliver(due.partition, due.campaign_id):
                    return

    async def _deliver(self, partition: int, campaign_id: str) -> bool:
        """Delivers one lease of a campaign's messages in a partition; False where nothing goes this way now."""
        endpoint_id = endpoint_of(self.route)
        now = self._now()
        until = now + LEASE

        async def lease(transaction: Transaction) -> tuple[tuple[DueDelivery, ...], dict[str, Ruling]] | None:
            if endpoint_id:
                # It may have another secret by now.
                self.endpoint = await transaction.find_open_endpoint(endpoint_id)
                if self.endpoint is None:
                    return None
            if campaign_id in await transaction.paused_campaigns():
                return (), {}
            batch = await transaction.lease_deliveries(
                partition, self.route, campaign_id, now=now, until=until, limit=self._channel.leased
            )
            if not batch:
                return batch, {}
            rulings = await self._gate.rule(transaction, self._channel, batch)
            aside = [
                _aside(due, rulings[due.delivery_id], now)
                for due in batch
                if not rulings[due.delivery_id].goes and rulings[due.delivery_id].state is not DeliveryState.NO_CONTACT
            ]
            if aside:
                await transaction.put_aside(partition, until, aside)
            return batch, rulings

        ruled = asyncio.get_running_loop().time()
        leased = await self._store.transact(lease)
        if leased is None:
            return False
        batch, rulings = leased
        if not batch:
            return True
        without = [due for due in batch if rulings[due.delivery_id].state is DeliveryState.NO_CONTACT]
        if without:
            await self._put_aside(partition, without)
        sending = _Sending(partition=partition, leased_until=until, rulings=rulings, ruled=ruled)
        try:
            await self._send([due for due in batch if rulings[due.delivery_id].goes], sending)
        finally:
            await self._write_down(sending)
        log.info(
            "messages_settled",
            route=self.route,
            delivered=sending.counts[DeliveryState.DELIVERED],
            queued=sending.counts[DeliveryState.QUEUED],
            dead=sending.counts[DeliveryState.DEAD],
            without_contact=len(without),
            put_aside=len(batch) - len(without) - sending.counts.total(),
        )
        return self.closed_until is None

    async def _write_down(self, sending: _Sending) -> None:
        """Settles what is known of a lease by now. What was sent must not be sent again because the database was away:
        so it is tried until it is written, also when the lease is long over, and nothing else is leased this way."""
        partition, leased_until = sending.partition, sending.leased_until
        known = sending.take()
        if not known.settlements and not known.aside:
            return

        async def work(transaction: Transaction) -> bool:
            await transaction.settle_deliveries(partition, leased_until, known.settlements)
            if known.aside:
                await transaction.put_aside(partition, leased_until, known.aside)
            if known.addresses:
                await transaction.sent_elsewhere(partition, known.addresses)
            if known.suppressed:
                await transaction.insert_suppressions(known.suppressed, self._now())
            return await self._judge_endpoint(transaction, known)

        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                if await self._store.transact(work):
                    log.warning("webhook_endpoint_disabled", route=self.route)
                return
            except (*CONNECTION_ERRORS, *PASSING_ERRORS) as error:
                if self.stopping:
                    sending.put_back(known)
                    raise
                log.warning("settling_delayed", messages=len(known.settlements), error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _judge_endpoint(self, transaction: Transaction, known: _Known) -> bool:
        """Keeps how an endpoint does, and disables one that is gone or has failed for too long; whether it did."""
        endpoint = self.endpoint
        if endpoint is None or not known.tried:
            return False
        if any(settlement.state is DeliveryState.DELIVERED for settlement in known.settlements) and not known.gone:
            await transaction.endpoint_succeeded(endpoint.endpoint_id)
            return False
        if not await transaction.endpoint_failed(endpoint.endpoint_id, self._now(), gone=known.gone):
            return False
        reason = GONE if known.gone else FAILING
        await transaction.drop_deliveries_of_way(self.route, f"the endpoint was disabled: {reason}")
        return True

    async def _put_aside(self, partition: int, without: Sequence[DueDelivery]) -> None:
        async def work(transaction: Transaction) -> None:
            # A contact that is being set is seen by us, or sees what we put aside.
            await transaction.lock_partition(partition)
            rulings = await self._gate.rule(transaction, self._channel, without, again=True)
            now = self._now()
            aside = [
                _aside(due, rulings[due.delivery_id], now)
                if rulings[due.delivery_id].state is DeliveryState.NO_CONTACT
                else Aside(delivery_id=due.delivery_id, state=DeliveryState.QUEUED, not_before=now)
                for due in without
            ]
            await transaction.put_aside(partition, without[0].leased_until, aside)

        await self._store.transact(work)

    async def _send(self, batch: Sequence[DueDelivery], sending: _Sending) -> None:
        """Sends several at once; what was not begun is given back."""
        self.closed_until = None
        waiting = iter(batch)
        senders = [self._send_from(waiting, sending) for _ in range(min(self._channel.senders, len(batch)))]
        # Where one fails, the others are not cut off: what they are sending may have arrived.
        ended = await asyncio.gather(*senders, return_exceptions=True)
        left = list(waiting)
        if self.closed_until is not None:
            log.warning(
                "channel_closed", route=self.route, messages=len(left), next_try_time=self.closed_until.isoformat()
            )  # fmt: skip
        elif sending.counts or sending.settlements:
            self._knocks = 0
        not_before = self.closed_until or self._now()
        sending.settlements += [release(due, not_before=not_before, error=None) for due in left]
        for fault in ended:
            if fault is not None:
                raise fault

    async def _send_from(self, waiting: Iterator[DueDelivery], sending: _Sending) -> None:
        while not self.stopping and self.closed_until is None and (due := next(waiting, None)) is not None:
            if self._now() > due.leased_until - _MARGIN:
                sending.settlements.append(release(due, not_before=self._now(), error=None))
                continue
            ruling = await self._ruling(due, sending)
            if ruling is None:
                sending.settlements.append(release(due, not_before=self._now(), error=None))
                continue
            if not ruling.goes:
                sending.aside.append(_aside(due, ruling, self._now()))
                continue
            if ruling.address is not None and ruling.address != sending.rulings[due.delivery_id].address:
                sending.addresses[due.delivery_id] = ruling.address[1]
            try:
                outcome = await self._try(due, Addressee(contact=ruling.contact, endpoint=self.endpoint))
            except ChannelClosedError as error:
                if self.closed_until is None:
                    self._close()
                assert self.closed_until is not None
                sending.settlements.append(release(due, not_before=self.closed_until, error=str(error)))
                return
            if outcome.verdict is Verdict.REFUSED:
                log.warning("message_refused", delivery_id=due.delivery_id, error=outcome.error)
            if outcome.suppress and ruling.address is not None:
                sending.suppressed[ruling.address] = outcome.suppress
            sending.gone = sending.gone or outcome.gone
            sending.tried = True
            now = self._now()
            sending.settlements.append(settle(due, outcome, now=now, random=self._random))
            if outcome.pause:
                # The receiver wants to be left alone, and not by this message only.
                self.closed_until = max(self.closed_until or now, now + outcome.pause)
            if len(sending.settlements) >= _WRITTEN_AT_ONCE:
                await self._write_down(sending)

    async def _ruling(self, due: DueDelivery, sending: _Sending) -> Ruling | None:
        """Whether it still goes out: asked again where that was asked a while ago. None where its campaign is paused by
        now or the database does not say: it is given back."""
        known = sending.rulings[due.delivery_id]
        if asyncio.get_running_loop().time() - sending.ruled < FRESH_SECONDS:
            return known

        async def work(transaction: Transaction) -> Ruling | None:
            if due.message.campaign_id in await transaction.paused_campaigns():
                return None
            if not due.message.personal:
                return known
            return (await self._gate.rule(transaction, self._channel, [due], again=True))[due.delivery_id]

        try:
            return await self._store.read(work)
        except (*CONNECTION_ERRORS, *PASSING_ERRORS) as error:
            log.warning("message_given_back", delivery_id=due.delivery_id, error=type(error).__name__)
            return None

    async def _try(self, due: DueDelivery, to: Addressee) -> Outcome:
        try:
            return await self._channel.deliver(due, to)
        except SealError:
            return Outcome(verdict=Verdict.REFUSED, error="what it needs cannot be opened with the master key")
        except FieldError as error:
            return Outcome(verdict=Verdict.REFUSED, error=str(error))
        except VersionsAwaitedError as error:
            return Outcome(verdict=Verdict.DEFERRED, error=str(error))
        except LookupError:
            return Outcome(verdict=Verdict.REFUSED, error="the programme has this campaign no more")
        except ChannelClosedError:
            raise
        except Exception as error:
            # One message that we fail on must not stop the others. The error's text may hold the contact.
            log.error("message_failed", delivery_id=due.delivery_id, error=type(error).__name__)
            return Outcome(verdict=Verdict.DEFERRED, error="a fault of the notifier; its log has it")

    def _close(self) -> None:
        """Nothing is tried for a while."""
        self._knocks += 1
        self.closed_until = self._now() + knock_delay(self._knocks, self._random)


@dataclass(slots=True, kw_only=True)
class _Known:
    """What came of messages and is not yet written down. `addresses`: hashes of those that are others than when the
    lease began; `tried`: whether any was; `gone`: the way leads nowhere."""

    settlements: list[Settlement] = field(default_factory=list)
    aside: list[Aside] = field(default_factory=list)
    addresses: dict[str, bytes] = field(default_factory=dict)
    suppressed: dict[AddressKey, str] = field(default_factory=dict)
    tried: bool = False
    gone: bool = False


@dataclass(slots=True, kw_only=True)
class _Sending(_Known):
    """A lease that is worked off."""

    partition: int
    leased_until: datetime
    rulings: Mapping[str, Ruling]
    ruled: float
    counts: Counter[DeliveryState] = field(default_factory=Counter)

    def take(self) -> _Known:
        """Hands over what is known by now."""
        known = _Known(
            settlements=self.settlements,
            aside=self.aside,
            addresses=self.addresses,
            suppressed=self.suppressed,
            tried=self.tried,
            gone=self.gone,
        )
        self.counts.update(settlement.state for settlement in known.settlements)
        self.settlements, self.aside, self.tried, self.gone = [], [], False, False
        self.addresses, self.suppressed = {}, {}
        return known

    def put_back(self, known: _Known) -> None:
        """Takes back what could not be written down."""
        self.counts.subtract(settlement.state for settlement in known.settlements)
        self.settlements += known.settlements
        self.aside += known.aside
        self.addresses |= known.addresses
        self.suppressed |= known.suppressed
        self.tried, self.gone = self.tried or known.tried, self.gone or known.gone


def _aside(due: DueDelivery, ruling: Ruling, now: datetime) -> Aside:
    return Aside(
        delivery_id=due.delivery_id,
        state=ruling.state,
        not_before=now,
        held_until=ruling.until if ruling.state is DeliveryState.HELD else None,
        reason=ruling.reason,
    )
