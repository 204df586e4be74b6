"""The format online-retail: what becomes of every row, against a reckoning of its own."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import programme as programmes
from services.cli.formats.online_retail import FORMAT
from services.cli.history import Line, SourceError
from services.cli.importing import History
from services.cli.staging import Movement, Survey, Tally
from services.runtime.clock import moment
from tests.conftest import PROGRAMMES
from tests.histories import lines_of, movements_of, rejects_of, staged, survey_of

RULES = programmes.load(PROGRAMMES / "tiered-365-gbp.yaml")
COLUMNS = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
HEADER = ",".join(COLUMNS) + "\n"
ROW = {
    "Invoice": "536365",
    "StockCode": "85123A",
    "Description": "WHITE HANGING HEART",
    "Quantity": "6",
    "InvoiceDate": "2010-12-01 08:26:00",
    "Price": "2.55",
    "Customer ID": "17850",
    "Country": "France",
}

# What a person reads in them. None: nothing.
NUMBERS: dict[str, Fraction | None] = {
    **{
        text: Fraction(text)
        for text in ("1", "6", "12", "-2", "-6", "0", "-0", "1.5", "2.95", "0.005", "0.015", "-1.5")
    },
    **{text: Fraction(text) for text in ("2.125", "0.0049", "0.00", "+3", ".5", "7.", "1e2", "25E-1", "9999999999999")},
    **{text: Fraction(text) for text in ("1e99", "-1E98", "2000000000", "0.13499999999999999999999999999999999999")},
    **dict.fromkeys(("", "abc", "1_000", "2,95", "nan", "-inf", "١٢", "0x10", "1e999999999", "9" * 41)),
}
# British wall clocks: an hour on 2011-03-27 does not exist, one on 2011-10-30 comes twice.
TIMES: dict[str, str | None] = {
    "2010-12-01 08:26:00": "2010-12-01T08:26:00+00:00",
    "2010-12-01T08:26": "2010-12-01T08:26:00+00:00",
    "2010-12-01": "2010-12-01T00:00:00+00:00",
    "2011-03-27 00:59:59": "2011-03-27T00:59:59+00:00",
    "2011-03-27 01:00:00": "2011-03-27T01:00:00+00:00",
    "2011-03-27 01:30:00": "2011-03-27T01:30:00+00:00",
    "2011-03-27 02:10:00": "2011-03-27T01:10:00+00:00",
    "2011-10-30 00:30:00": "2011-10-29T23:30:00+00:00",
    "2011-10-30 01:30:00": "2011-10-30T00:30:00+00:00",
    "2011-10-30 02:00:00.25": "2011-10-30T02:00:00.250000+00:00",
    "2011-07-01 00:00:00": "2011-06-30T23:00:00+00:00",
    **dict.fromkeys(("", "12/1/2010 8:26", "2010-13-01 08:26:00", "2010-12-01 24:01:00", "2010-W48-3", "20101201")),
    **dict.fromkeys(("2010-12-01 08:26:00+00:00", "0001-01-01 00:00:00", "1970-01-01 00:00:00", "9999-12-31 23:59:59")),
}
MEMBERS: dict[str, str | None] = {
    "12923": "12923",
    "12923.0": "12923",
    " 12923.00 ": "12923",
    "12924": "12924",
    "7.": "7",
    "AB-12.0": "AB-12.0",
    **dict.fromkeys(("", "  ", "\t"), ""),
    **dict.fromkeys(("12 923", "~1", "1" * 65, "é")),
}
INVOICES: dict[str, str | None] = {
    **{text: text.strip() for text in ("536365", "536366", " 536366", "X36367", "C536379", "C536380", "c536381")},
    **dict.fromkeys(("", "536 365", "5" * 33, "№1")),
}
STOCK_CODES = ["85123A", "22423", "", "A" * 64, "A" * 65]
DESCRIPTIONS = ["MUG", "", "SET/3, RED", 'SAYS "HI"', "TWO\nLINES", " EDGES ", "é" * 201]


def of(good: Sequence[str], pool: dict[str, Any]) -> st.SearchStrategy[str]:
    """Mostly what is usual, so that most rows count and meet others."""
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(good), st.sampled_from(list(pool)))


ROWS = st.tuples(
    of(["536365", "536366", "C536379"], INVOICES),
    st.sampled_from(STOCK_CODES),
    st.sampled_from(DESCRIPTIONS),
    of(["1", "6", "-2", "-6"], NUMBERS),
    of(["2010-12-01 08:26:00", "2011-03-27 01:30:00", "2011-10-30 01:30:00"], TIMES),
    of(["2.95", "0.015", "2.125"], NUMBERS),
    of(["12923", "12923.0", "12924"], MEMBERS),
    st.sampled_from(["France", "EIRE"]),
    st.sampled_from(["", "x"]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file is written: `columns` by where they stand, the last of ROWS' fields is a column more."""

    columns: Sequence[int]
    quoting: Any
    end: str
    mark: bool


LAYOUTS = st.builds(
    Layout,
    columns=st.one_of(st.just(range(8)), st.permutations(range(8)), st.permutations(range(9))),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)


@dataclass(slots=True)
class Reckoned:
    """What a person with a pencil finds."""

    survey: Survey = field(default_factory=Survey)
    movements: list[Movement] = field(default_factory=list)
    lines: list[list[Line]] = field(default_factory=list)
    joinings: dict[str, datetime] = field(default_factory=dict)
    rejects: list[list[str]] = field(default_factory=list)


def pence(amount: Fraction) -> int:
    # Half of one goes to the even.
    return round(amount * 100)


def why_not(row: Sequence[str]) -> str:
    """Why a row does not count; empty where it does."""
    invoice, stock_code, _, quantity_text, time, price_text, *_ = (text.strip() for text in row)
    quantity, price = NUMBERS[quantity_text], NUMBERS[price_text]
    for reason, applies in (
        ("Invoice is no number of an invoice", INVOICES[row[0]] is None or not invoice),
        ("Customer ID is no id of a member", MEMBERS[row[6]] is None),
        ("Quantity is no whole number", quantity is None or quantity != int(quantity)),
        ("InvoiceDate is no date and time", TIMES[time] is None),
        ("Price is no number", price is None),
    ):
        if applies:
            return reason
    assert quantity is not None
    assert price is not None
    for reason, applies in (
        ("the price is not positive", price <= 0),
        ("the quantity is 0", quantity == 0),
        ("a negative quantity on an invoice that is no cancellation", quantity < 0 and invoice[0] != "C"),
        ("a positive quantity on a cancellation", quantity > 0 and invoice[0] == "C"),
        (
            "an amount or a quantity out of all bounds",
            abs(quantity) > 10**9 or abs(pence(quantity * price)) > 10**12,
        ),
        ("StockCode is too long", len(stock_code) > 64),
    ):
        if applies:
            return reason
    return ""


def amount_of(row: Sequence[str]) -> int:
    quantity, price = NUMBERS[row[3].strip()], NUMBERS[row[5].strip()]
    if quantity is None or price is None:
        return 0
    amount = pence(quantity * price)
    return amount if abs(amount) <= 10**12 else 0


def reckon(records: Sequence[tuple[int, Sequence[str], Sequence[str]]]) -> Reckoned:
    """Of each record: its line, its fields as they are written, and the same in the order of COLUMNS."""
    found = Reckoned()
    survey = found.survey
    seen = set()
    counted: dict[tuple[str, str], list[Sequence[str]]] = {}
    incomplete = set()
    for number, written, row in records:
        amount = amount_of(row)
        survey.read.add(1, amount)
        if tuple(written) in seen:
            survey.duplicates.add(1, amount)
            continue
        seen.add(tuple(written))
        if not row[6].strip():
            survey.guests.add(1, amount)
            continue
        key = (MEMBERS[row[6]] or row[6].strip(), row[0].strip())
        if reason := why_not(row):
            survey.rejected.setdefault(reason, Tally()).add(1, amount)
            found.rejects.append([str(number), reason, *written])
            incomplete.add(key)
            continue
        survey.accepted.add(1, amount)
        counted.setdefault(key, []).append(row)
    order = []
    for (member_id, invoice), rows in counted.items():
        time = min(datetime.fromisoformat(TIMES[row[4]] or "") for row in rows)
        order.append((time, invoice.startswith("C"), invoice, member_id, rows))
    for time, is_return, invoice, member_id, rows in sorted(order):
        found.joinings.setdefault(member_id, time - timedelta(seconds=1))
        occurred = int(time.timestamp()) * 1_000_000 + time.microsecond
        amounts = [abs(amount_of(row)) for row in rows]
        found.movements.append(Movement(is_return, member_id, invoice, occurred, sum(amounts), len(rows), "", b""))
        found.lines.append(
            [
                Line(row[1], row[2].strip()[:200], "", "", int(abs(NUMBERS[row[3]] or 0)), amount)
                for row, amount in zip(rows, amounts, strict=True)
            ]
        )
        survey.returns += is_return
        survey.purchases += not is_return
    survey.members = len(found.joinings)
    survey.without_lines = len({key for key in incomplete if key[1]} - set(counted))
    return found


def write(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> list[tuple[int, Sequence[str], Sequence[str]]]:
    """Writes a file and says of each row where its first line is, its fields, and the row itself."""
    header = [(*COLUMNS, "Note")[place] for place in layout.columns]
    text = StringIO(newline="")
    writer = csv.writer(text, quoting=layout.quoting, lineterminator=layout.end)
    writer.writerow(header)
    records = []
    for row in rows:
        fields = [row[place] for place in layout.columns]
        records.append((text.getvalue().count("\n") + 1, fields, row))
        writer.writerow(fields)
    path.write_bytes(b"\xef\xbb\xbf" * layout.mark + text.getvalue().encode())
    return records


def read_rejects(history: History) -> list[list[str]]:
    header, *rows = csv.reader(StringIO(rejects_of(history), newline=""))
    assert header == ["line", "reason", *history.columns]
    return rows


def check(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Writes and reads a file, and compares everything with the reckoning."""
    expected = reckon(write(path, rows, layout))
    with staged(FORMAT, path, RULES) as history:
        found, slices = history.survey, list(history.staging.slices(RULES))
        assert read_rejects(history) == expected.rejects
    wanted = expected.survey
    assert (found.read, found.duplicates, found.guests) == (wanted.read, wanted.duplicates, wanted.guests)
    assert (found.rejected, found.accepted) == (wanted.rejected, wanted.accepted)
    assert (found.purchases, found.returns) == (wanted.purchases, wanted.returns)
    assert (found.members, found.without_lines) == (wanted.members, wanted.without_lines)
    movements = [movement for one in slices for movement in one.movements]
    assert [one._replace(lines=b"") for one in movements] == expected.movements
    assert [lines_of(one) for one in movements] == expected.lines
    joinings = [joining for one in slices for joining in one.joinings]
    assert [(one.member_id, moment(one.occurred)) for one in joinings] == list(expected.joinings.items())
    for one in slices:
        assert {moment(movement.occurred).astimezone(RULES.zone).date() for movement in one.movements} == {one.date}
    days = [moment(one.occurred).astimezone(RULES.zone).date() for one in movements]
    assert (found.first_day, found.last_day) == ((days[0], days[-1]) if days else (None, None))
    parts = [found.duplicates, found.guests, *found.rejected.values(), found.accepted]
    assert found.read == Tally(sum(one.lines for one in parts), sum(one.amount for one in parts))


@given(rows=st.lists(ROWS, max_size=25), again=st.lists(st.integers(0, 24), max_size=5), layout=LAYOUTS)
def test_every_row_becomes_what_a_reckoning_of_its_own_says(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Sequence[str]], again: list[int], layout: Layout
) -> None:
    rows = [*rows, *(rows[place] for place in again if place < len(rows))]
    check(tmp_path_factory.getbasetemp() / "rows.csv", rows, layout)


def test_so_does_every_way_to_write_a_field_in_a_row_that_is_good_but_for_that(tmp_path: Path) -> None:
    good = ("536365", "85123A", "MUG", "6", "2010-12-01 08:26:00", "2.95", "12923", "France", "")
    pools = (INVOICES, STOCK_CODES, DESCRIPTIONS, NUMBERS, TIMES, NUMBERS, MEMBERS, ["France", "EIRE"], ["", "x"])
    rows = [(*good[:at], text, *good[at + 1 :]) for at, pool in enumerate(pools) for text in pool]
    back = ["C536379", "", "", "-2"]
    rows += [(*back, *row[4:]) for row in rows]
    for columns in (range(8), range(9)):
        check(tmp_path / "rows.csv", rows, Layout(columns=columns, quoting=csv.QUOTE_MINIMAL, end="\n", mark=False))


@given(
    quantity=st.integers(1, 10**5),
    price=st.decimals(min_value=0, max_value=1000, places=5, allow_nan=False, allow_infinity=False),
    currency=st.sampled_from(["GBP", "JPY", "KWD"]),
)
def test_an_amount_is_the_exact_product_with_half_a_minor_unit_to_the_even_one(
    tmp_path_factory: pytest.TempPathFactory, quantity: int, price: Decimal, currency: str
) -> None:
    decimals = {"GBP": ".00", "JPY": "", "KWD": ".000"}[currency]
    scale = 10 ** len(decimals[1:])
    whole, rest = divmod(int(price * 10**5) * quantity * scale, 10**5)
    whole += rest > 50_000 or (rest == 50_000 and whole % 2 == 1)
    text = (PROGRAMMES / "tiered-365-gbp.yaml").read_text()
    rules = programmes.parse(text.replace("GBP", currency).replace('.00"', f'{decimals}"'), source="test")
    path = tmp_path_factory.getbasetemp() / "amounts.csv"
    path.write_text(f"{HEADER}536365,1,MUG,{quantity},2010-12-01 08:26:00,{price},12923,France\n")
    assert survey_of(FORMAT, path, rules).read == Tally(1, whole)


def written(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "orders.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**ROW, **row} for row in rows)
    return path


def test_an_invoice_of_two_customers_is_a_purchase_of_each(tmp_path: Path) -> None:
    path = written(tmp_path, {}, {"Customer ID": "12923"}, {"StockCode": "22423"})
    assert [(one.key, one.member_id, one.amount) for one in movements_of(FORMAT, path, RULES)] == [
        ("536365", "12923", 1530),
        ("536365", "17850", 3060),
    ]


def test_an_invoice_is_as_early_as_the_first_of_its_lines_that_count(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"InvoiceDate": "2010-12-01 09:00:00", "Quantity": "0"},
        {"InvoiceDate": "2010-12-01 09:03:00"},
        {"InvoiceDate": "2010-12-01 09:02:00"},
    )
    (purchase,) = movements_of(FORMAT, path, RULES)
    assert moment(purchase.occurred) == datetime(2010, 12, 1, 9, 2, tzinfo=UTC)
    assert (purchase.source_lines, purchase.amount) == (2, 3060)


def test_of_one_moment_purchases_come_before_returns_and_then_numbers_of_invoices_count(tmp_path: Path) -> None:
    back = {"Invoice": "C100", "Quantity": "-1"}
    path = written(tmp_path, back, {"Invoice": "9"}, {"Invoice": "10"}, {"Invoice": "X"})
    found = movements_of(FORMAT, path, RULES)
    assert [(one.key, one.is_return) for one in found] == [("10", False), ("9", False), ("X", False), ("C100", True)]
    assert found[-1].amount == 255


def test_a_rejected_line_of_the_same_member_written_otherwise_leaves_its_invoice_with_lines(tmp_path: Path) -> None:
    path = written(tmp_path, {"Customer ID": "17850.0", "Price": "0"}, {"Customer ID": "17850"})
    assert survey_of(FORMAT, path, RULES).without_lines == 0
    path = written(tmp_path, {"Customer ID": "17850.0", "Price": "0"}, {"Invoice": "536366"})
    assert survey_of(FORMAT, path, RULES).without_lines == 1


def test_a_line_that_comes_to_less_than_half_a_penny_counts_with_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, {"Quantity": "1", "Price": "0.004"}, {"StockCode": "2"})
    (purchase,) = movements_of(FORMAT, path, RULES)
    assert [line.amount for line in lines_of(purchase)] == [0, 1530]


def test_only_a_capital_c_makes_a_cancellation(tmp_path: Path) -> None:
    path = written(tmp_path, {"Invoice": "c536379", "Quantity": "-1"})
    assert survey_of(FORMAT, path, RULES).rejected == {
        "a negative quantity on an invoice that is no cancellation": Tally(1, -255)
    }


def test_rows_of_another_length_are_rejected_for_one_reason_however_long_they_are(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + "".join("x" + "," * commas + "\n" for commas in (0, 1, 2, 3, 200)))
    with staged(FORMAT, path, RULES) as history:
        assert history.survey.rejected == {"not 8 fields": Tally(5, 0)}
        assert [row[:2] for row in read_rejects(history)] == [[str(n), "not 8 fields"] for n in range(2, 7)]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("\n" + HEADER + "\r\n\n536365,1,MUG,6,2010-12-01 08:26:00,2.55,17850,France\n\n\n")
    assert survey_of(FORMAT, path, RULES).read == Tally(1, 1530)


def test_a_file_with_nothing_but_its_columns_is_an_empty_history(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = survey_of(FORMAT, path, RULES)
    assert (found.read, found.movements, found.first_day) == (Tally(), 0, None)
    assert set(found.frequencies.values()) == {0}


def test_a_moment_may_be_in_another_zone_than_the_programmes(tmp_path: Path) -> None:
    (purchase,) = movements_of(FORMAT, written(tmp_path, {}), RULES, zone="Asia/Tokyo")
    assert moment(purchase.occurred) == datetime(2010, 11, 30, 23, 26, tzinfo=UTC)


@pytest.mark.parametrize("places", [("Price",), ("Quantity", "InvoiceDate", "Customer ID")])
def test_columns_that_are_missing_are_named(tmp_path: Path, places: Sequence[str]) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(",".join(column for column in COLUMNS if column not in places) + "\n")
    with pytest.raises(SourceError, match=f"has no columns? {', '.join(places)}; its first line is Invoice, "):
        FORMAT.open(path)


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(HEADER.strip() + ", Price \n")
    with pytest.raises(SourceError, match="has the column Price twice"):
        FORMAT.open(path)


# --- the real file ---


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Iterator[History]:
    with staged(FORMAT, shared_data / "online_retail_ii.csv", RULES) as history:
        yield history


def test_the_real_file_holds_what_is_known_of_it(real: History) -> None:
    found = real.survey
    assert len(read_rejects(real)) == 9
    assert found.read.lines == 34_766
    assert (found.duplicates.lines, found.guests.lines) == (515, 590)
    assert {reason: tally.lines for reason, tally in found.rejected.items()} == {"the price is not positive": 9}
    assert (found.purchases, found.returns, found.members, found.without_lines) == (1417, 302, 262, 1)
    assert (found.first_day, found.last_day) == (date(2009, 12, 1), date(2011, 12, 9))


def test_the_real_file_comes_to_the_penny_to_what_polars_makes_of_the_raw_file(
    real: History, shared_data: Path
) -> None:
    raw = pl.read_csv(shared_data / "online_retail_ii.csv", infer_schema=False).fill_null("")
    # Every price is in whole pence, and so a float of it times 100 is off by far less than half of one.
    assert raw["Price"].str.contains(r"^[0-9]{1,5}\.[0-9]{1,2}$").all()
    price = (pl.col("Price").cast(pl.Float64) * 100).round().cast(pl.Int64)
    table = raw.with_columns(price=price, signed=price * pl.col("Quantity").cast(pl.Int64))
    once = table.unique(maintain_order=True)
    named = once.filter(pl.col("Customer ID") != "")
    counted = named.filter(pl.col("price") > 0)
    found = real.survey
    assert found.read == Tally(table.height, table["signed"].sum())
    assert found.duplicates.amount == table["signed"].sum() - once["signed"].sum()
    assert found.guests.amount == once["signed"].sum() - named["signed"].sum()
    assert found.accepted == Tally(counted.height, counted["signed"].sum())
    member = pl.col("Customer ID").str.replace(r"\.0$", "")
    invoices = counted.group_by("Invoice", member).agg(pl.col("signed").abs().sum(), pl.len())
    expected = {(key, member_id): (amount, lines) for key, member_id, amount, lines in invoices.iter_rows()}
    loaded = [movement for one in real.staging.slices(RULES) for movement in one.movements]
    assert {(one.key, one.member_id): (one.amount, one.source_lines) for one in loaded} == expected
    assert Counter(one.is_return for one in loaded) == {False: 1417, True: 302}
