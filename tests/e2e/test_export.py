"""`loyalty export` through the real stack: what is true of an instant, and files that are whole or not there."""

from __future__ import annotations

import asyncio
import csv
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.cli import installation
from services.cli.display import time_text
from services.cli.exporting import ENTRY_COLUMNS, entry_row
from services.cli.installation import Connection, connection
from services.cli.loader import advance_clock, settled_standings
from services.cli.remote import Services, reach
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import LOYALTY, loyalty

DAY = datetime(2024, 2, 1, 5, tzinfo=UTC)
CLOCK = DAY + timedelta(days=10)
HOUR = timedelta(hours=1)
STANDINGS = ["member_id,tier_number,tier,balance_minor_units,currency_code,balance_count"]


def stamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


async def live_through(services: Services) -> None:
    """Three members: one reaches Green and falls back in a year, one brings back more than is left, one joins late."""
    ledger = services.ledger
    written = iter(range(1000))

    def common(member_id: str, moment: datetime) -> dict[str, Any]:
        return {"request_id": f"r-{next(written)}", "member_id": member_id, "occurred_time": stamp(moment)}

    async def enroll(member_id: str, moment: datetime, channel: str) -> None:
        await ledger.EnrollMember(pb.EnrollMemberRequest(**common(member_id, moment), channel=channel), timeout=20)

    async def move(method: Any, request: Any, member_id: str, moment: datetime, minor_units: int, **more: Any) -> None:
        amount = Money(currency_code="USD", minor_units=minor_units)
        await method(request(**common(member_id, moment), amount=amount, **more), timeout=20)

    await advance_clock(services, DAY)
    await enroll("b-green", DAY + HOUR, "pos")
    await enroll("A-owes", DAY + HOUR, "web")
    buy, give_back = (ledger.RecordPurchase, pb.RecordPurchaseRequest), (ledger.RecordReturn, pb.RecordReturnRequest)
    await move(*buy, "b-green", DAY + 2 * HOUR, 30_000, purchase_id="p-1", channel="pos")
    await move(*buy, "A-owes", DAY + 2 * HOUR, 5_000, purchase_id="p-2")
    await move(*give_back, "A-owes", DAY + 3 * HOUR, 20_000, reason="damaged")
    await advance_clock(services, CLOCK - 5 * HOUR)
    # Comes late.
    await move(*buy, "b-green", DAY + timedelta(days=1, microseconds=7), 150, purchase_id="p-3")
    await enroll("c-late", CLOCK - HOUR, "app")
    # The ledger has heard every earning class, too: from here on nothing happens.
    await settled_standings(services, await advance_clock(services, CLOCK))


@pytest.fixture(scope="module")
def shop() -> Iterator[Connection]:
    """A folder in simulated time in which something happened, up."""
    folder = Path(tempfile.mkdtemp(prefix="ly-export-"))
    installation.open_or_create(folder, programme_file=PROGRAMMES / "retail-demo.yaml", clock=ClockMode.SIMULATED)
    started = loyalty("up", "--data", str(folder), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    up = connection(folder)

    async def write() -> None:
        async with reach(up) as services:
            await live_through(services)

    asyncio.run(write())
    yield up
    loyalty("down", "--data", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def exported(what: str, up: Connection, folder: Path, *more: str) -> list[str]:
    """The lines of an export; the command says how many they are."""
    path = folder / f"{what}.csv"
    done = loyalty("export", what, "--data", str(up.installation.directory), "--output", str(path), *more)
    assert done.returncode == 0, done.stderr
    content = path.read_bytes().decode()
    assert content.endswith("\n")
    lines = content.removesuffix("\n").split("\n")
    assert done.stdout == f"{len(lines) - 1:,} lines in {path}\n"
    assert os.listdir(folder) == [path.name]
    return lines


def rows(lines: list[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(lines))


def test_standings_at_the_clock_before_it_and_after_it(shop: Connection, tmp_path: Path) -> None:
    assert exported("standings", shop, tmp_path) == [
        *STANDINGS,
        "A-owes,1,White,-15000,USD,",
        "b-green,2,Green,30150,USD,",
        "c-late,1,White,0,USD,",
    ]
    assert exported("standings", shop, tmp_path, "--at", "2024-02-01T02:00:00-05:00") == [
        *STANDINGS,
        "A-owes,1,White,5000,USD,",
        "b-green,2,Green,30000,USD,",
    ]
    # A date is the start of the local day: nobody had joined in the night before.
    assert exported("standings", shop, tmp_path, "--at", "2024-02-01") == STANDINGS
    # The window is 365 days long.
    gone = time_text(DAY + 2 * HOUR + timedelta(days=365))
    assert exported("standings", shop, tmp_path, "--at", gone)[2] == "b-green,1,White,150,USD,"


def test_members_with_their_points_and_purchases(shop: Connection, tmp_path: Path) -> None:
    columns = (
        "member_id,joined_time,channel,available_points,debt_points,earned_points,purchases,returns,spent_minor_units,"
        "currency_code,first_purchase_time,last_purchase_time,pending_points,held_points,redeemed_points"
    )
    assert exported("members", shop, tmp_path) == [
        columns,
        "A-owes,2024-02-01T06:00:00Z,web,0,50,-50,1,1,-15000,USD,2024-02-01T07:00:00Z,2024-02-01T07:00:00Z,0,0,0",
        "b-green,2024-02-01T06:00:00Z,pos,401,0,401,2,0,30150,USD,2024-02-01T07:00:00Z,2024-02-02T05:00:00.000007Z,0,0,0",
        "c-late,2024-02-11T04:00:00Z,app,100,0,100,0,0,0,USD,,,0,0,0",
    ]
    assert exported("members", shop, tmp_path, "--at", "2024-02-01T06:00:00Z") == [
        columns,
        "A-owes,2024-02-01T06:00:00Z,web,100,0,100,0,0,0,USD,,,0,0,0",
        "b-green,2024-02-01T06:00:00Z,pos,100,0,100,0,0,0,USD,,,0,0,0",
    ]


def test_purchases_and_returns_add_up(shop: Connection, tmp_path: Path) -> None:
    lines = exported("purchases", shop, tmp_path)
    assert lines[0] == (
        "member_id,purchase_id,kind,occurred_time,amount_minor_units,currency_code,goods_paid_minor_units,points,"
        "earning_class,channel,programme_version,request_id,partition,offset"
    )
    found = {(row["member_id"], row["purchase_id"], row["kind"]): row for row in rows(lines)}
    assert {key: (row["amount_minor_units"], row["points"]) for key, row in found.items()} == {
        ("b-green", "p-1", "purchase"): ("30000", "300"),
        ("b-green", "p-3", "purchase"): ("150", "1"),
        ("A-owes", "p-2", "purchase"): ("5000", "50"),
        ("A-owes", "", "return"): ("-20000", "-200"),
    }
    balances = {row["member_id"]: 0 for row in found.values()}
    for row in found.values():
        balances[row["member_id"]] += int(row["amount_minor_units"])
    assert balances == {"b-green": 30_150, "A-owes": -15_000}


def test_the_journal_of_a_period_says_what_moved_on_each_day(shop: Connection, tmp_path: Path) -> None:
    lines = exported("journal", shop, tmp_path, "--period", "2024-02")
    assert lines == [
        "posting_day,movement,market,expiry_month,points,value_minor_units,currency_code",
        # Two sign-up bonuses and two purchases, less a return: of its 200 points 50 were not there.
        "2024-02-01,issued,USD,2025-02,350,350,USD",
        "2024-02-01,debt,USD,2025-02,50,50,USD",
        # What came late is booked on the day it came.
        "2024-02-10,issued,USD,2025-02,101,101,USD",
    ]
    assert exported("journal", shop, tmp_path) == lines
    assert exported("journal", shop, tmp_path, "--period", "2024") == lines
    assert exported("journal", shop, tmp_path, "--period", "2023") == lines[:1]


@pytest.mark.parametrize(
    ("what", "more", "sentence"),
    [
        ("journal", ("--period", "2024-03"), "that has begun"),
        ("journal", ("--period", "march"), "period"),
        ("journal", ("--at", "2024-02-01"), "--period"),
        ("members", ("--period", "2024-02"), "--at"),
    ],
)
def test_a_period_that_is_none_or_belongs_elsewhere_is_refused(
    shop: Connection, tmp_path: Path, what: str, more: tuple[str, ...], sentence: str
) -> None:
    output = tmp_path / "refused.csv"
    done = loyalty("export", what, "--data", str(shop.installation.directory), "--output", str(output), *more)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert not output.exists()


async def test_entries_are_the_whole_log_in_its_order_up_to_the_instant(shop: Connection, tmp_path: Path) -> None:
    lines = exported("entries", shop, tmp_path)
    async with reach(shop) as services:
        partitions = (await services.ledger.ListPartitions(pb.ListPartitionsRequest(), timeout=20)).partitions
        entries = [
            entry
            async for response in services.ledger.StreamEntries(pb.StreamEntriesRequest(), timeout=20)
            for entry in response.entries
        ]
    assert lines[0] == ",".join(ENTRY_COLUMNS)
    found = list(csv.reader(lines[1:]))
    entries.sort(key=lambda entry: (entry.partition, entry.offset))
    assert found == [
        [str(field) for field in entry_row(entry, entry.occurred_time.ToDatetime(UTC))] for entry in entries
    ]
    assert len(found) == sum(one.last_offset for one in partitions)
    joined = next(row for row in rows(lines) if row["kind"] == "member_joined" and row["member_id"] == "b-green")
    assert (joined["rules"], joined["issued_points"], joined["principal"]) == ('{"sign_up_bonus":100}', "100", "cli")
    assert any(row["kind"] == "earning_class_set" and row["earning_class"] == "green" for row in rows(lines))
    at_time = DAY + 2 * HOUR
    early = exported("entries", shop, tmp_path, "--at", time_text(at_time))
    assert len(early) - 1 == sum(entry.occurred_time.ToDatetime(UTC) <= at_time for entry in entries)
    kinds = {row["kind"] for row in rows(early)}
    assert kinds == {"clock_advanced", "member_joined", "purchase_recorded"}
    assert {entry.kind for entry in entries} > {entry_pb2.ENTRY_KIND_RETURN_RECORDED}


def test_an_installation_in_real_time_is_exported_as_of_now(live: Connection, tmp_path: Path) -> None:
    member = f"member-{uuid.uuid4().hex[:12]}"
    headers = {"authorization": live.authorization("till-1")}
    with httpx.Client(base_url=live.gateway, headers=headers, timeout=20) as http:
        http.post("/v1/members", json={"request_id": "join", "member_id": member}).raise_for_status()
        amount = {"currency_code": "USD", "minor_units": 100_000}
        bought = http.post(f"/v1/members/{member}/purchases", json={"request_id": "p", "amount": amount})
        bought.raise_for_status()
    assert f"{member},3,Silver,100000,USD," in exported("standings", live, tmp_path)


def test_a_ledger_that_dies_and_comes_back_only_makes_it_slower(shop: Connection, tmp_path: Path) -> None:
    before = exported("entries", shop, tmp_path)
    state = installation.running_state(shop.installation)
    assert state is not None
    os.kill(state["children"]["ledger"]["pid"], signal.SIGKILL)
    assert exported("entries", shop, tmp_path) == before


def test_what_cannot_be_exported_says_why_and_leaves_nothing(shop: Connection, tmp_path: Path) -> None:
    folder = str(shop.installation.directory)
    (tmp_path / "older.csv").write_text("older")

    def refused(*arguments: str) -> tuple[int, str]:
        done = loyalty("export", *arguments)
        assert done.stdout == ""
        assert sorted(os.listdir(tmp_path)) == ["older.csv"]
        assert (tmp_path / "older.csv").read_text() == "older"
        return done.returncode, " ".join(done.stderr.split())

    to_older = ("--output", str(tmp_path / "older.csv"))
    assert refused("nonsense", "--data", folder, *to_older) == (
        2,
        "loyalty: there is no export of nonsense; known are standings, members, entries, purchases, journal",
    )
    code, said = refused("standings", "--data", folder, *to_older, "--at", "yesterday")
    assert (code, "yesterday is no time" in said) == (2, True)
    code, said = refused("standings", "--data", str(tmp_path / "none"), *to_older)
    assert (code, "there is no installation in" in said) == (1, True)
    code, said = refused("standings", "--data", folder)
    assert (code, "--output" in said) == (2, True)
    for output, sentence in (
        (tmp_path / "missing" / "out.csv", "there is no folder"),
        (tmp_path, "is a folder; name a file in it"),
        (Path("/dev/null"), "is no regular file"),
    ):
        code, said = refused("members", "--data", folder, "--output", str(output))
        assert (code, sentence in said) == (1, True)


@pytest.mark.parametrize("what", ["standings", "members"])
def test_where_there_is_no_more_room_the_older_file_stays(shop: Connection, tmp_path: Path, what: str) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")
    done = subprocess.run(
        [str(LOYALTY), "export", what, "--data", str(shop.installation.directory), "--output", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60)),
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "File too large" in done.stderr
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_one_who_is_interrupted_leaves_nothing_and_stops_what_it_started(shop: Connection, tmp_path: Path) -> None:
    folder = str(shop.installation.directory)
    path = tmp_path / "out.csv"
    before = exported("standings", shop, tmp_path)
    (tmp_path / "standings.csv").unlink()
    assert loyalty("down", "--data", folder).returncode == 0
    try:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = subprocess.Popen(
                [str(LOYALTY), "export", "entries", "--data", folder, "--output", str(path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            deadline = time.monotonic() + 30
            while not os.listdir(tmp_path) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(os.listdir(tmp_path)) == 1
            # It is about to start the stack.
            time.sleep(0.5)
            process.send_signal(number)
            shown, said = process.communicate(timeout=120)
            assert (process.returncode, shown) == (code, "")
            assert said.endswith(f"loyalty: interrupted; {path} is as it was\n")
            assert os.listdir(tmp_path) == []
            assert installation.running_state(shop.installation) is None
        # A stack that is started for an export is stopped again.
        assert exported("standings", shop, tmp_path) == before
        assert installation.running_state(shop.installation) is None
    finally:
        loyalty("up", "--data", folder, "--port", "0", "--detach")
