"""From a programme file to a `Programme`, or to everything that is wrong with it.

Three passes, so that one run reports all problems: the document (`document`: YAML, lines, no key twice), the
shape (`shape`: keys, types, each value by itself), and what holds between values (`checks`). The last reads the raw
document, too, and skips what the second found wrong.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from services.programme.calendar import Window
from services.programme.campaigns import (
    Actions,
    Audience,
    Badge,
    Budget,
    Campaign,
    Cap,
    Survey,
    Trigger,
    Variant,
)
from services.programme.checkout import AutomaticDiscount, Checkout
from services.programme.checks import problems_in
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import MAX_BYTES, Document, Problem, ProgrammeError
from services.programme.messages import Message, MessageAction, MessagePolicy, QuietHours, Topic
from services.programme.model import (
    BASIS_POINTS,
    Adjustments,
    Base,
    Benefit,
    Bonus,
    CoolOff,
    Counting,
    Earning,
    Expiry,
    Level,
    Liability,
    Market,
    Metric,
    PointValue,
    Programme,
    Rate,
    Redemption,
    Retention,
    TierPolicy,
    TierWindow,
    Validity,
)
from services.programme.new_checks import problems_in_new
from services.programme.rewards import CouponAction, Offer, OfferKind, Reward, RewardText, Terms
from services.programme.shape import (
    AMOUNT,
    COUNT,
    ActionsFile,
    AutomaticDiscountFile,
    CampaignFile,
    CapFile,
    CouponFile,
    EarningFile,
    LevelFile,
    LiabilityFile,
    MarketFile,
    MessageFile,
    MessagesFile,
    ProgrammeFile,
    RateFile,
    RewardFile,
    TextFile,
    TiersFile,
    derived_key,
    problem_of,
)
from services.programme.templates import used

_TOO_LARGE: Final = f"the file is larger than {MAX_BYTES // 1024} KiB; a programme is far smaller"


def load(path: str | os.PathLike[str], *, applied: bool = False) -> Programme:
    """The programme in this file; `applied` as for `parse`. Raises ProgrammeError, also where it can not be read."""
    file = Path(path)

    def unusable(message: str, line: int | None = None) -> ProgrammeError:
        return ProgrammeError(str(path), [Problem(line=line, path=(), message=message)])

    try:
        if file.is_dir():
            raise unusable("this is a folder; name a programme file in it")
        if file.exists() and not file.is_file():
            raise unusable("this is not an ordinary file; name a programme file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise unusable("there is no such file; name a programme file") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise unusable(f"the file can not be read: {reason}; name one that can") from None
    if len(content) > MAX_BYTES:
        raise unusable(_TOO_LARGE)
    try:
        return parse(content.decode("utf-8"), str(path), applied=applied)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise unusable(f"the byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8", line) from None


def parse(text: str, source: str, *, applied: bool = False) -> Programme:
    """The programme that a text holds; `source` is what problems call it. Raises ProgrammeError.

    `applied`: it may be a version that a ledger lives by already, which rules that came after it do not stop.

    The version is a hash of the content as read, before defaults, so that neither the layout of the file nor
    a later key with a default changes it.
    """
    return _parsed(text, source, applied)


# Who looks whether there are new versions reads those that are stored again and again.
@functools.lru_cache(maxsize=32)
def _parsed(text: str, source: str, applied: bool) -> Programme:
    if len(text) > MAX_BYTES:
        raise ProgrammeError(source, [Problem(line=None, path=(), message=_TOO_LARGE)])
    document = Document(text, source)
    content = document.content
    currency = content.get("currency") if isinstance(content, dict) else None
    digits = MINOR_UNIT_DIGITS.get(currency) if isinstance(currency, str) else None
    problems: list[Problem] = []
    try:
        shape = ProgrammeFile.model_validate(content, context=digits)
    except ValidationError as error:
        shape = None
        problems += [problem_of(details, document) for details in error.errors()]
    problems += problems_in(content, document)
    if not applied:
        problems += problems_in_new(content, document)
    # What could not be read is None in the content; that it is, is no second problem.
    unread = {problem.path for problem in document.problems}
    problems = [*document.problems, *(problem for problem in problems if problem.path not in unread)]
    if problems or shape is None:
        raise ProgrammeError(source, problems)
    return _programme(shape, content)


def _programme(file: ProgrammeFile, content: object) -> Programme:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    digits = MINOR_UNIT_DIGITS[file.currency]
    tiers = _tiers(file.tiers, digits)
    return Programme(
        name=file.programme,
        version=f"{file.programme}@{digest[:12]}",
        currency=file.currency,
        minor_unit_digits=digits,
        time_zone=file.time_zone,
        earning=_earning(file.earning, tiers.levels),
        tiers=tiers,
        rates=_rates(file.rates, digits),
        markets=MappingProxyType({key: _market(key, market, tiers) for key, market in file.markets.items()}),
        campaigns=tuple(_campaign(campaign) for campaign in file.campaigns),
        rewards=tuple(_reward(reward) for reward in file.rewards),
        surveys=tuple(
            Survey(
                id=survey.id,
                kind=survey.kind,
                questions=MappingProxyType(survey.questions),
                choices=tuple(survey.choices or ()),
                link=survey.link or "",
            )
            for survey in file.surveys
        ),
        badges=tuple(Badge(id=badge.id, texts=_texts(badge.texts)) for badge in file.badges),
        expiry=Expiry(policy=file.expiry.policy, period=file.expiry.period),
        redemption=Redemption(minimum=file.redemption.minimum, step=file.redemption.step),
        shortfall=file.returns.shortfall,
        adjustments=Adjustments(per_call=file.adjustments.per_call, per_day=file.adjustments.per_day),
        goodwill_points=file.support.goodwill_points,
        coupon_amount=file.support.coupon_amount,
        coupon_percent_bp=file.support.coupon_percent,
        back_dating=file.back_dating,
        liability=None if file.liability is None else _liability(file.liability),
        checkout=Checkout(automatic=tuple(_automatic(one) for one in file.checkout.automatic)),
        messages=_messages(file.messages),
    )


def _campaign(file: CampaignFile) -> Campaign:
    audience, budget, common = file.audience, file.budget, _actions(file)
    return Campaign(
        id=file.id,
        trigger=_trigger(file),
        audience=Audience(
            tiers=frozenset(audience.tiers),
            markets=frozenset(audience.markets),
            segments=frozenset(audience.segments),
            not_segments=frozenset(audience.not_segments),
            attributes=MappingProxyType(audience.attributes),
            consent=audience.consent or "",
        ),
        variants=tuple(
            Variant(
                id=variant.id,
                share_bp=variant.share,
                actions=_actions(variant, common),
                cap=_cap(variant.cap) or _cap(file.cap),
            )
            for variant in file.variants or ()
        )
        or (Variant(id="", share_bp=BASIS_POINTS, actions=common, cap=_cap(file.cap)),),
        control_bp=file.control,
        budget=Budget(count=budget.count, points=budget.points, minor_units=budget.amount),
        from_day=file.from_,
        until_day=file.until,
    )


def _cap(file: CapFile | None) -> Cap | None:
    return None if file is None else Cap(times=file.times, days=file.in_)


def _trigger(file: CampaignFile) -> Trigger:
    when = file.when
    return Trigger(
        kind=file.trigger,
        tiers=tuple(file.tiers or ()),
        days=when.before or when.after or 0,
        points=when.points or 0,
        visits=when.visits or 0,
        minimum_minor_units=when.minimum or 0,
        departments=frozenset(when.departments),
        stores=frozenset(when.stores),
        channels=frozenset(when.channels),
        probability_bp=when.probability or 0,
        segment=when.segment or "",
        day=when.day,
    )


def _actions(file: ActionsFile, common: Actions = Actions()) -> Actions:  # noqa: B008
    """What a file gives; what a variant does not say is as the campaign says."""
    return Actions(
        coupon=common.coupon if file.coupon is None else _coupon(file.coupon),
        points=file.points or common.points,
        lasting=file.lasting or common.lasting,
        message=common.message if file.message is None else _message(file.message),
        webhook=file.webhook or common.webhook,
        badge=file.badge or common.badge,
        survey=file.survey or common.survey,
    )


def _message(file: MessageFile) -> MessageAction:
    html = file.html or {}
    words = {
        language: Message(subject=subject, text=file.text[language], html=html.get(language, ""))
        for language, subject in file.subject.items()
    }
    texts = (text for each in words.values() for text in (each.subject, each.text, each.html))
    return MessageAction(
        words=MappingProxyType(words),
        topic=file.topic or "",
        channel=file.channel,
        urgent=file.urgent,
        variables=frozenset(name for text in texts for name, _ in used(text)),
    )


def _messages(file: MessagesFile) -> MessagePolicy:
    plain, quiet = MessagePolicy(), file.quiet_hours
    topics = tuple(Topic(id=topic.id, consent=topic.consent) for topic in file.topics or ())
    return MessagePolicy(
        languages=tuple(file.languages or plain.languages),
        topics=topics or plain.topics,
        quiet_hours=None if quiet is None else QuietHours(start=quiet.from_, end=quiet.until),
        per_day=file.caps.per_day,
        per_week=file.caps.per_week,
    )


def _reward(file: RewardFile) -> Reward:
    if file.coupon is not None:
        coupon = _coupon(file.coupon)
    else:
        offer = Offer(kind=OfferKind.BONUS_POINTS, points=file.bonus_points)
        coupon = CouponAction(offer=offer, valid=Window(days=1))
    return Reward(
        id=file.id,
        coupon=coupon,
        points=file.points,
        money_minor_units=file.money or 0,
        stock=file.stock,
        per_member=file.per_member,
        tiers=frozenset(file.tiers),
        segments=frozenset(file.segments),
        from_day=file.from_,
        until_day=file.until,
        texts=_texts(file.texts),
    )


def _texts(files: Mapping[str, TextFile]) -> Mapping[str, RewardText]:
    return MappingProxyType(
        {language: RewardText(name=text.name, description=text.description or "") for language, text in files.items()}
    )


def _coupon(file: CouponFile) -> CouponAction:
    return CouponAction(
        offer=_offer(file),
        valid=file.valid,
        prefix=file.prefix or "",
        pool=file.pool or "",
        terms=Terms(
            stacking=file.stacking,
            minimum_minor_units=file.minimum or 0,
            skus=frozenset(file.skus),
            departments=frozenset(file.departments),
            stores=frozenset(file.stores),
            channels=frozenset(file.channels),
            tiers=frozenset(file.tiers),
        ),
        uses=file.uses,
    )


def _offer(file: CouponFile) -> Offer:
    kind, value = next((kind, value) for kind in OfferKind if (value := getattr(file, kind, None)) is not None)
    match kind:
        case OfferKind.DISCOUNT_PERCENT:
            return Offer(kind=kind, percent_bp=value)
        case OfferKind.DISCOUNT_AMOUNT | OfferKind.GIFT_CARD:
            return Offer(kind=kind, amount=value)
        case OfferKind.FREE_SHIPPING:
            return Offer(kind=kind, amount=value or None)
        case OfferKind.FREE_PRODUCT:
            return Offer(kind=kind, sku=value)
        case _:
            return Offer(kind=kind, detail=value)


def _earning(file: EarningFile, levels: Sequence[Level]) -> Earning:
    return Earning(
        base=file.base,
        points=file.points,
        per_minor_units=file.per,
        sign_up_bonus=file.sign_up_bonus,
        class_multipliers_bp=MappingProxyType({level.key: level.multiplier_bp for level in levels}),
        activities=MappingProxyType({activity.id: activity.points for activity in file.activities}),
        pending_days=file.pending,
        bonuses=tuple(
            Bonus(
                id=bonus.id,
                points=bonus.points,
                multiplier_bp=bonus.multiplier,
                from_day=bonus.from_,
                until_day=bonus.until,
                weekdays=frozenset(bonus.weekdays or ()),
                minimum_minor_units=bonus.minimum or 0,
                departments=frozenset(bonus.departments or ()),
                first_purchase=bonus.first_purchase,
            )
            for bonus in file.bonuses
        ),
    )


def _tiers(file: TiersFile, digits: int) -> TierPolicy:
    retention, validity, cool_off = file.retention, file.validity, file.cool_off
    return TierPolicy(
        metric=file.metric,
        base=file.base or Base.GOODS_PAID,
        window=file.window or TierWindow(counting=Counting.LIFETIME),
        levels=tuple(_level(number, level, file.metric, digits) for number, level in enumerate(file.levels, start=1)),
        qualifying=frozenset(file.qualifying or ()),
        from_joining=file.counted,
        rejoining=file.rejoining,
        linked_returns=file.linked_returns,
        cool_off=None if cool_off is None else CoolOff(period=cool_off.period, applies_to=cool_off.applies_to),
        retention=None
        if retention is None
        else Retention(
            cycle=retention.cycle, at_end=retention.at_end, grace=retention.grace, on_return=retention.on_return
        ),
        validity=None
        if validity is None
        else Validity(period=validity.period, transactions=validity.transactions, warning=validity.warning),
    )


def _level(number: int, file: LevelFile, metric: Metric, digits: int) -> Level:
    figure = AMOUNT if metric is Metric.NET_SPEND else COUNT
    return Level(
        number=number,
        key=file.key or derived_key(file.name),
        name=file.name,
        threshold=None if file.from_ is None else figure.take(file.from_, digits),
        keep_threshold=None if file.keep is None else figure.take(file.keep, digits),
        plan=file.plan or "",
        multiplier_bp=file.earning_multiplier,
        discount_bp=file.discount_percent,
        benefits=tuple(
            Benefit(id=benefit.id, text=benefit.text, maximum_minor_units=benefit.maximum) for benefit in file.benefits
        ),
    )


def _market(key: str, file: MarketFile, tiers: TierPolicy) -> Market:
    digits = MINOR_UNIT_DIGITS[file.currency]
    return Market(
        key=key,
        currency=file.currency,
        minor_unit_digits=digits,
        time_zone=file.time_zone,
        tiers=replace(tiers, levels=tuple(_level_in(file, level, digits) for level in tiers.levels)),
        earning_per=None if file.per is None else AMOUNT.take(file.per, digits),
        rates=_rates(file.rates, digits),
    )


def _level_in(market: MarketFile, level: Level, digits: int) -> Level:
    """A level in the market's money."""
    if (own := (market.thresholds or {}).get(level.key)) is not None:
        keep = None if own.keep is None else AMOUNT.take(own.keep, digits)
        level = replace(level, threshold=AMOUNT.take(own.from_, digits), keep_threshold=keep)
    if (maximums := (market.maximums or {}).get(level.key)) is not None:
        amounts = {name: AMOUNT.take(amount, digits) for name, amount in maximums.items()}
        benefits = (replace(benefit, maximum_minor_units=amounts.get(benefit.id)) for benefit in level.benefits)
        level = replace(level, benefits=tuple(benefits))
    return level


def _rates(files: Sequence[RateFile], digits: int) -> tuple[Rate, ...]:
    return tuple(
        Rate(
            from_day=rate.from_,
            currency=rate.currency,
            minor_units=AMOUNT.take(rate.amount, MINOR_UNIT_DIGITS[rate.currency]),
            home_minor_units=AMOUNT.take(rate.worth, digits),
        )
        for rate in files
    )


def _automatic(file: AutomaticDiscountFile) -> AutomaticDiscount:
    return AutomaticDiscount(points=file.points, percent_bp=file.discount_percent, amount=file.discount_amount)


def _liability(file: LiabilityFile) -> Liability:
    return Liability(
        values=tuple(
            PointValue(from_day=value.from_, points=value.points, minor_units=value.worth) for value in file.values
        ),
        breakage_bp=file.breakage_percent,
    )
