"""Every line that counted, and every line that did not with its reason: what counts adds up to the balance."""

from __future__ import annotations

from datetime import timedelta

from services.programme import Metric
from services.tiers.domain.facts import Fact, FactKind, NotCounted
from tests.tiers_rules import JOINED, Member, local, policy

BOUGHT = local("2024-02-01T10:00")
LATER = local("2025-03-01T10:00")


def test_the_lines_that_count_add_up_to_the_balance() -> None:
    member = Member()
    member.buys(500_00, JOINED)
    purchase = member.buys(300_00, BOUGHT)
    member.returns(100_00, BOUGHT + timedelta(days=60), of=purchase)
    counted = [line.amount for line in member.lines(LATER) if line.not_counted is None]
    assert counted == [-100_00]
    assert member.balance(LATER) == -100_00


def test_a_line_that_has_left_the_window_says_when() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    (line,) = member.lines(LATER)
    assert (line.not_counted, line.end_time) == (NotCounted.OUTSIDE_WINDOW, local("2025-01-31T10:00"))


def test_a_line_that_counts_says_until_when() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    (line,) = member.lines(BOUGHT)
    assert (line.not_counted, line.end_time) == (None, local("2025-01-31T10:00"))


def test_what_occurs_later_has_no_line_yet() -> None:
    member = Member()
    member.buys(300_00, LATER)
    assert member.lines(BOUGHT) == []


def test_what_another_metric_would_count_says_so() -> None:
    member = Member(policy(metric=Metric.ACTIVITIES))
    member.buys(300_00, BOUGHT)
    assert [line.not_counted for line in member.lines(BOUGHT)] == [NotCounted.OTHER_METRIC]


def test_what_moves_no_balance_has_no_line() -> None:
    member = Member()
    member.confirms(BOUGHT)
    member.is_given("golden", BOUGHT)
    assert member.lines(BOUGHT) == []


def test_lines_come_in_the_order_in_which_things_occurred() -> None:
    member = Member()
    member.buys(2_00, BOUGHT + timedelta(days=1))
    member.buys(1_00, BOUGHT, known=BOUGHT + timedelta(days=2))
    assert [line.amount for line in member.lines(LATER - timedelta(days=60))] == [1_00, 2_00]


def test_an_erased_members_entries_count_though_their_detail_is_gone() -> None:
    member = Member()
    member.facts.append(Fact(FactKind.PURCHASE, BOUGHT, BOUGHT, 2, total=300_00))
    assert [(line.amount, line.fact.purchase_id) for line in member.lines(BOUGHT)] == [(300_00, "")]
    assert member.tier(BOUGHT) == "Green"
