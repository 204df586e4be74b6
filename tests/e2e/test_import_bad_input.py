"""`loyalty import` of what cannot be loaded: one sentence, an exit code, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import structlog

from services.cli.installation import open_or_create
from services.cli.loader import alone
from services.cli.main import main
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import LOYALTY, loyalty

POUNDS = str(PROGRAMMES / "tiered-365-gbp.yaml")
COLUMNS = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
ROW = "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,France\n"
# Every way to be left out; the first stays.
WARTS = (
    ROW
    + ROW
    + ROW.replace("17850", "")
    + ROW.replace("6,2010", "0,2010")
    + ROW.replace("2.55", "0.00")
    + ROW.replace("2010-12-01", "yesterday")
    + ROW.replace("536365", "C536366").replace(",6,", ",-1,")
)
DATA = "data"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command line sends log lines to standard error, for as long as it runs."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def run(
    *arguments: str, cwd: Path, limits: tuple[tuple[int, int], ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """`loyalty import` in a folder, with limits of the process and more in its environment."""

    def limit() -> None:
        for which, most in limits:
            resource.setrlimit(which, (most, most))

    return subprocess.run(
        [str(LOYALTY), "import", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one sentence of a command that was refused."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return sentence_of(done.stderr)


def sentence_of(stderr: str) -> str:
    assert stderr.startswith("loyalty: ")
    assert stderr.count("\n") == 1, stderr
    assert "unexpected" not in stderr
    return stderr.removeprefix("loyalty: ").strip()


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """`refused("orders.csv", ..., code=1)` gives the one sentence; the command runs in this process: they are many."""
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments: str, code: int = 1) -> str:
        monkeypatch.setattr(sys, "argv", ["loyalty", "import", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        assert shown.out == ""
        return sentence_of(shown.err)

    return run_here


def orders(cwd: Path, text: str = COLUMNS + WARTS) -> tuple[str, ...]:
    """The arguments that load these orders into a new folder."""
    (cwd / "orders.csv").write_text(text)
    return ("orders.csv", "--format", "online-retail", "--data", DATA, "--programme", POUNDS)


def content(of: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(of)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(content(b""), "orders.csv is empty", id="empty"),
        pytest.param(
            content(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "orders.csv is no text: it holds NUL bytes", id="picture"
        ),
        pytest.param(
            lambda path: pl.DataFrame({"Invoice": ["1"]}).write_parquet(path),
            "orders.csv is a Parquet file",
            id="parquet",
        ),
        pytest.param(
            content(gzip.compress((COLUMNS + ROW).encode())), "orders.csv is compressed; unpack it first", id="gzip"
        ),
        pytest.param(zipped, "orders.csv is a ZIP archive or a spreadsheet; save it as CSV", id="spreadsheet"),
        pytest.param(
            content((COLUMNS + ROW).encode("utf-16")),
            "orders.csv is in UTF-16; save it in UTF-8 (iconv -f UTF-16 -t UTF-8)",
            id="utf-16",
        ),
        pytest.param(
            content((COLUMNS + ROW * 500 + ROW.replace("HEART", "CAFÉ")).encode("latin-1")),
            "orders.csv, line 502, is not in UTF-8; say what it is in and change it, as in iconv -f ISO-8859-1 -t "
            "UTF-8",
            id="latin-1",
        ),
        pytest.param(
            content((COLUMNS + ROW * 500 + "\0\0\n").encode()),
            "orders.csv, line 502, is no text: it holds NUL bytes",
            id="nul",
        ),
        pytest.param(
            content((COLUMNS.replace("Price,", "") + ROW).encode()),
            "orders.csv has no column Price; its first line is Invoice, StockCode, Description, Quantity, InvoiceDate, "
            "Customer ID, Country",
            id="column",
        ),
        pytest.param(
            content((COLUMNS + ROW).replace(",", ";").encode()),
            "orders.csv has no columns Invoice, StockCode, Description, Quantity, InvoiceDate, Price, Customer ID, "
            f"Country; its first line is {COLUMNS.strip().replace(',', ';')}",
            id="semicolons",
        ),
        pytest.param(
            content((COLUMNS + ROW.replace("HEART", '"HEART') + ROW * 10_000).encode()),
            "orders.csv: what begins in line 2 is no record of a CSV file: field larger than field limit (131072)",
            id="endless quotes",
        ),
        pytest.param(lambda path: None, "orders.csv cannot be read: No such file or directory", id="nothing"),
        pytest.param(Path.mkdir, "orders.csv is a folder; name the file", id="folder"),
        pytest.param(os.mkfifo, "orders.csv is no regular file; save what comes from there to one", id="pipe"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_no_folder(
    tmp_path: Path, refused: Refused, make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "orders.csv")
    before = sorted(tmp_path.iterdir())
    arguments = ("orders.csv", "--format", "online-retail", "--data", DATA, "--programme", POUNDS)
    assert refused(*arguments, "--rejects", "rejects.csv") == sentence
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_itself_says_no_more_and_ends_with_that_code(tmp_path: Path) -> None:
    done = run(*orders(tmp_path, COLUMNS.replace("Price,", "")), cwd=tmp_path)
    assert said(done).startswith("orders.csv has no column Price; its first line is Invoice, ")
    done = run(*orders(tmp_path), "--rejects", "orders.csv", cwd=tmp_path)
    assert said(done, 2) == "--rejects orders.csv is what this command reads; name another file"


def test_a_line_of_many_gigabytes_is_refused_by_a_process_with_less_memory(tmp_path: Path) -> None:
    arguments = orders(tmp_path, COLUMNS + ROW * 500)
    # They take no place on disk.
    os.truncate(tmp_path / "orders.csv", 2**36)
    done = run(*arguments, cwd=tmp_path, limits=((resource.RLIMIT_AS, 2 * 2**30),))
    assert said(done) == "orders.csv, line 502, is longer than 1024 KiB: that is no line of this format"


def test_a_bad_file_does_no_harm_to_a_folder_that_is_there(tmp_path: Path, refused: Refused) -> None:
    there = open_or_create(tmp_path / DATA, programme_file=Path(POUNDS), clock=ClockMode.SIMULATED)
    before = {path: path.stat().st_mtime_ns for path in there.directory.rglob("*") if path.is_file()}
    (tmp_path / "orders.csv").write_bytes((COLUMNS + ROW).encode() + b"\xff\n")
    assert "line 3, is not in UTF-8" in refused("orders.csv", "--format", "online-retail", "--data", DATA)
    after = {path: path.stat().st_mtime_ns for path in there.directory.rglob("*") if path.is_file()}
    after.pop(there.run / "import.lock")
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ("--format", "nonsense"),
            2,
            "there is no format nonsense; known are complete-journey, online-retail, cdnow",
        ),
        (
            ("--time-zone", "Europe/Londinium"),
            2,
            "there is no time zone Europe/Londinium; write it as in Europe/London",
        ),
        (("--currency", "QQQ"), 2, "there is no currency QQQ; write it as in GBP"),
        (
            ("--currency", "EUR"),
            1,
            "the amounts are in EUR and the programme tiered-365-gbp counts in GBP; name a programme in EUR with "
            "--programme, or say with --currency what the amounts are in",
        ),
        (("--format", "complete-journey", "--currency", "GBP"), 1, "orders.csv is no folder; name the one that holds"),
        (("--programme", "orders.csv"), 1, "orders.csv"),
        (("--rejects", "orders.csv"), 2, "--rejects orders.csv is what this command reads; name another file"),
        (
            ("--rejects", "data/../orders.csv"),
            2,
            "--rejects data/../orders.csv is what this command reads; name another file",
        ),
        (("--rejects", "data/programme.yaml"), 2, "--rejects data/programme.yaml lies in the folder of the install"),
        (("--rejects", "nowhere/rejects.csv"), 1, "nowhere/rejects.csv cannot be written: there is no folder "),
        (("--rejects", "."), 1, ". is a folder; name a file in it"),
        (("--rejects", "/dev/full"), 1, "/dev/full is no regular file; name another one"),
        (("--rejects", "/proc/rejects.csv"), 1, "/proc/rejects.csv cannot be written: "),
        (("--data", "orders.csv"), 1, "is a file; choose a folder with --data"),
        (("--data", "."), 1, "holds other things (orders.csv) and no installation; choose another folder with --data"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_and_the_source_stays_as_it_was(
    tmp_path: Path, refused: Refused, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in refused(*orders(tmp_path), *arguments, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["orders.csv"]
    assert (tmp_path / "orders.csv").read_text() == COLUMNS + WARTS


def test_a_folder_that_lives_in_real_time_takes_no_history(tmp_path: Path, refused: Refused) -> None:
    open_or_create(tmp_path / DATA, programme_file=Path(POUNDS), clock=ClockMode.REAL)
    assert "lives in real time: its members' tiers hold now" in refused(*orders(tmp_path))


def test_a_folder_that_another_import_has_is_named_before_anything_is_read(tmp_path: Path, refused: Refused) -> None:
    arguments = orders(tmp_path, "no orders")
    with alone(open_or_create(tmp_path / DATA, programme_file=Path(POUNDS), clock=ClockMode.SIMULATED)):
        sentence = refused(*arguments)
    assert f"another import into {tmp_path / DATA} is under way, by the process {os.getpid()}" in sentence


def test_no_room_for_the_rejected_lines_leaves_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    rejected = "".join(ROW.replace("6,2010", f"{number}.5,2010") for number in range(200))
    arguments = (*orders(tmp_path, COLUMNS + rejected), "--rejects", "rejects.csv")
    (tmp_path / "rejects.csv").write_text("of an earlier run")
    done = run(*arguments, cwd=tmp_path, limits=((resource.RLIMIT_FSIZE, 4096),))
    assert said(done) == "rejects.csv cannot be written: File too large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.csv", "rejects.csv"]
    assert (tmp_path / "rejects.csv").read_text() == "of an earlier run"


def test_no_room_to_put_a_history_in_order_is_said_and_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    with (tmp_path / "lines.txt").open("w") as file:
        file.writelines(["1 19970101 1 5.00\n", *(f"{number} {'x' * 1_000_000}\n" for number in range(100))])
    done = run(
        "lines.txt", "--format", "cdnow", "--data", DATA,
        cwd=tmp_path, limits=((resource.RLIMIT_FSIZE, 2**20),), TMPDIR=str(tmp_path / "room"),
    )  # fmt: skip
    assert said(done).startswith("what was read cannot be kept on disk while it is put in order: ")
    assert said(done).endswith("; name a folder with more space in TMPDIR")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lines.txt", "room"]


# --- and what can be loaded after all ---


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="ly-warts-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def up(place: Path) -> Iterator[tuple[str, ...]]:
    """The arguments that load into a folder that is up."""
    folder = str(place / "up")
    open_or_create(place / "up", programme_file=Path(POUNDS), clock=ClockMode.SIMULATED)
    started = loyalty("up", "--data", folder, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    yield ("--format", "online-retail", "--programme", POUNDS, "--data", folder)
    loyalty("down", "--data", folder)


def report_of(*arguments: str, cwd: Path) -> dict[str, Any]:
    done = run(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_what_had_no_room_is_loaded_by_the_next_run_and_every_line_is_in_the_account(place: Path) -> None:
    rejected = "".join(ROW.replace("6,2010", f"{number}.5,2010") for number in range(200))
    arguments = orders(place, COLUMNS + WARTS + rejected)
    full = run(*arguments, cwd=place, limits=((resource.RLIMIT_FSIZE, 4096),))
    assert "cannot be written: File too large" in said(full)
    report = report_of(*arguments, cwd=place)
    assert {name: entry for name, entry in report["account"].items() if name != "file"} == {
        "loaded": {"lines": 2, "minor_units": 1530 - 255},
        "duplicates": {"lines": 1, "minor_units": 1530},
        "guests": {"lines": 1, "minor_units": 1530},
        "rejected": report["account"]["rejected"],
        "refused": {"lines": 0, "minor_units": 0},
        "missing": {"lines": 0, "minor_units": 0},
        "adds_up": True,
    }
    assert report["account"]["file"]["lines"] == 207
    assert {reason: entry["lines"] for reason, entry in report["rejected_by_reason"].items()} == {
        "InvoiceDate is no date and time": 1,
        "Quantity is no whole number": 200,
        "the price is not positive": 1,
        "the quantity is 0": 1,
    }
    assert len(Path(report["rejects_file"]).read_text().splitlines()) == 1 + 203
    assert report["purchases"]["recorded"] == report["returns"]["recorded"] == report["members"]["joined"] == 1


def test_a_file_with_nothing_but_its_columns_is_an_account_of_nothing(up: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(COLUMNS)
    report = report_of("orders.csv", *up, cwd=tmp_path)
    assert report["account"]["adds_up"] is True
    assert report["account"]["file"] == report["account"]["loaded"] == {"lines": 0, "minor_units": 0}
    assert report["source"]["first_day"] is None
    assert report["load"]["sent"] == 0


def test_files_that_overlap_and_what_the_ledger_refuses_are_in_the_account_and_loaded_to_the_end(
    up: tuple[str, ...], tmp_path: Path
) -> None:
    first = tmp_path / "first.csv"
    first.write_text(
        COLUMNS
        + "100,A,Mug,1,2010-01-05 10:00:00,3.00,F1,France\n"
        + "101,A,Mug,1,2010-01-06 10:00:00,0.001,F1,France\n"
        + "102,A,Mug,2,2010-01-07 10:00:00,3.00,F2,France\n"
    )
    second = tmp_path / "second.csv"
    second.write_text(
        COLUMNS
        + "102,A,Mug,2,2010-01-07 10:00:00,3.00,F2,France\n"
        + "103,A,Mug,3,2010-01-08 10:00:00,3.00,F1,France\n"
        + "099,A,Mug,1,2010-01-04 10:00:00,5.00,F2,France\n"
    )

    def load(file: Path) -> dict[str, Any]:
        return report_of(str(file), *up, cwd=tmp_path)

    for _ in range(2):
        report = load(first)
        assert report["account"]["adds_up"] is True
        assert report["account"]["refused"] == {"lines": 1, "minor_units": 0}
        assert report["purchases"]["refused_by_reason"] == {"INVALID_FIELD": 1}
        assert ",purchase,F1,101,0,1,INVALID_FIELD," in Path(report["refused_file"]).read_text()
    for _ in range(2):
        report = load(second)
        assert report["account"]["adds_up"] is True
        assert report["account"]["loaded"] == {"lines": 3, "minor_units": 2000}
        # F2 has been a member since the first file, from a second before invoice 102 on: 099 was before.
        assert report["members"]["refused"] == 0
        assert report["before_joining"] == 1
        assert report["refused_file"] is None
