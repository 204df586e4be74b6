"""The format cdnow: one line is one purchase, equal ones included, against a reckoning of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import programme as programmes
from services.cli.formats.cdnow import FORMAT
from services.cli.history import SourceError
from services.cli.importing import History
from services.cli.installation import DEMO_PROGRAMME
from services.cli.staging import Movement, Survey, Tally
from services.runtime.clock import moment
from tests.histories import movements_of, rejects_of, slices_of, staged, survey_of

RULES = programmes.load(DEMO_PROGRAMME)
HEADER = " customer_id  date number_of_cds  dollar_value\n"

CUSTOMERS = ["00001", "00002", "3", "x1", "-1", "9" * 33, "٣"]
# Noon in New York, in winter and in summer.
DATES: dict[str, str | None] = {
    "19970101": "1997-01-01T17:00:00+00:00",
    "19970406": "1997-04-06T16:00:00+00:00",
    "19980630": "1998-06-30T16:00:00+00:00",
    **dict.fromkeys(("19970230", "1997010", "199701011", "1997-1-1", "00000101", "19691231", "22000101", "١٩٩٧٠١٠١")),
}
DOLLARS: dict[str, Decimal | None] = {
    **{text: Decimal(text) for text in ("11.77", "0.00", "0", "5.", "0.005", "0.015", "0.004", "-3.10", "007.5")},
    **{text: Decimal(text) for text in ("9999999999.99", "10000000000.01", "123456789012345678901234")},
    **dict.fromkeys(("$5", "1e2", ".5", "abc", "1,50", "nan", "٣", "1" * 25)),
}
PIECES = ["1", "0", "99", "-1", "two", "1" * 10]
LINES = st.one_of(
    st.tuples(
        st.sampled_from(CUSTOMERS[:3]),
        st.sampled_from(list(DATES)[:2]),
        st.sampled_from(["1", "2"]),
        st.sampled_from(["11.77", "0.00", "0.015"]),
    ),
    st.tuples(
        st.sampled_from(CUSTOMERS),
        st.sampled_from(list(DATES)),
        st.sampled_from(PIECES),
        st.sampled_from(list(DOLLARS)),
    ),
    st.lists(st.sampled_from(["00001", "19970101", "1"]), min_size=1, max_size=6).filter(lambda one: len(one) != 4),
)


def cents(text: str) -> int | None:
    """None where it is no number, or more than ten billion dollars."""
    dollars = DOLLARS.get(text)
    if dollars is None:
        return None
    amount = int((dollars * 100).quantize(Decimal(1), ROUND_HALF_EVEN))
    return amount if abs(amount) <= 10**12 else None


def why_not(fields: Sequence[str]) -> str:
    if len(fields) != 4:
        return "not 4 fields"
    customer, day, pieces, dollars = fields
    amount = cents(dollars)
    for reason, applies in (
        ("customer_id is no number", customer not in CUSTOMERS[:3]),
        ("date is no date", DATES[day] is None),
        ("number_of_cds is no number", pieces in PIECES[3:]),
        ("dollar_value is no number", DOLLARS[dollars] is None),
        ("an amount out of all bounds", amount is None),
        ("an amount of zero", amount == 0),
        ("an amount below zero", (amount or 0) < 0),
    ):
        if applies:
            return reason
    return ""


def check(path: Path, lines: Sequence[Sequence[str]], *, header: bool, gap: str, end: str, mark: bool) -> None:
    """Writes and reads a file, and compares everything with a reckoning."""
    # Without a header the first line says how many fields there are.
    written = [*(() if header else [("00001", "19970101", "1", "5.")]), *lines]
    text = (HEADER.strip() + end if header else "") + "".join(gap + gap.join(fields) + end for fields in written)
    path.write_bytes(b"\xef\xbb\xbf" * mark + text.encode())

    wanted = Survey()
    movements: list[Movement] = []
    rejects = ["line,reason,customer_id,date,number_of_cds,dollar_value"]
    occurrences: Counter[tuple[str, str]] = Counter()
    for number, fields in enumerate(written):
        amount = (cents(fields[3]) or 0) if len(fields) == 4 else 0
        wanted.read.add(1, amount)
        if reason := why_not(fields):
            wanted.rejected.setdefault(reason, Tally()).add(1, amount)
            quoted = (f'"{one}"' if "," in one else one for one in fields)
            rejects.append(",".join([str((number + header) * end.count("\n") + 1), reason, *quoted]))
            continue
        wanted.accepted.add(1, amount)
        customer, day = fields[:2]
        occurrences[customer, day] += 1
        key = f"{day}-{occurrences[customer, day]}"
        occurred = int(datetime.fromisoformat(DATES[day] or "").timestamp()) * 1_000_000
        movements.append(Movement(False, customer, key, occurred, amount, 1, "", b""))
    movements.sort(key=lambda one: (one.occurred, one.key, one.member_id))
    with staged(FORMAT, path, RULES) as history:
        found, slices = history.survey, list(history.staging.slices(RULES))
        assert rejects_of(history).splitlines() == rejects
    assert (found.read, found.rejected, found.accepted) == (wanted.read, wanted.rejected, wanted.accepted)
    assert (found.duplicates, found.guests, found.returns) == (Tally(), Tally(), 0)
    assert [movement for one in slices for movement in one.movements] == movements
    firsts: dict[str, int] = {}
    for movement in movements:
        firsts.setdefault(movement.member_id, movement.occurred - 1_000_000)
    assert [tuple(joining) for one in slices for joining in one.joinings] == list(firsts.items())
    assert (found.purchases, found.members) == (len(movements), len(firsts))
    parts = [*found.rejected.values(), found.accepted]
    assert found.read == Tally(sum(one.lines for one in parts), sum(one.amount for one in parts))


@given(
    lines=st.lists(LINES, max_size=30),
    header=st.booleans(),
    gap=st.sampled_from([" ", "   ", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "  \n\n"]),
    mark=st.booleans(),
)
def test_every_line_becomes_what_a_reckoning_of_its_own_says(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[Sequence[str]],
    header: bool,
    gap: str,
    end: str,
    mark: bool,
) -> None:
    check(tmp_path_factory.getbasetemp() / "lines.txt", lines, header=header, gap=gap, end=end, mark=mark)


def test_so_does_every_way_to_write_a_field_in_a_line_that_is_good_but_for_that(tmp_path: Path) -> None:
    good = ("00001", "19970101", "1", "11.77")
    pools = (CUSTOMERS, DATES, PIECES, DOLLARS)
    lines = [(*good[:at], text, *good[at + 1 :]) for at, pool in enumerate(pools) for text in pool]
    check(tmp_path / "lines.txt", lines, header=True, gap=" ", end="\n", mark=False)


def test_equal_lines_are_purchases_of_their_own_numbered_by_day(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(" 00001 19970101 1 5.00\n 00001 19970101 1 5.00\n 00001 19970101 2 7.00\n 00001 19970102 1 5.00\n")
    found = movements_of(FORMAT, path, RULES)
    assert [(one.key, one.amount) for one in found] == [
        ("19970101-1", 500),
        ("19970101-2", 500),
        ("19970101-3", 700),
        ("19970102-1", 500),
    ]


def test_a_line_that_does_not_count_is_not_numbered(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("1 19970101 1 0.00\n1 19970101 1 5.00\n")
    (purchase,) = movements_of(FORMAT, path, RULES)
    assert purchase.key == "19970101-1"


@pytest.mark.parametrize(
    ("zone", "noon"),
    [
        ("", datetime(1997, 7, 1, 16, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(1997, 7, 1, 6, 30, tzinfo=UTC)),
        # Noon of one zone may be the next day of the programme's.
        ("Etc/GMT+12", datetime(1997, 7, 2, 0, tzinfo=UTC)),
    ],
)
def test_a_purchase_is_at_noon_of_the_zone(tmp_path: Path, zone: str, noon: datetime) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("1 19970701 1 5.00\n")
    (day,) = slices_of(FORMAT, path, RULES, zone=zone)
    assert [moment(one.occurred) for one in day.movements] == [noon]
    assert [moment(one.occurred) for one in day.joinings] == [noon - timedelta(seconds=1)]
    assert day.date == noon.astimezone(RULES.zone).date()


def test_columns_may_stand_in_another_order_and_be_more(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("shop date dollar_value customer_id number_of_cds\nA 19970101 5.00 1 2\nA 19970101 5.00 1\n")
    with staged(FORMAT, path, RULES) as history:
        assert history.survey.accepted == Tally(1, 500)
        assert rejects_of(history) == (
            "line,reason,shop,date,dollar_value,customer_id,number_of_cds\n3,not 5 fields,A,19970101,5.00,1\n"
        )


def test_a_file_with_nothing_but_its_columns_is_an_empty_history(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(HEADER)
    assert survey_of(FORMAT, path, RULES).read == Tally()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customer_id date dollar_value\n", "has no column number_of_cds; its first line is customer_id, date"),
        ("customer_id,date,number_of_cds,dollar_value\n", "has no columns customer_id, date, number_of_cds"),
        ("00001 19970101 1\n", "has lines of 3 fields; expected are customer_id, date, number_of_cds, dollar_value"),
    ],
)
def test_a_first_line_of_another_kind_is_shown(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(SourceError, match=said):
        FORMAT.open(path)


# --- the real file ---


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Iterator[History]:
    with staged(FORMAT, shared_data / "cdnow_master.txt", RULES) as history:
        yield history


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> Any:
    """The same file, read in another way: a line each, with its cents."""
    lines = (shared_data / "cdnow_master.txt").read_text().splitlines()[1:]
    table = pl.DataFrame(
        [line.split() for line in lines], schema=["customer", "date", "pieces", "dollars"], orient="row"
    )
    assert table["dollars"].str.contains(r"^[0-9]{1,5}\.[0-9]{2}$").all()
    return table.with_columns(cents=pl.col("dollars").str.replace(".", "", literal=True).cast(pl.Int64))


def test_the_real_file_holds_what_is_known_of_it(real: History, raw: Any) -> None:
    found = real.survey
    assert found.read == Tally(69_659, raw["cents"].sum())
    assert found.rejected == {"an amount of zero": Tally(80, 0)}
    assert len(rejects_of(real).splitlines()) == 1 + 80
    assert found.accepted == Tally(69_579, raw["cents"].sum())
    assert (found.purchases, found.returns, found.members) == (69_579, 0, 23_502)
    days = raw.filter(pl.col("cents") > 0).group_by("customer").len().group_by("len").len(name="members")
    assert found.frequencies["1"] == days.filter(pl.col("len") == 1)["members"].item() == 11_843
    assert sum(found.frequencies.values()) == 23_502


def test_255_lines_of_the_real_file_repeat_an_earlier_one_and_are_all_purchases(real: History, raw: Any) -> None:
    counted = raw.filter(pl.col("cents") > 0)
    # 470 lines share all they say with another: 215 said for the first time, 255 said again. None is of zero.
    again = counted.height - counted.unique().height
    assert again == raw.height - raw.unique().height == 255
    repeated = counted.filter(counted.is_duplicated())
    assert (repeated.height, repeated.unique().height) == (470, 215)

    loaded = Counter(
        (one.member_id, one.key.partition("-")[0], one.amount)
        for part in real.staging.slices(RULES)
        for one in part.movements
    )
    assert loaded == Counter(counted.select("customer", "date", "cents").iter_rows())


def test_every_purchase_of_the_real_file_has_a_number_of_its_own(real: History, raw: Any) -> None:
    keys = [(one.member_id, one.key) for part in real.staging.slices(RULES) for one in part.movements]
    assert len(set(keys)) == len(keys) == 69_579
    per_day = raw.filter(pl.col("cents") > 0).group_by("customer", "date").len()
    numbered = {
        (customer, f"{day}-{number}") for customer, day, count in per_day.iter_rows() for number in range(1, count + 1)
    }
    assert set(keys) == numbered
