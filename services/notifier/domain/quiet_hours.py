"""When a member is not to be disturbed, by the member's own clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.programme.calendar import aware, clock_shows
from services.programme.messages import QuietHours


def quiet_until(quiet: QuietHours | None, zone: ZoneInfo, now: datetime) -> datetime | None:
    """The instant, UTC, at which the quiet hours end that `now` lies in; None where it lies in none.

    They begin when the clock first shows their start, and end when it shows their end for the last time; where it leaps
    over one of them, at the leap. So an hour that comes twice is quiet twice, and no night is longer than it must be.
    """
    if quiet is None:
        return None
    today = aware(now).astimezone(zone).date()
    over_midnight = timedelta(days=int(quiet.end <= quiet.start))
    # The clock may have been set back over midnight: then the night that begins today has begun yesterday, too.
    for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
        begins = clock_shows(zone, datetime.combine(day, quiet.start))
        ends = clock_shows(zone, datetime.combine(day + over_midnight, quiet.end), again=True)
        if begins <= now < ends:
            return ends
    return None
