"""What people can ask of what is kept about them: to see all of it, and to be forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.holdings import HOLDINGS, Holding
from services.notifier.erasure_file import ErasureFile
from services.notifier.errors import (
    MemberUnknownError,
    PeerError,
    PeerRefusedError,
    RequestIdReusedError,
    SealError,
)
from services.notifier.service.page_tokens import PageTokens
from services.notifier.store import ErasureKept, SealedContact, Store, Transaction
from services.notifier.vault import Vault
from services.runtime.clock import MachineClock

log = structlog.get_logger()

DEFAULT_RECORDS: Final = 200
_AT_ONCE: Final = 100
_FIRST: Final = (datetime.min.replace(tzinfo=UTC), "")
_PAUSE_SECONDS: Final = 5.0
_UNOPENED: Final = "it cannot be opened with the keys of this installation"


class Elsewhere(Protocol):
    """A member in the other services. All raise PeerError."""

    async def erase(self, *, request_id: str, member_id: str, reason: str, on_behalf_of: str) -> None:
        """Has the ledger forget a member; raises PeerRefusedError."""

    async def records(self, category: str, member_id: str, page_token: str, size: int) -> tuple[list[str], str]:
        """A page of what another service keeps; raises MemberUnknownError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing that is kept: its category, and it as JSON."""

    category: str
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPage:
    """Some of what is kept; `holdings` on the first page alone. The token is empty on the last."""

    holdings: Sequence[Holding]
    records: Sequence[Record]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a page begins: in which holding, in which of its tables, after what."""

    holding: int = 0
    table: int = 0
    after: str = ""


class PrivacyService:
    """Exports and erases members. `file`: the list of erasures that a restore of the database leaves as it is."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        partitions: int,
        elsewhere: Elsewhere,
        file: ErasureFile,
        machine_now: MachineClock,
    ) -> None:
        self._store = store
        self._vault = vault
        self._pages = PageTokens(vault.page_key, "export after")
        self._partitions = partitions
        self._elsewhere = elsewhere
        self._file = file
        self._now = machine_now
        self._asked = asyncio.Event()

    # Erasing

    async def erase(
        self, *, request_id: str, member_id: str, reason: str, principal: str
    ) -> tuple[datetime | None, bool]:
        """Forgets a member in all services; says when that was done (None while the ledger has yet to be reached, or a
        checkout is under way: it goes on by itself) and whether it was asked before.

        What this service knows of the person is gone when this returns. Raises MemberUnknownError,
        RequestIdReusedError, PeerError (only where nothing was done yet).
        """
        partition = partition_of(member_id, self._partitions)
        before = await self._erasure(partition, member_id)
        if before is None:
            await self._elsewhere.records("membership", member_id, "", 1)
            erasure = ErasureKept(
                partition=partition,
                member_id=member_id,
                request_id=request_id,
                reason=reason,
                principal=principal,
                asked_time=self._now(),
                erased_time=None,
            )
            await self._forget(erasure)
        elif before.request_id == request_id and before.reason != reason:
            raise RequestIdReusedError
        if before is None or before.erased_time is None:
            with contextlib.suppress(PeerError, PeerRefusedError):
                await self._finish(member_id)
        kept = await self._erasure(partition, member_id)
        assert kept is not None
        return kept.erased_time, before is not None

    async def run(self) -> None:
        """Carries out what the file tells of and the database does not (it was restored), and then whatever is left."""
        await self.replay()
        while True:
            self._asked.clear()
            left = await self._finish_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS if left else None):
                    await self._asked.wait()

    async def replay(self) -> int:
        """Erases again whom a restored database knows anew, and says how many that were."""
        again = 0
        for line in self._file.lines():
            partition = partition_of(line.member_id, self._partitions)
            if await self._erasure(partition, line.member_id) is None:
                await self._forget(
                    ErasureKept(
                        partition=partition,
                        member_id=line.member_id,
                        request_id=line.request_id,
                        reason=line.reason,
                        principal=line.principal,
                        asked_time=line.asked_time,
                        erased_time=None,
                    )
                )
                again += 1
        if again:
            log.warning("erasures_replayed", members=again)
        return again

    async def _forget(self, erasure: ErasureKept) -> None:
        # Written down before it is done: a restore of the database must not bring anybody back.
        await asyncio.to_thread(self._file.append, erasure)

        async def work(transaction: Transaction) -> None:
            await transaction.lock_partition(erasure.partition)
            await transaction.insert_erasure(erasure)
            await transaction.forget(erasure.partition, erasure.member_id)

        await self._store.transact(work)
        self._asked.set()

    async def _finish(self, member_id: str) -> bool:
        """Has the ledger forget a member, too, and says whether all is done: not while a checkout is under way, which
        is completed where the ledger has it, and refused otherwise. Raises PeerError, PeerRefusedError."""
        partition = partition_of(member_id, self._partitions)
        erasure = await self._erasure(partition, member_id)
        assert erasure is not None
        await self._elsewhere.erase(
            # One of our own, and the same whoever asks for it: so a restored ledger is asked again under the same id.
            # With another reason it would be another request. 104 characters at most.
            request_id=f"~erase/{member_id}/{erasure.reason}",
            member_id=member_id,
            reason=erasure.reason,
            on_behalf_of=erasure.principal,
        )

        async def work(transaction: Transaction) -> bool:
            # What came in between from the feeds goes, too.
            await transaction.lock_partition(partition)
            await transaction.forget(partition, member_id)
            return await transaction.finish_erasure(partition, member_id, self._now())

        if not await self._store.transact(work):
            return False
        log.info("member_erased", partition=partition)
        return True

    async def _finish_all(self) -> bool:
        """Finishes what can be finished; says whether something is left to be tried again."""
        left, after = False, _FIRST

        async def read(transaction: Transaction) -> list[ErasureKept]:
            return await transaction.unfinished_erasures(after, _AT_ONCE)

        while erasures := await self._store.read(read):
            for erasure in erasures:
                try:
                    left |= not await self._finish(erasure.member_id)
                except PeerError:
                    left = True
                except PeerRefusedError as error:
                    # The same again changes nothing, and the others are not to wait for it.
                    log.error("erasure_refused", request_id=erasure.request_id, reason=error.reason, problem=str(error))
            after = (erasures[-1].asked_time, erasures[-1].member_id)
        return left

    async def _erasure(self, partition: int, member_id: str) -> ErasureKept | None:
        async def read(transaction: Transaction) -> ErasureKept | None:
            return await transaction.find_erasure(partition, member_id)

        return await self._store.read(read)

    # Exporting

    async def export(self, *, member_id: str, page_size: int, page_token: str) -> ExportPage:
        """A page of everything that is kept about a member, over all services, category by category.

        Raises MemberUnknownError, PageTokenError, PeerError.
        """
        size = page_size or DEFAULT_RECORDS
        place = self._read_place(page_token, member_id) if page_token else _Place()
        records: list[Record] = []
        while place.holding < len(HOLDINGS) and len(records) < size:
            holding = HOLDINGS[place.holding]
            found, after = await self._records(holding, place, member_id, size - len(records))
            records += [Record(category=holding.category, json=one) for one in found]
            place = after if after is not None else _Place(holding=place.holding + 1)
        more = place.holding < len(HOLDINGS)
        return ExportPage(
            holdings=() if page_token else HOLDINGS,
            records=records,
            next_page_token=self._place_token(place, member_id) if more else "",
        )

    async def _records(
        self, holding: Holding, place: _Place, member_id: str, size: int
    ) -> tuple[list[str], _Place | None]:
        """Some records of a holding, and where its next begin; None after its last."""
        if not holding.tables:
            try:
                found, token = await self._elsewhere.records(holding.category, member_id, place.after, size)
            except MemberUnknownError:
                if holding.category == "membership":
                    raise
                return [], None
            return found, _Place(holding=place.holding, after=token) if token else None
        partition, table = partition_of(member_id, self._partitions), holding.tables[place.table]

        async def read(transaction: Transaction) -> tuple[list[str], list[str]]:
            if table == "contacts":
                sealed = (await transaction.find_contacts(partition, [member_id])).get(member_id)
                return [] if sealed is None else [self._opened(sealed)], []
            after = json.loads(place.after or "[]")
            rows, last = await transaction.records(table, partition, member_id, after, size)
            if table == "feedback" and rows:
                wrapped = await transaction.find_member_key(partition, member_id)
                rows = [self._with_comment(member_id, wrapped, row) for row in rows]
            return rows, last

        rows, last = await self._store.read(read)
        if last and len(rows) == size:
            return rows, _Place(holding=place.holding, table=place.table, after=json.dumps(last))
        ended = place.table + 1 == len(holding.tables)
        return rows, None if ended else _Place(holding=place.holding, table=place.table + 1)

    def _opened(self, sealed: SealedContact) -> str:
        try:
            contact = self._vault.open_contact(sealed)
        except SealError:
            return json.dumps({"problem": _UNOPENED})
        details = json.loads(contact.details or "{}")
        return json.dumps({"name": contact.name, "email": contact.email, **details}, ensure_ascii=False)

    def _with_comment(self, member_id: str, wrapped: bytes | None, row: str) -> str:
        record = json.loads(row)
        if record["comment"] is not None:
            # As JSON has bytes: \x and their digits.
            sealed = bytes.fromhex(record["comment"][2:])
            try:
                record["comment"] = self._vault.open_comment(member_id, wrapped, record["request_id"], sealed)
            except SealError:
                record["comment"] = _UNOPENED
        return json.dumps(record, ensure_ascii=False)

    def _place_token(self, place: _Place, member_id: str) -> str:
        return self._pages.make(json.dumps([place.holding, place.table, place.after]).encode(), member_id)

    def _read_place(self, token: str, member_id: str) -> _Place:
        holding, table, after = json.loads(self._pages.read(token, member_id))
        return _Place(holding=holding, table=table, after=after)
