"""A reference: RecordPurchase written plainly, one transaction for each call. `python -m tests.benchmarks.one_by_one`

It shares the ledger's database, its rules (`decide`), its messages and its entries to the letter; `check` finds its log
in order. What differs is how it commits: each call takes a connection of the pool, locks the row of its partition,
reads the request, the member and the purchase, decides, inserts, and commits alone. It has no interceptor and no log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import grpc
import uvloop
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services import programme
from services.ledger import store
from services.ledger.config import Config
from services.ledger.domain.catching_up import due_time
from services.ledger.domain.commands import MemberCommand
from services.ledger.domain.decide import Now, decide
from services.ledger.domain.encoding import (
    canonical_json,
    chain,
    commit,
    encode_body,
    encode_entry,
    partition_of,
    request_digest,
)
from services.ledger.domain.events import Author, Entry, Event
from services.ledger.domain.rules import Rules
from services.ledger.domain.state import Known
from services.ledger.rpc.requests import WRITES
from services.ledger.rpc.responses import Messages
from services.ledger.service import Answer
from services.runtime import config
from services.runtime.clock import machine_now
from services.runtime.database import Connection, Pool, create_pool, transact
from services.runtime.identity import Caller
from tests.benchmarks.echo import SERVICE

_CALLER = Caller(principal="bench")

_LOCK = (
    "SELECT partition, last_offset, head_hash, recorded_time, business_time, members, versions "
    "FROM ledger.partitions WHERE partition = $1 FOR UPDATE"
)
_REQUEST = "SELECT 1 FROM ledger.requests WHERE partition = $1 AND member_id = $2 AND request_id = $3"
_MEMBER = "SELECT * FROM ledger.members WHERE partition = $1 AND member_id = $2"
_PURCHASE = "SELECT * FROM ledger.purchases WHERE partition = $1 AND member_id = $2 AND purchase_id = $3"
_CHANGE_MEMBER = """
    UPDATE ledger.members
    SET joined_time = $3, channel = $4, pending = $5, available = $6, held = $7, debt = $8, earned = $9, redeemed = $10,
        purchases = $11, activity_time = $12, pending_lots = $13, lots = $14, holds = $15, adjusted_day = $16,
        adjusted = $17, awaited = $18, classes = $19, due_time = $20, version = $21, market = $22, absences = $23
    WHERE partition = $1 AND member_id = $2"""
_ADVANCE = """
    UPDATE ledger.partitions SET last_offset = $2, head_hash = $3, recorded_time = $4 WHERE partition = $1"""


def _insert(table: str, row: type[Any]) -> str:
    places = ", ".join(f"${place}" for place in range(1, len(row._fields) + 1))
    return f"INSERT INTO ledger.{table} ({', '.join(row._fields)}) VALUES ({places})"


_INSERT_ENTRY = _insert("entries", store.EntryRow)
_INSERT_DETAIL = _insert("entry_details", store.DetailRow)
_INSERT_REQUEST = _insert("requests", store.RequestRow)
_INSERT_PURCHASE = _insert("purchases", store.PurchaseRow)


class OneByOne:
    """RecordPurchase for purchases that are new; anything else is an error of the benchmark."""

    def __init__(self, pool: Pool, rules: programme.Programme, partitions: int) -> None:
        self._pool = pool
        self._programme = rules
        self._versions = programme.Versions.only(rules)
        self._partitions = partitions
        self._messages = Messages(Rules.only(rules))

    async def record_purchase(self, request: Any, context: Any) -> Any:
        """One call, one transaction."""
        command = WRITES["record_purchase"](request, _CALLER)
        answer = await transact(self._pool, lambda connection: self._record(connection, command))
        response = pb.RecordPurchaseResponse()
        self._messages.answer("record_purchase", response, answer)
        return response

    async def _record(self, connection: Connection, command: MemberCommand) -> Answer:
        partition = partition_of(command.member_id, self._partitions)
        head = await connection.fetchrow(_LOCK, partition)
        now = max(machine_now(), head["recorded_time"])
        member_key = store.MemberKey(partition, command.member_id)
        purchase_key = store.PurchaseKey(*member_key, getattr(command, "purchase_id", ""))
        assert await connection.fetchval(_REQUEST, *member_key, command.request_id) is None
        known = Known(
            # What lies in the rows is the ledger's own, so it is read and written as the ledger does.
            member=store._member(command.member_id, await connection.fetchrow(_MEMBER, *member_key))
        )
        assert await connection.fetchrow(_PURCHASE, *purchase_key) is None
        decision = decide(self._versions, Now(time=now), known, command)
        (event,) = decision.events
        after = decision.known
        assert after.member is not None
        assert after.purchase is not None
        entry = await self._append(connection, partition, head, now, event, command.request)
        due = due_time(self._versions, after.member)
        await connection.execute(_CHANGE_MEMBER, *store._member_row(member_key, after.member, due))
        stored = store.StoredPurchase(purchase=after.purchase, entry_offset=entry.offset)
        await connection.execute(_INSERT_PURCHASE, *store._purchase_row(purchase_key, stored))
        await connection.execute(_ADVANCE, partition, entry.offset, entry.hash, now)
        return Answer(entry=entry, last_offset=entry.offset)

    async def _append(
        self,
        connection: Connection,
        partition: int,
        head: Mapping[str, Any],
        now: datetime,
        event: Event,
        request: bytes,
    ) -> Entry:
        """Inserts an event at the end of its partition, with its detail and its request."""
        offset = head["last_offset"] + 1
        salt = os.urandom(16)
        detail = canonical_json(event.detail or {})
        commitment = commit(salt, detail)
        digest = request_digest(salt, request)
        body = encode_body(event)
        author = Author(_CALLER.principal, _CALLER.on_behalf_of)
        encoding = encode_entry(
            partition=partition,
            offset=offset,
            event=event,
            body=body,
            recorded_time=now,
            principal=author.principal,
            on_behalf_of=author.on_behalf_of,
            programme_version=self._programme.version,
            detail_commitment=commitment,
            request_hash=digest,
        )
        entry = Entry(
            partition=partition,
            offset=offset,
            event=event,
            recorded_time=now,
            principal=author.principal,
            on_behalf_of=author.on_behalf_of,
            programme_version=self._programme.version,
            detail_commitment=commitment,
            request_hash=digest,
            hash=chain(head["head_hash"], encoding),
        )
        await connection.execute(
            _INSERT_ENTRY,
            *(partition, offset, event.kind.value, event.member_id, event.request_id, *author),
            *(event.occurred_time, now, self._programme.version, event.purchase_id, body),
            *(commitment, digest, entry.hash),
        )
        await connection.execute(_INSERT_DETAIL, partition, offset, salt, detail)
        await connection.execute(
            _INSERT_REQUEST, partition, event.member_id, event.request_id, request, salt, offset, offset
        )
        return entry


async def serve(settings: Config, connections: int) -> None:
    """Answers until the process is told to end."""
    pool = await create_pool(settings.database_url, service="one-by-one", size=connections)
    reference = OneByOne(pool, programme.load(settings.programme), settings.partitions)
    handler = grpc.unary_unary_rpc_method_handler(
        reference.record_purchase,
        request_deserializer=pb.RecordPurchaseRequest.FromString,
        response_serializer=pb.RecordPurchaseResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"RecordPurchase": handler}),))
    server.add_insecure_port(settings.listen)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(config.load(Config, os.environ), int(os.environ["BENCH_CONNECTIONS"])))
