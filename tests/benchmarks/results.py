"""Figures: what was measured beside its reference and its bounds, as a table and as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share (0 to 1) of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: a value for each round, and of the same rounds the reference (none: the value stands for itself).

    What is judged is the ratio of the medians, value / reference; without a reference, the value. An aim below
    `at_least` means: the less, the better.
    """

    name: str
    unit: str
    values: Sequence[float]
    references: Sequence[float] = ()
    at_least: float
    aim: float

    @property
    def value(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def reference(self) -> float | None:
        """The reference's median over the rounds."""
        return statistics.median(self.references) if self.references else None

    @property
    def ratio(self) -> float | None:
        """The value's median by the reference's."""
        return self.value / self.reference if self.reference else None

    @property
    def verdict(self) -> str:
        """`aim`, `at least` or `short`: which of its bounds it reaches."""
        judged = self.value if self.ratio is None else self.ratio
        sign = -1 if self.aim < self.at_least else 1
        if sign * judged >= sign * self.aim:
            return "aim"
        return "at least" if sign * judged >= sign * self.at_least else "short"

    def to_json(self) -> dict[str, Any]:
        """The figure as it stands in the results."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "reference": _rounded(self.reference),
            "ratio": _rounded(self.ratio),
            "at_least": self.at_least,
            "aim": self.aim,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All figures of a run, with what they were measured on and how."""

    figures: Sequence[Figure]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Writes them as JSON."""
        content = {
            "figures": [figure.to_json() for figure in self.figures],
            "machine": self.machine,
            "settings": self.settings,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def show(self, console: Console) -> None:
        """Prints them as a table; it needs a console of about 170 columns."""
        table = Table(title="medians of the rounds; in brackets the least and the most")
        table.add_column("figure / reference", no_wrap=True)
        for heading in ("value", "reference", "unit", "ratio", "at least", "aim"):
            table.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
        table.add_column("reached", no_wrap=True)
        for figure in self.figures:
            table.add_row(
                figure.name,
                _spread(figure.values),
                _spread(figure.references),
                figure.unit,
                "" if figure.ratio is None else f"{figure.ratio:.2f} x",
                *(f"{bound:,}{'' if figure.ratio is None else ' x'}" for bound in (figure.at_least, figure.aim)),
                figure.verdict,
            )
        console.print(table)


def _rounded(value: float | None) -> float | None:
    """To four significant digits: more were not measured."""
    return None if value is None else float(f"{value:.4g}")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    least, middle, most = (_text(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({least}-{most})"


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
