"""Quiet hours on any night of any zone, caps and consents, whatever was said in whatever order."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.notifier.domain.preferences import DAY, WEEK, Choice, Word, decide, why_not
from services.notifier.domain.quiet_hours import quiet_until
from services.programme.messages import Consent, MessagePolicy, QuietHours, Topic

MINUTE = timedelta(minutes=1)
# Clocks that leap by an hour and by half of one, at night and at midnight, over a whole day, and never.
ZONES = st.sampled_from(
    ["Europe/Warsaw", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata"]
).map(ZoneInfo)
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
QUIET = st.builds(QuietHours, start=TIMES, end=TIMES).filter(lambda quiet: quiet.start != quiet.end)
# Around the nights on which the clocks of these zones are changed.
NIGHTS = st.sampled_from(
    [
        date(2026, 3, 29), date(2026, 10, 25), date(2026, 3, 8), date(2026, 11, 1), date(2026, 4, 5), date(2026, 10, 4),
        date(2018, 11, 4), date(2018, 2, 18), date(2011, 12, 30), date(2026, 7, 1),
    ]
)  # fmt: skip
INSTANTS = st.builds(
    lambda night, minutes: datetime(night.year, night.month, night.day, tzinfo=UTC) + minutes * MINUTE,
    NIGHTS,
    st.integers(-24 * 60, 36 * 60),
)


def begun(quiet: QuietHours, zone: ZoneInfo, instant: datetime) -> bool:
    """Whether it is quiet, told by walking there minute by minute from two days before, when it was noon or so."""
    over_midnight = quiet.end <= quiet.start
    is_quiet = False
    at = instant - 2 * DAY
    end_day: date | None = None
    started: set[date] = set()
    while at <= instant:
        local = at.astimezone(zone)
        day, clock = local.date(), local.time()
        if end_day is not None:
            # It ends when no later minute of that day shows a time before the end.
            later = (at + step * MINUTE for step in range(181))
            early = any(
                (one.astimezone(zone).date(), one.astimezone(zone).time()) < (end_day, quiet.end) for one in later
            )
            if not early:
                is_quiet, end_day = False, None
        if clock >= quiet.start and day not in started:
            started.add(day)
            if (day, clock) < (day, quiet.end) or over_midnight:
                is_quiet, end_day = True, day + (DAY if over_midnight else timedelta(0))
        at += MINUTE
    return is_quiet


@given(QUIET, ZONES, INSTANTS)
@example(
    QuietHours(start=time(22), end=time(2, 30)), ZoneInfo("Europe/Warsaw"), datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
)
@example(
    QuietHours(start=time(22), end=time(2, 30)), ZoneInfo("Europe/Warsaw"), datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
)
@example(QuietHours(start=time(2, 30), end=time(8)), ZoneInfo("Europe/Warsaw"), datetime(2026, 3, 29, 1, 0, tzinfo=UTC))
@example(QuietHours(start=time(2, 15), end=time(2)), ZoneInfo("Europe/Warsaw"), datetime(2026, 10, 25, tzinfo=UTC))
def test_what_is_held_goes_out_when_the_quiet_hours_are_over_and_no_minute_before(
    quiet: QuietHours, zone: ZoneInfo, now: datetime
) -> None:
    until = quiet_until(quiet, zone, now)
    if until is None:
        return
    assert now < until <= now + timedelta(hours=24 + 25)
    # At the end the clock shows the end, or has leapt over it, and goes on from there; just before it did not.
    before = (until - MINUTE).astimezone(zone)
    after = until.astimezone(zone)
    ends = datetime.combine(after.date(), quiet.end)
    assert after.replace(tzinfo=None) >= ends or after.time() < quiet.start
    assert quiet_until(quiet, zone, until - MINUTE) == until
    assert before.replace(tzinfo=None) < after.replace(tzinfo=None) or before.utcoffset() != after.utcoffset()
    # Right after the end it is not quiet, unless the next quiet hours have begun: where an hour comes twice they may
    # begin before those of the day before are over.
    assert (quiet_until(quiet, zone, until) is not None) == begun(quiet, zone, until)


@given(QUIET, st.sampled_from(["Europe/Warsaw", "America/New_York", "Asia/Kolkata"]).map(ZoneInfo), INSTANTS)
def test_it_is_quiet_just_when_a_clock_that_is_watched_says_so(
    quiet: QuietHours, zone: ZoneInfo, now: datetime
) -> None:
    assert (quiet_until(quiet, zone, now) is not None) == begun(quiet, zone, now)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        # The night that is an hour shorter: from 22:00 until the clock leaps from 2 to 3.
        ("2026-03-28T22:30:00+00:00", "2026-03-29T01:00:00+00:00"),
        # The night that is an hour longer: the hour from 2 to 3 comes twice, and is quiet until 2:30 of the second.
        ("2026-10-24T22:30:00+00:00", "2026-10-25T01:30:00+00:00"),
        ("2026-10-25T00:45:00+00:00", "2026-10-25T01:30:00+00:00"),
        # An ordinary one.
        ("2026-07-01T21:00:00+00:00", "2026-07-02T00:30:00+00:00"),
        ("2026-07-01T19:59:00+00:00", None),
    ],
)
def test_quiet_hours_are_right_on_both_nights_on_which_the_clocks_change(now: str, until: str | None) -> None:
    quiet = QuietHours(start=time(22), end=time(2, 30))
    found = quiet_until(quiet, ZoneInfo("Europe/Warsaw"), datetime.fromisoformat(now))
    assert found == (None if until is None else datetime.fromisoformat(until))


CHOICES = st.lists(
    st.tuples(st.sampled_from(["", "email", "sms"]), st.sampled_from(["", "offers", "news"]), st.booleans()), max_size=8
)


def said(choices: list[tuple[str, str, bool]]) -> list[Choice]:
    return [
        # Two of them at a time: within one, the order in which they were written down counts.
        Choice(
            number=number, channel=channel, topic=topic, allowed=allowed, source="x",
            chosen_time=datetime(2026, 1, 1, number // 2, tzinfo=UTC), recorded_time=datetime(2026, 2, 1, tzinfo=UTC),
        )
        for number, (channel, topic, allowed) in enumerate(choices, 1)
    ]  # fmt: skip


@given(CHOICES, st.sampled_from(list(Consent)), st.randoms())
def test_what_was_said_last_of_a_message_holds_in_whatever_order_it_is_read(
    choices: list[tuple[str, str, bool]], consent: Consent, random: object
) -> None:
    heard = consent is not Consent.OPT_IN
    for channel, topic, allowed in choices:
        if channel in ("", "email") and topic in ("", "offers"):
            heard = allowed
    mixed = said(choices)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    refused = why_not(mixed, "email", Topic(id="offers", consent=consent))
    assert (refused is None) == (heard or consent is Consent.ALWAYS)


@given(
    st.lists(st.integers(0, 14 * 24 * 60), max_size=60),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(3, 6)),
    st.one_of(st.none(), QUIET),
)
def test_no_member_ever_gets_more_than_the_caps_allow_nor_anything_in_quiet_hours(
    minutes: list[int], per_day: int, per_week: int | None, quiet: QuietHours | None
) -> None:
    zone = ZoneInfo("Europe/Warsaw")
    policy = MessagePolicy(per_day=per_day, per_week=per_week, quiet_hours=quiet)
    start = datetime(2026, 10, 20, tzinfo=UTC)
    waiting = sorted(start + minute * MINUTE for minute in minutes)
    had: list[datetime] = []
    while waiting:
        now = waiting.pop(0)
        topic = policy.topic("offers")
        decision = decide(
            policy=policy, channel="email", topic=topic, urgent=False, choices=(), had=had, zone=zone, now=now
        )
        if decision.word is Word.GO:
            had.append(now)
        else:
            assert decision.word is Word.LATER
            assert decision.until is not None
            assert decision.until > now
            waiting = sorted([*waiting, decision.until])
    # Nothing was lost on the way.
    assert len(had) == len(minutes)
    for time_ in had:
        assert sum(time_ - DAY < other <= time_ for other in had) <= per_day
        assert per_week is None or sum(time_ - WEEK < other <= time_ for other in had) <= per_week
        assert quiet_until(quiet, zone, time_) is None
