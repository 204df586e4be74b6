"""A made-up shop, as the format online-retail has it, in which chance could show if a load left it any room."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

COLUMNS = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
FIRST_DAY = date(2023, 3, 1)
# Who climbs through all tiers in a day, twice within the same minute, and partly down again; a year later, at the very
# minute in which that leaves the window, comes back.
CLIMBER = "climber"
_CLIMB = (
    ("K1", "290.00", 0, "10:00"),
    ("K2", "15.00", 0, "10:15"),
    ("K3", "800.00", 0, "10:15"),
    ("CK4", "250.00", 0, "10:15"),
    ("K5", "1300.00", 0, "17:30"),
    ("K6", "5.00", 1, "00:00"),
    ("K7", "5.00", 1, "10:15"),
    ("K8", "400.00", 365, "10:15"),
    ("K9", "20.00", 366, "10:15"),
)


def open_days(before: int, between: int, after: int) -> list[date]:
    """Days in a row; some, far apart, in the year that follows; and days in a row when that year is over."""
    gap = 365 // (between + 1)
    places = [*range(before), *(before + gap * (one + 1) for one in range(between)), *range(365, 365 + after)]
    return [FIRST_DAY + timedelta(days=place) for place in sorted(set(places))]


def write_history(path: Path, days: Sequence[date], *, members: int, a_day: int, rush: int = 0) -> None:
    """A file of purchases and returns, `a_day` on each of the days and `rush` on the middle one.

    Members join later and later, some come several times a day, few come often; times are quarters of an hour around
    the clock, so that a member's purchases meet each other, midnights, and what leaves the window after a year.
    """
    chance = random.Random(11)
    rows: list[tuple[str, date, str, int, str, str]] = []
    number = 500_000
    for place, day in enumerate(days):
        known = 1 + members * (place + 1) // len(days)
        for _ in range(rush if rush and place == len(days) // 2 else a_day):
            number += 1
            is_return = chance.random() < 0.15
            member = min(chance.randint(1, known), chance.randint(1, known))
            time = f"{chance.randrange(24):02}:{chance.randrange(0, 60, 15):02}"
            for _ in range(chance.randint(1, 3)):
                pieces = chance.randint(1, 4)
                price = f"{chance.randint(1, 30)}.{chance.randint(0, 99):02}"
                invoice = f"C{number}" if is_return else str(number)
                rows.append((invoice, day, time, -pieces if is_return else pieces, price, f"m-{member}"))
    for invoice, price, after_days, time in _CLIMB:
        pieces = -1 if invoice.startswith("C") else 1
        rows.append((invoice, days[0] + timedelta(days=after_days), time, pieces, price, CLIMBER))
    chance.shuffle(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for invoice, day, time, pieces, price, member in rows:
            writer.writerow((invoice, "A", "thing", pieces, f"{day} {time}:00", price, member, "Nowhere"))
