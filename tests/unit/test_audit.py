"""The lines of the audit log: how they are encoded and chained, and which refusals get one."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.audit import BURST, PER_MINUTE, Line, Outcome, RateLimit, chain, encode
from services.runtime.identity import Caller

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
METHOD = "/loyalty.ledger.v1.LedgerService/RecordPurchase"


def refusal(seconds: float = 0, principal: str = "till") -> Line:
    caller = Caller(principal=principal, token_id="id-1", store="17", terminal="3")
    time = NOON + timedelta(seconds=seconds)
    return Line.of(caller, METHOD, Outcome.REFUSED, time, reason="STORE_DENIED")


def counted(lines: list[Line]) -> int:
    """The refusals that lines tell of."""
    return sum(line.left_out + 1 for line in lines)


def test_a_line_is_encoded_as_the_recipe_says() -> None:
    line = replace(refusal(), on_behalf_of="anna", left_out=4)
    texts = (
        *("loyalty-audit-1", "ledger", "7", "1790856000000000", "REFUSED", "STORE_DENIED", METHOD, "till", "anna"),
        *("id-1", "17", "3", "", "0", "4"),
    )
    by_hand = b"".join(len(text).to_bytes(4, "big") for text in texts) + "".join(texts).encode()
    assert encode("ledger", 7, line) == by_hand
    assert chain(b"\1" * 32, by_hand) == hashlib.sha256(b"\1" * 32 + by_hand).digest()


@pytest.mark.parametrize("field", [field.name for field in fields(Line)])
def test_whatever_changes_in_a_line_changes_its_encoding(field: str) -> None:
    line = refusal()
    value = getattr(line, field)
    changed = value + timedelta(microseconds=1) if field == "call_time" else value + (1 if value == 0 else "x")
    assert encode("ledger", 1, replace(line, **{field: changed})) != encode("ledger", 1, line)


def test_a_line_belongs_to_its_number_and_its_service_and_texts_do_not_run_into_each_other() -> None:
    line = replace(refusal(), store="1", terminal="73")
    encodings = {
        encode("ledger", 1, line),
        encode("ledger", 2, line),
        encode("tiers", 1, line),
        encode("ledger", 1, replace(line, store="17", terminal="3")),
    }
    assert len(encodings) == 4


def test_a_read_of_a_few_names_its_members_and_one_of_many_says_how_many() -> None:
    few = Line.of(Caller(principal="desk"), METHOD, Outcome.READ, NOON, members={"m-2", "m-1"})
    assert (few.member_ids, few.members) == ("m-1 m-2", 2)
    many = Line.of(Caller(principal="desk"), METHOD, Outcome.READ, NOON, members={f"m-{n}" for n in range(21)})
    assert (many.member_ids, many.members) == ("", 21)


def test_a_principal_gets_so_many_lines_at_once_and_then_so_many_a_minute() -> None:
    limit = RateLimit()
    assert sum(len(limit.admit(refusal())) for _ in range(1000)) == BURST
    minute = [line for tenth in range(600) for line in limit.admit(refusal(tenth / 10))]
    assert PER_MINUTE - 1 <= len(minute) <= PER_MINUTE
    assert minute[0].left_out >= 1000 - BURST


def test_the_flood_of_one_principal_takes_no_lines_from_another() -> None:
    limit = RateLimit()
    for _ in range(1000):
        limit.admit(refusal())
    assert limit.admit(refusal(principal="shop")) == [refusal(principal="shop")]


def test_what_was_left_out_stands_in_the_next_line_or_in_one_of_its_own_when_the_minute_is_over() -> None:
    limit = RateLimit()
    for _ in range(BURST + 5):
        limit.admit(refusal())
    (line,) = limit.admit(refusal(3))
    assert line == replace(refusal(3), left_out=5)
    for second in (4, 4.5, 5):
        assert limit.admit(refusal(second)) == []
    assert limit.overdue(NOON + timedelta(seconds=63)) == []
    assert limit.overdue(NOON + timedelta(seconds=64)) == [replace(refusal(5), left_out=2)]
    assert limit.overdue(NOON + timedelta(seconds=200)) == []
    assert limit.admit(refusal(201)) == [refusal(201)]


def test_a_clock_that_goes_back_stops_nobody_for_long() -> None:
    limit = RateLimit()
    for _ in range(BURST):
        limit.admit(refusal(1_000_000))
    assert limit.admit(refusal(0)) == []
    assert counted(limit.admit(refusal(4))) == 2


def test_of_many_principals_the_one_refused_least_recently_is_forgotten_and_its_count_is_not() -> None:
    limit = RateLimit(principals=10)
    for _ in range(BURST + 3):
        limit.admit(refusal(principal="p-0"))
    for number in range(1, 10):
        assert len(limit.admit(refusal(principal=f"p-{number}"))) == 1
    forgotten, own = limit.admit(refusal(principal="p-10"))
    assert forgotten == replace(refusal(principal="p-0"), left_out=2)
    assert own.principal == "p-10"
    for number in range(11, 10_000):
        limit.admit(refusal(principal=f"p-{number}"))
    assert len(limit._accounts) == 10


steps = st.tuples(st.integers(0, 4), st.floats(-10, 30), st.booleans())


@given(st.lists(steps, max_size=200), st.booleans())
def test_no_refusal_is_lost_without_being_counted(calls: list[tuple[int, float, bool]], looked: bool) -> None:
    limit = RateLimit(principals=3)
    lines: list[Line] = []
    now = 0.0
    for principal, passed, room in calls:
        now += passed
        lines += limit.admit(refusal(now, f"p-{principal}"), room=room)
        if looked:
            lines += limit.overdue(NOON + timedelta(seconds=now))
    lines += limit.rest()
    assert counted(lines) == len(calls)
    assert limit.rest() == []
