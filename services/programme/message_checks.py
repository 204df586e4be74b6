"""What holds between the values of a programme file about messages: languages, topics, and templates that can render.

These read the raw document, as `checks` does, and skip what its shape has wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from services.programme import templates
from services.programme.document import Document, KeyPath, Problem, found
from services.programme.messages import MessagePolicy
from services.programme.shape import LANGUAGE, MAX_HTML, MAX_TEXT, did_you_mean

_LIMITS: Final = {"subject": MAX_TEXT, "text": MAX_TEXT, "html": MAX_HTML}


def problems_in_messages(content: object, document: Document) -> Iterator[Problem]:
    """All that is wrong between `messages` and what campaigns say to members."""
    section = _mapping(_mapping(content).get("messages"))
    for steps, wrong in _in_section(section):
        path: KeyPath = ("messages", *steps)
        yield Problem(line=document.line(path), path=path, message=wrong)
    languages = _texts(section.get("languages")) or list(MessagePolicy().languages)
    topics = [name for topic in _list(section.get("topics")) if isinstance(name := _mapping(topic).get("id"), str)]
    known = topics or [topic.id for topic in MessagePolicy().topics]
    for path, message in _messages(content):
        for steps, wrong in _in_message(message, languages, known):
            here = (*path, *steps)
            yield Problem(line=document.line(here), path=here, message=wrong)
        yield from _in_templates(path, message, document)


def _in_section(section: dict[str, object]) -> Iterator[tuple[KeyPath, str]]:
    for key, items in (("languages", _list(section.get("languages"))), ("topics", _ids(section.get("topics")))):
        for position, item in enumerate(items):
            if isinstance(item, str) and item in items[:position]:
                yield (key, position), f'"{item}" is here twice; remove one'
    quiet = _mapping(section.get("quiet_hours"))
    if isinstance(quiet.get("from"), str) and quiet.get("from") == quiet.get("until"):
        yield ("quiet_hours", "until"), f"found {found(quiet['until'])}; expected another time than from"
    caps = _mapping(section.get("caps"))
    per_day, per_week = caps.get("per_day"), caps.get("per_week")
    if _counts(per_day) and _counts(per_week) and per_week < per_day:  # type: ignore[operator]  # both are int
        yield ("caps", "per_week"), f"found {per_week}; expected no fewer than the {per_day} of a day"


def _in_message(message: dict[str, object], languages: list[str], topics: list[str]) -> Iterator[tuple[KeyPath, str]]:
    topic = message.get("topic")
    if isinstance(topic, str) and topic not in topics:
        right = did_you_mean(topic, topics) or f"; there are {', '.join(topics)}"
        yield ("topic",), f'messages.topics has no "{topic}"{right}'
    spoken = {part: _languages(message.get(part)) for part in _LIMITS}
    for part, names in spoken.items():
        for name in names or ():
            if name and name not in languages and re.fullmatch(LANGUAGE, name):
                right = did_you_mean(name, languages) or f"; there are {', '.join(languages)}"
                yield (part, name), f'messages.languages has no "{name}"{right}'
            elif name and not re.fullmatch(LANGUAGE, name):
                yield (part, name), f'found {found(name)}; expected a language such as "en" or "pt-BR"'
    subject = spoken["subject"]
    if subject is None:
        return
    if "" not in subject and languages[0] not in subject:
        yield ("subject",), f"the first language, {languages[0]}, is missing; all others fall back to it"
    for part in ("text", "html"):
        names = spoken[part]
        if names is None:
            continue
        for name in subject:
            # Only what is read in a program for mail may have no more than text.
            if name not in names and part == "text":
                yield (part,), f"{_named(name)} is missing; the subject has it"
        for name in names:
            if name not in subject:
                yield (part,), f"{_named(name)} is here, and the subject has none; add it"


def _in_templates(path: KeyPath, message: dict[str, object], document: Document) -> Iterator[Problem]:
    for part, limit in _LIMITS.items():
        texts = message.get(part)
        each: dict[KeyPath, object] = {(*path, part): texts}
        if isinstance(texts, dict):
            each = {(*path, part, language): text for language, text in texts.items()}
        for where, template in each.items():
            if isinstance(template, str) and len(template) <= limit:
                for mistake in templates.check(template, html=part == "html"):
                    line = document.line_within(where, mistake.line)
                    yield Problem(line=line, path=where, message=mistake.message)


def _messages(content: object) -> Iterator[tuple[KeyPath, dict[str, object]]]:
    """The messages of all campaigns and their variants, with their places."""
    for index, campaign in enumerate(_list(_mapping(content).get("campaigns"))):
        here: KeyPath = ("campaigns", index)
        said = _mapping(campaign)
        if message := _mapping(said.get("message")):
            yield (*here, "message"), message
        for number, variant in enumerate(_list(said.get("variants"))):
            if message := _mapping(_mapping(variant).get("message")):
                yield (*here, "variants", number, "message"), message


def _languages(texts: object) -> list[str] | None:
    """The languages of a part: "" where it is one text, None where there is none that can be read."""
    if isinstance(texts, dict):
        return list(texts)
    return [""] if isinstance(texts, str) else None


def _named(language: str) -> str:
    return f"the language {language}" if language else "a text without a language"


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _ids(value: object) -> list[object]:
    return [_mapping(item).get("id") for item in _list(value)]
