"""The notifier's tables. A use case opens one transaction; every statement of it is a method of `Transaction`, which
joins the rooms beside this file: one for each noun.

Locks: a partition's cursor comes first. Whoever moves it holds its row until the commit; so do erasures,
SetPreferences, RecordFeedback, UpdateSegment, days, and the worker that puts messages aside for want of a contact.
SetContact and GrantGoodwill share it. So each of them is before a batch, or an erasure, or after it.

Then deliveries, then contacts: in this order whoever sends takes them, and whoever erases. What counts for members of
all partitions is locked beyond one's own: the budgets of campaigns, in the order of their ids; codes of pools, where
those that another has are passed over; the stock of a reward, after what its member had of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import asyncpg

from services.notifier.store.campaigns import Campaigns, DueAwards
from services.notifier.store.checkouts import Checkouts
from services.notifier.store.contacts import ContactRequest, Contacts, SealedContact, WrappedKey
from services.notifier.store.coupons import Coupons
from services.notifier.store.installation import Installation, Installations
from services.notifier.store.members import Members
from services.notifier.store.messages import DeliveryFilter, Due, Messages, Place
from services.notifier.store.pools import Pools
from services.notifier.store.preferences import Preferences
from services.notifier.store.privacy import ErasureKept, Grant, Privacy
from services.notifier.store.requests import KeptRequest, Requests
from services.notifier.store.rewards import RewardIntents
from services.notifier.store.surveys import Surveys
from services.notifier.store.table import QUERIES
from services.notifier.store.uses import Uses
from services.notifier.store.webhooks import Webhooks
from services.runtime.database import CONNECT_TIMEOUT_SECONDS, Connection, transact, transact_over

__all__ = [
    "QUERIES",
    "ContactRequest",
    "DeliveryFilter",
    "Due",
    "DueAwards",
    "ErasureKept",
    "Grant",
    "Installation",
    "KeptRequest",
    "Place",
    "SealedContact",
    "Store",
    "Transaction",
    "WrappedKey",
]

T = TypeVar("T")


class Store:
    """The pool, and transactions over it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """A connection for one transaction after the other."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            yield connection

    async def transact(self, work: Callable[[Transaction], Awaitable[T]], over: Connection | None = None) -> T:
        """Runs `work` in one transaction; deadlocks try the whole again. `over`: the connection of `writing`."""

        async def run(connection: Connection) -> T:
            return await work(Transaction(connection))

        return await (transact(self._pool, run) if over is None else transact_over(over, run))

    async def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, whose statements only read and stand each for itself: no transaction is opened."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await work(Transaction(connection))

    async def snapshot(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, which only reads, over one unchanging state of all tables."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await work(Transaction(connection))


class Transaction(
    Installations,
    Members,
    Coupons,
    Uses,
    Pools,
    RewardIntents,
    Checkouts,
    Messages,
    Contacts,
    Campaigns,
    Surveys,
    Privacy,
    Preferences,
    Webhooks,
    Requests,
):
    """One transaction."""
