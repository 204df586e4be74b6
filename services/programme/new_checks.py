"""What stops a new programme file, and no version that a ledger lives by already: messages that would say nothing, or
nothing to anybody.

These read the raw document, as `checks` does, and skip what its shape has wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from services.programme import templates
from services.programme.campaigns import TriggerKind
from services.programme.document import Document, KeyPath, Problem, found
from services.programme.messages import WEBHOOK, MessagePolicy
from services.programme.raw import at, mappings
from services.programme.shape import did_you_mean

MAX_POOL: Final = 32
"""Under longer names no codes can be imported."""

_Found = Iterator[tuple[KeyPath, str, int]]


def problems_in_new(content: object, document: Document) -> Iterator[Problem]:
    """All that a new document is refused for, and one that was applied is not."""
    topics = [topic["id"] for _, topic in mappings(content, "messages", "topics") if isinstance(topic.get("id"), str)]
    known = [str(topic) for topic in topics] or [topic.id for topic in MessagePolicy().topics]
    for path, message in _in_pools(content):
        yield Problem(line=document.line(path), path=path, message=message)
    for index, campaign in mappings(content, "campaigns"):
        here: KeyPath = ("campaigns", index)
        consent = at(campaign, "audience", "consent")
        if isinstance(consent, str) and consent not in known:
            path = (*here, "audience", "consent")
            right = did_you_mean(consent, known) or f"; there are {', '.join(known)}"
            message = f"messages.topics has no {found(consent)}, so that nobody would hear of it{right}"
            yield Problem(line=document.line(path), path=path, message=message)
        said: set[tuple[KeyPath, str]] = set()
        for steps, message, line in _in_campaign(campaign, content):
            path = (*here, *steps)
            if (path, message) not in said:
                said.add((path, message))
                yield Problem(line=document.line_within(path, line), path=path, message=message)


def _in_pools(content: object) -> Iterator[tuple[KeyPath, str]]:
    for kind in ("campaigns", "rewards"):
        for index, one in mappings(content, kind):
            owners: list[tuple[KeyPath, object]] = [((kind, index), one)]
            owners += [((kind, index, "variants", number), variant) for number, variant in mappings(one, "variants")]
            for path, owner in owners:
                pool = at(owner, "coupon", "pool")
                if isinstance(pool, str) and len(pool) > MAX_POOL:
                    yield (*path, "coupon", "pool"), f"found {len(pool)} characters; expected at most {MAX_POOL}"


def _in_campaign(campaign: Mapping[str, object], content: object) -> _Found:
    """Each message goes to the member, and uses only what it has beside the gifts of its variant."""
    trigger = next((kind for kind in TriggerKind if kind == campaign.get("trigger")), None)
    variants = list(mappings(campaign, "variants"))
    ways: list[tuple[KeyPath, str, Mapping[str, object]]] = [
        (("variants", number), f"the variant {found(variant.get('id'))}", variant) for number, variant in variants
    ]
    for path, who, owner in ways or [((), "the campaign", campaign)]:
        own = owner.get("message") is not None
        message, steps = (owner, path) if own else (campaign, ())
        message_path: KeyPath = (*steps, "message")
        if at(message, "message", "channel") == WEBHOOK:
            right = "no member reads it there; name the type of an event in the campaign's own key webhook"
            yield (*message_path, "channel"), f"found {found(WEBHOOK)}; {right}", 1
        if trigger is None:
            continue
        gifts = {key: owner.get(key) if owner.get(key) is not None else campaign.get(key) for key in templates.OF_GIFTS}
        there = {key for key, gift in gifts.items() if gift is not None}
        if (survey := _survey(gifts["survey"], content)) is not None and survey.get("link") is None:
            there.discard("survey")
        for part, template in _templates(at(message, "message")):
            empty = set(templates.VARIABLES) - templates.known(trigger, there) - templates.asked(template)
            for name, line in templates.used(template):
                if name in empty:
                    why = _why_empty(name, trigger, gifts["survey"], who)
                    yield (*message_path, *part), f'"{name}" is always empty: {why}', line


def _why_empty(name: str, trigger: TriggerKind, survey: object, who: str) -> str:
    if name == "survey_link" and survey is not None:
        return f"the survey {found(survey)} has no link; give it one, or remove the variable"
    gift = next((gift for gift, names in templates.OF_GIFTS.items() if name in names), None)
    if gift is not None:
        return f"{who} has no {gift}; add it, or remove the variable"
    return f"the trigger {trigger} knows of none; remove the variable"


def _survey(name: object, content: object) -> Mapping[str, object] | None:
    return next((survey for _, survey in mappings(content, "surveys") if survey.get("id") == name), None)


def _templates(message: object) -> Iterator[tuple[KeyPath, str]]:
    """The templates of a message, each with its place in it."""
    for part in ("subject", "text", "html"):
        words = at(message, part)
        if isinstance(words, str):
            yield (part,), words
        elif isinstance(words, dict):
            for language, template in words.items():
                if isinstance(template, str):
                    yield (part, language), template
