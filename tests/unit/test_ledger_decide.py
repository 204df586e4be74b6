"""The rules of the ledger, each with a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.ledger import errors
from services.ledger.domain import commands
from services.ledger.domain.commands import Line, LineKind
from services.ledger.domain.decide import Now, decide, decide_clock
from services.ledger.domain.earning import explain
from services.ledger.domain.encoding import partition_of
from services.ledger.domain.events import UNDATED, Account, EntryKind, Event
from services.ledger.domain.lots import Lot, Lots
from services.ledger.domain.making import MAX_POINTS
from services.ledger.domain.returns import MAX_WAITING_RETURNS
from services.ledger.domain.state import EarningClass, Known, Member, Purchase
from services.programme import Versions, load
from tests.conftest import PROGRAMMES

JOINED = datetime(2024, 3, 1, tzinfo=UTC)
LATER = JOINED + timedelta(days=1)
NOW = Now(time=JOINED + timedelta(days=100))
RETAIL = load(PROGRAMMES / "retail-demo.yaml")
VERSIONS = Versions.only(RETAIL)


def member(**more: Any) -> Member:
    return Member(**({"member_id": "m", "joined_time": JOINED, "channel": "", "activity_time": JOINED} | more))


def with_points(points: int) -> Lots:
    return Lots.of([Lot(UNDATED, points)])


def common(request_id: str = "r", occurred: datetime | None = LATER) -> dict[str, Any]:
    return {
        "member_id": "m",
        "request_id": request_id,
        "principal": "p",
        "on_behalf_of": "",
        "occurred_time": occurred,
        "request": b"",
    }


def movement(amount: int, lines: tuple[Line, ...] = (), currency: str = "USD") -> dict[str, Any]:
    return {
        "currency": currency,
        "amount": amount,
        "lines": lines,
        "store_id": "",
        "receipt_number": "",
        "channel": "",
    }


def bought(amount: int, *lines: Line, occurred: datetime | None = LATER, purchase_id: str = "a") -> Any:
    return commands.RecordPurchase(**common("p", occurred), **movement(amount, lines), purchase_id=purchase_id)


def back(amount: int, *lines: Line, purchase_id: str = "a", request_id: str = "r") -> Any:
    return commands.RecordReturn(
        **common(request_id), **movement(amount, lines), purchase_id=purchase_id, reason="damaged"
    )


def line(amount: int, kind: LineKind = LineKind.GOODS) -> Line:
    return Line("sku", "", "", "", 1, amount, kind)


def one(command: Any, state: Member | None = None, purchase: Purchase | None = None) -> Event:
    (event,) = decide(VERSIONS, NOW, Known(member=state or member(), purchase=purchase), command).events
    return event


def recorded(amount: int, *lines: Line, state: Member | None = None) -> tuple[Member, Purchase]:
    known = decide(VERSIONS, NOW, Known(member=state or member()), bought(amount, *lines)).known
    assert known.member is not None
    assert known.purchase is not None
    return known.member, known.purchase


def test_joining_gives_the_sign_up_bonus_once() -> None:
    join = commands.EnrollMember(**common(), channel="pos")
    decision = decide(VERSIONS, NOW, Known(), join)
    assert decision.events[0].points == 100
    assert one(join, decision.known.member).reason == "MEMBER_EXISTS"


def test_points_are_floored_once_per_receipt() -> None:
    assert one(bought(199, line(99), line(100))).points == 1


def test_shipping_and_gift_cards_earn_nothing_but_count_in_the_amount() -> None:
    event = one(bought(6000, line(1000), line(2000, LineKind.SHIPPING), line(3000, LineKind.GIFT_CARD)))
    assert (event.points, event.amount, event.goods_paid) == (10, 6000, 1000)


def test_a_purchase_at_the_joining_instant_or_before_earns_nothing() -> None:
    early = one(bought(1000, occurred=JOINED))
    assert early.points == 0
    assert explain(early.rules[0], "USD") == "nothing: what happened up to the joining time does not count"
    assert one(bought(1000, occurred=JOINED + timedelta(microseconds=1))).points == 10


def test_a_purchase_earns_in_the_class_in_force_when_it_happened() -> None:
    classes = (
        EarningClass(sequence=1, name="green", effective_time=JOINED),
        EarningClass(sequence=2, name="golden", effective_time=LATER + timedelta(days=1)),
    )
    event = one(bought(10_000), member(classes=classes))
    assert (event.earning_class, event.points) == ("green", 125)
    assert explain(event.rules[0], "USD") == "1 point per 1.00 USD of 100.00 USD, times 1.25"


def test_debt_is_paid_before_points_become_available() -> None:
    event = one(bought(5000), member(debt=30))
    assert (event.available_after, event.debt_after) == (20, 0)
    assert event.posted(Account.ISSUED) == 50


def test_a_return_of_spent_points_becomes_debt() -> None:
    state, purchase = recorded(10_000)
    spent = member(lots=with_points(40), earned=state.earned)
    event = one(back(10_000), spent, purchase)
    assert (event.points, event.available_after, event.debt_after) == (-100, 0, 60)


def test_a_return_takes_points_at_the_rate_that_gave_them() -> None:
    golden = member(classes=(EarningClass(sequence=1, name="golden", effective_time=JOINED),))
    state, purchase = recorded(10_000, state=golden)
    assert state.available == 200
    assert one(back(5_000), state, purchase).points == -100


def test_a_return_by_lines_takes_back_only_the_goods_among_them() -> None:
    state, purchase = recorded(6000, line(5000), line(1000, LineKind.SHIPPING))
    assert one(back(1000, line(1000, LineKind.SHIPPING)), state, purchase).points == 0
    assert one(back(5000, line(5000)), state, purchase).points == -50


def test_a_return_of_more_than_was_bought_is_refused_and_changes_nothing() -> None:
    state, purchase = recorded(1000)
    known = Known(member=state, purchase=purchase)
    decision = decide(VERSIONS, NOW, known, back(1001))
    assert decision.events[0].reason == "RETURN_EXCEEDS_PURCHASE"
    assert decision.known == known


def test_returns_that_waited_are_settled_with_their_purchase_in_their_order() -> None:
    known = Known(member=member())
    for number, amount in enumerate((400, 700, 600)):
        decision = decide(VERSIONS, NOW, known, back(amount, request_id=f"r{number}"))
        assert decision.events[0].kind is EntryKind.RETURN_WAITING
        known = decision.known
    decision = decide(VERSIONS, NOW, known, bought(1000))
    assert [(event.kind.value, event.request_id) for event in decision.events] == [
        ("PURCHASE_RECORDED", "p"),
        ("RETURN_RECORDED", "r0"),
        ("REQUEST_REFUSED", "r1"),
        ("RETURN_RECORDED", "r2"),
    ]
    assert decision.known.member is not None
    assert decision.known.purchase is not None
    assert (decision.known.member.available, decision.known.purchase.waiting) == (0, ())


def test_no_more_than_a_hundred_returns_wait_for_one_purchase() -> None:
    known = Known(member=member())
    for number in range(MAX_WAITING_RETURNS):
        known = decide(VERSIONS, NOW, known, back(1, request_id=f"r{number}")).known
    assert one(back(1, request_id="last"), purchase=known.purchase).reason == "TOO_MANY_WAITING_RETURNS"


def test_an_unlinked_return_takes_points_at_the_base_rate() -> None:
    golden = member(classes=(EarningClass(sequence=1, name="golden", effective_time=JOINED),), lots=with_points(500))
    assert one(back(10_000, purchase_id=""), golden).points == -100


def test_a_purchase_recorded_twice_under_two_request_ids_is_refused() -> None:
    state, purchase = recorded(1000)
    assert one(bought(1000), state, purchase).reason == "PURCHASE_EXISTS"


def test_an_older_class_changes_nothing_and_an_unknown_one_is_refused() -> None:
    state = member(classes=(EarningClass(sequence=5, name="green", effective_time=JOINED),))

    def set_class(name: str, sequence: int) -> Any:
        return commands.SetEarningClass(**common(), earning_class=name, effective_time=LATER, sequence=sequence)

    assert decide(VERSIONS, NOW, Known(member=state), set_class("golden", 5)).events == ()
    assert one(set_class("platinum", 6), state).reason == "EARNING_CLASS_UNKNOWN"
    assert one(set_class("golden", 6), state).kind is EntryKind.EARNING_CLASS_SET


def test_no_balance_leaves_its_range() -> None:
    award = commands.AwardPoints(**common(), points=10**9, reason="x", note="")
    assert one(award, member(lots=with_points(MAX_POINTS))).reason == "BALANCE_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (
            commands.RecordPurchase(**common(), **movement(1, currency="PLN"), purchase_id="a"),
            errors.CurrencyMismatchError,
        ),
        (bought(0), errors.AmountNotPositiveError),
        (bought(-1), errors.AmountNotPositiveError),
        (bought(10, line(4), line(5)), errors.LinesDoNotAddUpError),
        (bought(10, occurred=NOW.latest + timedelta(microseconds=1)), errors.OccurredInFutureError),
    ],
)
def test_a_request_that_cannot_be_is_rejected_without_a_trace(command: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        decide(VERSIONS, NOW, Known(member=member()), command)


def test_nobody_but_a_member_buys() -> None:
    with pytest.raises(errors.MemberUnknownError):
        decide(VERSIONS, NOW, Known(), bought(10))


def test_an_event_without_a_time_happens_now() -> None:
    assert one(bought(10, occurred=None)).occurred_time == NOW.time


def test_the_clock_moves_forward_only() -> None:
    assert decide_clock(LATER, LATER, "r") is None
    assert decide_clock(LATER, JOINED, "r") is None
    event = decide_clock(JOINED, LATER, "r")
    assert event is not None
    assert event.occurred_time == LATER


def test_a_member_without_an_id_gets_one_that_depends_on_caller_and_request_alone() -> None:
    assert commands.derived_member_id("till-1", "r") == commands.derived_member_id("till-1", "r")
    assert commands.derived_member_id("till-1", "r") != commands.derived_member_id("till-2", "r")


def test_the_home_of_a_member_never_moves() -> None:
    # Pinned: a change of this hash would lose every member of every installation.
    assert [partition_of(name, 16) for name in ("m-1", "m-2", "household-900")] == [12, 3, 6]
