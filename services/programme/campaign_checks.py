"""What holds between the values of campaigns, rewards, surveys and badges; as `checks`, on the raw document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from services.programme.campaigns import PURCHASES, TIERS, SurveyKind, TriggerKind
from services.programme.document import Document, KeyPath, Problem, found
from services.programme.model import BASIS_POINTS
from services.programme.raw import at, mappings, repeated
from services.programme.rewards import OfferKind
from services.programme.shape import LEVEL_KEY, derived_key, did_you_mean, read_day, read_percent, read_window

_Found = Iterator[tuple[KeyPath, str]]

_ACTIONS: Final = ("coupon", "points", "message", "webhook", "badge", "survey")
_OF_PURCHASES: Final = ("minimum", "departments", "stores", "channels")
# What each trigger must be told in `when`; purchases may say more.
_NEEDED: Final = {
    TriggerKind.TIER_AT_RISK: ("before",),
    TriggerKind.POINTS_REACHED: ("points",),
    TriggerKind.POINTS_EXPIRING: ("before",),
    TriggerKind.NTH_VISIT: ("visits",),
    TriggerKind.INACTIVITY: ("after",),
    TriggerKind.COUPON_EXPIRING: ("before",),
    TriggerKind.SURPRISE: ("probability",),
    TriggerKind.SEGMENT_ENTERED: ("segment",),
    TriggerKind.DATE: ("day",),
}
# Tiers is asked a day further, and looks 3,660 days ahead (ListStandings).
MOST_DAYS_AT_RISK: Final = 3659
_OFFERS: Final = tuple(kind for kind in OfferKind if kind is not OfferKind.BONUS_POINTS)
_WORTH: Final = (OfferKind.DISCOUNT_AMOUNT, OfferKind.GIFT_CARD, OfferKind.FREE_SHIPPING)
_LANGUAGE: Final = r"[a-z]{2,3}(?:-[A-Z][A-Za-z0-9]{1,3})?"


def problems_in_gifts(content: object, document: Document) -> Iterator[Problem]:
    """All that is wrong between the values of campaigns, rewards, surveys and badges."""
    levels: dict[str, int] = {}
    for index, level in mappings(content, "tiers", "levels"):
        levels.setdefault(key_of(level), index)
    for kind, check in (
        ("rewards", _in_reward),
        ("campaigns", _in_campaign),
        ("surveys", _in_survey),
        ("badges", _in_texts),
    ):
        seen: dict[str, int] = {}
        for index, one in mappings(content, kind):
            here: KeyPath = (kind, index)
            if isinstance(name := one.get("id"), str):
                if name in seen:
                    path, message = (
                        (*here, "id"),
                        f'"{name}" is already the id of {kind}[{seen[name]}]; give it another',
                    )
                    yield Problem(line=document.line(path), path=path, message=message)
                seen.setdefault(name, index)
            for steps, message in check(one, content, levels):
                path = here + steps
                yield Problem(line=document.line(path), path=path, message=message)


def key_of(level: Mapping[str, object]) -> str:
    """A level's key; empty where it can not be read."""
    return str(level.get("key") or derived_key(str(level.get("name") or "")))


def _in_campaign(campaign: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    """The trigger is told what it needs, levels and whatever else is named exist, and something is given."""
    trigger = next((kind for kind in TriggerKind if kind == campaign.get("trigger")), None)
    if trigger is not None:
        yield from _in_trigger(campaign, trigger)
    yield from _in_levels(campaign.get("tiers"), levels, reached=True)
    yield from _under("audience", _in_audience(campaign.get("audience"), content, levels))
    yield from _in_days(campaign)
    yield from _in_actions(campaign, content, levels)
    if campaign.get("variants") is None:
        if not any(campaign.get(action) is not None for action in _ACTIONS):
            yield (), f"gives nothing; add one of {', '.join(_ACTIONS)}"
        yield from _in_whole(campaign, campaign)
    else:
        yield from _in_variants(campaign, content, levels)
    yield from _in_budget(campaign, content)


def _in_trigger(campaign: Mapping[str, object], trigger: TriggerKind) -> _Found:
    if trigger in TIERS:
        if campaign.get("tiers") is None:
            yield ("tiers",), "is missing; expected a list"
    elif campaign.get("tiers") is not None:
        yield ("tiers",), f"the trigger is {trigger}, which is about no level; say in audience who is meant"
    when = campaign.get("when")
    given = when if isinstance(when, dict) else {}
    needed = _NEEDED.get(trigger, ())
    known = (*needed, *(_OF_PURCHASES if trigger in PURCHASES else ()))
    for key in given:
        if key not in known and given[key] is not None:
            right = f"there are {', '.join(known)}" if known else "remove it"
            yield ("when", key), f"is nothing that the trigger {trigger} goes by; {right}"
    for key in needed:
        if given.get(key) is None:
            yield ("when", key), f"is missing; the trigger {trigger} goes by it"
    before = read_window(given.get("before"))
    if trigger is TriggerKind.TIER_AT_RISK and before and (before.days or 0) > MOST_DAYS_AT_RISK:
        message = f"the trigger {trigger} looks at most {MOST_DAYS_AT_RISK:,} days ahead"
        yield ("when", "before"), f"found {found(given['before'])}; {message}"
    for key in ("departments", "stores", "channels"):
        for position, text in repeated(given.get(key)):
            yield ("when", key, position), f"{found(text)} is here twice; remove one"


def _in_levels(tiers: object, levels: Mapping[str, int], *, reached: bool) -> _Found:
    """Levels exist, and none is named twice; where they are reached or lost, members do not begin there."""
    names = [key for key, index in levels.items() if index > 0 or not reached]
    # A level whose key can not be read may be the one that is meant.
    all_known = "" not in levels
    twice = dict(repeated(tiers))
    for position, tier in enumerate(tiers if isinstance(tiers, list) else []):
        if not isinstance(tier, str) or not re.fullmatch(LEVEL_KEY, tier):
            continue
        here: KeyPath = ("tiers", position)
        if position in twice:
            yield here, f'"{tier}" is here twice; remove one'
        elif reached and levels.get(tier) == 0:
            yield here, f'"{tier}" is where members begin, never reached; remove it'
        elif tier not in names and all_known:
            right = did_you_mean(tier, names) or f"; there are {', '.join(names)}"
            yield here, f'there is no level "{tier}"{right}'


def _in_audience(audience: object, content: object, levels: Mapping[str, int]) -> _Found:
    if not isinstance(audience, dict):
        return
    yield from _in_levels(audience.get("tiers"), levels, reached=False)
    markets = at(content, "markets")
    names = ["", *(markets if isinstance(markets, dict) else ())]
    wanted = audience.get("markets")
    for position, market in enumerate(wanted if isinstance(wanted, list) else []):
        if isinstance(market, str) and market not in names:
            right = did_you_mean(market, names) or f"; there are {', '.join(map(found, names))}"
            yield ("markets", position), f"there is no market {found(market)}{right}"


def _in_actions(owner: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    """What a campaign or a variant names by itself exists."""
    yield from _under("coupon", _in_coupon(owner.get("coupon"), levels))
    for action, kind in (("badge", "badges"), ("survey", "surveys")):
        name = owner.get(action)
        names = [str(each.get("id")) for _, each in mappings(content, kind)]
        if isinstance(name, str) and name not in names:
            right = did_you_mean(name, names) or f"; give it among {kind}"
            yield (action,), f"there is no {action} {found(name)}{right}"


def _in_whole(owner: Mapping[str, object], campaign: Mapping[str, object]) -> _Found:
    """What is given together belongs together."""

    def given(action: str) -> bool:
        return owner.get(action) is not None or campaign.get(action) is not None

    if given("lasting") and not given("points"):
        yield ("lasting",), "there are no points that could last so long; add points, or remove this key"
    if given("survey") and not given("message"):
        yield ("survey",), "nothing leads to it; add a message that does"


def _in_coupon(coupon: object, levels: Mapping[str, int]) -> _Found:
    """A coupon is good for one thing, and its codes come from one place."""
    if not isinstance(coupon, dict):
        return
    kinds = [kind for kind in _OFFERS if coupon.get(kind) is not None]
    if not kinds:
        yield (), f"gives nothing; add one of {', '.join(_OFFERS)}"
    elif len(kinds) > 1:
        yield (), f"gives two things; keep one of {', '.join(kinds)}"
    sources = [key for key in ("prefix", "pool") if coupon.get(key) is not None]
    if len(sources) != 1:
        wrong = "codes are made, or come from a pool; keep" if sources else "no codes; add"
        yield (), f"{wrong} prefix or pool"
    yield from _in_levels(coupon.get("tiers"), levels, reached=False)


def _in_variants(campaign: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    """Ids are unique, shares come to the whole, and each variant gives something."""
    seen: dict[str, int] = {}
    shares: list[int | None] = []
    for index, variant in mappings(campaign, "variants"):
        found_here: list[tuple[KeyPath, str]] = []
        if isinstance(name := variant.get("id"), str):
            if name in seen:
                message = f"{found(name)} is already the id of variants[{seen[name]}]; give it another"
                found_here.append((("id",), message))
            seen.setdefault(name, index)
        shares.append(read_percent(variant.get("share")))
        found_here += _in_actions(variant, content, levels)
        if not any(variant.get(action) is not None or campaign.get(action) is not None for action in _ACTIONS):
            found_here.append(((), f"gives nothing; add one of {', '.join(_ACTIONS)}"))
        found_here += _in_whole(variant, campaign)
        yield from ((("variants", index, *steps), message) for steps, message in found_here)
    read = [share for share in shares if share is not None]
    if read and len(read) == len(shares) and sum(read) != BASIS_POINTS:
        yield ("variants",), 'their shares come to other than "100"; change one'


def _in_budget(campaign: Mapping[str, object], content: object) -> _Found:
    """A budget measures what is given."""
    budget = campaign.get("budget")
    if not isinstance(budget, dict):
        return
    owners = [campaign, *(variant for _, variant in mappings(campaign, "variants"))]
    points = any(owner.get("points") is not None for owner in owners)
    worth = any(at(owner, "coupon", kind) not in (None, True) for owner in owners for kind in _WORTH)
    if budget.get("points") is not None and not points:
        yield ("budget", "points"), "no points are given; remove this key"
    if budget.get("amount") is not None and not worth and not (points and at(content, "liability") is not None):
        message = "nothing of a set worth is given: an amount, a gift card, shipping up to an amount, points of a value"
        yield ("budget", "amount"), message


def _in_days(owner: Mapping[str, object]) -> _Found:
    first, last = read_day(owner.get("from")), read_day(owner.get("until"))
    if first is not None and last is not None and last < first:
        yield ("until",), f'found "{last}"; expected the day of from, "{first}", or a later one'


def _in_reward(reward: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    """A reward is a coupon or points, its levels exist, and its price is one that members can redeem."""
    kinds = [kind for kind in ("coupon", "bonus_points") if reward.get(kind) is not None]
    if len(kinds) != 1:
        yield (), f"{'gives two things; keep' if kinds else 'gives nothing; add'} coupon or bonus_points"
    yield from _under("coupon", _in_coupon(reward.get("coupon"), levels))
    yield from _in_levels(reward.get("tiers"), levels, reached=False)
    yield from _in_days(reward)
    yield from _in_price(reward.get("points"), content)
    yield from _in_texts(reward, content, levels)


def _in_price(points: object, content: object) -> _Found:
    rules = content.get("redemption") if isinstance(content, dict) else None
    if not isinstance(rules, dict) or type(points) is not int:
        return
    minimum, step = rules.get("minimum"), rules.get("step")
    if type(minimum) is int and points < minimum:
        yield ("points",), f"found {points}; redemption.minimum lets members redeem {minimum} points or more"
    elif type(step) is int and step > 0 and points % step:
        yield ("points",), f"found {points}; redemption.step lets members redeem multiples of {step} points"


def _in_texts(owner: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    yield from _in_languages(owner, "texts")


def _in_languages(owner: Mapping[str, object], key: str) -> _Found:
    texts = owner.get(key)
    for language in texts if isinstance(texts, dict) else ():
        if not re.fullmatch(_LANGUAGE, language):
            yield (key, language), f'found {found(language)}; expected a language such as "en" or "pt-BR"'


def _in_survey(survey: Mapping[str, object], content: object, levels: Mapping[str, int]) -> _Found:
    """Choices are there where one of them is the answer."""
    yield from _in_languages(survey, "questions")
    kind, choices = survey.get("kind"), survey.get("choices")
    if kind == SurveyKind.CHOICE:
        if choices is None:
            yield ("choices",), "is missing; say what can be chosen"
    elif kind in list(SurveyKind) and choices is not None:
        yield ("choices",), f"the kind is {kind}, which is answered by a number; remove this key"
    for position, text in repeated(choices):
        yield ("choices", position), f"{found(text)} is here twice; remove one"


def _under(key: str, problems: _Found) -> _Found:
    for steps, message in problems:
        yield (key, *steps), message


_CHECKS: Final = {
    "rewards": _in_reward,
    "campaigns": _in_campaign,
    "surveys": _in_survey,
    "badges": _in_texts,
}
