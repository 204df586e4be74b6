"""`loyalty import`, `advance`, `check` and the scene at the till, through the real stack, with made-up households."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import polars as pl
import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from rich.console import Console

from services import programme as programmes
from services.cli import installation
from services.cli.formats.complete_journey import NO_QUANTITY
from services.cli.installation import Connection, connection
from services.cli.loader import alone
from services.cli.postgres import Cluster
from services.cli.remote import reach
from services.cli.till import MEMBER, Scene
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import LOYALTY, loyalty

HOUSEHOLDS = 12
DAYS = 10
BASKETS_A_DAY = 100
BASKETS = DAYS * BASKETS_A_DAY
FORMAT = ("--format", "complete-journey")


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    """Ten days of twelve households, three lines a basket; one basket holds nothing that counts."""
    folder = Path(tempfile.mkdtemp(prefix="ly-source-"))
    chance = random.Random(7)
    first = datetime.fromisoformat("2017-01-01 00:00")
    lines = [
        {
            "household_id": chance.randint(1, HOUSEHOLDS),
            "store_id": 330,
            "basket_id": basket,
            "product_id": product,
            "quantity": 1,
            "sales_value": chance.randint(1, 900) / 100,
            "transaction_timestamp": first + timedelta(days=basket % DAYS, seconds=chance.randint(0, 86_399)),
        }
        for basket in range(1, BASKETS + 1)
        for product in (1, 2, 3)
    ]
    by_basket = {line["basket_id"]: line for line in lines}
    for line in lines:
        once = by_basket[line["basket_id"]]
        line["household_id"], line["transaction_timestamp"] = once["household_id"], once["transaction_timestamp"]
        if line["basket_id"] == BASKETS:
            line["quantity"] = 0
    pl.DataFrame(lines).write_parquet(folder / "transactions.parquet")
    products = {"product_id": [1, 2], "department": ["GROCERY", "PASTRY"], "product_category": ["MILK", None]}
    pl.DataFrame(products).write_parquet(folder / "products.parquet")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def first_load(source: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder that `loyalty import` made, with its report; the import started the stack and stopped it again."""
    folder = Path(tempfile.mkdtemp(prefix="ly-import-"))
    done = loyalty("import", str(source), *FORMAT, "--data", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    yield folder, json.loads(done.stdout)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def loaded(first_load: tuple[Path, dict[str, Any]]) -> Iterator[Connection]:
    """The same folder, up."""
    folder, _ = first_load
    assert installation.running_state(installation.find(folder)) is None
    started = loyalty("up", "--data", str(folder), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    yield connection(folder)
    loyalty("down", "--data", str(folder))


@pytest.fixture(scope="module")
def empty() -> Iterator[Connection]:
    """A folder in simulated time with nothing in it, up."""
    folder = Path(tempfile.mkdtemp(prefix="ly-empty-"))
    installation.open_or_create(folder, programme_file=PROGRAMMES / "retail-demo.yaml", clock=ClockMode.SIMULATED)
    started = loyalty("up", "--data", str(folder), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    yield connection(folder)
    loyalty("down", "--data", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def report_of(source: Path, up: Connection) -> dict[str, Any]:
    done = loyalty("import", str(source), *FORMAT, "--data", str(up.installation.directory), "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def heads_of(up: Connection) -> list[tuple[int, bytes]]:
    async with reach(up) as services:
        partitions = await services.ledger.ListPartitions(pb.ListPartitionsRequest(), timeout=20)
    return [(one.last_offset, one.head_hash) for one in partitions.partitions]


def interrupted(source: Path, up: Connection, *, after_days: int) -> tuple[int, str]:
    """Exit code and standard error of an import that somebody pressed Ctrl-C in, once so many days had been closed."""
    folder = up.installation.directory
    process = subprocess.Popen(
        [str(LOYALTY), "import", str(source), *FORMAT, "--data", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wanted = datetime(2016, 12, 31, tzinfo=UTC).date() + timedelta(days=after_days)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        noted = [json.loads(path.read_text())["through"] for path in folder.glob("imports/*.json")]
        if noted and noted[0] >= wanted.isoformat():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_a_load_says_what_became_of_every_line(first_load: tuple[Path, dict[str, Any]]) -> None:
    _, report = first_load
    account = {name: entry["lines"] for name, entry in report["account"].items() if name != "adds_up"}
    assert account == {
        "file": 3 * BASKETS,
        "loaded": 3 * (BASKETS - 1),
        "duplicates": 0,
        "guests": 0,
        "rejected": 3,
        "refused": 0,
        "missing": 0,
    }
    assert report["account"]["adds_up"] is True
    assert {reason: entry["lines"] for reason, entry in report["rejected_by_reason"].items()} == {NO_QUANTITY: 3}
    rejects = Path(report["rejects_file"]).read_text().splitlines()
    assert rejects[0].startswith("line,reason,household_id,basket_id,")
    assert [line.split(",")[1:4] for line in rejects[1:]] == 3 * [[NO_QUANTITY, rejects[1].split(",")[2], str(BASKETS)]]
    assert report["source"]["purchases"] == BASKETS - 1
    assert report["source"]["without_lines"] == 1
    assert sum(report["source"]["members_by_purchases"].values()) == HOUSEHOLDS
    assert report["purchases"] == {
        "recorded": BASKETS - 1,
        "already_there": 0,
        "refused": 0,
        "refused_by_reason": {},
    }
    assert report["members"]["joined"] == HOUSEHOLDS
    assert sum(report["standings"].values()) == HOUSEHOLDS
    assert report["load"]["sent"] == BASKETS - 1


async def test_loading_again_changes_nothing(
    source: Path, first_load: tuple[Path, dict[str, Any]], loaded: Connection
) -> None:
    before = await heads_of(loaded)
    again = report_of(source, loaded)
    # Without its note it sends everything once more.
    shutil.rmtree(loaded.installation.directory / "imports")
    sent_again = report_of(source, loaded)
    for report in (again, sent_again):
        assert report["purchases"]["recorded"] == report["members"]["joined"] == 0
        assert report["purchases"]["already_there"] == BASKETS - 1
        assert report["members"]["already_there"] == HOUSEHOLDS
        assert report["account"] == first_load[1]["account"]
        assert report["points"] == first_load[1]["points"]
    assert again["load"]["sent"] == 0
    assert sent_again["load"]["sent"] == BASKETS - 1
    assert await heads_of(loaded) == before


def test_an_interrupted_load_says_so_and_the_same_command_goes_on(source: Path, empty: Connection) -> None:
    stopped = interrupted(source, empty, after_days=2)
    assert stopped == (130, "loyalty: interrupted; the same command goes on where it was\n")
    report = report_of(source, empty)
    assert report["purchases"]["recorded"] + report["purchases"]["already_there"] == BASKETS - 1
    assert report["purchases"]["already_there"] > 0
    assert report["account"]["adds_up"] is True


def test_the_check_is_clean_and_names_what_was_tampered_with(loaded: Connection) -> None:
    folder = loaded.installation.directory
    clean = loyalty("check", "--data", str(folder), "--json")
    assert clean.returncode == 0, clean.stderr
    report = json.loads(clean.stdout)
    assert report["clean"] is True
    assert [service["service"] for service in report["services"]] == ["ledger", "tiers", "notifier"]
    assert report["services"][0]["checked"]["purchases"] == BASKETS - 1

    def give(points: int) -> None:
        async def work() -> None:
            database = await asyncpg.connect(Cluster(folder).dsn("loyalty_ledger"))
            try:
                await database.execute(
                    "UPDATE ledger.members SET available = available + $1 WHERE member_id = 'household-1'", points
                )
            finally:
                await database.close()

        asyncio.run(work())

    give(1)
    try:
        tampered = loyalty("check", "--data", str(folder))
    finally:
        give(-1)
    assert tampered.returncode == 1
    assert "state of a member" in tampered.stdout
    assert "household-1" in tampered.stdout


def test_a_second_import_into_the_same_folder_waits_its_turn(source: Path, loaded: Connection) -> None:
    with alone(loaded.installation):
        refused = loyalty("import", str(source), *FORMAT, "--data", str(loaded.installation.directory))
    assert refused.returncode == 1
    assert "another import into" in refused.stderr


def test_time_that_passes_lets_members_fall_and_never_goes_back(loaded: Connection) -> None:
    folder = str(loaded.installation.directory)
    advanced = loyalty("advance", "--data", folder, "--to", "2018-01-12")
    assert advanced.returncode == 0, advanced.stderr
    assert "to 2018-01-12 00:00:00 EST" in advanced.stdout
    assert "changes of tier fell due" in advanced.stdout
    back = loyalty("advance", "--data", folder, "--to", "2018-01-11T23:00:00-05:00")
    assert back.returncode == 1
    assert "only goes forward" in back.stderr
    for no_time in ("tomorrow", "2018-01-13T10:00:00", "1969-12-31"):
        assert loyalty("advance", "--data", folder, "--to", no_time).returncode == 2


def test_the_scene_at_the_till_comes_out_as_told(loaded: Connection) -> None:
    rules = programmes.load(loaded.installation.programme)
    said = StringIO()
    scene = Scene(loaded, rules, Console(file=said, width=80))
    outcome = scene.play(datetime(2018, 2, 1, 15, tzinfo=UTC))
    assert outcome.tiers == ("White", "Green", "White")
    assert outcome.points == 395
    assert outcome.mail_subject.startswith("You are Green now")
    assert "GREEN-" in outcome.mail_text
    shown = said.getvalue()
    assert f"POST /v1/members/{MEMBER}/returns" in shown
    assert "5.00 USD for Green" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_history_is_refused_where_it_does_not_belong(source: Path, live: Connection, tmp_path: Path) -> None:
    real = loyalty("import", str(source), *FORMAT, "--data", str(live.installation.directory))
    assert real.returncode == 1
    assert "lives in real time" in real.stderr
    advance = loyalty("advance", "--data", str(live.installation.directory), "--to", "2030-01-01")
    assert advance.returncode == 1
    assert "its clock moves by itself" in advance.stderr
    zloty = PROGRAMMES / "tiered-365.yaml"
    other = loyalty("import", str(source), *FORMAT, "--data", str(tmp_path / "new"), "--programme", str(zloty))
    assert other.returncode == 1
    assert "are in USD and the programme tiered-365 counts in PLN" in other.stderr
    unknown = loyalty("import", str(source), "--format", "nonsense", "--data", str(tmp_path / "new"))
    assert unknown.returncode == 2
    assert "known are complete-journey" in unknown.stderr
    nothing = loyalty("import", str(tmp_path), *FORMAT, "--data", str(tmp_path / "new"))
    assert nothing.returncode == 1
    assert "holds no transactions.parquet" in nothing.stderr
    assert not (tmp_path / "new").exists()
