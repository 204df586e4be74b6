"""What members want to hear of, and whether a message may go out now."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.notifier.domain.quiet_hours import quiet_until
from services.programme.messages import Consent, MessagePolicy, Topic

DAY = timedelta(days=1)
WEEK = 7 * DAY

OPTED_OUT = "the member has opted out"
NOT_AGREED = "the member has not agreed to hear of this"
SUPPRESSED = "the address is suppressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a member said: whether messages of a topic may come over a channel; empty stands for all of them.

    `source`: how we know ("web form", "one-click"); `chosen_time`: when it was said; `recorded_time`: when we were
    told, in machine time. `number` counts what the member has said, from 1.
    """

    number: int
    channel: str
    topic: str
    allowed: bool
    source: str
    chosen_time: datetime
    recorded_time: datetime

    @property
    def place(self) -> tuple[datetime, int]:
        """Where it stands among all that the member said: what becomes known late was still said before, and nothing is
        said after it was told."""
        return min(self.chosen_time, self.recorded_time), self.number

    def covers(self, channel: str, topic: str) -> bool:
        """Whether it says something of such messages."""
        return self.channel in ("", channel) and self.topic in ("", topic)


def agreed(choices: Iterable[Choice], channel: str, topic: Topic) -> bool:
    """Whether a member hears of a topic over a channel: what was said last of it holds."""
    return why_not(choices, channel, topic) is None


def why_not(choices: Iterable[Choice], channel: str, topic: Topic) -> str | None:
    """Why a member does not hear of a topic over a channel; None where it does."""
    if topic.consent is Consent.ALWAYS:
        return None
    said = max((one for one in choices if one.covers(channel, topic.id)), key=lambda one: one.place, default=None)
    if said is not None:
        return None if said.allowed else OPTED_OUT
    return NOT_AGREED if topic.consent is Consent.OPT_IN else None


class Word(enum.Enum):
    """What is said of a message that is due."""

    GO = enum.auto()
    LATER = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is said of a message that is due, `until` when it waits (business time), and why."""

    word: Word
    until: datetime | None = None
    reason: str = ""


GO = Decision(word=Word.GO)


def decide(
    *,
    policy: MessagePolicy,
    channel: str,
    topic: Topic,
    urgent: bool,
    choices: Iterable[Choice],
    had: Sequence[datetime],
    zone: ZoneInfo,
    now: datetime,
) -> Decision:
    """Whether a message to a member may go out at `now` (business time).

    `had`: when messages that count went to the member; `zone`: the member's. An urgent message, and one of a topic that
    cannot be refused, goes in quiet hours, too, and counts for no cap.
    """
    refused = why_not(choices, channel, topic)
    if refused is not None:
        return Decision(word=Word.NEVER, reason=refused)
    if urgent or topic.consent is Consent.ALWAYS:
        return GO
    free = _free(policy, had, now)
    until = quiet_until(policy.quiet_hours, zone, max(now, free))
    if until is not None:
        return Decision(word=Word.LATER, until=until, reason="quiet hours")
    return GO if free <= now else Decision(word=Word.LATER, until=free, reason="the member has had enough for now")


def counts(*, urgent: bool, topic: Topic) -> bool:
    """Whether a message that was sent counts for the caps."""
    return not urgent and topic.consent is not Consent.ALWAYS


def _free(policy: MessagePolicy, had: Sequence[datetime], now: datetime) -> datetime:
    """From when on the member may get one more."""
    newest_first = sorted((time for time in had if time > now - WEEK), reverse=True)
    free = now
    for limit, span in ((policy.per_day, DAY), (policy.per_week, WEEK)):
        if limit is not None and len(newest_first) >= limit:
            free = max(free, newest_first[limit - 1] + span)
    return free
