"""What leads to a member, and what is left of one that is erased: the rules alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain import commands
from services.ledger.domain.decide import Decision, Now, decide
from services.ledger.domain.events import Account, EntryKind, Event, UnlinkReason
from services.ledger.domain.identifiers import MAX_IDENTIFIERS
from services.ledger.domain.journal import Leg, by_month
from services.ledger.domain.keys import Keys
from services.ledger.domain.state import Identifier, Known
from tests.ledger_rules import Shop, as_of, local, programme

NOON = local(2026, 5, 1, 12)
DAY = timedelta(days=1)
KEYS = Keys(bytes(range(32)))
CARD = KEYS.identifier("card", "4006381333931")
EXPIRY = "expiry: {policy: after, period: P1Y}"
PENDING = "pending: P14D"


class Wallet:
    """One member and the identifiers that are about; each call is one command."""

    def __init__(self) -> None:
        self.shop = Shop(programme(), NOON)
        self.known: dict[bytes, Identifier] = {}
        self._number = 0

    def decide(self, command: type[commands.Command], **fields: object) -> Decision:
        self._number += 1
        known = Known(
            member=self.shop.member,
            identifier=self.known.get(fields.get("digest", b"")),
            identifiers={digest: one for digest, one in self.known.items() if one.member_id == "m"},
        )
        made = command(
            member_id="m", request_id=f"w{self._number}", principal="till", on_behalf_of="", occurred_time=None,
            request=b"", **fields,
        )  # fmt: skip
        decision = decide(self.shop.versions, Now(time=self.shop.now), known, made)
        others = {digest: one for digest, one in self.known.items() if one.member_id != "m"}
        self.known = others | dict(decision.known.identifiers)
        return decision

    def link(self, digest: bytes = CARD) -> str:
        return said(self.decide(commands.LinkIdentifier, kind="card", digest=digest))

    def unlink(self, reason: UnlinkReason, digest: bytes = CARD) -> str:
        return said(self.decide(commands.UnlinkIdentifier, digest=digest, reason=reason.value))


def said(decision: Decision) -> str:
    """What came of it: a kind of entry, a refusal, or nothing."""
    if not decision.events:
        return ""
    (event,) = decision.events
    return event.reason if event.kind is EntryKind.REQUEST_REFUSED else event.kind.value


def test_the_same_value_of_another_kind_or_under_another_key_is_another_identifier() -> None:
    assert KEYS.identifier("card", "4006381333931") == CARD
    others = [
        KEYS.identifier("phone", "4006381333931"),
        KEYS.identifier("card", "4006381333932"),
        Keys(bytes(32)).identifier("card", "4006381333931"),
        KEYS.forgotten(b"card\x004006381333931"),
    ]
    assert len({CARD, *others}) == 5
    # For ever: a card that was linked today is found by it in years.
    assert CARD.hex() == "713c83d93e367e3031bc348bd28d33690c19ea84a256e245a8143d4571216fac"


def test_an_identifier_leads_to_one_member_and_to_it_again_only_where_it_was_let_go() -> None:
    wallet = Wallet()
    assert [wallet.link(), wallet.link()] == ["IDENTIFIER_LINKED", ""]
    assert [wallet.unlink(UnlinkReason.OTHER), wallet.unlink(UnlinkReason.OTHER)] == [
        "IDENTIFIER_UNLINKED",
        "IDENTIFIER_UNKNOWN",
    ]
    wallet.known[CARD] = Identifier(CARD, "card", "somebody")
    assert wallet.link() == "IDENTIFIER_TAKEN"
    assert wallet.unlink(UnlinkReason.LOST) == "IDENTIFIER_UNKNOWN"


@pytest.mark.parametrize("reason", [one for one in UnlinkReason if one is not UnlinkReason.OTHER])
def test_what_was_lost_stolen_or_replaced_is_blocked_for_good(reason: UnlinkReason) -> None:
    wallet = Wallet()
    wallet.link()
    assert wallet.unlink(reason) == "IDENTIFIER_UNLINKED"
    assert wallet.known[CARD].blocked == reason.value
    assert [wallet.link(), wallet.unlink(UnlinkReason.OTHER), wallet.link()] == [
        "IDENTIFIER_BLOCKED",
        "",
        "IDENTIFIER_BLOCKED",
    ]


@given(st.lists(st.tuples(st.integers(0, 24), st.sampled_from(["link", *UnlinkReason])), max_size=80))
def test_whatever_is_asked_a_member_never_has_more_than_may_be_and_a_blocked_one_stays_blocked(
    asked: list[tuple[int, str]],
) -> None:
    wallet = Wallet()
    for number, what in asked:
        before = {digest: one for digest, one in wallet.known.items() if one.blocked}
        digest = KEYS.identifier("card", str(number))
        if what == "link":
            wallet.link(digest)
        else:
            wallet.unlink(UnlinkReason(what), digest)
        assert before.items() <= wallet.known.items()
        assert sum(not one.blocked for one in wallet.known.values()) <= MAX_IDENTIFIERS


# --- erasing ------------------------------------------------------------------------------------------------------


def rich(shop: Shop) -> None:
    shop.award(100)
    shop.hold(30)
    shop.buy(5000)


def poor(shop: Shop) -> None:
    shop.redeem(40, offline=True)


def both(shop: Shop) -> None:
    poor(shop)
    shop.buy(5000)


@pytest.mark.parametrize("lived", [rich, poor, both])
@pytest.mark.parametrize("expiry", ["", EXPIRY])
def test_an_erased_member_has_nothing_and_the_accounts_still_balance(
    lived: Callable[[Shop], None], expiry: str
) -> None:
    shop = Shop(programme(expiry, earning=PENDING), NOON)
    lived(shop)
    pending, available, held, debt = shop.balance
    event = shop.erase()
    assert (event.kind, event.occurred_time) == (EntryKind.MEMBER_ERASED, NOON)
    assert (shop.balance, event.after) == ((0, 0, 0, 0), (0, 0, 0, 0))
    assert event.posted(Account.EXPIRED) == pending + available + held
    assert (event.posted(Account.DEBT), event.posted(Account.ADJUSTED)) == (-debt, debt)
    assert (shop.member.erased_time, shop.member.resigned_time) == (NOON, NOON)
    journal: dict[Account, int] = {}
    for account, points, _ in by_month([Leg.of(one) for one in event.postings]):
        journal[account] = journal.get(account, 0) + points
    assert journal == {account: event.posted(account) for account in Account if event.posted(account)}


def test_nothing_is_written_of_an_erased_member_and_to_erase_it_again_changes_nothing() -> None:
    shop = Shop(programme(), NOON)
    shop.erase()
    shop.now += DAY

    def refused(event: Event) -> bool:
        return (event.kind, event.reason) == (EntryKind.REQUEST_REFUSED, "MEMBER_ERASED")

    assert all(map(refused, [shop.buy(100), shop.award(5), shop.rejoin(), shop.resign(), shop.adjust(5)]))
    again = commands.EraseMember(
        member_id="m", request_id="z", principal="ops", on_behalf_of="", occurred_time=None, request=b"", reason=""
    )
    assert decide(shop.versions, Now(time=shop.now), shop.known, again).events == ()


def test_an_erased_member_that_had_left_left_when_it_did() -> None:
    shop = Shop(programme(), NOON)
    shop.resign()
    shop.now += DAY
    shop.erase()
    assert (shop.member.resigned_time, shop.member.erased_time) == (NOON, NOON + DAY)


def test_a_balance_of_before_the_erasure_is_what_it_was() -> None:
    rules = programme(EXPIRY)
    shop = Shop(rules, NOON)
    rich(shop)
    shop.now += 2 * DAY
    shop.erase()
    before, after = (as_of(rules, shop.events, NOON + number * DAY) for number in (1, 3))
    assert before is not None
    assert after is not None
    assert (before.available, before.erased_time) == (150, None)
    assert (after.available, after.held, after.erased_time) == (0, 0, NOON + 2 * DAY)
