"""Messages: what a campaign says to a member, and when members want to hear of it.

Pure: the standard library only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from typing import Final

EMAIL: Final = "email"
WEBHOOK: Final = "webhook"
LOG: Final = "log"
OFFERS: Final = "offers"
"""The topic of messages that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Subject and body in one language: templates, or, rendered, what the member reads (see `templates`).

    `html` is the body once more for programs that show it; empty where there is only text.
    """

    subject: str
    text: str
    html: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAction:
    """A message to be sent: its words in each language, and how it is to be treated."""

    words: Mapping[str, Message] = field(hash=False)
    """By language (`en`, `pt-BR`); under "" where they are in the programme's first language alone."""
    topic: str = ""
    """Empty: the programme's first."""
    channel: str = EMAIL
    urgent: bool = False
    """Whether it goes out in quiet hours, too, and whatever the member has had today."""
    variables: frozenset[str] = frozenset()
    """What its words use of `templates.VARIABLES`."""


class Consent(enum.StrEnum):
    """Whether members hear of a topic before they have said anything, and whether they can refuse."""

    OPT_IN = "opt_in"
    """Only those who have agreed."""
    OPT_OUT = "opt_out"
    """All who have not refused."""
    ALWAYS = "always"
    """All: what belongs to the membership itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What messages are about, as members choose."""

    id: str
    consent: Consent = Consent.OPT_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """When nobody is to be disturbed, by the member's clock: from a time until one of the same day, or of the next."""

    start: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePolicy:
    """How messages are sent."""

    languages: tuple[str, ...] = ("en",)
    """The first is the one that words without a language are in."""
    topics: tuple[Topic, ...] = (Topic(id=OFFERS),)
    quiet_hours: QuietHours | None = None
    per_day: int | None = None
    per_week: int | None = None
    """How many messages a member gets at most in 24 hours, and in seven times as many; None: no limit."""

    def topic(self, topic_id: str) -> Topic:
        """The topic of this id, or the first; one that the programme has no more is heard of by those who agreed."""
        if not topic_id:
            return self.topics[0]
        found = (topic for topic in self.topics if topic.id == topic_id)
        return next(found, Topic(id=topic_id, consent=Consent.OPT_IN))

    def words(self, action: MessageAction, language: str) -> Message:
        """A message in a language; `pt` stands in for `pt-BR`, and the first language for all others."""
        wanted = (language, language.partition("-")[0], self.languages[0])
        found = (action.words[each] for each in wanted if each and each in action.words)
        return next(found, next(iter(action.words.values())))
