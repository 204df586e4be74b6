"""The notifier's rules: codes, campaigns, contacts, retries, words."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.policy import default as DEFAULT_POLICY
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from loyalty.ledger.v1 import entry_pb2
from loyalty.tiers.v1 import tier_service_pb2 as tiers_pb
from loyalty.type.v1.money_pb2 import Money

from services import programme as programmes
from services.ledger.domain import encoding
from services.notifier.channels.email import Composer
from services.notifier.domain.campaigns import Gifts, Letter, TierGift, plain, tells_points
from services.notifier.domain.codes import ALPHABET, CouponCodes, check_character
from services.notifier.domain.contacts import Contact, birthday_digest, partition_of
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.deliveries import (
    MAX_ATTEMPTS,
    DeliveryState,
    DueDelivery,
    Outcome,
    Verdict,
    knock_delay,
    release,
    retry_delay,
    settle,
)
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.feeds import ClockAdvanced, LedgerEntry, MemberJoined, TierChange, undone
from services.notifier.domain.messages import Outgoing, delivery_id
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import (
    CouponUnknownError,
    FieldError,
    InstallationError,
    SealError,
    VersionsAwaitedError,
)
from services.notifier.ledger_client import lines_of
from services.notifier.store import Installation, SealedContact
from services.notifier.tiers_client import change_of
from services.notifier.vault import MasterKey, Vault, read_master_keys
from services.programme import SINCE_EVER, Metric, Offer, OfferKind, Version, Versions

PROGRAMME = programmes.load(Path(__file__).parents[2] / "programmes" / "retail-demo.yaml")
NOON = datetime(2020, 1, 15, 12, tzinfo=UTC)
CODES = CouponCodes(key=b"k" * 32, partitions=16)
GIFTS = Gifts(programmes=Programmes(PROGRAMME), codes=CODES, delivery_key=b"d" * 32)


def change(from_tier: int, to_tier: int, *, partition: int = 3, offset: int = 7) -> TierChange:
    return TierChange(
        partition=partition,
        offset=offset,
        member_id="m-1",
        from_tier_number=from_tier,
        from_tier=PROGRAMME.tiers.level(from_tier).name,
        to_tier_number=to_tier,
        to_tier=PROGRAMME.tiers.level(to_tier).name,
        balance=30500,
        changed_time=NOON,
        cause_offset=9,
    )


def code(**more: object) -> str:
    trigger = {
        "prefix": "GREEN",
        "partition": 3,
        "campaign_id": "c",
        "member_id": "m",
        "trigger": "change:7",
        "variant": 0,
    }
    return CODES.make(**{**trigger, "variant": 0, **more})  # type: ignore[arg-type]


# --- codes ---


def test_a_code_reads_in_groups_and_only_of_characters_that_nobody_mixes_up() -> None:
    prefix, *groups = code().split("-")
    assert prefix == "GREEN"
    assert [len(group) for group in groups] == [4, 4, 4]
    assert set("".join(groups)) <= set(ALPHABET)
    for pair in ("0O", "1I", "2Z", "5S", "8B"):
        assert sum(character in ALPHABET for character in pair) <= 1


def test_the_same_trigger_gives_the_same_code_and_every_other_one_another() -> None:
    assert code() == code()
    others = [code(partition=4), code(campaign_id="d"), code(member_id="n"), code(trigger="change:8"), code(variant=1)]
    others.append(CouponCodes(key=b"l" * 32, partitions=16).make(
        prefix="GREEN", partition=3, campaign_id="c", member_id="m", trigger="change:7", variant=0))  # fmt: skip
    assert len({code(), *others}) == 7


@given(st.integers(1, 65536).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))), st.integers(1, 10**9))
def test_a_code_tells_its_partition_however_it_is_typed(place: tuple[int, int], offset: int) -> None:
    partitions, partition = place
    codes = CouponCodes(key=b"k" * 32, partitions=partitions)
    printed = codes.make(
        prefix="GOLD2", partition=partition, campaign_id="c", member_id="m", trigger=f"change:{offset}", variant=0
    )
    prefix, body = printed.split("-", 1)
    mixed_up = body.replace("2", "Z").replace("5", "S").replace("8", "B")
    for typed in (printed, printed.lower(), printed.replace("-", ""), f"{prefix}--{mixed_up.lower()}"):
        assert codes.read(typed) == (partition, printed)


@given(st.lists(st.sampled_from(ALPHABET), min_size=11, max_size=11).map("".join))
def test_the_check_character_catches_any_wrong_character_and_any_swap_of_two(payload: str) -> None:
    body = payload + check_character(payload)
    for place, right in enumerate(body):
        for wrong in ALPHABET:
            if wrong != right:
                typed = body[:place] + wrong + body[place + 1 :]
                assert check_character(typed[:-1]) != typed[-1]
    for first in range(len(body)):
        for second in range(first + 1, len(body)):
            swapped = list(body)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            if body[first] != body[second]:
                assert check_character("".join(swapped[:-1])) != swapped[-1]


@pytest.mark.parametrize("text", ["", "-", "GREEN", "GREEN-0000-0000-0000", "TOOLONGPREFIX-2222-2222-2222", "ÄÖ" * 9])
def test_what_cannot_be_a_code_is_unknown(text: str) -> None:
    with pytest.raises(CouponUnknownError):
        CODES.read(text)


def test_the_codes_that_the_manual_shows_are_not_mistyped() -> None:
    pages = (Path(__file__).parents[2] / "docs").glob("*.md")
    shown = {found for page in pages for found in re.findall(r"\b[A-Z]{1,8}(?:-[A-Z0-9]{4}){3}\b", page.read_text())}
    assert shown
    assert {CODES.read(one)[1] for one in shown} == shown


def test_a_mistyped_code_is_told_to_be_one() -> None:
    typed = code()[:-1] + ("2" if code()[-1] != "2" else "3")
    with pytest.raises(CouponUnknownError, match="mistyped"):
        CODES.read(typed)


# --- campaigns ---


def test_reaching_a_tier_gives_the_coupon_of_its_campaign_and_the_letter_with_it() -> None:
    (gift,) = GIFTS.decide([change(1, 2)])
    assert gift.coupon.campaign_id == "green-reached"
    assert gift.coupon.offer == Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=500)
    assert gift.coupon.issued_time == NOON
    # 30 days in New York later, no change of its clock in between.
    assert gift.coupon.valid_until_time == NOON + timedelta(days=30)
    assert (gift.letter.facts["tier"], gift.letter.facts["previous_tier"]) == ("Green", "White")
    assert gift.letter.delivery_id[:4] == "0003"
    assert GIFTS.decide([change(1, 2)]) == [gift]


def test_a_window_over_the_change_to_summer_time_keeps_the_local_time_of_day() -> None:
    (gift,) = GIFTS.decide([change(1, 3)])
    assert gift.coupon.offer == Offer(kind=OfferKind.DISCOUNT_AMOUNT, amount=1000)
    assert gift.coupon.valid_until_time == NOON + timedelta(days=60, hours=-1)


def test_a_tier_that_was_passed_over_is_not_reached_and_going_down_reaches_nothing() -> None:
    assert [gift.coupon.campaign_id for gift in GIFTS.decide([change(1, 4)])] == ["golden-reached"]
    assert GIFTS.decide([change(4, 2), change(2, 1)]) == []


def test_a_coupon_is_valid_before_its_end_and_not_at_it() -> None:
    (gift,) = GIFTS.decide([change(1, 2)])
    end = gift.coupon.valid_until_time
    assert gift.coupon.state_at(end - timedelta(microseconds=1)) is CouponState.ISSUED
    assert gift.coupon.state_at(end) is CouponState.EXPIRED


# --- what tiers tell, and what it reaches ---


def told(benefits: tuple[int, int], reason: str = "MOVEMENT", **more: object) -> TierChange:
    """A change as tiers sends it: the numbers of the benefits before and after, the tiers the same where not said."""
    before, after = benefits
    names = {number: PROGRAMME.tiers.level(number).name for number in range(1, 5)} | {0: ""}
    values: dict[str, object] = {
        "partition": 3,
        "offset": 7,
        "member_id": "m-1",
        "from_tier_number": before,
        "from_tier": names[before],
        "to_tier_number": after,
        "to_tier": names[after],
        "from_benefits_tier_number": before,
        "from_benefits_tier": names[before],
        "to_benefits_tier_number": after,
        "to_benefits_tier": names[after],
        "balance": Money(currency_code="USD", minor_units=30500),
        "reason": f"CHANGE_REASON_{reason}",
    }
    message = tiers_pb.TierChange(**{**values, **more})  # type: ignore[arg-type]
    message.changed_time.FromDatetime(NOON)
    return change_of(message)


# What gives back what was held before, or takes it.
RESTORING = {"OVERRIDE_ENDED", "REJOINED", "REVIVED", "CORRECTED"}


@pytest.mark.parametrize("reason", sorted(RESTORING))
def test_what_gives_back_what_was_held_before_reaches_nothing(reason: str) -> None:
    assert not told((1, 3), reason).reaches
    assert GIFTS.decide([told((1, 3), reason), told((0, 3), reason)]) == []


@pytest.mark.parametrize(
    "reason", sorted({name.removeprefix("CHANGE_REASON_") for name, _ in tiers_pb.ChangeReason.items()} - RESTORING)
)
def test_a_rise_for_any_other_reason_reaches_the_tier_and_a_fall_reaches_nothing(reason: str) -> None:
    assert told((1, 3), reason).reaches
    assert not told((3, 1), reason).reaches
    assert not told((3, 3), reason).reaches


def test_a_programme_that_only_gives_tiers_other_numbers_or_names_brings_nothing() -> None:
    renumbered = told((2, 3), "PROGRAMME", from_benefits_tier="Silver", to_benefits_tier="Silver")
    renamed = told((3, 3), "PROGRAMME", from_benefits_tier="Silver", to_benefits_tier="Platinum")
    assert GIFTS.decide([renumbered, renamed]) == []


def test_a_programme_by_which_a_member_rises_brings_what_the_tier_brings() -> None:
    assert [gift.coupon.campaign_id for gift in GIFTS.decide([told((1, 2), "PROGRAMME")])] == ["green-reached"]


def test_what_a_cool_off_holds_back_brings_its_coupon_when_the_benefits_come() -> None:
    risen = told((1, 1), to_tier_number=3, to_tier="Silver")
    matured = told((1, 3), "MATURED", from_tier_number=3, from_tier="Silver")
    assert not risen.reaches
    (gift,) = GIFTS.decide([risen, matured])
    assert (gift.coupon.campaign_id, gift.letter.facts["tier"]) == ("silver-reached", "Silver")


def test_benefits_that_a_suspension_took_are_not_reached_again_and_the_suspension_brings_nothing() -> None:
    assert GIFTS.decide([told((3, 0), "SUSPENDED"), told((0, 3), "REVIVED"), told((3, 3), "WARNED")]) == []


def test_the_balance_of_a_change_is_what_its_metric_counts() -> None:
    assert told((1, 2)).balance == 30500
    assert told((1, 2), balance=Money(currency_code="USD"), balance_count=0).balance == 0
    assert told((1, 2), balance=None, balance_count=1234).balance == 1234


# --- what is taken back ---


def taken_back(to_tier: int, **more: object) -> TierChange:
    """A level is taken back down to this tier, an hour later where not said."""
    values = {"offset": 9, "changed_time": NOON + timedelta(hours=1), **more}
    return replace(told((4, to_tier), "TAKEN_BACK"), **values)  # type: ignore[arg-type]


def test_only_what_takes_back_says_down_to_which_tier() -> None:
    assert told((4, 2), "TAKEN_BACK").taken_back_to == 2
    assert told((4, 2), "CYCLE_ENDED").taken_back_to is None
    # Benefits aside: what a cool-off or a suspension holds back is not what was taken back.
    suspended = told((0, 0), "TAKEN_BACK", from_tier_number=4, to_tier_number=2, to_tier="Green")
    assert suspended.taken_back_to == 2


def test_with_a_level_go_the_coupons_of_all_tiers_above_the_one_that_is_left() -> None:
    held = GIFTS.decide([change(1, 2, offset=5), change(2, 3, offset=6), change(3, 4, offset=7)])
    taken = GIFTS.take_back([taken_back(2)], held)
    assert [coupon.campaign_id for coupon in taken] == ["silver-reached", "golden-reached"]
    assert {(coupon.voided_time, coupon.voided_by) for coupon in taken} == {(NOON + timedelta(hours=1), 9)}
    assert {coupon.state_at(NOON + timedelta(hours=2)) for coupon in taken} == {CouponState.VOID}
    assert {coupon.state_at(NOON + timedelta(days=9999)) for coupon in taken} == {CouponState.VOID}


def test_nobody_elses_coupon_goes_nor_a_later_one_nor_one_whose_time_is_over() -> None:
    (held,) = GIFTS.decide([change(1, 3)])
    assert len(GIFTS.take_back([taken_back(2)], [held])) == 1
    end = held.coupon.valid_until_time
    for other in (
        taken_back(2, member_id="m-2"),
        taken_back(2, partition=4),
        taken_back(2, offset=6),
        taken_back(2, changed_time=end),
        replace(taken_back(2), taken_back_to=None),
    ):
        assert GIFTS.take_back([other], [held]) == []
    assert len(GIFTS.take_back([taken_back(2, changed_time=end - timedelta(microseconds=1))], [held])) == 1


def test_a_coupon_is_taken_back_once() -> None:
    (held,) = GIFTS.decide([change(1, 4)])
    (coupon,) = GIFTS.take_back([taken_back(2), taken_back(1, offset=10)], [held])
    assert coupon.voided_by == 9
    assert GIFTS.take_back([taken_back(1, offset=10)], [replace(held, coupon=coupon)]) == []


def test_a_level_that_has_another_number_by_now_is_known_by_its_key() -> None:
    levels = PROGRAMME.tiers.levels
    bronze = replace(levels[1], number=2, key="bronze", name="Bronze")
    more = (levels[0], bronze, *(replace(level, number=level.number + 1) for level in levels[1:]))
    known = Programmes(PROGRAMME)
    renumbered = replace(PROGRAMME, version="retail-demo@more", tiers=replace(PROGRAMME.tiers, levels=more))
    start = NOON + timedelta(minutes=30)
    known.learn(Versions([
        Version(programme=PROGRAMME, from_time=SINCE_EVER), Version(programme=renumbered, from_time=start)
    ]))  # fmt: skip
    gifts = Gifts(programmes=known, codes=CODES, delivery_key=b"d" * 32)
    held = gifts.decide([change(1, 2)])
    assert gifts.take_back([taken_back(3)], held) == []
    assert len(gifts.take_back([taken_back(2)], held)) == 1


def test_a_coupon_with_a_code_from_a_pool_is_given_for_a_change_and_does_not_follow_from_it() -> None:
    """What is left of the pool decides, too, and nobody can say afterwards which code it was."""
    (green, *others) = PROGRAMME.campaigns
    (only,) = green.variants
    assert only.actions.coupon is not None
    pooled = replace(only, actions=replace(only.actions, coupon=replace(only.actions.coupon, prefix="", pool="film")))
    known = Programmes(replace(PROGRAMME, campaigns=(replace(green, variants=(pooled,)), *others)))
    gifts = Gifts(programmes=known, codes=CODES, delivery_key=b"d" * 32)
    (given,) = GIFTS.decide([change(1, 2)])
    assert GIFTS.is_derived(given.coupon)
    assert plain(known.newest.campaigns[0])
    assert gifts.decide([change(1, 2)]) == []
    assert not gifts.is_derived(given.coupon)


def test_words_that_tell_the_points_of_a_member_decide_on_no_coupon() -> None:
    green = PROGRAMME.campaigns[0]
    (only,) = green.variants
    assert only.actions.message is not None
    telling = replace(only.actions.message, variables=frozenset({"points_balance"}))
    told = replace(green, variants=(replace(only, actions=replace(only.actions, message=telling)),))
    assert [(plain(one), tells_points(one)) for one in (green, told)] == [(True, False), (True, True)]


# --- deliveries ---


def carrying(gift: TierGift, attempts: int = 0) -> DueDelivery:
    """The message that carries a gift."""
    coupon, letter = gift.coupon, gift.letter
    assert letter is not None
    message = Outgoing(
        partition=coupon.partition,
        member_id=coupon.member_id,
        campaign_id=coupon.campaign_id,
        trigger=coupon.trigger,
        created_time=coupon.issued_time,
        coupon_code=coupon.code,
        facts=letter.facts,
    )
    return DueDelivery(
        delivery_id=letter.delivery_id, message=message, coupon=coupon, attempts=attempts, leased_until=NOON
    )  # fmt: skip


def due(attempts: int = 0) -> DueDelivery:
    (gift,) = GIFTS.decide([change(1, 2)])
    return carrying(gift, attempts)


def test_a_channel_that_is_away_is_looked_for_after_five_seconds_and_later_every_two_minutes() -> None:
    pauses = [knock_delay(knocks, lambda: 0.0).total_seconds() for knocks in range(1, 6)]
    assert pauses == [5, 15, 45, 135, 135]
    assert knock_delay(10**6, lambda: 1.0) == timedelta(seconds=162)


def test_a_message_that_is_put_off_is_tried_ten_times_and_then_dead() -> None:
    attempts, state = 0, DeliveryState.QUEUED
    while state is DeliveryState.QUEUED:
        settled = settle(due(attempts), Outcome(verdict=Verdict.DEFERRED, error="451"), now=NOON, random=lambda: 0.5)
        attempts, state = settled.attempts, settled.state
        assert settled.last_error == "451"
        assert (settled.not_before > NOON) == (state is DeliveryState.QUEUED)
    assert (attempts, state) == (MAX_ATTEMPTS, DeliveryState.DEAD)


def test_messages_are_tried_by_the_schedule_of_standard_webhooks_over_three_days() -> None:
    pauses = [retry_delay(attempts, lambda: 0.0).total_seconds() for attempts in range(1, 10)]
    assert pauses == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert retry_delay(1, lambda: 1.0) == timedelta(seconds=6)


@given(st.integers(0, MAX_ATTEMPTS - 2), st.integers(0, 10**6), st.floats(0, 1))
def test_a_receiver_that_asks_for_a_pause_gets_it_up_to_a_day(attempts: int, seconds: int, random: float) -> None:
    asked = timedelta(seconds=seconds)
    outcome = Outcome(verdict=Verdict.DEFERRED, retry_after=asked)
    pause = settle(due(attempts), outcome, now=NOON, random=lambda: random).not_before - NOON
    own = retry_delay(attempts + 1, lambda: random)
    assert pause == max(own, min(asked, timedelta(days=1)))


def test_a_message_has_an_id_for_each_way_and_that_of_a_letter_stays_what_it_ever_was() -> None:
    message = due().message
    old = keyed_digest(b"d" * 32, "delivery", 3, message.campaign_id, message.member_id, int(message.trigger[7:]))
    assert delivery_id(b"d" * 32, message) == due().delivery_id == f"0003{old[:14].hex()}"
    ways = [message, replace(message, channel="sms"), replace(message, channel="webhook", route="webhook:we_1"),
            replace(message, channel="webhook", route="webhook:we_2"), replace(message, trigger="entry:1")]  # fmt: skip
    assert len({delivery_id(b"k", one) for one in ways}) == 5
    assert delivery_id(b"k", message) == delivery_id(b"k", replace(message, facts={}, variant="b"))


def test_a_refusal_is_for_good_and_what_was_not_tried_is_not_counted() -> None:
    refused = settle(due(), Outcome(verdict=Verdict.REFUSED, error="550"), now=NOON, random=lambda: 0.5)
    assert (refused.state, refused.attempts, refused.delivered_time) == (DeliveryState.DEAD, 1, None)
    taken = settle(due(2), Outcome(verdict=Verdict.TAKEN), now=NOON, random=lambda: 0.5)
    assert (taken.state, taken.attempts, taken.delivered_time) == (DeliveryState.DELIVERED, 3, NOON)
    released = release(due(2), not_before=NOON, error=None)
    assert (released.state, released.attempts) == (DeliveryState.QUEUED, 2)


# --- contacts and keys ---


@given(st.text("abcXYZ019._~@+-", min_size=1, max_size=64), st.integers(1, 65536))
def test_a_member_lives_where_the_ledger_says(member_id: str, partitions: int) -> None:
    assert partition_of(member_id, partitions) == encoding.partition_of(member_id, partitions)


@pytest.mark.parametrize("email", ["a..b@example.com", "a@", "@b", "", "a b@example.com", "a@b@c", "a@b\r\nBcc: x@y"])
def test_an_address_that_no_header_can_carry_is_refused(email: str) -> None:
    with pytest.raises(FieldError):
        Contact(name="", email=email).address()


@given(st.text(), st.text(), st.text(), st.text())
def test_different_fields_never_give_the_same_digest(a: str, b: str, c: str, d: str) -> None:
    assert (keyed_digest(b"k", a, b) == keyed_digest(b"k", c, d)) == ((a, b) == (c, d))


def vault_of(letter: bytes) -> Vault:
    """The vault of an installation whose one master key is this letter, 32 times."""
    key = MasterKey(letter * 32)
    return Vault([key], Installation(key_fingerprint=key.key_id, partitions=1, simulated=True))


def test_a_contact_opens_with_its_own_key_for_its_own_member_alone() -> None:
    vault = vault_of(b"m")
    contact = Contact(
        name="Zoë",
        email="zoe@example.com",
        phone="+48601234567",
        language="pl",
        time_zone="Europe/Warsaw",
        birth_date=date(1990, 5, 17),
        demographics={"city": "Łódź"},
    )
    key = vault.new_member_key()
    wrapped = vault.wrap("m-1", key)
    name, email, details = vault.seal_contact("m-1", key, contact)
    assert name is not None
    assert email is not None
    sealed = SealedContact(
        partition=0, member_id="m-1", wrapped_key=wrapped, name=name, email=email, details=details
    )  # fmt: skip
    assert vault.open_contact(sealed) == contact
    for broken in (
        lambda: vault.open_contact(replace(sealed, member_id="m-2")),
        lambda: vault.open_contact(replace(sealed, name=email, email=name)),
        lambda: vault.open_contact(replace(sealed, email=email[:-1])),
        lambda: vault.open_contact(replace(sealed, details=name)),
        lambda: vault.open_contact(replace(sealed, wrapped_key=b"")),
        lambda: vault.open_contact(replace(sealed, wrapped_key=None)),
        lambda: vault_of(b"n").open_contact(sealed),
    ):
        with pytest.raises(SealError):
            broken()
    assert vault.seal_contact("m-1", key, contact) != (name, email, details)
    for told in ("zoe", "Zoë", "Łódź", "1990"):
        assert told not in repr(contact)
        assert all(told.encode() not in part for part in (name, email, details or b""))


def test_a_contact_without_details_keeps_the_digest_it_ever_had() -> None:
    contact = Contact(name="Zoë", email="zoe@example.com")
    assert contact.digest(b"k") == keyed_digest(b"k", "contact", "Zoë", "zoe@example.com")
    assert replace(contact, phone="+48601234567").digest(b"k") != contact.digest(b"k")


@pytest.mark.parametrize(
    ("contact", "field"),
    [
        (Contact(time_zone="Europe/Atlantis"), "contact.time_zone"),
        (Contact(time_zone="../etc/passwd"), "contact.time_zone"),
        (Contact(birth_date=date(1899, 12, 31)), "contact.birth_date"),
        (Contact(birth_date=date(2026, 1, 2)), "contact.birth_date"),
    ],
)
def test_a_contact_with_a_zone_or_a_birth_that_cannot_be_is_refused(contact: Contact, field: str) -> None:
    with pytest.raises(FieldError) as refused:
        contact.check(date(2026, 1, 1))
    assert refused.value.field == field


def test_a_birthday_on_29_february_is_found_on_the_28th() -> None:
    assert birthday_digest(b"k", date(2000, 2, 29)) == birthday_digest(b"k", date(2026, 2, 28))
    days = {birthday_digest(b"k", date(2000, 1, 1) + timedelta(days=day)) for day in range(366)}
    assert len(days) == 365


def test_what_codes_and_ids_are_made_with_stays_when_the_master_key_changes() -> None:
    first, second, third = (MasterKey(letter * 32) for letter in (b"1", b"2", b"3"))
    made = Installation(key_fingerprint=first.key_id, partitions=1, simulated=True)
    vault = Vault([first], made)
    kept = vault.coupon_key, vault.delivery_key, vault.page_key, vault.request_key
    assert len(set(kept)) == 4
    assert vault.take([second, first], made)
    by_second = replace(made, sealed_keys=vault.sealed_keys())
    vault = Vault([third, second], by_second)
    by_third = replace(made, sealed_keys=vault.sealed_keys())
    vault = Vault([third], by_third)
    assert (vault.coupon_key, vault.delivery_key, vault.page_key, vault.request_key) == kept
    # The id of another key before it does not make it that one's.
    with pytest.raises(InstallationError, match="cannot be opened"):
        Vault([first], replace(made, sealed_keys=first.key_id + vault.sealed_keys()[16:]))
    for missing in ([first], [second], [second, first]):
        with pytest.raises(InstallationError, match="the master key is not the one"):
            Vault(missing, by_third)


def test_a_key_says_by_which_master_key_it_is_wrapped_and_is_opened_by_that_one() -> None:
    first, second = MasterKey(b"1" * 32), MasterKey(b"2" * 32)
    made = Installation(key_fingerprint=first.key_id, partitions=1, simulated=True)
    vault = Vault([first], made)
    key = vault.new_member_key()
    old = vault.wrap("m-1", key)
    # As the first release wrapped it.
    bare = old[16:]
    assert vault.take([second, first], made)
    assert not vault.take([second, first], made)
    new = vault.wrap("m-1", key)
    assert (old[:16], new[:16]) == (first.key_id, second.key_id)
    assert {vault.unwrap("m-1", wrapped) for wrapped in (bare, old, new)} == {key}
    after = Vault([second], replace(made, sealed_keys=vault.sealed_keys()))
    assert after.unwrap("m-1", new) == key
    for wrapped in (bare, old):
        with pytest.raises(SealError, match="not in the file"):
            after.unwrap("m-1", wrapped)
    with pytest.raises(InstallationError):
        vault.take([MasterKey(b"3" * 32)], made)
    assert vault.newest_id == second.key_id


@pytest.mark.parametrize("content", ["", "not base64!", "c2hvcnQ=", "ä", f"{'bW1t' * 10}bW0=\nc2hvcnQ="])
def test_a_file_without_a_master_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "master-key"
    path.write_text(content)
    with pytest.raises(InstallationError, match="32 bytes in base64"):
        read_master_keys(path)


def test_a_change_gives_what_the_version_of_its_own_time_gives() -> None:
    without = replace(PROGRAMME, version="retail-demo@without", campaigns=())
    known = Programmes(PROGRAMME)
    versions = [
        Version(programme=PROGRAMME, from_time=SINCE_EVER),
        Version(programme=without, from_time=NOON + timedelta(days=1)),
    ]
    known.learn(Versions(versions))
    gifts = Gifts(programmes=known, codes=CODES, delivery_key=b"d" * 32)
    last = replace(change(1, 2), changed_time=NOON + timedelta(days=1, microseconds=-1))
    first = replace(last, changed_time=NOON + timedelta(days=1))
    assert [gift.coupon.issued_time for gift in gifts.decide([last, first])] == [last.changed_time]
    # A coupon keeps the words and the prefix of the version that gave it.
    (gift,) = gifts.decide([last])
    assert gifts.varied(gift.coupon, 1).split("-")[0] == gift.coupon.code.split("-")[0]


def test_a_message_of_a_version_that_is_not_known_waits_until_the_ledger_was_asked() -> None:
    (gift,) = GIFTS.decide([change(1, 2)])
    delivery = carrying(gift)
    without = replace(PROGRAMME, version="retail-demo@without", campaigns=())
    known = Programmes(without)
    composer = Composer(programmes=known, mail_from="shop@example.com")
    with pytest.raises(VersionsAwaitedError):
        composer.compose(delivery, Contact(name="", email="zoe@example.com"), NOON)
    known.learn(Versions.only(without))
    with pytest.raises(LookupError):
        composer.compose(delivery, Contact(name="", email="zoe@example.com"), NOON)
    known.learn(Versions.only(PROGRAMME))
    composer.compose(delivery, Contact(name="", email="zoe@example.com"), NOON)


# --- words ---


def letter_for(contact: Contact, *, to_tier: int = 2) -> tuple[Coupon, Letter, bytes]:
    (gift,) = GIFTS.decide([change(1, to_tier)])
    delivery = carrying(gift)
    composer = Composer(programmes=Programmes(PROGRAMME), mail_from="The Shop <shop@example.com>")
    assert gift.letter is not None
    return gift.coupon, gift.letter, composer.compose(delivery, contact, NOON).content


def test_an_e_mail_shows_the_code_the_discount_and_the_last_day() -> None:
    coupon, letter, content = letter_for(Contact(name="Zoë", email="zoe@example.com"))
    mail = message_from_bytes(content, policy=DEFAULT_POLICY)
    text = mail.get_content()
    assert mail["Subject"] == "You are Green now: 5 % off your next purchase"
    assert mail["From"] == "The Shop <shop@example.com>"
    assert mail["To"] == "Zoë <zoe@example.com>"
    assert mail["Message-ID"] == f"<{letter.delivery_id}@example.com>"
    assert mail["Date"].datetime == NOON
    assert "Hello Zoë," in text
    assert coupon.code in text
    # It ends at 07:00 of the 14th in New York.
    assert "until 2020-02-13" in text


def test_a_coupon_is_good_through_the_last_day_that_has_passed_when_it_ends() -> None:
    # It is 5 hours later in Greenwich than in New York.
    for end, day in (
        (datetime(2020, 2, 14, 5, tzinfo=UTC), date(2020, 2, 13)),
        (datetime(2020, 2, 15, 4, 58, tzinfo=UTC), date(2020, 2, 13)),
        # Who writes 23:59 means the whole day.
        (datetime(2020, 2, 15, 4, 59, tzinfo=UTC), date(2020, 2, 14)),
        (datetime(2020, 2, 15, 5, tzinfo=UTC), date(2020, 2, 14)),
    ):
        assert PROGRAMME.last_whole_day(end) == day


def test_money_off_and_the_balance_are_written_as_people_write_them() -> None:
    _, _, content = letter_for(Contact(name="", email="m@example.com"), to_tier=3)
    mail = message_from_bytes(content, policy=DEFAULT_POLICY)
    assert mail["Subject"] == "Welcome to Silver: 10.00 USD for you"
    assert "Hello there," in mail.get_content()
    assert "come to 305.00 USD" in mail.get_content()


@pytest.mark.parametrize(
    ("metric", "balance", "shown"),
    [
        (Metric.QUALIFYING_POINTS, 1234, "1,234"),
        (Metric.VISITS, 7, "7"),
        (Metric.ACTIVITIES, -1_000_000, "-1,000,000"),
        (Metric.NET_SPEND, 123456, "1234.56 USD"),
    ],
)
def test_a_balance_that_is_no_money_is_written_as_a_plain_number(metric: Metric, balance: int, shown: str) -> None:
    counting = replace(PROGRAMME, tiers=replace(PROGRAMME.tiers, metric=metric))
    (gift,) = GIFTS.decide([replace(change(1, 3), balance=balance)])
    delivery = carrying(gift)
    composer = Composer(programmes=Programmes(counting), mail_from="shop@example.com")
    content = composer.compose(delivery, Contact(name="", email="m@example.com"), NOON).content
    assert f"come to {shown}" in message_from_bytes(content, policy=DEFAULT_POLICY).get_content()


@pytest.mark.parametrize("name", ["A\r\nBcc: b@example.com", "A\nB", "A\0B", "A\x7fB", "A\x85B"])
def test_a_name_cannot_add_a_header(name: str) -> None:
    with pytest.raises(FieldError):
        letter_for(Contact(name=name, email="m@example.com"))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=100))
def test_any_other_name_makes_a_mail_with_the_headers_it_should_have(name: str) -> None:
    _, _, content = letter_for(Contact(name=name, email="m@example.com"))
    mail = message_from_bytes(content, policy=DEFAULT_POLICY)
    assert set(mail.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert [address.addr_spec for address in mail["To"].addresses] == ["m@example.com"]


@pytest.mark.parametrize("sender", ["", "shop", "a@b, c@d", "a@example.com\nBcc: x@y", "@example.com"])
def test_a_sender_that_is_no_address_is_named_at_the_start(sender: str) -> None:
    with pytest.raises(InstallationError, match="no address to send mail from"):
        Composer(programmes=Programmes(PROGRAMME), mail_from=sender)


# --- the ledger's entries ---


def test_entries_that_mean_nothing_and_follow_each_other_are_one_line() -> None:
    bought, joined, clock = (
        entry_pb2.ENTRY_KIND_PURCHASE_RECORDED,
        entry_pb2.ENTRY_KIND_MEMBER_JOINED,
        entry_pb2.ENTRY_KIND_CLOCK_ADVANCED,
    )
    noon = Timestamp()
    noon.FromDatetime(NOON)
    places = [
        *((0, 1, bought), (0, 2, bought), (0, 3, joined), (0, 4, bought)),
        *((1, 5, bought), (1, 6, bought), (1, 9, bought)),
        *((2, 10, clock), (2, 11, bought)),
    ]
    entries = [
        entry_pb2.Entry(partition=partition, offset=offset, kind=kind, member_id="m-1", occurred_time=noon)
        for partition, offset, kind in places
    ]
    assert lines_of(entries) == [
        LedgerEntry(partition=0, offset=2, fact=None, count=2),
        LedgerEntry(partition=0, offset=3, fact=MemberJoined(member_id="m-1", joined_time=NOON)),
        LedgerEntry(partition=0, offset=4, fact=None),
        LedgerEntry(partition=1, offset=6, fact=None, count=2),
        LedgerEntry(partition=1, offset=9, fact=None),
        LedgerEntry(partition=2, offset=10, fact=ClockAdvanced(to_time=NOON)),
        LedgerEntry(partition=2, offset=11, fact=None),
    ]
    assert lines_of([]) == []


@pytest.mark.parametrize("members", [False, True])
def test_a_return_and_a_void_bring_a_purchase_back_and_points_that_are_held_for_it_do_not(members: bool) -> None:
    kinds = (
        entry_pb2.ENTRY_KIND_POINTS_HELD,
        entry_pb2.ENTRY_KIND_PURCHASE_RECORDED,
        entry_pb2.ENTRY_KIND_HOLD_CAPTURED,
        entry_pb2.ENTRY_KIND_RETURN_RECORDED,
        entry_pb2.ENTRY_KIND_PURCHASE_VOIDED,
        entry_pb2.ENTRY_KIND_POINTS_AWARDED,
    )
    entries = [
        entry_pb2.Entry(offset=offset, kind=kind, member_id="m-1", purchase_id="p-1")
        for offset, kind in enumerate(kinds)
    ]
    back = undone(lines_of(entries, members=members))
    assert [(kinds[entry.offset], member, purchase) for entry, member, purchase in back] == [
        (entry_pb2.ENTRY_KIND_RETURN_RECORDED, "m-1", "p-1"),
        (entry_pb2.ENTRY_KIND_PURCHASE_VOIDED, "m-1", "p-1"),
    ]
