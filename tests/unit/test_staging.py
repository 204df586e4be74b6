"""Where a history waits until it is sent: in order, in slices, in bounded memory, and with nothing left of it."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import programme as programmes
from services.cli import staging
from services.cli.history import Line, Part, Rejected
from services.cli.staging import Joining, Movement, Slice, Staging, Survey, Tally
from services.programme import Programme
from services.runtime.clock import microseconds, moment
from tests.conftest import PROGRAMMES, ROOT
from tests.histories import lines_of

RULES = programmes.load(PROGRAMMES / "tiered-365-gbp.yaml")
SECOND = 1_000_000
HOUR = 3600 * SECOND
# Three local days in London, one of them of 25 hours.
START = microseconds(datetime(2011, 10, 28, 23, tzinfo=UTC))

OCCURRED = st.one_of(st.sampled_from([0, 1, 24 * HOUR, 24 * HOUR - 1, 49 * HOUR]), st.integers(0, 73 * HOUR))
PARTS = st.builds(
    lambda key, member_id, occurred, amount, lines: Part(
        key.startswith("C"),
        key,
        member_id,
        START + occurred,
        amount,
        lines,
        [Line("sku", "", "", "", 1, amount if number == 0 else 0) for number in range(lines)],
    ),
    key=st.sampled_from(["1", "10", "Z1", "C1"]),
    member_id=st.sampled_from(["a", "b", "B", "é"]),
    occurred=OCCURRED,
    amount=st.integers(0, 10**12),
    lines=st.integers(1, 4),
)


def arranged(parts: Iterable[Part], rules: Programme = RULES) -> closing[Staging]:
    made = Staging()
    for part in parts:
        made.read(-part.amount if part.is_return else part.amount, part.source_lines)
        made.accept(part)
    made.arrange(rules)
    return closing(made)


def in_order(parts: Sequence[Part]) -> list[tuple[Movement, list[Line]]]:
    """Purchases and returns as they happened, put together without a database."""
    grouped: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        grouped.setdefault((part.member_id, part.key), []).append(part)
    found = [
        (
            Movement(
                some[0].is_return,
                member_id,
                key,
                min(part.occurred for part in some),
                sum(part.amount for part in some),
                sum(part.source_lines for part in some),
                "",
                b"",
            ),
            [line for part in some for line in part.lines],
        )
        for (member_id, key), some in grouped.items()
    ]
    return sorted(
        found, key=lambda one: (one[0].occurred, one[0].is_return, one[0].key.encode(), one[0].member_id.encode())
    )


def sent(slices: Iterable[Slice]) -> list[tuple[Movement, list[Line]]]:
    return [(one._replace(lines=b""), lines_of(one)) for part in slices for one in part.movements]


@given(parts=st.lists(PARTS, max_size=40), movements=st.integers(1, 5), lines=st.integers(1, 8))
def test_slices_are_small_and_keep_the_order_the_days_and_who_joins_when(
    parts: list[Part], movements: int, lines: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "_SLICE_MOVEMENTS", movements)
        patch.setattr(staging, "_SLICE_LINES", lines)
        with arranged(parts) as made:
            slices = list(made.slices(RULES))
    expected = in_order(parts)
    assert sent(slices) == expected
    for one in slices:
        assert 1 <= len(one.movements) <= movements
        assert sum(movement.source_lines for movement in one.movements[:-1]) < lines
        days = {moment(movement.occurred).astimezone(RULES.zone).date() for movement in one.movements}
        assert days == {one.date}
    joined: set[str] = set()
    for one in slices:
        new = [movement for movement in one.movements if movement.member_id not in joined]
        firsts = {movement.member_id: movement for movement in reversed(new)}
        assert sorted(one.joinings) == sorted(
            Joining(member_id, movement.occurred - SECOND) for member_id, movement in firsts.items()
        )
        joined |= set(firsts)


@given(parts=st.lists(PARTS, max_size=20), since=OCCURRED.map(lambda one: START + one))
def test_what_was_before_an_instant_is_counted_and_left_out(parts: list[Part], since: int) -> None:
    expected = in_order(parts)
    with arranged(parts) as made:
        rest = list(made.slices(RULES, since))
        before = made.movements_before(since)
    assert sent(rest) == [one for one in expected if one[0].occurred >= since]
    assert before == len(expected) - len(sent(rest))
    known = {movement.member_id for movement, _ in expected if movement.occurred < since}
    new = {movement.member_id for movement, _ in expected} - known
    assert sorted(joining.member_id for one in rest for joining in one.joinings) == sorted(new)


@given(st.lists(PARTS, max_size=40))
def test_the_survey_counts_what_is_sent(parts: list[Part]) -> None:
    with arranged(parts) as made:
        survey = made.survey
    expected = in_order(parts)
    signed = sum(-one.amount if one.is_return else one.amount for one in parts)
    assert survey.read == survey.accepted == Tally(sum(part.source_lines for part in parts), signed)
    assert survey.returns == sum(movement.is_return for movement, _ in expected)
    assert survey.movements == len(expected)
    assert survey.members == len({part.member_id for part in parts})


def test_an_evening_that_comes_twice_is_not_cut_into_its_purchases() -> None:
    rules = programmes.parse(
        (PROGRAMMES / "tiered-365-gbp.yaml").read_text().replace("Europe/London", "America/St_Johns"), source="test"
    )
    # A minute after midnight the clock went back to 23:01 of the day before.
    first = datetime(2006, 10, 28, 23, 30, tzinfo=ZoneInfo("America/St_Johns"))
    again = [first.replace(fold=1), first.replace(fold=1, minute=40)]
    parts = [Part(False, str(at), "a", microseconds(at.astimezone(UTC)), 1, 1) for at in (first, *again)]
    with arranged(parts, rules) as made:
        slices = list(made.slices(rules))
    assert [(one.date, len(one.movements)) for one in slices] == [(date(2006, 10, 28), 1), (date(2006, 10, 28), 2)]


def test_members_are_counted_by_how_many_purchases_they_have() -> None:
    counts = [1, 1, 2, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 700]
    purchases = (
        Part(False, str(number), f"member-{member}", START, 1, 1)
        for member, count in enumerate(counts)
        for number in range(count)
    )
    back = Part(True, "C1", "only-returns", START, 1, 1)
    with arranged([*purchases, back]) as made:
        assert made.survey.frequencies == {
            "1": 2,
            "2": 1,
            "3": 0,
            "4": 0,
            "5": 1,
            "6-10": 2,
            "11-20": 2,
            "21-50": 2,
            "51-100": 2,
            "101 or more": 2,
        }
        assert made.survey.members == len(counts) + 1


def test_a_row_is_new_once_and_a_key_is_counted_each_time() -> None:
    with arranged([]) as made:
        assert [made.is_new(row) for row in (b"a", b"b", b"a", b"", b"")] == [True, True, False, True, False]
        assert [made.count(key) for key in ("a", "b", "a", "a")] == [1, 1, 2, 3]


def test_rejected_lines_come_back_as_they_were_and_in_order() -> None:
    rows = [("a,b", 'say "x"', "two\nlines"), ("", "é\t", "'"), ("only one",)]
    with arranged([]) as made:
        for number, row in zip((2, 11, 100), rows, strict=True):
            made.reject(Rejected(number, "no number", row, -5))
        file = StringIO(newline="")
        made.write_rejects(file, ["x", "y", "z"])
        assert made.survey.rejected == {"no number": Tally(3, -15)}
    assert list(csv.reader(StringIO(file.getvalue(), newline=""))) == [
        ["line", "reason", "x", "y", "z"],
        ["2", "no number", *rows[0]],
        ["11", "no number", *rows[1]],
        ["100", "no number", *rows[2]],
    ]


def test_a_purchase_of_which_every_line_is_rejected_is_counted_once() -> None:
    made = Staging()
    with closing(made):
        made.accept(Part(False, "1", "a", START, 1, 1))
        for key, member_id in (("1", "a"), ("2", "a"), ("2", "a"), ("1", "b"), ("", "")):
            made.reject(Rejected(1, "no number", (), member_id=member_id, key=key))
        made.arrange(RULES)
        assert (made.survey.without_lines, made.survey.movements) == (2, 1)


def test_nothing_read_is_nothing_to_send() -> None:
    with arranged([]) as made:
        assert list(made.slices(RULES)) == []
        assert made.movements_before(START) == 0
        assert made.survey == Survey(frequencies=dict.fromkeys(made.survey.frequencies, 0))


# --- long receipts ---


def receipt(count: int) -> list[Part]:
    return [
        Part(False, "1", "a", START, number, 1, [Line(f"sku-{number}", "name", "", "", 2, number)])
        for number in range(count)
    ]


@pytest.mark.parametrize("at_once", [1, 3000, 10**9])
def test_of_a_long_receipt_the_first_lines_are_kept_and_the_rest_is_one(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(staging, "_FOLDED_AT_BYTES", at_once)
    with arranged(receipt(2500)) as made:
        ((purchase, lines),) = sent(made.slices(RULES))
    assert (purchase.amount, purchase.source_lines) == (sum(range(2500)), 2500)
    assert len(lines) == 1000
    assert lines[:999] == [Line(f"sku-{number}", "name", "", "", 2, number) for number in range(999)]
    assert lines[999] == Line("", "1,501 more lines", "", "", 2 * 1501, sum(range(999, 2500)))


def test_a_receipt_as_long_as_the_contract_takes_keeps_all_its_lines() -> None:
    with arranged(receipt(1000)) as made:
        ((_, lines),) = sent(made.slices(RULES))
    assert lines == [line for part in receipt(1000) for line in part.lines]


# --- memory and disk, in processes of their own ---

# What it holds at most is lowered, so that a small file is large beside it.
BEGINNING = """
import sys
from pathlib import Path
from services import programme
from services.cli import staging
from services.cli.formats import FORMATS
from tests.histories import staged
staging._CACHE_KIB = 2048
staging._FOLDED_AT_BYTES = 256 * 1024
rules = programme.load(Path("programmes/tiered-365-gbp.yaml"))
"""
READING = """
with staged(FORMATS[sys.argv[1]], Path(sys.argv[2]), rules) as history:
    for one in history.staging.slices(rules):
        pass
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
WAITING = """
from services.cli.history import Rejected
made = staging.Staging()
for number in range(2000):
    made.reject(Rejected(number, "long", ["x" * 10_000]))
print("ready", flush=True)
sys.stdin.read()
"""


def cdnow_lines(count: int) -> Iterator[str]:
    day = date(1997, 1, 1)
    for number in range(count):
        yield f"{number * 7919 % 20_011:05} {day + timedelta(days=number % 500):%Y%m%d} 1 {number % 90 + 1}.00\n"


def order_lines(count: int, *, zeros: int = 0) -> Iterator[str]:
    """All of one invoice; so many zeros make a quantity that is none, in each line another."""
    yield "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    for number in range(count):
        quantity = f"{number}{'0' * zeros}" if zeros else "6"
        yield f"536365,{number},A NAME OF SOME LENGTH,{quantity},2010-12-01 08:26:00,2.55,17850,France\n"


def most_memory(path: Path, name: str, lines: Iterable[str]) -> int:
    """The most memory in MiB that a process needs for a file of these lines."""
    with path.open("w") as file:
        file.writelines(lines)
    said = subprocess.run(
        [sys.executable, "-c", BEGINNING + READING, name, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(said.stdout) // 1024


def test_a_file_ten_times_as_long_needs_no_more_memory(tmp_path: Path) -> None:
    few, many = (most_memory(tmp_path / "lines", "cdnow", cdnow_lines(count)) for count in (12_000, 120_000))
    assert many - few < 15


def test_neither_does_an_invoice_of_ever_more_lines(tmp_path: Path) -> None:
    few, many = (most_memory(tmp_path / "lines", "online-retail", order_lines(count)) for count in (6_000, 60_000))
    assert many - few < 15


def test_neither_do_fields_of_ever_more_length(tmp_path: Path) -> None:
    few, many = (
        most_memory(tmp_path / "lines", "online-retail", order_lines(500, zeros=zeros)) for zeros in (1_000, 100_000)
    )
    assert many - few < 15


def test_what_lies_on_disk_has_no_name_and_goes_with_the_process_however_it_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGINNING + WAITING],
        cwd=ROOT,
        env={**os.environ, "SQLITE_TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        held = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert any(target.startswith(str(tmp_path)) and target.endswith(" (deleted)") for target in held)
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_module_is_not_called_a_full_disk() -> None:
    made = Staging()
    with closing(made):
        made._database.execute("DROP TABLE rows_seen")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            made.is_new(b"row")
