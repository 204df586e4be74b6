"""The audit log of a service: who was refused what, who read contact data, and who did what by hand, in a chain of
hashes.

A line is written for each call, and each write of a list, whose caller was known and told PERMISSION_DENIED, whatever
the method; for each read of contact data; and for what was done by hand. Refusals are written behind, a principal's at
most so many a minute; those beyond are counted in its next line. A read is always written, and before it is answered:
what cannot be written down is not shown.

A line is the lengths of these fields in this order, each as 4 bytes big-endian, and then the fields themselves; texts
in UTF-8, integers in decimal, the time as decimal microseconds since 1970-01-01T00:00:00Z:

    "loyalty-audit-1", service, number, call_time, outcome, reason, method, principal, on_behalf_of, token_id, store,
    terminal, member_ids, members, left_out

hash = SHA-256(hash of the line before, or 32 zero bytes || encoding).
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import itertools
import struct
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from services.runtime.clock import MachineClock, microseconds
from services.runtime.database import (
    CONNECTION_ERRORS,
    TRY_AGAIN,
    Connection,
    Pool,
    PostgresError,
    connect,
    keep_going,
    load_queries,
    transact,
)
from services.runtime.identity import Caller, PermissionDeniedError
from services.runtime.signal import woken

log = structlog.get_logger()

VERSION: Final = "loyalty-audit-1"
GENESIS: Final = bytes(32)
# Refusals of a principal that get a line: so many at once, and then so many a minute.
BURST: Final = 20
PER_MINUTE: Final = 20
# What is left out and followed by nothing is written down after this time.
_LEFT_OUT_AT_MOST: Final = timedelta(minutes=1)
# Principals whose refusals are counted; the one that was refused least recently is forgotten.
_PRINCIPALS: Final = 1000
# Lines that wait to be written; those beyond are left out.
_MOST_WAITING: Final = 1000
_LINES_AT_ONCE: Final = 200
_LOOK_SECONDS: Final = 5.0
_FLUSH_SECONDS: Final = 2.0
# A read of more members says how many, and not who.
_MEMBERS_NAMED: Final = 20
_LISTED: Final = 100
_CHUNK: Final = 2000

_QUERIES: Final = load_queries(Path(__file__).with_name("sql") / "audit.sql")


class Outcome(enum.StrEnum):
    """What became of a call."""

    REFUSED = "REFUSED"
    READ = "READ"
    DONE = "DONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line. `reason`: why the call was refused. `member_ids`: whom it was about, in order and a space between two,
    empty where they are too many; `members`: how many. `left_out`: the principal's refusals before this one that
    have no line."""

    call_time: datetime
    outcome: str
    reason: str
    method: str
    principal: str
    on_behalf_of: str
    token_id: str
    store: str
    terminal: str
    member_ids: str
    members: int
    left_out: int

    @classmethod
    def of(
        cls,
        caller: Caller,
        method: str,
        outcome: Outcome,
        call_time: datetime,
        *,
        reason: str = "",
        members: Collection[str] = (),
    ) -> Line:
        """The line of a call at the method (by its path)."""
        return cls(
            call_time=call_time,
            outcome=outcome.value,
            reason=reason,
            method=method,
            principal=caller.principal,
            on_behalf_of=caller.on_behalf_of,
            token_id=caller.token_id,
            store=caller.store,
            terminal=caller.terminal,
            member_ids=" ".join(sorted(members)) if len(members) <= _MEMBERS_NAMED else "",
            members=len(members),
            left_out=0,
        )


def encode(service: str, number: int, line: Line) -> bytes:
    """The canonical encoding of a line."""
    fields = [
        field.encode()
        for field in (
            VERSION,
            service,
            str(number),
            str(microseconds(line.call_time)),
            line.outcome,
            line.reason,
            line.method,
            line.principal,
            line.on_behalf_of,
            line.token_id,
            line.store,
            line.terminal,
            line.member_ids,
            str(line.members),
            str(line.left_out),
        )
    ]
    return struct.pack(f">{len(fields)}I", *map(len, fields)) + b"".join(fields)


def chain(previous: bytes, encoding: bytes) -> bytes:
    """The hash of a line."""
    return hashlib.sha256(previous + encoding).digest()


class _Account:
    """The refusals of one principal."""

    def __init__(self, now: datetime) -> None:
        self._allowed = float(BURST)
        self._time = now
        self._left_out = 0
        # The last that was left out, and when the first was.
        self._last: Line | None = None
        self._since = now

    def admit(self, line: Line, *, room: bool) -> Iterable[Line]:
        """The line, if it is to be written; it tells of those left out before."""
        passed = max(0.0, (line.call_time - self._time).total_seconds())
        self._allowed = min(BURST, self._allowed + passed * PER_MINUTE / 60)
        self._time = line.call_time
        if room and self._allowed >= 1:
            self._allowed -= 1
            left_out, self._left_out, self._last = self._left_out, 0, None
            return (replace(line, left_out=left_out),)
        if not self._left_out:
            self._since = line.call_time
        self._left_out += 1
        self._last = line
        return ()

    def rest(self, since: datetime | None = None) -> Iterable[Line]:
        """The last that was left out, with the number of those before it; `since`: if the first was by then."""
        if self._last is None or (since is not None and self._since > since):
            return ()
        line = replace(self._last, left_out=self._left_out - 1)
        self._left_out, self._last = 0, None
        return (line,)


class RateLimit:
    """Which refusals get a line. None is lost without being counted: lines and what they say was left out add up."""

    def __init__(self, *, principals: int = _PRINCIPALS) -> None:
        self._principals = principals
        # Who was refused last is the last.
        self._accounts: dict[str, _Account] = {}

    def admit(self, line: Line, *, room: bool = True) -> list[Line]:
        """The lines to write now that this came; without `room` it is left out."""
        lines: list[Line] = []
        account = self._accounts.pop(line.principal, None) or _Account(line.call_time)
        if len(self._accounts) >= self._principals:
            lines.extend(self._accounts.pop(next(iter(self._accounts))).rest())
        self._accounts[line.principal] = account
        lines.extend(account.admit(line, room=room))
        return lines

    def overdue(self, now: datetime) -> list[Line]:
        """The lines of those that were left out a minute ago, and of whom nothing was heard since."""
        return [line for account in self._accounts.values() for line in account.rest(now - _LEFT_OUT_AT_MOST)]

    def rest(self) -> list[Line]:
        """The lines of all that was left out."""
        return [line for account in self._accounts.values() for line in account.rest()]


class AuditTrail:
    """The audit log of a service, over its pool. Several processes of the service may write one log."""

    def __init__(self, service: str, pool: Pool, now: MachineClock) -> None:
        self._service = service
        self._pool = pool
        self._now = now
        self._queries = _queries(service)
        self._limit = RateLimit()
        self._waiting: deque[Line] = deque()
        self._more = asyncio.Event()
        # Lines of this process do not hold connections while they wait for each other.
        self._writing = asyncio.Lock()

    def refused(self, error: PermissionDeniedError, method: str) -> None:
        """Takes note of a refusal; it is written soon."""
        line = Line.of(error.caller, method, Outcome.REFUSED, self._now(), reason=error.reason)
        self._put(self._limit.admit(line, room=len(self._waiting) < _MOST_WAITING))

    async def read(self, caller: Caller, method: str, members: Collection[str]) -> None:
        """Writes down that contact data of these members is about to be shown. Where it raises, nothing may be."""
        line = Line.of(caller, method, Outcome.READ, self._now(), members=members)
        async with self._writing:
            await self._append([line])

    async def acted(self, caller: Caller, method: str, members: Collection[str]) -> None:
        """Writes down what somebody did by hand that concerns these members."""
        line = Line.of(caller, method, Outcome.DONE, self._now(), members=members)
        async with self._writing:
            await self._append([line])

    async def keep_written(self) -> None:
        """Writes refusals down as they come, for ever; while the database is away they wait."""
        await keep_going("audit_log", self._write_behind, also=TRY_AGAIN)

    async def flush(self) -> None:
        """Writes down what there is, if that goes quickly."""
        self._put(self._limit.rest())
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._write_waiting()
        except (*CONNECTION_ERRORS, PostgresError):
            self._lose(self._waiting)

    def _put(self, lines: Iterable[Line]) -> None:
        for line in lines:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(line)
                self._more.set()
            else:
                self._lose([line])

    def _lose(self, lines: Iterable[Line]) -> None:
        log.warning("audit_lines_lost", refusals=sum(line.left_out + 1 for line in lines))

    async def _write_behind(self) -> None:
        # Where there is no log the service does not run.
        async with self._pool.acquire() as connection:
            await connection.fetchrow(self._queries["read_head"])
        while True:
            self._more.clear()
            await self._write_waiting()
            await woken(self._more, _LOOK_SECONDS)
            self._put(self._limit.overdue(self._now()))

    async def _write_waiting(self) -> None:
        while self._waiting:
            async with self._writing:
                lines = list(itertools.islice(self._waiting, _LINES_AT_ONCE))
                await self._append(lines)
                # What came meanwhile stands behind them.
                for _ in lines:
                    self._waiting.popleft()

    async def _append(self, lines: Sequence[Line]) -> None:
        """Adds lines to the log, in one transaction."""

        async def append(connection: Connection) -> None:
            number, digest = await connection.fetchrow(self._queries["lock_head"])
            rows = []
            for line in lines:
                number += 1
                digest = chain(digest, encode(self._service, number, line))
                rows.append(_row(number, line, digest))
            await connection.executemany(self._queries["insert_line"], rows)
            await connection.execute(self._queries["move_head"], number, digest)

        await transact(self._pool, append)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """How many lines were looked at, and what differs: the first hundred are named."""

    lines: int
    differences: tuple[Mapping[str, str], ...]


async def check(dsn: str, service: str) -> AuditReport:
    """Verifies numbers and hashes of a service's audit log, up to its end, in one snapshot."""
    queries = _queries(service)
    found: list[Mapping[str, str]] = []

    def compare(what: str, where: str, expected: object, actual: object) -> None:
        if expected != actual and len(found) < _LISTED:
            found.append({"what": what, "where": where, "expected": str(expected), "found": str(actual)})

    lines, number, digest = 0, 0, GENESIS
    connection = await connect(dsn, service=f"{service}-check")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            head = await connection.fetchrow(queries["read_head"])
            async for row in connection.cursor(queries["read_lines"], prefetch=_CHUNK):
                fields = dict(row)
                stored, kept = fields.pop("number"), fields.pop("hash")
                where = f"audit line {stored}"
                compare("number without a gap", where, number + 1, stored)
                expected = chain(digest, encode(service, stored, Line(**fields)))
                compare("hash chain of the audit log", where, expected.hex(), kept.hex())
                lines, number, digest = lines + 1, stored, kept
    finally:
        await connection.close()
    end = (0, GENESIS) if head is None else tuple(head)
    compare("end of the audit log", "audit_head", f"{number} {digest.hex()}", f"{end[0]} {end[1].hex()}")
    return AuditReport(lines=lines, differences=tuple(found))


def _queries(service: str) -> Mapping[str, str]:
    return {name: query.replace("{schema}", service) for name, query in _QUERIES.items()}


def _row(number: int, line: Line, digest: bytes) -> tuple[Any, ...]:
    return (
        number,
        line.call_time,
        line.outcome,
        line.reason,
        line.method,
        line.principal,
        line.on_behalf_of,
        line.token_id,
        line.store,
        line.terminal,
        line.member_ids,
        line.members,
        line.left_out,
        digest,
    )
