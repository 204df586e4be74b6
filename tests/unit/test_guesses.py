"""Who asks for what is not there waits, and who works never does."""

from __future__ import annotations

import random

from services.runtime.guesses import Guesses
from services.runtime.identity import Caller


def backend(on_behalf_of: object = "") -> Caller:
    return Caller(principal="backend", on_behalf_of=str(on_behalf_of))


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
