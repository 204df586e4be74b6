"""What a new programme file is refused for, and a version that a ledger lives by already is not."""

from __future__ import annotations

import re

import pytest

from services.programme import ProgrammeError, TriggerKind, Variant, parse
from services.programme.templates import OF_GIFTS, VARIABLES, known
from tests.unit.test_programme_campaigns import HEAD

MORE = """
surveys:
  - {id: stars, kind: stars, questions: {en: "How was it?"}}
  - {id: nps, kind: nps, questions: {en: "Would you recommend us?"}, link: "https://shop.example/nps"}
badges: [{id: gold, texts: {en: {name: Gold}}}]
"""
COUPON = "coupon: {prefix: A, discount_percent: '5', valid: P30D}"
WHEN = {
    TriggerKind.TIER_REACHED: "tiers: [star]",
    TriggerKind.TIER_LOST: "tiers: [star]",
    TriggerKind.TIER_AT_RISK: "tiers: [star], when: {before: P5D}",
    TriggerKind.POINTS_REACHED: "when: {points: 5}",
    TriggerKind.POINTS_EXPIRING: "when: {before: P5D}",
    TriggerKind.NTH_VISIT: "when: {visits: 5}",
    TriggerKind.INACTIVITY: "when: {after: P5D}",
    TriggerKind.COUPON_EXPIRING: "when: {before: P5D}",
    TriggerKind.SURPRISE: "when: {probability: '5'}",
    TriggerKind.SEGMENT_ENTERED: "when: {segment: vip}",
    TriggerKind.DATE: "when: {day: '2026-12-24'}",
}


def shop(campaign: str, more: str = "") -> str:
    return f"{HEAD}{MORE}campaigns:\n  - {{id: one, {campaign}}}\n{more}"


def problems(text: str) -> list[str]:
    try:
        parse(text, "x.yaml")
    except ProgrammeError as refused:
        return [problem.sentence.partition(": ")[2] for problem in refused.problems]
    return []


def message(text: str) -> str:
    return f"message: {{subject: Hello, text: '{text}'}}"


REFUSED = {
    "events are no messages": (
        "trigger: birthday, message: {channel: webhook, subject: Hello, text: x}",
        ['campaigns[0].message.channel: found "webhook"; no member reads it there; name the type of an event in the '
         "campaign's own key webhook"]),
    "consent to a topic that does not exist": (
        "trigger: birthday, points: 5, audience: {consent: ofers}",
        ['campaigns[0].audience.consent: messages.topics has no "ofers", so that nobody would hear of it; did you mean '
         '"offers"?']),
    "what only a coupon has": (
        f"trigger: birthday, {message('{{ code }} {{ discount }}')}",
        ['campaigns[0].message.text: "code" is always empty: the campaign has no coupon; add it, or remove the '
         "variable",
         'campaigns[0].message.text: "discount" is always empty: the campaign has no coupon; add it, or remove the '
         "variable"]),
    "a variant without a coupon beside one with": (
        f"trigger: birthday, {message('{{ code }}')}, "
        f"variants: [{{id: a, share: '50', {COUPON}}}, {{id: b, share: '50'}}]",
        ['campaigns[0].message.text: "code" is always empty: the variant "b" has no coupon; add it, or remove the '
         "variable"]),
    "the message of a variant without a coupon": (
        f"trigger: birthday, variants: [{{id: a, share: '50', {COUPON}}}, "
        f"{{id: b, share: '50', {message('{{ valid_until }}')}}}]",
        ['campaigns[0].variants[1].message.text: "valid_until" is always empty: the variant "b" has no coupon; add it, '
         "or remove the variable"]),
    "a survey without a link": (
        f"trigger: birthday, survey: stars, {message('{{ survey_link }}')}",
        ['campaigns[0].message.text: "survey_link" is always empty: the survey "stars" has no link; give it one, or '
         "remove the variable"]),
    "no survey": (
        f"trigger: birthday, {message('{{ survey_link }}')}",
        ['campaigns[0].message.text: "survey_link" is always empty: the campaign has no survey; add it, or remove the '
         "variable"]),
    "what the trigger never tells": (
        f"trigger: birthday, {message('{{ years }}')}",
        ['campaigns[0].message.text: "years" is always empty: the trigger birthday knows of none; remove the '
         "variable"]),
    "a discount of the coupon that ends": (
        f"trigger: coupon_expiring, when: {{before: P5D}}, {message('{{ code }} {{ discount }}')}",
        ['campaigns[0].message.text: "discount" is always empty: the campaign has no coupon; add it, or remove the '
         "variable"]),
    "a pool that no codes can be imported into": (
        f"trigger: birthday, coupon: {{pool: {'a' * 33}, discount_percent: '5', valid: P30D}}",
        ["campaigns[0].coupon.pool: found 33 characters; expected at most 32"]),
}  # fmt: skip


@pytest.mark.parametrize(("campaign", "said"), REFUSED.values(), ids=REFUSED)
def test_a_new_file_is_refused_and_what_a_ledger_lives_by_is_read(campaign: str, said: list[str]) -> None:
    assert problems(shop(campaign)) == said
    assert parse(shop(campaign), "x.yaml", applied=True).campaigns


def test_words_for_the_variant_with_a_coupon_may_stand_in_the_message_of_both_where_they_ask_for_the_code() -> None:
    guarded = message("{% if code %}Take {{ code }}.{% else %}Come by.{% endif %}")
    variants = f"variants: [{{id: a, share: '50', {COUPON}}}, {{id: b, share: '50'}}]"
    assert problems(shop(f"trigger: birthday, {guarded}, {variants}")) == []
    half = message("{% if name %}{{ name }}{% endif %}, take {{ code }}.")
    assert len(problems(shop(f"trigger: birthday, {half}, {variants}"))) == 1


@pytest.mark.parametrize("trigger", list(TriggerKind))
def test_a_template_may_use_all_that_its_trigger_and_gifts_have_and_no_more(trigger: TriggerKind) -> None:
    when = f"trigger: {trigger}, {WHEN[trigger]}, " if trigger in WHEN else f"trigger: {trigger}, "
    gifts = {"coupon": COUPON, "points": "points: 5", "badge": "badge: gold", "survey": "survey: nps"}
    for given in ((), *((gift,) for gift in OF_GIFTS), tuple(OF_GIFTS)):
        more = "".join(f"{gifts[gift]}, " for gift in given)
        everything = " ".join(f"{{{{ {name} }}}}" for name in VARIABLES)
        refused = {re.findall(r'"(\w+)"', said)[0] for said in problems(shop(f"{when}{more}{message(everything)}"))}
        assert refused == set(VARIABLES) - known(trigger, given)


def test_topics_of_the_programme_are_those_that_an_audience_may_ask() -> None:
    topics = "messages: {topics: [{id: news, consent: opt_in}]}\n"
    assert not problems(shop("trigger: birthday, points: 5, audience: {consent: news}", topics))
    assert problems(shop("trigger: birthday, points: 5, audience: {consent: offers}", topics)) == [
        'campaigns[0].audience.consent: messages.topics has no "offers", so that nobody would hear of it; there are '
        "news"
    ]


def test_a_pool_is_named_as_codes_are_imported_into_it() -> None:
    coupon = "coupon: {pool: spring_2026-a, discount_percent: '5', valid: P30D}"
    ((variant,),) = (one.variants for one in parse(shop(f"trigger: birthday, {coupon}"), "x.yaml").campaigns)
    assert isinstance(variant, Variant)
    assert variant.actions.coupon is not None
    assert variant.actions.coupon.pool == "spring_2026-a"
