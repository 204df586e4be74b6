"""A member's lots as a list that is read in pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from services.ledger.domain.encoding import decode_lot, encode_lot
from services.ledger.domain.events import Account
from services.ledger.domain.lots import Lot, order
from services.ledger.domain.state import Hold, Member
from services.ledger.errors import PageTokenError

_LISTED: Final = (Account.AVAILABLE, Account.PENDING, Account.HELD)

# A place in the list. It is there whether its lot still is or not: so a page goes on where the one before ended.
_Place = tuple[int, str, date, date]


class ListedLot(NamedTuple):
    """A lot, and where its points are; of held ones the hold."""

    account: Account
    lot: Lot
    hold: Hold | None = None

    @property
    def token(self) -> str:
        """The page token of what follows it."""
        return _token(self.account, self.lot, self.hold.hold_id if self.hold else "")

    @property
    def place(self) -> _Place:
        """Its place in the list."""
        return _place(self.account, self.lot, self.hold.hold_id if self.hold else "")


def lots_after(member: Member, page_token: str) -> list[ListedLot]:
    """The lots that follow a page (an empty token: all), in the order they are drawn: available ones, then pending,
    then held ones, hold by hold in the order of their ids.

    Raises PageTokenError for a token that is not of this list.
    """
    lots = sorted(_lots(member), key=lambda listed: listed.place)
    if not page_token:
        return lots
    after = _read(page_token)
    return [listed for listed in lots if listed.place > after]


def _lots(member: Member) -> Iterator[ListedLot]:
    for lot in member.lots:
        yield ListedLot(Account.AVAILABLE, lot)
    for lot in member.pending:
        yield ListedLot(Account.PENDING, lot)
    for hold in member.holds:
        for lot in hold.lots:
            yield ListedLot(Account.HELD, lot, hold)


def _place(account: Account, lot: Lot, hold_id: str) -> _Place:
    return (_LISTED.index(account), hold_id, *order(lot))


def _token(account: Account, lot: Lot, hold_id: str) -> str:
    return "/".join((account.value, *encode_lot(lot.key), hold_id))


def _read(page_token: str) -> _Place:
    try:
        name, activates, expires, hold_id = page_token.split("/", 3)
        account, lot = Account(name), Lot(decode_lot(activates, expires), 0)
        place = _place(account, lot, hold_id)
    except ValueError:
        raise PageTokenError from None
    if page_token != _token(account, lot, hold_id) or (account is Account.HELD) != bool(hold_id):
        raise PageTokenError
    return place
