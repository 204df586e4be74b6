"""The benchmark's arithmetic, its results, and what its load is made of."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from services import programme
from services.tiers.domain.facts import FactKind
from tests.benchmarks import tier_jobs, tiers
from tests.benchmarks.purchases import LINES, past_days, purchases
from tests.benchmarks.results import Figure, Results, percentile
from tests.benchmarks.stack import PROGRAMME


def figure(*, values: list[float], references: list[float] | None = None, at_least: float, aim: float) -> Figure:
    return Figure(name="f", unit="u", values=values, references=references or [], at_least=at_least, aim=aim)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99
    assert percentile(values, 0.5) == 50
    assert percentile(values, 1) == 100
    assert percentile([7.0], 0.99) == 7


def test_a_figure_is_the_median_of_its_rounds_beside_the_median_of_the_references() -> None:
    measured = figure(values=[300, 100, 200], references=[500, 400, 100], at_least=0.5, aim=0.6)
    assert (measured.value, measured.reference, measured.ratio) == (200, 400, 0.5)


@pytest.mark.parametrize(
    "values, references, at_least, aim, verdict",
    [
        # The more, the better.
        ([65.0], [100.0], 0.5, 0.65, "aim"),
        ([50.0], [100.0], 0.5, 0.65, "at least"),
        ([49.0], [100.0], 0.5, 0.65, "short"),
        ([8_000.0], None, 8_000, 15_000, "at least"),
        ([7_999.0], None, 8_000, 15_000, "short"),
        # The less, the better.
        ([15.0], None, 40, 15, "aim"),
        ([40.0], None, 40, 15, "at least"),
        ([41.0], None, 40, 15, "short"),
        ([1.2], [1.0], 1.3, 1.1, "at least"),
        ([1.4], [1.0], 1.3, 1.1, "short"),
    ],
)
def test_a_figure_says_which_of_its_bounds_it_reaches(
    values: list[float], references: list[float] | None, at_least: float, aim: float, verdict: str
) -> None:
    assert figure(values=values, references=references, at_least=at_least, aim=aim).verdict == verdict


def test_results_are_written_with_machine_and_settings(tmp_path: Path) -> None:
    alone = figure(values=[1.0, 12_345.678, 99_999.0], at_least=8_000, aim=15_000)
    beside = figure(values=[1.0], references=[3.0], at_least=0.5, aim=0.65)
    path = tmp_path / "bench" / "results.json"
    Results(figures=[alone, beside], machine={"cores": 2}, settings={"parts": ["unary"]}).write(path)
    assert json.loads(path.read_text()) == {
        "figures": [
            {
                "name": "f",
                "value": 12350.0,
                "unit": "u",
                "reference": None,
                "ratio": None,
                "at_least": 8000,
                "aim": 15000,
            },
            {
                "name": "f",
                "value": 1.0,
                "unit": "u",
                "reference": 3.0,
                "ratio": 0.3333,
                "at_least": 0.5,
                "aim": 0.65,
            },
        ],
        "machine": {"cores": 2},
        "settings": {"parts": ["unary"]},
    }


def test_purchases_have_three_lines_that_add_up_and_ids_of_their_own() -> None:
    made = [*purchases(1, 200, members=50), *purchases(2, 200, members=50)]
    assert all(len(one.lines) == LINES for one in made)
    assert all(sum(line.amount_minor_units for line in one.lines) == one.amount.minor_units for one in made)
    assert len({one.request_id for one in made}) == 400
    assert len({one.member_id for one in made}) == 50
    assert list(purchases(1, 200, members=50)) == made[:200]


def test_past_days_ascend_and_end_before_now() -> None:
    times = past_days(1_000, 364)
    assert times == sorted(times)
    assert times[-1] < datetime.now(UTC)
    assert datetime.now(UTC) - times[0] < timedelta(days=364)
    assert len({time.date() for time in times}) >= 364


def test_made_up_entries_are_a_feed_in_which_members_join_before_they_buy() -> None:
    now = datetime.now(UTC)
    times = [[now - timedelta(days=days), now - timedelta(hours=days)] for days in range(1, 41)]
    entries = list(tier_jobs.made_entries(Random(1), times, 16))
    for partition in range(16):
        offsets = [entry.offset for entry in entries if entry.partition == partition]
        assert offsets == list(range(1, len(offsets) + 1))
    for number in range(40):
        own = [entry for entry in entries if entry.member_id == f"member-{number:07d}"]
        assert [entry.fact_kind for entry in own] == [FactKind.JOINED, FactKind.PURCHASE]
        assert [entry.occurred_time for entry in own] == times[number]
        assert {entry.partition for entry in own} == {number % 16}


def test_other_versions_of_the_programme_differ_one_from_the_other_and_take_nothing_away() -> None:
    versions = [programme.load(PROGRAMME)]
    versions += [programme.parse(document, "document") for _, document in tiers.other_versions()]
    assert len({one.version for one in versions}) == 3
    today = datetime.now(UTC).date()
    assert [programme.losses(*pair, today) for pair in itertools.pairwise(versions)] == [(), ()]
    assert versions[1].tiers.window == versions[0].tiers.window
    assert versions[2].tiers.window != versions[1].tiers.window


def test_a_plan_says_how_it_reads_tables_however_deep_it_does() -> None:
    by_index = {"Node Type": "Index Scan", "Relation Name": "standings"}
    whole = {"Node Type": "Seq Scan", "Relation Name": "cursors"}
    plan = [{"Plan": {"Node Type": "Nested Loop", "Plans": [{"Node Type": "Function Scan"}, by_index]}}]
    assert tiers.scans(plan) == {"Index Scan"}
    assert tiers.scans([{"Plan": {"Node Type": "Limit", "Plans": [by_index, {"Plans": [whole]}]}}]) == {
        "Index Scan",
        "Seq Scan",
    }
