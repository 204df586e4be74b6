"""The format complete-journey: which lines count, what they come to in cents, and in which order it happened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import programme as programmes
from services.cli.formats.complete_journey import (
    FORMAT,
    INCOMPLETE,
    NO_QUANTITY,
    NO_VALUE,
    TOO_SMALL,
    CompleteJourney,
)
from services.cli.history import MOST_MINOR_UNITS, Line, SourceError, fingerprint_of, minor_units
from services.cli.installation import DEMO_PROGRAMME
from services.cli.staging import Movement, Slice, Survey, Tally
from services.runtime.clock import moment
from tests.histories import lines_of, rejects_of, slices_of, staged, survey_of

RULES = programmes.load(DEMO_PROGRAMME)
# A wall-clock time of a zone that the file does not name.
at = datetime.fromisoformat
NOON = at("2017-01-02 12:00")


def written(
    folder: Path, rows: Iterable[Mapping[str, Any]], products: Iterable[tuple[int, str, str | None]] = ()
) -> Path:
    usual = {
        "household_id": 1,
        "store_id": 330,
        "basket_id": 10,
        "product_id": 7,
        "quantity": 1,
        "sales_value": 1.0,
        "transaction_timestamp": NOON,
    }
    schema = {
        "household_id": pl.Int64,
        "store_id": pl.Int64,
        "basket_id": pl.Int64,
        "product_id": pl.Int64,
        "quantity": pl.Int64,
        "sales_value": pl.Float64,
        "transaction_timestamp": pl.Datetime("ns"),
    }
    pl.DataFrame([{**usual, **row} for row in rows], schema=schema).write_parquet(folder / "transactions.parquet")
    pl.DataFrame(
        list(products),
        schema={"product_id": pl.Int64, "department": pl.String, "product_category": pl.String},
        orient="row",
    ).write_parquet(folder / "products.parquet")
    return folder


def survey(source: Path) -> Survey:
    return survey_of(FORMAT, source, RULES)


def lived(source: Path) -> list[Slice]:
    return slices_of(FORMAT, source, RULES)


def purchases(source: Path) -> list[Movement]:
    return [purchase for day in lived(source) for purchase in day.movements]


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (0.005, 0),
        (0.015, 2),
        (0.025, 2),
        (0.125, 12),
        (0.135, 14),
        (1.005, 100),
        (2.675, 268),
        (0.29, 29),
        (1.1, 110),
        (10.055, 1006),
        (10.045, 1004),
        (1e-9, 0),
        (123456789.125, 12345678912),
    ],
)
def test_half_a_cent_goes_to_the_even_one_by_the_decimal_that_a_person_reads(value: float, cents: int) -> None:
    assert minor_units(Decimal(repr(value)), 2) == cents


@given(st.lists(st.one_of(st.floats(0, 1e12), st.integers(0, 10**9).map(lambda n: n / 1000)), min_size=1))
def test_a_whole_column_is_rounded_as_each_of_its_values(values: list[float]) -> None:
    source = CompleteJourney.__new__(CompleteJourney)
    source._polars = pl
    exact = [int(Decimal(repr(value)).scaleb(2).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)) for value in values]
    expected = [cents if cents <= MOST_MINOR_UNITS else None for cents in exact]
    assert source._cents(pl.Series(values, dtype=pl.Float64), 2).to_list() == expected


@pytest.mark.parametrize("value", ["nan", "sNaN", "inf", "-inf", "1e300", "10000000000.01", "-10000000000.01"])
def test_what_is_no_number_or_more_than_the_contract_takes_has_no_cents(value: str) -> None:
    assert minor_units(Decimal(value), 2) is None


def test_no_digit_of_a_long_number_is_lost_on_the_way_to_cents() -> None:
    assert minor_units(Decimal("0.13499999999999999999999999999999999999"), 2) == 13
    assert minor_units(Decimal("-0.13500000000000000000000000000000000001"), 2) == -14


def test_lines_without_positive_value_or_quantity_are_rejected_and_counted_once(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        [
            {"sales_value": 2.5},
            {"sales_value": 0.0},
            {"sales_value": -1.0, "quantity": 0},
            {"quantity": 0},
            {"quantity": -2},
            {"sales_value": 0.004},
            {"sales_value": None},
            {"sales_value": math.nan},
            {"sales_value": math.inf},
            {"product_id": None},
        ],
    )
    found = survey(source)
    assert found.read == Tally(10, 450)
    assert found.rejected == {
        INCOMPLETE: Tally(4, 100),
        NO_VALUE: Tally(2, -100),
        NO_QUANTITY: Tally(2, 200),
        TOO_SMALL: Tally(1, 0),
    }
    assert found.accepted == Tally(1, 250)
    assert [line.amount for purchase in purchases(source) for line in lines_of(purchase)] == [250]


def test_rejected_lines_are_told_with_their_place_in_the_file(tmp_path: Path) -> None:
    source = written(tmp_path, [{}, {"quantity": 0}, {"sales_value": None, "product_id": 8}])
    with staged(FORMAT, source, RULES) as history:
        assert rejects_of(history) == (
            "line,reason,household_id,basket_id,product_id,store_id,quantity,sales_value,transaction_timestamp\n"
            f"2,{NO_QUANTITY},1,10,7,330,0,1.0,2017-01-02 12:00:00.000000000\n"
            f'3,"{INCOMPLETE}",1,10,8,330,1,,2017-01-02 12:00:00.000000000\n'
        )


def test_what_no_clock_of_the_contract_shows_and_no_sum_of_it_takes_is_rejected(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        [
            {"transaction_timestamp": at("1969-12-31 12:00")},
            {"transaction_timestamp": at("2200-01-01 12:00")},
            {"sales_value": 1e12},
            {"sales_value": 1e300},
        ],
    )
    found = survey(source)
    assert found.rejected == {INCOMPLETE: Tally(4, 200)}
    assert found.movements == 0


def test_a_basket_left_without_lines_is_no_purchase(tmp_path: Path) -> None:
    source = written(tmp_path, [{"basket_id": 1}, {"basket_id": 2, "sales_value": 0.0}])
    found = survey(source)
    assert (found.purchases, found.without_lines) == (1, 1)
    assert [purchase.key for purchase in purchases(source)] == ["1"]


def test_a_household_joins_one_second_before_its_first_basket_that_counts(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        [
            {"basket_id": 1, "transaction_timestamp": at("2017-01-01 09:00"), "quantity": 0},
            {"basket_id": 3, "transaction_timestamp": at("2017-01-03 00:00")},
            {"basket_id": 2, "transaction_timestamp": at("2017-01-02 09:00")},
        ],
    )
    days = lived(source)
    (joining,) = [joining for day in days for joining in day.joinings]
    assert moment(joining.occurred).astimezone(RULES.zone).replace(tzinfo=None) == at("2017-01-02 08:59:59")
    assert joining.member_id == "household-1"
    assert [day.date for day in days] == [date(2017, 1, 2), date(2017, 1, 3)]


def test_purchases_are_ordered_by_time_and_basket_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    early, late = at("2017-01-31 23:59:59"), at("2017-02-01 00:00")
    source = written(
        tmp_path,
        [
            {"basket_id": 100, "transaction_timestamp": late},
            {"basket_id": 9, "transaction_timestamp": late},
            {"basket_id": 50, "transaction_timestamp": early},
            {"basket_id": 9, "transaction_timestamp": late, "product_id": 3, "sales_value": 4.0},
        ],
        [(7, "GROCERY", "MILK"), (3, "PASTRY", None)],
    )
    days = lived(source)
    # Numbers of baskets are texts.
    assert [[purchase.key for purchase in day.movements] for day in days] == [["50"], ["100", "9"]]
    last = days[1].movements[1]
    assert lines_of(last) == [Line("7", "", "GROCERY", "MILK", 1, 100), Line("3", "", "PASTRY", "", 1, 400)]
    assert (last.amount, last.source_lines, last.store_id, last.is_return) == (500, 2, "330", False)


def test_a_product_that_the_catalogue_does_not_have_has_no_department(tmp_path: Path) -> None:
    (purchase,) = purchases(written(tmp_path, [{"product_id": 404}]))
    assert lines_of(purchase) == [Line("404", "", "", "", 1, 100)]


def test_a_basket_whose_lines_disagree_about_the_time_is_one_purchase_at_the_earliest_that_counts(
    tmp_path: Path,
) -> None:
    source = written(
        tmp_path,
        [
            {"transaction_timestamp": at("2017-01-30 10:00"), "quantity": 0},
            {"transaction_timestamp": at("2017-02-01 10:00")},
            {"transaction_timestamp": at("2017-01-31 10:00")},
        ],
    )
    (day,) = lived(source)
    (purchase,) = day.movements
    assert day.date == date(2017, 1, 31)
    assert len(lines_of(purchase)) == 2


def test_one_basket_number_of_two_households_is_two_purchases(tmp_path: Path) -> None:
    source = written(tmp_path, [{"household_id": 1}, {"household_id": 2}, {"household_id": 1}])
    assert [(one.member_id, one.amount) for one in purchases(source)] == [("household-1", 200), ("household-2", 100)]


def test_times_are_of_the_zone_and_one_that_does_not_exist_moves_forward(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        [
            {"basket_id": 1, "transaction_timestamp": at("2017-03-12 02:30")},
            {"basket_id": 2, "transaction_timestamp": at("2017-03-12 03:10")},
            {"basket_id": 3, "transaction_timestamp": at("2017-11-05 01:30")},
        ],
    )
    # 02:30 is read as 03:30, which is later than 03:10.
    assert [(purchase.key, moment(purchase.occurred).isoformat()) for purchase in purchases(source)] == [
        ("2", "2017-03-12T07:10:00+00:00"),
        ("1", "2017-03-12T07:30:00+00:00"),
        ("3", "2017-11-05T05:30:00+00:00"),
    ]


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first, same, other = (
        fingerprint_of(CompleteJourney(written(tmp_path / name, [{"basket_id": 2 if name == "c" else 1}])).paths)
        for name in ("a", "b", "c")
    )
    assert first == same != other


def test_an_empty_history_has_no_days(tmp_path: Path) -> None:
    source = written(tmp_path, [])
    assert survey(source).movements == 0
    assert lived(source) == []


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no transactions\.parquet and no products\.parquet"):
        CompleteJourney(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        CompleteJourney(tmp_path / "nowhere")


def test_a_file_that_is_no_parquet_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    written(tmp_path, [{}])
    (tmp_path / "products.parquet").write_bytes(b"not parquet")
    with pytest.raises(SourceError, match=r"products\.parquet cannot be read as Parquet"):
        CompleteJourney(tmp_path)
    written(tmp_path, [{}])
    table = pl.read_parquet(tmp_path / "transactions.parquet")
    table.drop("sales_value").write_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(SourceError, match="has no column sales_value"):
        CompleteJourney(tmp_path)
    table.with_columns(pl.col("sales_value").cast(pl.String)).write_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(SourceError, match="the column sales_value is String; expected is Float64"):
        CompleteJourney(tmp_path)
