"""The load of the worker that sends messages: it empties an outbox into a mail server that takes everything.

Worker, store, gate and channel are those of the service, in this process; PostgreSQL and the mail server are others.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.notifier.channels.email import Composer, EmailChannel, MailServer
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.messages import Outgoing
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import AddressHashes
from services.notifier.gate import Gate
from services.notifier.service import ContactService
from services.notifier.store import Installation, Store, Transaction
from services.notifier.vault import MasterKey, Vault
from services.notifier.worker import Worker
from services.programme import Programme
from services.programme.messages import EMAIL
from services.runtime.clock import machine_now
from services.runtime.database import create_pool

PARTITIONS = 16
_CAMPAIGN = "green-reached"
_PART = 2_000
_MEMBERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """What emptying an outbox came to: messages per second, what arrived and how often one came twice, and what the
    process grew by while the messages waited for a server that was away (MiB)."""

    rate: float
    arrived: int
    doubled: int
    grown_mebibytes: float


class Outbox:
    """An outbox with members who can be reached."""

    def __init__(self, store: Store, programme: Programme) -> None:
        key = MasterKey(b"m" * 32)
        self.installation = Installation(key_fingerprint=key.key_id, partitions=PARTITIONS, simulated=False)
        self._store = store
        self._vault = Vault([key], self.installation)
        self._programmes = Programmes(programme)
        self._made = 0

    async def fill(self, count: int) -> None:
        """Puts messages into it, a part at a time: what fills it must not hide what empties it."""
        end = self._made + count
        while self._made < end:
            numbers = range(self._made, min(self._made + _PART, end))

            async def work(transaction: Transaction, numbers: range = numbers) -> None:
                part = [self._message(number) for number in numbers]
                await transaction.insert_messages(part, machine_now(), key=self._vault.delivery_key)

            await self._store.transact(work)
            self._made = numbers.stop

    async def reach(self) -> None:
        """Gives the members addresses."""

        async def claim(transaction: Transaction) -> None:
            await transaction.claim_installation(self.installation)
            await transaction.insert_cursors(range(PARTITIONS))

        async def exists(_: str) -> bool:
            return True

        await self._store.transact(claim)
        contacts = ContactService(
            store=self._store, vault=self._vault, partitions=PARTITIONS, member_exists=exists,
            messages_queued=lambda: None, machine_now=machine_now, business_now=machine_now,
        )  # fmt: skip
        for number in range(_MEMBERS):
            contact = Contact(name=f"Member {number}", email=f"m{number}@example.com")
            await contacts.set_contact(request_id="c", member_id=f"m-{number}", contact=contact)

    def worker(self, port: int) -> tuple[Worker, MailServer]:
        """A worker, as the service has it."""
        composer = Composer(programmes=self._programmes, mail_from="Shop <shop@example.com>")
        server = MailServer(host="127.0.0.1", port=port, greeting="example.com")
        addresses = AddressHashes(key=self._vault.key_for("addresses"), partitions=PARTITIONS)
        gate = Gate(
            vault=self._vault, programmes=self._programmes, addresses=addresses, business_now=machine_now
        )  # fmt: skip
        worker = Worker(
            store=self._store,
            gate=gate,
            channels={EMAIL: EmailChannel(composer=composer, server=server, machine_now=machine_now)},
            machine_now=machine_now,
            business_now=machine_now,
            random=lambda: 0.0,
        )
        return worker, server

    def _message(self, number: int) -> Outgoing:
        member_id = f"m-{number % _MEMBERS}"
        return Outgoing(
            partition=partition_of(member_id, PARTITIONS),
            member_id=member_id,
            campaign_id=_CAMPAIGN,
            trigger=f"change:{number}",
            created_time=datetime(2026, 1, 1, tzinfo=UTC),
            facts={"tier": "Green", "previous_tier": "White", "balance": 30500},
        )


async def empty(dsn: str, programme: Programme, *, count: int, away: bool) -> Emptied:
    """Fills an outbox and empties it; with `away` the mail server comes only when all wait for it."""
    # As far as it goes well nobody asks for it here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with _store(dsn) as store:
        outbox = Outbox(store, programme)
        await outbox.reach()
        await outbox.fill(count)
        grown = 0.0
        if away:
            before = _peak()
            worker, server = outbox.worker(port=1)
            for _ in range(3):
                await worker.deliver_due()
            await server.close()
            grown = _peak() - before
            # What was given back waits for its time; here it is brought forward.
            await _all_due(store)
        with _sink() as (port, counted):
            worker, server = outbox.worker(port)
            started = time.perf_counter()
            await worker.deliver_due()
            seconds = time.perf_counter() - started
            await server.close()
            taken, new = counted()
    return Emptied(rate=count / seconds, arrived=new, doubled=taken - new, grown_mebibytes=grown)


async def _all_due(store: Store) -> None:
    async with store.writing() as connection:
        await connection.execute("UPDATE notifier.deliveries SET not_before = created_time WHERE state = 'queued'")


@contextlib.asynccontextmanager
async def _store(dsn: str) -> AsyncIterator[Store]:
    pool = await create_pool(dsn, service="bench", size=8)
    try:
        yield Store(pool)
    finally:
        await pool.close()


@contextlib.contextmanager
def _sink() -> Iterator[tuple[int, Callable[[], tuple[int, int]]]]:
    command = [sys.executable, "-m", "tests.benchmarks.smtp_sink", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def counted() -> tuple[int, int]:
            process.stdin.close()  # type: ignore[union-attr]  # asserted above
            taken, new = process.stdout.readline().split()  # type: ignore[union-attr]  # asserted above
            return int(taken), int(new)

        yield port, counted


def _peak() -> float:
    """The most memory that this process has had so far (MiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
