"""How often somebody may ask for what is not there, such as a code or a card: so nothing is found by trying.

Everybody has a bucket of tokens that fills again with time; a miss takes one, a hit none. Who has none left is not
answered at all, or the answer would tell. The buckets of one principal's places share a larger one, so that naming
another place each time gains little. All is in memory, and bounded: who was not heard of longest is forgotten.

Of what is asked for at once nobody knows yet that it is not there, so all of it is answered. What its misses take
beyond the bucket is owed, up to another bucket: whoever owes that is answered again after five and a quarter minutes.
So up to 21 at once (501 without a place) gain nothing in the long run, and n at once n/21 times as many misses as one
after the other: 95 times where they are all that a service takes at once. Misses beyond what a place can owe are not
laid on its principal, or one place could have all others wait; so a principal gains n/40 at most by naming places.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from services.runtime.identity import Caller

# What a till has: that many, one after the other, then one in so many seconds; and it can owe as many.
_BURST: Final = 20
_SECONDS_EACH: Final = 15.0
# A principal has that many times as much, over all its places.
_PLACES: Final = 25
_MOST_BUCKETS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class UnknownIdentifiersError(Exception):
    """Too many identifiers were asked for that lead to nobody; `wait_seconds` until the next may be asked for."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("too many identifiers were asked for that lead to nobody; come back later")
        self.wait_seconds = wait_seconds


class Guesses:
    """Counts misses of callers. `clock` gives seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait(self, caller: Caller) -> float:
        """Seconds until the caller may ask again; 0: now."""
        now = self._clock()
        return max(self._wait(key, most, each, now) for key, most, each in self._keys(caller))

    def missed(self, caller: Caller) -> None:
        """Counts a miss."""
        now = self._clock()
        for key, most, each in self._keys(caller):
            bucket = self._bucket(key, most, each, now)
            if bucket.left - 1 < -most:
                # Enough is owed.
                break
            bucket.left -= 1

    @staticmethod
    def _keys(caller: Caller) -> tuple[tuple[Hashable, float, float], ...]:
        # That of the place first: what it cannot owe any more nobody pays.
        whole = (caller.principal, float(_BURST * _PLACES), _SECONDS_EACH / _PLACES)
        place = (caller.store, caller.terminal, caller.on_behalf_of)
        return (((caller.principal, place), float(_BURST), _SECONDS_EACH), whole) if any(place) else (whole,)

    def _wait(self, key: Hashable, most: float, each: float, now: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        left = min(most, bucket.left + (now - bucket.at) / each)
        return 0.0 if left >= 1 else (1 - left) * each

    def _bucket(self, key: Hashable, most: float, each: float, now: float) -> _Bucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = _Bucket(left=most, at=now)
        else:
            bucket.left = min(most, bucket.left + (now - bucket.at) / each)
            bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket
