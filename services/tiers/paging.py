"""Page tokens of ListStandings and ExplainStanding: where a list goes on, and the instant that its pages are true of.

A token is bound to the instant that the caller asked about, and a damaged one is noticed. It is no secret: what it
says could be asked for without it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.runtime.clock import microseconds, moment
from services.tiers.errors import PageTokenError

_CHECKSUM_BYTES: Final = 4
_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a list goes on: after this member, at this instant."""

    at_time: datetime
    after: str


def page_token_of(place: Place, asked: datetime | None) -> str:
    """The token of a place in a list that was asked for with this instant; None: with none."""
    content = _time(place.at_time) + place.after.encode()
    return base64.urlsafe_b64encode(_checksum(content, asked) + content).decode()


def read_page_token(token: str, asked: datetime | None) -> Place:
    """The place in a token; raises PageTokenError for what `page_token_of` did not make for the same question."""
    try:
        content = base64.urlsafe_b64decode(token)[_CHECKSUM_BYTES:]
        place = Place(
            at_time=moment(int.from_bytes(content[:_TIME_BYTES], signed=True)),
            after=content[_TIME_BYTES:].decode("ascii"),
        )
        made = page_token_of(place, asked)
    except (binascii.Error, ValueError, OverflowError):
        raise PageTokenError from None
    if token != made or not place.after.isprintable():
        raise PageTokenError
    return place


def line_token_of(at_time: datetime, first: int, asked: datetime | None) -> str:
    """The token of the lines from the number `first` on that explain a standing at an instant."""
    return page_token_of(Place(at_time=at_time, after=str(first)), asked)


def read_line_token(token: str, asked: datetime | None) -> tuple[datetime, int]:
    """The instant and the number in a token; raises PageTokenError for what `line_token_of` did not make."""
    place = read_page_token(token, asked)
    if not place.after.isdecimal():
        raise PageTokenError
    return place.at_time, int(place.after)


def _time(time: datetime) -> bytes:
    return microseconds(time).to_bytes(_TIME_BYTES, signed=True)


def _checksum(content: bytes, asked: datetime | None) -> bytes:
    question = b"\0" if asked is None else b"\1" + _time(asked)
    return zlib.crc32(question + content).to_bytes(_CHECKSUM_BYTES)
