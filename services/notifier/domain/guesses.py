"""How many codes that no coupon has somebody may ask for: so none is found by trying.

Everybody has a bucket of tokens that fills again with time; a wrong code takes one, a right one none. Who has none left
is not answered at all, or the answer would tell. The buckets of one principal's places share a larger one, so that
naming another place each time gains little. All is in memory, and bounded: who was not heard of longest is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

# What a till has: that many at once, then one in so many seconds.
_BURST: Final = 20
_SECONDS_EACH: Final = 15.0
# A principal has that many times as much, over all its places.
_PLACES: Final = 25
_MOST_BUCKETS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Guesses:
    """Counts wrong codes. `clock` gives seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait(self, principal: str, place: Hashable) -> float:
        """Seconds until the next code may be asked for; 0: now."""
        now = self._clock()
        return max(self._wait(key, most, each, now) for key, most, each in self._keys(principal, place))

    def wrong(self, principal: str, place: Hashable) -> None:
        """Counts a wrong code."""
        now = self._clock()
        for key, most, each in self._keys(principal, place):
            bucket = self._bucket(key, most, each, now)
            bucket.left = max(0.0, bucket.left - 1)

    @staticmethod
    def _keys(principal: str, place: Hashable) -> tuple[tuple[Hashable, float, float], ...]:
        return (
            ((principal, place), float(_BURST), _SECONDS_EACH),
            (principal, float(_BURST * _PLACES), _SECONDS_EACH / _PLACES),
        )

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
