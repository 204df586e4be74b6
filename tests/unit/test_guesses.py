"""Who asks for what is not there waits, and who works never does."""

from __future__ import annotations

import random

import pytest

from services.runtime.guesses import Guesses
from services.runtime.identity import Caller


def backend(on_behalf_of: object = "") -> Caller:
    return Caller(principal="backend", on_behalf_of=str(on_behalf_of))


def missed_at_once(guesses: Guesses, caller: Caller, count: int) -> int:
    """How many of so many are answered that are asked for at once, before the first is known to lead to nobody."""
    if guesses.wait(caller):
        return 0
    for _ in range(count):
        guesses.missed(caller)
    return count


def test_a_principal_that_names_other_places_all_the_time_gains_little() -> None:
    guesses = Guesses(lambda: 0.0)
    asked = 0
    while not guesses.wait(backend(asked)):
        guesses.missed(backend(asked))
        asked += 1
    assert asked == 500
    assert guesses.wait(backend("a place that never asked")) > 0
    assert guesses.wait(Caller(principal="other")) == 0


def test_a_shop_that_says_for_nobody_it_asks_is_not_stopped_by_one_customer_who_guesses() -> None:
    guesses = Guesses(lambda: 0.0)
    for _ in range(499):
        guesses.missed(backend())
    assert guesses.wait(backend()) == 0
    guesses.missed(backend())
    assert guesses.wait(backend()) > 0


def test_one_till_that_guesses_leaves_the_others_alone() -> None:
    guesses = Guesses(lambda: 0.0)
    first, second = (Caller(principal="tills", store="s-1", terminal=terminal) for terminal in ("t-1", "t-2"))
    asked = 0
    while not guesses.wait(first):
        guesses.missed(first)
        asked += 1
    assert asked == 20
    assert guesses.wait(second) == 0


def test_whoever_asks_for_many_at_once_waits_for_minutes_before_the_next() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    till = Caller(principal="tills", store="s-1", terminal="t-1")
    times = [now]
    assert missed_at_once(guesses, till, 1_000) == 1_000
    assert guesses.wait(till) == 315
    while now < 3600:
        now += 1.0
        if missed_at_once(guesses, till, 1_000):
            times.append(now)
    assert times == [315.0 * number for number in range(12)]


@pytest.mark.parametrize(
    ("caller", "at_once", "each"), [(Caller(principal="till", terminal="t-1"), 21, 15.0), (backend(), 501, 0.6)]
)
def test_whoever_asks_for_no_more_at_once_than_can_be_owed_gains_nothing(
    caller: Caller, at_once: int, each: float
) -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    missed = 0
    while now < 3600:
        missed += missed_at_once(guesses, caller, at_once)
        now += 1.0
    # The last of them are owed still.
    assert missed <= 2 * at_once + now / each


def test_one_till_that_asks_for_many_at_once_leaves_the_others_alone() -> None:
    guesses = Guesses(lambda: 0.0)
    first, second = (Caller(principal="tills", store="s-1", terminal=terminal) for terminal in ("t-1", "t-2"))
    missed_at_once(guesses, first, 1_000)
    assert guesses.wait(second) == 0
    # All of the principal's but what one place can have and owe.
    others = 0
    while not guesses.wait(Caller(principal="tills")):
        guesses.missed(Caller(principal="tills"))
        others += 1
    assert others == 500 - 40


def test_a_day_of_fifty_busy_tills_that_misread_every_tenth_card_is_never_held_up() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    chance = random.Random(7)
    tills = [Caller(principal="tills", store="s-1", terminal=f"t-{number}") for number in range(50)]
    while now < 12 * 3600:
        # A customer at each of them every half a minute; a card that is misread is tried once more.
        now += 30.0 / len(tills)
        till = chance.choice(tills)
        for _ in range(2):
            assert guesses.wait(till) == 0
            if chance.random() > 0.1:
                break
            guesses.missed(till)


def test_only_as_many_who_miss_are_remembered_as_there_is_room_for() -> None:
    guesses = Guesses(lambda: 0.0)
    for number in range(12_000):
        guesses.missed(Caller(principal=f"p-{number}"))
    assert len(guesses._buckets) == 10_000
