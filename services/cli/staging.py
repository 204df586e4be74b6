"""Where a history waits, read and put in order, until it is sent: a private SQLite file of this process alone.

However large the source is, memory stays the same: SQLite keeps a cache of a fixed size and sorts on disk. The file
has no name, so nothing is left of it when the process ends, however it ends. It lies where SQLITE_TMPDIR or TMPDIR
says, else in /var/tmp or /tmp.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple, TextIO

from loyalty.ledger.v1 import ledger_service_pb2 as ledger

from services.cli.errors import CommandError
from services.cli.history import MOST_LINES, Part, Rejected
from services.programme import Programme
from services.runtime.clock import microseconds, moment

_CACHE_KIB: Final = 64 * 1024
_ROWS_AT_ONCE: Final = 2000
# Movements and lines of one slice at most: what is on its way to the ledger is held in memory.
_SLICE_MOVEMENTS: Final = 2000
_SLICE_LINES: Final = 40_000
# More than as many lines of a receipt as the contract takes.
_FOLDED_AT_BYTES: Final = 4 * 1024 * 1024
_SECOND: Final = 1_000_000
_DISK_ERRORS: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
# How many purchases members have: the ends of the classes of the histogram.
_FREQUENCIES: Final = (1, 2, 3, 4, 5, 10, 20, 50, 100)

_SCHEMA: Final = """
CREATE TABLE parts (
    member TEXT NOT NULL, key TEXT NOT NULL, is_return INTEGER NOT NULL, occurred INTEGER NOT NULL,
    amount INTEGER NOT NULL, source_lines INTEGER NOT NULL, store TEXT NOT NULL, lines BLOB NOT NULL);
CREATE TABLE rejects (line INTEGER, reason TEXT, member TEXT, key TEXT, content TEXT);
CREATE TABLE rows_seen (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE counters (key TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""
# In the order in which it happened; the rowid is the place in it.
_MOVEMENTS: Final = """
CREATE INDEX parts_by_movement ON parts (member, key, is_return);
CREATE TABLE movements AS
SELECT member, key, is_return, min(occurred) AS occurred, sum(amount) AS amount, sum(source_lines) AS source_lines,
       min(store) AS store, 0 AS is_first
FROM parts GROUP BY member, key, is_return
ORDER BY min(occurred), is_return, key, member;
CREATE TEMP TABLE firsts AS SELECT min(rowid) AS place FROM movements GROUP BY member;
UPDATE movements SET is_first = 1 WHERE rowid IN (SELECT place FROM firsts);
DROP TABLE firsts;
CREATE INDEX movements_by_time ON movements (occurred);
"""


@dataclass(slots=True)
class Tally:
    """Lines of the source, and what they come to: signed minor units."""

    lines: int = 0
    amount: int = 0

    def add(self, lines: int, amount: int) -> None:
        """Adds some."""
        self.lines += lines
        self.amount += amount


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a source holds. Every line that was read is in exactly one of duplicates, guests, rejected and accepted."""

    read: Tally = field(default_factory=Tally)
    duplicates: Tally = field(default_factory=Tally)
    guests: Tally = field(default_factory=Tally)
    rejected: dict[str, Tally] = field(default_factory=dict)
    accepted: Tally = field(default_factory=Tally)
    purchases: int = 0
    returns: int = 0
    members: int = 0
    without_lines: int = 0
    """Purchases and returns of which no line counts: they are none."""
    frequencies: Mapping[str, int] = field(default_factory=dict)
    """Members by how many purchases they have: "1", "6-10", "101 or more"."""
    first_day: date | None = None
    last_day: date | None = None

    @property
    def movements(self) -> int:
        """Purchases and returns."""
        return self.purchases + self.returns


class Joining(NamedTuple):
    """A member joins."""

    member_id: str
    occurred: int


class Movement(NamedTuple):
    """A purchase or a return. `lines`: as a field `lines` of a request of the contract, encoded.

    Of more lines than the contract takes the first are there, and one that stands for the rest.
    """

    is_return: bool
    member_id: str
    key: str
    occurred: int
    amount: int
    source_lines: int
    store_id: str
    lines: bytes

    @property
    def signed(self) -> int:
        """Its amount; what comes back is negative."""
        return -self.amount if self.is_return else self.amount


class Slice(NamedTuple):
    """A part of a local day, in the order in which it happened."""

    date: date
    joinings: list[Joining]
    movements: list[Movement]


class Staging:
    """A `history.Sink`; after `arrange` it gives out what it took in."""

    def __init__(self) -> None:
        self.survey = Survey()
        self._parts: list[tuple[Any, ...]] = []
        # Another thread reads what this one has put in order; never both at once.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with _room():
            for pragma in (
                f"cache_size = -{_CACHE_KIB}",
                "journal_mode = OFF",
                "synchronous = OFF",
                "locking_mode = EXCLUSIVE",
                "temp_store = FILE",
            ):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            # One transaction until all is read: nothing needs to be written out before the cache is full.
            self._database.execute("BEGIN")

    def close(self) -> None:
        """Gives the space back."""
        self._database.close()

    # --- taking in ---

    def read(self, amount: int, lines: int = 1) -> None:
        """Lines of the source were read."""
        self.survey.read.add(lines, amount)

    def is_new(self, row: bytes) -> bool:
        """Whether this row comes for the first time."""
        digest = hashlib.blake2b(row, digest_size=16).digest()
        with _room():
            return self._database.execute("INSERT OR IGNORE INTO rows_seen VALUES (?)", (digest,)).rowcount == 1

    def count(self, key: str) -> int:
        """How often this key was asked for, from 1."""
        with _room():
            self._database.execute(
                "INSERT INTO counters VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1", (key,)
            )
            (count,) = self._database.execute("SELECT count FROM counters WHERE key = ?", (key,)).fetchone()
        return int(count)

    def duplicate(self, amount: int) -> None:
        """A line that was there before."""
        self.survey.duplicates.add(1, amount)

    def guest(self, amount: int) -> None:
        """A line of somebody who is no member."""
        self.survey.guests.add(1, amount)

    def reject(self, rejected: Rejected) -> None:
        """A line that does not count."""
        self.survey.rejected.setdefault(rejected.reason, Tally()).add(1, rejected.amount)
        content = json.dumps(list(rejected.row), ensure_ascii=False)
        with _room():
            self._database.execute(
                "INSERT INTO rejects VALUES (?, ?, ?, ?, ?)",
                (rejected.line, rejected.reason, rejected.member_id, rejected.key, content),
            )

    def accept(self, part: Part) -> None:
        """Lines that count."""
        self.survey.accepted.add(part.source_lines, -part.amount if part.is_return else part.amount)
        lines = b""
        if part.lines:
            message = ledger.RecordPurchaseRequest()
            # Adding in place takes half the time of making messages and handing them over.
            add = message.lines.add
            for sku, name, department, category, quantity, amount in part.lines:
                add(
                    sku=sku,
                    name=name,
                    department=department,
                    category=category,
                    quantity=quantity,
                    amount_minor_units=amount,
                )
            lines = message.SerializeToString()
        self._parts.append(
            (
                part.member_id,
                part.key,
                part.is_return,
                part.occurred,
                part.amount,
                part.source_lines,
                part.store_id,
                lines,
            )
        )
        if len(self._parts) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        with _room():
            self._database.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._parts)
        self._parts.clear()

    # --- giving out ---

    def arrange(self, programme: Programme) -> None:
        """Puts together what belongs together, in order; the survey is complete then."""
        self._flush()
        survey = self.survey
        with _room():
            self._database.executescript(_MOVEMENTS)
            returns, movements, members, first, last = self._one(
                "SELECT coalesce(sum(is_return), 0), count(*), coalesce(sum(is_first), 0), min(occurred), max(occurred)"
                " FROM movements"
            )
            (survey.without_lines,) = self._one(
                "SELECT count(*) FROM (SELECT DISTINCT member, key FROM rejects WHERE key <> '') AS r WHERE NOT EXISTS"
                " (SELECT 1 FROM parts AS p WHERE p.member = r.member AND p.key = r.key)"
            )
            counts = self._database.execute(
                "SELECT count, count(*) FROM (SELECT count(*) AS count FROM movements WHERE is_return = 0"
                " GROUP BY member) GROUP BY count"
            )
            survey.frequencies = _histogram(counts)
        survey.returns, survey.purchases, survey.members = returns, movements - returns, members
        if movements:
            survey.first_day = moment(first).astimezone(programme.zone).date()
            survey.last_day = moment(last).astimezone(programme.zone).date()

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return found

    def movements_before(self, occurred: int) -> int:
        """How many there are before an instant."""
        with _room():
            (count,) = self._one("SELECT count(*) FROM movements WHERE occurred < ?", occurred)
        return int(count)

    def slices(self, programme: Programme, since: int = 0) -> Iterator[Slice]:
        """What happened from an instant on, local day after local day, in slices that fit into memory."""
        pending: Slice | None = None
        day, end, lines = date.min, 0, 0
        for movement, is_first in self._movements(since):
            new_day = movement.occurred >= end
            if pending is not None and (new_day or len(pending.movements) >= _SLICE_MOVEMENTS or lines >= _SLICE_LINES):
                yield pending
                pending = None
            if new_day:
                day = moment(movement.occurred).astimezone(programme.zone).date()
                end = microseconds(programme.start_of_next_local_day(moment(movement.occurred)))
            if pending is None:
                pending, lines = Slice(day, [], []), 0
            if is_first:
                pending.joinings.append(Joining(movement.member_id, movement.occurred - _SECOND))
            pending.movements.append(movement)
            lines += movement.source_lines
        if pending is not None:
            yield pending

    def _movements(self, since: int) -> Iterator[tuple[Movement, bool]]:
        """The movements, each with its lines put together, and whether it is its member's first."""
        with _room():
            rows = self._database.execute(
                "SELECT m.rowid, m.source_lines, m.is_first, m.is_return, m.member, m.key, m.occurred, m.amount,"
                " m.store, p.lines FROM movements AS m CROSS JOIN parts AS p"
                " ON p.member = m.member AND p.key = m.key AND p.is_return = m.is_return"
                " WHERE m.rowid >= coalesce((SELECT min(rowid) FROM movements WHERE occurred >= ?), 1 << 62)"
                " ORDER BY m.rowid, p.rowid",
                (since,),
            )
            head: Sequence[Any] = ()
            parts: list[bytes] = []
            size = 0
            for *row, lines in rows:
                if not head or head[0] != row[0]:
                    if head:
                        yield _movement(head, parts)
                    head, parts, size = row, [], 0
                parts.append(lines)
                size += len(lines)
                if size > _FOLDED_AT_BYTES:
                    parts = [_folded(parts, row[1])]
                    size = len(parts[0])
            if head:
                yield _movement(head, parts)

    def write_rejects(self, file: TextIO, columns: Sequence[str]) -> None:
        """Writes what was rejected as CSV, in the order of the source: line, reason and the row as it was."""
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["line", "reason", *columns])
        with _room():
            rows = self._database.execute("SELECT line, reason, content FROM rejects ORDER BY rowid")
            for line, reason, content in rows:
                writer.writerow([line, reason, *json.loads(content)])


def _movement(head: Sequence[Any], parts: Sequence[bytes]) -> tuple[Movement, bool]:
    _, source_lines, is_first, is_return, member_id, key, occurred, amount, store_id = head
    lines = _folded(parts, source_lines)
    return Movement(bool(is_return), member_id, key, occurred, amount, source_lines, store_id, lines), bool(is_first)


def _folded(parts: Sequence[bytes], count: int) -> bytes:
    """The parts put together, with the lines that the contract does not take made one; `count`: all of the movement."""
    # A repeated field that is encoded in parts is the parts one after the other.
    lines = parts[0] if len(parts) == 1 else b"".join(parts)
    if count <= MOST_LINES:
        return lines
    message = ledger.RecordPurchaseRequest.FromString(lines)
    kept = MOST_LINES - 1
    if rest := message.lines[kept:]:
        del message.lines[kept:]
        message.lines.add(
            name=f"{count - kept:,} more lines",
            quantity=sum(line.quantity for line in rest),
            amount_minor_units=sum(line.amount_minor_units for line in rest),
        )
    return message.SerializeToString()


def _histogram(counts: Iterator[tuple[int, int]]) -> dict[str, int]:
    names: list[str] = []
    previous = 0
    for end in _FREQUENCIES:
        names.append(str(end) if end == previous + 1 else f"{previous + 1}-{end}")
        previous = end
    names.append(f"{previous + 1} or more")
    histogram = dict.fromkeys(names, 0)
    for count, members in counts:
        place = next((at for at, end in enumerate(_FREQUENCIES) if count <= end), len(_FREQUENCIES))
        histogram[names[place]] += members
    return histogram


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Says in a sentence that there is no room on disk, or no disk."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # The kind of the error is in the lowest byte. Any other is a fault of this module.
        if error.sqlite_errorcode & 0xFF not in _DISK_ERRORS:
            raise
        raise CommandError(
            f"what was read cannot be kept on disk while it is put in order: {error}; name a folder with more space "
            "in TMPDIR"
        ) from None
