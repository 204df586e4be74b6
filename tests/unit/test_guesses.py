"""Who asks for what is not there waits, and who works never does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from services.runtime.guesses import Guesses, UnknownIdentifiersError
from services.runtime.identity import Caller


class NothingThereError(Exception):
    pass


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(clock, is_miss=lambda error: isinstance(error, NothingThereError), refusal=UnknownIdentifiersError)


def backend(on_behalf_of: object = "") -> Caller:
    return Caller(principal="backend", on_behalf_of=str(on_behalf_of))


def till(number: int = 1) -> Caller:
    return Caller(principal="tills", store="s-1", terminal=f"t-{number}")


async def look_up(guesses: Guesses, caller: Caller, *, there: bool) -> None:
    """Asks for one thing, which takes a while."""
    async with guesses.trying(caller):
        await asyncio.sleep(0)
        if not there:
            raise NothingThereError


async def guess(guesses: Guesses, caller: Caller) -> bool:
    """Asks for what is not there; whether that was answered."""
    try:
        await look_up(guesses, caller, there=False)
    except NothingThereError:
        return True
    except UnknownIdentifiersError:
        return False
    raise AssertionError


async def guess_on(guesses: Guesses, caller: Callable[[int], Caller]) -> int:
    """How many guesses are answered, one after the other."""
    answered = 0
    while await guess(guesses, caller(answered)):
        answered += 1
    return answered


async def test_a_till_has_twenty_guesses_and_then_one_every_fifteen_seconds(guesses: Guesses, clock: Clock) -> None:
    assert await guess_on(guesses, lambda _: till()) == 20
    with pytest.raises(UnknownIdentifiersError) as refused:
        await look_up(guesses, till(), there=True)
    assert refused.value.wait_seconds == 15
    clock.now += 14
    assert not await guess(guesses, till())
    clock.now += 1
    assert await guess_on(guesses, lambda _: till()) == 1


async def test_what_is_there_costs_nothing(guesses: Guesses) -> None:
    for _ in range(1_000):
        await look_up(guesses, till(), there=True)
    assert await guess_on(guesses, lambda _: till()) == 20


async def test_a_principal_that_names_other_places_all_the_time_gains_little(guesses: Guesses) -> None:
    assert await guess_on(guesses, backend) == 500
    assert not await guess(guesses, backend("a place that never asked"))
    assert await guess(guesses, Caller(principal="other"))


async def test_a_shop_that_says_for_nobody_it_asks_is_not_stopped_by_one_customer_who_guesses(guesses: Guesses) -> None:
    assert await guess_on(guesses, lambda _: backend()) == 500


async def test_one_till_that_guesses_leaves_the_others_alone(guesses: Guesses) -> None:
    assert await guess_on(guesses, lambda _: till(1)) == 20
    assert await guess(guesses, till(2))


@pytest.mark.parametrize(("caller", "tries"), [(till(), 20), (backend(), 500)])
async def test_who_guesses_many_at_once_finds_no_more_than_one_after_the_other(
    guesses: Guesses, clock: Clock, caller: Caller, tries: int
) -> None:
    assert sum(await asyncio.gather(*(guess(guesses, caller) for _ in range(2_000)))) == tries
    clock.now += 3600
    assert sum(await asyncio.gather(*(guess(guesses, caller) for _ in range(2_000)))) == tries


async def test_who_asks_for_many_at_once_that_are_there_has_them_all_answered(guesses: Guesses) -> None:
    under_way = most = 0

    async def ask() -> None:
        nonlocal under_way, most
        async with guesses.trying(till()):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(ask() for _ in range(2_000)))
    assert most == 20


async def test_a_right_one_that_waits_behind_guesses_is_answered_while_there_is_a_try_left(guesses: Guesses) -> None:
    wrong = [guess(guesses, till()) for _ in range(19)]
    right = [look_up(guesses, till(), there=True) for _ in range(100)]
    assert (await asyncio.gather(*wrong, *right))[:19] == [True] * 19


async def test_guesses_that_wait_behind_what_is_found_are_counted_when_it_ends_at_once(
    guesses: Guesses,
) -> None:
    async def ask(answer: asyncio.Future[bool]) -> bool:
        try:
            async with guesses.trying(till()):
                if not await answer:
                    raise NothingThereError
        except NothingThereError:
            return True
        except UnknownIdentifiersError:
            pass
        return False

    answered = 0
    for _ in range(5):
        found, missed = (asyncio.get_running_loop().create_future() for _ in range(2))
        hits = [asyncio.create_task(ask(found)) for _ in range(20)]
        await asyncio.sleep(0)
        misses = [asyncio.create_task(ask(missed)) for _ in range(20)]
        await asyncio.sleep(0)
        found.set_result(True)
        missed.set_result(False)
        await asyncio.gather(*hits)
        answered += sum(await asyncio.gather(*misses))
    assert answered == 20


async def test_who_gives_up_when_its_turn_comes_leaves_it_to_the_next(guesses: Guesses) -> None:
    first_ends, others_end = asyncio.Event(), asyncio.Event()

    async def hang(until: asyncio.Event) -> None:
        async with guesses.trying(till()):
            await until.wait()
        if until is first_ends:
            leaving.cancel()

    async with asyncio.timeout(5):
        under_way = [asyncio.create_task(hang(until)) for until in (first_ends, *[others_end] * 19)]
        await asyncio.sleep(0)
        leaving, gone, staying = (asyncio.create_task(look_up(guesses, till(), there=True)) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        first_ends.set()
        await staying
        assert leaving.cancelled()
        others_end.set()
        await asyncio.gather(*under_way)
    assert await guess_on(guesses, lambda _: till()) == 20


async def test_a_day_of_fifty_busy_tills_that_misread_every_tenth_card_is_never_held_up(
    guesses: Guesses, clock: Clock
) -> None:
    chance = random.Random(7)
    while clock.now < 3 * 3600:
        # A customer at each of them every half a minute; a card that is misread is tried once more.
        clock.now += 30.0 / 50
        here = till(chance.randrange(50))
        for _ in range(2):
            if chance.random() > 0.1:
                await look_up(guesses, here, there=True)
                break
            assert await guess(guesses, here)


async def test_only_who_misses_is_remembered_and_no_more_than_there_is_room_for(guesses: Guesses) -> None:
    for number in range(100):
        await look_up(guesses, Caller(principal=f"p-{number}"), there=True)
    assert not guesses._remembered
    for number in range(12_000):
        await guess(guesses, Caller(principal=f"p-{number}"))
    assert len(guesses._remembered) == 10_000
