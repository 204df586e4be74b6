"""What the demo shows, and which folders it touches."""

from __future__ import annotations

from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services import programme as programmes
from services.cli import demo, installation
from services.cli.advancing import read_time
from services.cli.errors import CommandError, UsageError
from services.cli.history import end_of_day
from services.cli.installation import DEMO_PROGRAMME
from services.cli.tier_chart import chart, stack
from services.cli.till import folded, reflowed
from services.programme import Programme
from services.runtime.clock import ClockMode


@pytest.fixture(scope="module")
def rules() -> Programme:
    return programmes.load(DEMO_PROGRAMME)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=6), st.integers(0, 5000))
def test_a_column_adds_up_and_hides_nobody(counts: list[int], more: int) -> None:
    most = sum(counts) + more
    heights = stack(counts, most, rows=14)
    total = sum(counts)
    assert sum(heights) == (max(1, round(14 * total / most)) if total else 0)
    if sum(heights) >= sum(count > 0 for count in counts):
        assert [height > 0 for height in heights] == [count > 0 for count in counts]


def test_the_picture_fits_eighty_columns_and_is_read_without_colour() -> None:
    months = [
        (f"{date(2017, month, 1):%b}", {"White": 900, "Green": 50 * month, "Golden": month}) for month in range(1, 13)
    ]
    out = StringIO()
    Console(file=out, width=80).print(chart([*months, *months[:2]]))
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert all(mark in shown for mark in ("░░ White 900", "▒▒ Green 100", "▓▓ Golden 2", "Jan Feb Mar"))


def test_a_call_is_folded_between_its_fields() -> None:
    body = {"request_id": "a", "amount": {"currency_code": "USD", "minor_units": 1}, "store_id": "17"}
    assert folded(body, 60) == [
        '{"request_id": "a",',
        ' "amount": {"currency_code": "USD", "minor_units": 1},',
        ' "store_id": "17"}',
    ]
    assert folded({"a": 1, "b": 2}, 60) == ['{"a": 1, "b": 2}']


def test_a_mail_is_reflowed_but_for_what_is_indented() -> None:
    assert reflowed("one two\nthree\n\n    CODE-1\n\nfour", 9) == "one two\nthree\n\n    CODE-1\n\nfour"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2018-03-01", datetime(2018, 3, 1, 5, tzinfo=UTC)),
        ("2018-07-01", datetime(2018, 7, 1, 4, tzinfo=UTC)),
        ("2018-03-01T10:00:00Z", datetime(2018, 3, 1, 10, tzinfo=UTC)),
        ("2018-03-01T10:00:00-05:00", datetime(2018, 3, 1, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_instant_or_the_start_of_a_local_day(text: str, instant: datetime, rules: Programme) -> None:
    assert read_time(text, rules) == instant


@pytest.mark.parametrize(
    "text", ["", "soon", "2018-02-30", "2018-03-01T10:00:00", "1969-12-31", "2200-06-01", "9999-12-31"]
)
def test_what_is_no_time_is_refused(text: str, rules: Programme) -> None:
    with pytest.raises(UsageError):
        read_time(text, rules)


def test_a_day_ends_when_the_next_begins_whatever_the_clocks_do(rules: Programme) -> None:
    assert end_of_day(date(2017, 3, 12), rules) == datetime(2017, 3, 13, 4, tzinfo=UTC)
    assert end_of_day(date(2017, 11, 5), rules) == datetime(2017, 11, 6, 5, tzinfo=UTC)


def test_the_demo_goes_on_where_a_load_was_and_begins_again_after_that(tmp_path: Path, rules: Programme) -> None:
    console = Console(file=StringIO())
    folder = tmp_path / "demo"
    first = demo.prepare(folder, rules, console)
    assert first.clock is ClockMode.SIMULATED
    (folder / "log" / "mine").touch()
    demo.prepare(folder, rules, console)
    assert (folder / "log" / "mine").exists()
    demo.mark(first, "done")
    demo.prepare(folder, rules, console)
    assert not (folder / "log" / "mine").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_demo_touches_no_folder_that_it_did_not_make(tmp_path: Path, rules: Programme) -> None:
    console = Console(file=StringIO())
    installation.open_or_create(tmp_path / "shop", programme_file=DEMO_PROGRAMME)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter").touch()
    for folder in (tmp_path / "shop", tmp_path / "papers"):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(CommandError, match="was not made by `loyalty demo`"):
            demo.prepare(folder, rules, console)
        assert sorted(path.name for path in folder.iterdir()) == before


def test_what_campaigns_came_to_names_the_control_group_and_counts_coupons_alone(rules: Programme) -> None:
    def group(count: int, *, in_control: bool = False) -> dict[str, object]:
        return {"variant": "", "in_control": in_control, "given": {"count": str(count)}}

    answers = [
        {"campaign_id": "come-back", "groups": [group(1_990), group(210, in_control=True)]},
        {"campaign_id": "hundredth-visit", "groups": [group(458)]},
        {"campaign_id": "free-shipping", "groups": []},
    ]
    given = [demo.given_of(answer, rules) for answer in answers]
    assert [one.coupons for one in given] == [1_990, 0, 0]
    assert demo.told_of(given) == ("come-back 1,990, and 210 left out to compare; hundredth-visit 458; free-shipping 0")
