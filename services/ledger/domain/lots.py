"""Points by lot: where they lie, in which order they are drawn, and what becomes of them when they become available."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar, NamedTuple

from services.ledger.domain.encoding import decode_lot, encode_lot
from services.ledger.domain.events import UNDATED, Account, LotKey, Posting
from services.programme.calendar import Window
from services.programme.model import Programme


class Lot(NamedTuple):
    """Some points of one lot."""

    key: LotKey
    points: int


Parts = tuple[Lot, ...]


class Lots:
    """Lots in the order they are drawn, each with points. Immutable.

    Most writes look at the first lot and add to the last one; so what was read stays the text that it is stored as,
    and only drawing from lots takes it apart: `100@2026-01-10/2027-01-10 20@2026-02-01/2027-02-01 5`.
    """

    __slots__ = ("text", "total")

    EMPTY: ClassVar[Lots]

    def __init__(self, text: str, total: int) -> None:
        self.text = text
        self.total = total

    @classmethod
    def of(cls, parts: Iterable[Lot]) -> Lots:
        """Lots of parts, which may stand in any order and name a lot twice."""
        lots = cls.EMPTY
        for key, points in parts:
            lots = lots.added(key, points)
        return lots

    @classmethod
    def read(cls, text: str) -> Lots:
        """Lots of their text."""
        return cls(text, total(parts_of(text)))

    def __iter__(self) -> Iterator[Lot]:
        # One by one: who asks for the first few need not read them all.
        return map(_read, self.text.split())

    def __bool__(self) -> bool:
        return bool(self.text)

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Lots) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Lots({self.text!r})"

    @property
    def first(self) -> Lot:
        """The lot that is drawn first."""
        return _read(self.text.partition(" ")[0])

    def added(self, key: LotKey, points: int) -> Lots:
        """The lots with points added to one of them (negative: taken); a lot without points is gone."""
        if not points:
            return self
        rest, space, last = self.text.rpartition(" ")
        added = _text(key, points)
        if not last:
            return Lots(added, points)
        known = _read(last)
        if known.key == key:
            left = known.points + points
            return Lots(rest + space + _text(key, left) if left else rest, self.total + points)
        if order(known) < order(Lot(key, points)):
            return Lots(f"{self.text} {added}", self.total + points)
        return self._added_within(key, points)

    def _added_within(self, key: LotKey, points: int) -> Lots:
        parts = list(self)
        place = bisect(parts, order(Lot(key, points)), key=order)
        if place and parts[place - 1].key == key:
            place -= 1
            points += parts.pop(place).points
        if points:
            parts.insert(place, Lot(key, points))
        return Lots(text_of(parts), total(parts))

    def drawn(self, points: int) -> Parts:
        """The parts that make up `points`, in the order they are drawn; less where there are not as many."""
        return drawn(self, points)


Lots.EMPTY = Lots("", 0)


def order(lot: Lot) -> tuple[date, date]:
    """Lots are drawn first-expiring-first; of those that expire together, the one that became active first."""
    return lot.key.expires or date.max, lot.key.activates or date.min


def total(parts: Iterable[Lot]) -> int:
    """The points of some parts."""
    return sum([part.points for part in parts])


def drawn(parts: Iterable[Lot], points: int) -> Parts:
    """The first of the parts that make up `points`."""
    taken: list[Lot] = []
    for key, there in parts:
        if points <= 0:
            break
        taken.append(Lot(key, min(there, points)))
        points -= there
    return tuple(taken)


def text_of(parts: Iterable[Lot]) -> str:
    """Parts as text, in their order."""
    return " ".join([_text(key, points) for key, points in parts])


def parts_of(text: str) -> Parts:
    """Parts from their text."""
    return tuple([_read(part) for part in text.split()])


def granted_lot(programme: Programme, at: datetime, *, pending_days: int = 0, lasting: Window | None = None) -> LotKey:
    """The lot of points granted at an instant: active after so many local days, expiring by the policy (§12.9), or
    after a span of their own."""
    if lasting is not None:
        activates = programme.local_day(at) + timedelta(days=pending_days)
        return LotKey(activates, lasting.last_day(activates))
    if not pending_days and not programme.expiry.dated:
        return UNDATED
    activates = programme.local_day(at) + timedelta(days=pending_days)
    return LotKey(activates, programme.expiry.last_day(activates))


def active(key: LotKey) -> LotKey:
    """The lot that a pending one becomes."""
    return key if key.expires is not None else UNDATED


def postings(account: Account, parts: Iterable[Lot], sign: int = 1) -> list[Posting]:
    """One posting for each part; with sign -1 they are taken away."""
    return [Posting(account, sign * part.points, part.key) for part in parts if part.points]


def becoming_available(debt: int, parts: Sequence[Lot]) -> list[Posting]:
    """What becomes available pays debt first (§12.3)."""
    legs: list[Posting] = []
    owed = debt
    for part in parts:
        paid = min(owed, part.points)
        owed -= paid
        if part.points > paid:
            legs.append(Posting(Account.AVAILABLE, part.points - paid, part.key))
    if owed != debt:
        legs.append(Posting(Account.DEBT, owed - debt))
    return legs


def _text(key: LotKey, points: int) -> str:
    return f"{points}@{'/'.join(encode_lot(key))}" if key != UNDATED else str(points)


def _read(text: str) -> Lot:
    points, _, days = text.partition("@")
    return Lot(decode_lot(*days.split("/")) if days else UNDATED, int(points))
