"""How long an account is valid: warned, suspended, renewed and revived (R27, DESIGN §12.16)."""

from __future__ import annotations

from datetime import timedelta

from services.programme import Validity, Window
from services.tiers.domain.track import Reason
from tests.tiers_rules import JOINED, MICROSECOND, Member, local, policy

END = local("2027-01-01T09:00")
WARNED = local("2026-12-02T09:00")
SOME_DAY = local("2025-05-05T12:00")


def account(transactions: int = 1) -> Member:
    """Valid for three years, warned 30 days before; a confirmation and so many purchases renew it."""
    rule = Validity(period=Window(years=3), transactions=transactions, warning=Window(days=30))
    return Member(policy(validity=rule))


def test_an_account_that_is_not_renewed_is_warned_and_then_suspended() -> None:
    told = [(change.reason, change.changed_time) for change in account().live(END)]
    assert told == [(Reason.WARNED, WARNED), (Reason.SUSPENDED, END)]


def test_a_warning_changes_nothing_yet() -> None:
    (warning,) = account().live(WARNED)
    assert (warning.from_benefits_number, warning.to_benefits_number) == (1, 1)


def test_a_suspended_account_keeps_its_tier_and_has_no_benefits() -> None:
    member = account(transactions=9)
    member.buys(300_00, END - timedelta(days=1))
    standing = member.standing(END)
    assert (standing.suspended, standing.level.name, standing.benefits) == (True, "Green", None)


def test_up_to_its_end_an_account_is_valid() -> None:
    standing = account().standing(END - MICROSECOND)
    assert (standing.suspended, standing.valid_until) == (False, END)


def test_a_confirmation_and_its_purchases_renew_an_account_without_a_word() -> None:
    member = account()
    member.buys(1_00, SOME_DAY)
    member.confirms(SOME_DAY)
    assert member.live(END) == []
    assert member.standing(END).valid_until == local("2030-01-01T09:00")


def test_a_confirmation_alone_renews_nothing() -> None:
    member = account()
    member.confirms(SOME_DAY)
    assert member.standing(END).suspended


def test_purchases_alone_renew_nothing() -> None:
    member = account()
    member.buys(1_00, SOME_DAY)
    assert member.standing(END).suspended


def test_each_period_has_to_be_renewed_in_itself() -> None:
    member = account()
    member.buys(1_00, SOME_DAY)
    member.confirms(SOME_DAY)
    assert member.standing(local("2030-01-01T09:00")).suspended


def test_a_suspended_account_is_revived_by_the_same() -> None:
    member = account()
    back = END + timedelta(days=40)
    member.buys(1_00, back)
    member.confirms(back + timedelta(days=1))
    revived = member.live(back + timedelta(days=1))[-1]
    assert (revived.reason, revived.to_benefits_number) == (Reason.REVIVED, 1)


def test_a_revived_account_is_valid_for_a_period_of_its_own() -> None:
    member = account(transactions=0)
    member.confirms(local("2027-03-01T12:00"))
    assert member.standing(local("2027-03-01T12:00")).valid_until == local("2030-03-01T12:00")


def test_a_purchase_at_the_joining_instant_renews_nothing() -> None:
    member = account()
    member.buys(1_00, JOINED)
    member.confirms(SOME_DAY)
    assert member.standing(END).suspended


def test_a_confirmation_that_is_heard_of_late_undoes_the_suspension() -> None:
    member = account(transactions=0)
    member.confirms(SOME_DAY)
    member.facts[-1] = member.facts[-1]._replace(recorded_time=END + timedelta(days=5))
    changes = member.live(END + timedelta(days=5))
    assert [change.to_benefits_number for change in changes] == [1, 0, 1]
    assert changes[-1].corrects == changes[-2].sequence


def test_a_purchase_that_waits_for_the_other_side_of_its_exchange_revives_an_account_when_it_happens() -> None:
    member = account()
    back = local("2027-03-01T12:00")
    member.confirms(back - timedelta(days=1))
    bought = member.buys(1_00, back, exchange_id="x")
    assert member.standing(back).valid_until == local("2030-03-01T12:00")
    assert member.standing(back + timedelta(days=1)).valid_until == local("2030-03-01T12:00")
    *_, revived = member.live(back + timedelta(days=1))
    assert (revived.reason, revived.changed_time, revived.to_benefits_number) == (Reason.REVIVED, back, 1)
    assert revived.cause_offset == bought.ledger_offset


def test_a_purchase_that_waits_beyond_the_end_of_a_period_renews_the_one_in_which_it_happened() -> None:
    member = account()
    member.confirms(SOME_DAY)
    member.buys(1_00, END - timedelta(minutes=1), exchange_id="x")
    assert [change.reason for change in member.live(END + timedelta(days=1))] == [Reason.WARNED]
    standing = member.standing(END + timedelta(days=1))
    assert (standing.suspended, standing.valid_until) == (False, local("2030-01-01T09:00"))
    # In the next it is nothing any more.
    member.confirms(END + timedelta(days=1))
    assert member.standing(local("2030-01-01T09:00")).suspended


def test_each_purchase_of_an_exchange_is_a_transaction_when_it_happens() -> None:
    member = account()
    back = local("2027-03-01T12:00")
    member.confirms(back - timedelta(days=1))
    for minutes in (0, 1):
        member.buys(1_00, back + timedelta(minutes=minutes), exchange_id="x")
    member.returns(2_00, back + timedelta(minutes=2), exchange_id="x")
    member.confirms(back + timedelta(days=1))
    # The first revives; the second is of the period that begins with it.
    assert member.standing(local("2030-03-01T12:00")).valid_until == local("2033-03-01T12:00")


def test_who_comes_back_is_valid_anew() -> None:
    member = account()
    member.resigns(SOME_DAY)
    member.rejoins(END + timedelta(days=1))
    standing = member.standing(END + timedelta(days=1))
    assert (standing.suspended, standing.valid_until) == (False, local("2030-01-02T09:00"))
