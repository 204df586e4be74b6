"""A programme changes: one version holds from one instant on, in every partition, and the past stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services.ledger import service, store
from services.ledger.domain.events import Author
from services.ledger.domain.keys import Keys
from services.ledger.domain.rules import Rules, StoredVersion
from services.ledger.service import Ledger
from services.programme import SINCE_EVER, parse
from services.runtime.channels import open_channel
from services.runtime.clock import ClockMode, machine_now
from services.runtime.config import ConfigurationError
from services.runtime.database import create_pool, transact
from tests.conftest import SECRET, Database, StartLedger
from tests.ledger_checks import checked
from tests.ledger_process import LedgerProcess, Nursery, nursery
from tests.till import until_answered

FILE = """
programme: corner-shop
currency: PLN
time_zone: Europe/Warsaw
earning: {{base: total, points: {points}, per: "1.00"}}
expiry: {expiry}
tiers:
  base: total
  window: P365D
  levels: [{{name: White}}, {{name: Green, from: "300.00", earning_multiplier: "1.5"}}]
"""
NEVER = "{policy: never}"
INACTIVE = "{policy: inactivity, period: P30D}"
START = datetime(2026, 3, 1, 11, tzinfo=UTC)
SWITCH = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


def document(points: int = 1, expiry: str = NEVER) -> str:
    return FILE.format(points=points, expiry=expiry)


def write(file: Path, text: str) -> None:
    file.write_text(text)


def stamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    made.nanos = time.microsecond * 1000
    return made


def name_of(text: str) -> str:
    return parse(text, "x").version


class Shop:
    """A ledger as its callers see it."""

    def __init__(self, channel: Any) -> None:
        self.rpc = ledger_service_pb2_grpc.LedgerServiceStub(channel)

    async def apply(self, text: str, from_time: datetime, request_id: str = "apply") -> Any:
        request = pb.ApplyProgrammeRequest(request_id=request_id, document=text, from_time=stamp(from_time))
        return await self.rpc.ApplyProgramme(request, timeout=30)

    async def advance(self, time: datetime) -> None:
        request = pb.AdvanceClockRequest(request_id=f"to-{time.isoformat()}", to_time=stamp(time))
        await self.rpc.AdvanceClock(request, timeout=30)

    async def enrol(self, *members: str) -> None:
        for member_id in members:
            await self.rpc.EnrollMember(pb.EnrollMemberRequest(request_id="join", member_id=member_id), timeout=30)

    async def buy(self, member_id: str, amount: int, at: datetime, purchase_id: str) -> Any:
        request = pb.RecordPurchaseRequest(
            request_id=purchase_id, member_id=member_id, purchase_id=purchase_id, occurred_time=stamp(at)
        )
        request.amount.currency_code, request.amount.minor_units = "PLN", amount
        return (await self.rpc.RecordPurchase(request, timeout=30)).receipt

    async def available(self, member_id: str) -> int:
        answer = await self.rpc.GetBalance(pb.GetBalanceRequest(member_id=member_id), timeout=30)
        return int(answer.balance.available_points)

    async def programme(self, version: str = "") -> Any:
        return await self.rpc.GetProgramme(pb.GetProgrammeRequest(version=version), timeout=30)

    async def entries(self) -> list[Any]:
        found: list[Any] = []
        async for response in self.rpc.StreamEntries(pb.StreamEntriesRequest(), timeout=30):
            found += response.entries
        return found

    async def applied(self) -> list[Any]:
        return [entry for entry in await self.entries() if entry.kind == entry_pb2.ENTRY_KIND_PROGRAMME_APPLIED]


@contextlib.asynccontextmanager
async def refused(reason: str) -> AsyncIterator[list[Any]]:
    """Expects a refusal; fills a list with the error and its field violations."""
    found: list[Any] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield found
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info) if detail.Is(info.DESCRIPTOR) else detail.Unpack(bad)
    assert info.reason == reason, caught.value.details()
    found += [caught.value, [violation.description for violation in bad.field_violations]]


@pytest.fixture
def file(folder: Path) -> Path:
    """The file that ledgers are configured with."""
    path = folder / "programme.yaml"
    write(path, document())
    return path


@pytest_asyncio.fixture
async def shop(start_ledger: StartLedger, file: Path) -> Shop:
    """A ledger in simulated time, at START."""
    made = Shop(await start_ledger(programme=file))
    await made.advance(START)
    return made


async def clean(database: Database, file: Path) -> bool:
    report = await checked(database.dsn("loyalty_ledger"), file)
    assert report.differences == ()
    return True


async def test_a_purchase_goes_by_the_version_that_holds_when_it_happens(
    shop: Shop, database: Database, file: Path
) -> None:
    await shop.enrol("m")
    answer = await shop.apply(document(points=3), SWITCH)
    assert (answer.version, answer.from_time) == (name_of(document(points=3)), stamp(SWITCH))
    assert not answer.replayed
    assert answer.causal_token.count("-") == 16
    await shop.advance(SWITCH - DAY)
    assert (await shop.buy("m", 1000, SWITCH - MICROSECOND, "before")).points == 10
    assert (await shop.buy("m", 1000, SWITCH, "at")).points == 30
    await shop.advance(SWITCH + DAY)
    late = await shop.buy("m", 1000, SWITCH - MICROSECOND, "late")
    assert late.points == 10, "what happened before goes by what held then"
    versions = {entry.purchase_id: entry.programme_version for entry in await shop.entries() if entry.purchase_id}
    old, new = name_of(document()), answer.version
    assert versions == {"before": old, "at": new, "late": old}
    assert await clean(database, file)


async def test_every_partition_says_from_when_a_version_holds(shop: Shop) -> None:
    answer = await shop.apply(document(points=2), SWITCH)
    told = await shop.applied()
    assert sorted(entry.partition for entry in told) == list(range(16))
    assert {
        (entry.member_id, entry.reference, entry.effective_time.ToDatetime(UTC), entry.principal, entry.request_id)
        for entry in told
    } == {("", answer.version, SWITCH, "test", "apply")}
    assert {entry.programme_version for entry in told} == {name_of(document())}


async def test_the_same_request_again_is_a_replay_and_another_under_its_id_is_refused(shop: Shop) -> None:
    first = await shop.apply(document(points=2), SWITCH)
    again = await shop.apply(document(points=2), SWITCH)
    assert (again.replayed, again.version, again.from_time) == (True, first.version, first.from_time)
    assert len(await shop.applied()) == 16
    async with refused("REQUEST_ID_REUSED"):
        await shop.apply(document(points=2), SWITCH + DAY)
    async with refused("REQUEST_ID_REUSED"):
        await shop.apply(document(points=3), SWITCH)


async def test_versions_begin_one_after_the_other_and_never_in_the_past(shop: Shop) -> None:
    async with refused("PROGRAMME_ORDER"):
        await shop.apply(document(points=2), START - MICROSECOND)
    await shop.apply(document(points=2), SWITCH)
    async with refused("PROGRAMME_ORDER") as said:
        await shop.apply(document(points=3), SWITCH, "b")
    assert name_of(document(points=2)) in said[0].details()
    await shop.apply(document(points=3), SWITCH + MICROSECOND, "b")
    # What was refused has left nothing.
    assert [one.from_time.ToDatetime(UTC) for one in (await shop.programme()).versions][1:] == [
        SWITCH,
        SWITCH + MICROSECOND,
    ]


async def test_what_says_the_same_is_no_version(shop: Shop) -> None:
    async with refused("PROGRAMME_UNCHANGED"):
        await shop.apply("# as it was\n" + document(), SWITCH)
    await shop.apply(document(points=2), SWITCH)
    async with refused("PROGRAMME_UNCHANGED"):
        await shop.apply(document(points=2), SWITCH + DAY, "b")


async def test_a_document_that_is_no_programme_is_refused_with_every_problem(shop: Shop) -> None:
    async with refused("PROGRAMME_INVALID") as said:
        await shop.apply(document(points=-1, expiry="{policy: sometimes}"), SWITCH)
    assert len(said[1]) == 2
    assert said[1][0].startswith("line 5: earning.points: ")
    async with refused("PROGRAMME_INVALID") as said:
        await shop.apply(document().replace("PLN", "EUR"), SWITCH)
    assert said[1] == ["currency: the programme counts in PLN, and a version cannot change that"]


async def test_what_takes_something_away_is_announced_thirty_days_before(shop: Shop) -> None:
    await shop.apply(document(points=2), START + DAY, "more")
    announced = START + 30 * DAY
    async with refused("ANNOUNCEMENT_TOO_SHORT") as said:
        await shop.apply(document(), announced - MICROSECOND, "less")
    assert announced.isoformat() in said[0].details()
    await shop.apply(document(), announced, "less")


async def test_the_programme_is_told_as_it_is_now_and_by_its_versions(shop: Shop) -> None:
    old, new = document(), document(points=2)
    await shop.apply(new, SWITCH)
    now = await shop.programme()
    assert (now.programme.version, now.programme.source, now.from_time.ToDatetime(UTC).year) == (
        name_of(old),
        old,
        1970,
    )
    assert [(one.version, one.from_time.ToDatetime(UTC)) for one in now.versions] == [
        (name_of(old), datetime(1970, 1, 1, tzinfo=UTC)),
        (name_of(new), SWITCH),
    ]
    coming = await shop.programme(name_of(new))
    assert (coming.programme.source, coming.from_time.ToDatetime(UTC)) == (new, SWITCH)
    await shop.advance(SWITCH)
    assert (await shop.programme()).programme.version == name_of(new)
    async with refused("PROGRAMME_UNKNOWN"):
        await shop.programme("corner-shop@000000000000")


async def test_points_begin_to_lapse_by_inactivity_when_the_version_says_so_and_not_before(
    shop: Shop, database: Database, file: Path
) -> None:
    await shop.enrol("idle", "busy")
    await shop.buy("idle", 1000, START + HOUR, "a")
    await shop.buy("busy", 1000, START + HOUR, "a")
    await shop.apply(document(expiry=INACTIVE), SWITCH)
    await shop.advance(SWITCH - DAY)
    await shop.buy("busy", 1000, SWITCH - DAY, "b")
    assert await shop.available("idle") == 10
    await shop.advance(SWITCH)
    assert (await shop.available("idle"), await shop.available("busy")) == (0, 20)
    await shop.advance(SWITCH + 40 * DAY)
    assert await shop.available("busy") == 0
    lapsed = sorted(
        (entry.member_id, entry.occurred_time.ToDatetime(UTC))
        for entry in await shop.entries()
        if entry.kind == entry_pb2.ENTRY_KIND_POINTS_EXPIRED
    )
    # The 30th of April was the day of the last purchase; the 30th of May is the last day.
    assert lapsed == [("busy", datetime(2026, 5, 30, 22, tzinfo=UTC)), ("idle", SWITCH)]
    assert await clean(database, file)


async def test_points_given_after_inactivity_no_longer_counts_stay(
    start_ledger: StartLedger, database: Database, file: Path
) -> None:
    write(file, document(expiry=INACTIVE))
    shop = Shop(await start_ledger(programme=file))
    await shop.advance(START)
    await shop.enrol("idle", "later")
    await shop.buy("idle", 1000, START + HOUR, "a")
    await shop.apply(document(), SWITCH)
    await shop.advance(SWITCH + DAY)
    assert await shop.available("idle") == 0, "they lapsed while it counted"
    award = pb.AwardPointsRequest(request_id="gift", member_id="later", points=7, reason="gift")
    await shop.rpc.AwardPoints(award, timeout=30)
    await shop.advance(SWITCH + 400 * DAY)
    assert await shop.available("later") == 7
    assert await clean(database, file)


async def test_due_times_are_reckoned_anew_a_few_at_a_time_and_from_where_a_kill_left_them(
    database: Database, folder: Path, file: Path, start_ledger: StartLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_RECKONED_AT_ONCE", 2)
    members = [f"m{number}" for number in range(100)]
    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    pages, ended = 0, asyncio.Event()
    reckon = Ledger._reckon

    async def some(ledger: Ledger, connection: Any, partition: int) -> None:
        nonlocal pages
        pages += 1
        if pages > 20:
            ended.set()
            raise asyncio.CancelledError
        await reckon(ledger, connection, partition)

    try:
        async with contextlib.AsyncExitStack() as first:
            shop = Shop(await start_ledger(programme=file, own=first, name="first"))
            await shop.advance(START)
            await shop.enrol(*members)
            for member_id in members:
                await shop.buy(member_id, 1000, START + HOUR, "a")
            with monkeypatch.context() as ending:
                ending.setattr(Ledger, "_reckon", some)
                await shop.apply(document(expiry=INACTIVE), SWITCH)
                await ended.wait()
        done = await connection.fetchval("SELECT count(*) FROM ledger.members WHERE due_time IS NOT NULL")
        assert 0 < done < 100
        assert await clean(database, file), "in the middle of it, too"
        await start_ledger(programme=file, name="second")
        for _ in range(200):
            if done == 100:
                break
            await asyncio.sleep(0.02)
            done = await connection.fetchval("SELECT count(*) FROM ledger.members WHERE due_time = $1", SWITCH)
        assert done == 100
    finally:
        await connection.close()
    assert await clean(database, file)


async def test_the_stored_versions_count_whatever_file_of_theirs_a_ledger_starts_with(
    start_ledger: StartLedger, shop: Shop, file: Path, folder: Path
) -> None:
    await shop.enrol("m")
    await shop.apply(document(points=2), SWITCH)
    for number, points in enumerate((1, 2)):
        write(file, document(points=points))
        again = Shop(await start_ledger(programme=file, name=f"again{number}"))
        assert len((await again.programme()).versions) == 2
        assert (await again.buy("m", 1000, START + HOUR, f"p{number}")).points == 10
    write(file, document(points=5))
    with pytest.raises(ConfigurationError, match="loyalty programme apply"):
        await start_ledger(programme=file, name="other")


async def test_a_rule_that_came_after_a_version_stops_new_files_and_not_the_ledger_that_lives_by_it(
    start_ledger: StartLedger, database: Database, file: Path
) -> None:
    empty = "campaigns: [{id: hi, trigger: birthday, message: {subject: Hi, text: '{{ years }} years'}}]\n"
    write(file, document() + empty)
    with pytest.raises(ConfigurationError, match='"years" is always empty'):
        await start_ledger(programme=file)
    # A release before this one took it.
    first = StoredVersion(
        number=1,
        programme=parse(document() + empty, "x", applied=True),
        document=document() + empty,
        from_time=SINCE_EVER,
        recorded_time=machine_now(),
    )
    pool = await create_pool(database.dsn("loyalty_ledger"), service="test")
    await transact(pool, lambda c: store.insert_version(c, first))
    await pool.close()
    shop = Shop(await start_ledger(programme=file, name="again"))
    assert (await shop.programme()).programme.version == first.programme.version
    async with refused("PROGRAMME_INVALID"):
        await shop.apply(document(points=2) + empty, SWITCH)
    # It lives by this one again, which is no new one.
    await shop.apply(document(points=2), SWITCH)
    for replayed in (False, True):
        again = await shop.apply(document() + empty, SWITCH + timedelta(days=90), request_id="back")
        assert (again.version, again.replayed) == (first.programme.version, replayed)
    assert await clean(database, file)


async def test_a_version_that_was_stored_and_told_to_nobody_is_told_at_the_next_start(
    start_ledger: StartLedger, database: Database, file: Path
) -> None:
    """As after a kill between the two."""
    async with contextlib.AsyncExitStack() as first:
        before = Shop(await start_ledger(programme=file, own=first, name="first"))
        await before.advance(START)
    dsn = database.dsn("loyalty_ledger")
    pool = await create_pool(dsn, service="test")
    try:
        installation = await transact(pool, lambda c: store.create(c, 16, ClockMode.SIMULATED))
        stored = await transact(pool, store.read_versions)
        # Its lanes do not run: it stores, and can tell nobody.
        dead = Ledger(
            dsn=dsn,
            pool=pool,
            rules=Rules(stored),
            installation=installation,
            keys=Keys(bytes(32)),
            lanes=1,
            clock=machine_now,
        )
        request = pb.ApplyProgrammeRequest(request_id="apply", document=document(points=2), from_time=stamp(SWITCH))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await dead.apply_programme(
                    request.document,
                    SWITCH,
                    request_id="apply",
                    author=Author("test", ""),
                    request=b"ApplyProgramme" + request.SerializeToString(deterministic=True),
                )
    finally:
        await pool.close()
    after = Shop(await start_ledger(programme=file, name="second"))
    for _ in range(100):
        if len(told := await after.applied()) == 16:
            break
        await asyncio.sleep(0.05)
    assert {(entry.reference, entry.principal) for entry in told} == {(name_of(document(points=2)), "test")}
    assert len((await after.programme()).versions) == 2
    assert await clean(database, file)


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery() as made:
        yield made


async def test_two_ledgers_over_one_database_go_by_a_version_at_once_and_a_kill_leaves_it_whole(
    processes: Nursery, database: Database, folder: Path, token_file: Path, file: Path
) -> None:
    ledgers = [
        LedgerProcess(
            nursery=processes,
            name=name,
            folder=folder,
            database_url=database.dsn("loyalty_ledger"),
            programme=file,
            token_file=token_file,
        )
        for name in ("one", "two")
    ]
    for ledger in ledgers:
        ledger.start()
    async with contextlib.AsyncExitStack() as stack:
        channels = [open_channel(ledger.listen, principal="till", secret=SECRET) for ledger in ledgers]
        for channel in channels:
            stack.push_async_callback(channel.close)
        one, two = (Shop(channel) for channel in channels)
        for shop in (one, two):
            await until_answered(shop.rpc.ListPartitions, pb.ListPartitionsRequest())
        await one.advance(START)
        members = [f"m{number}" for number in range(20)]
        await one.enrol(*members)
        await one.apply(document(points=2), START + DAY)
        # The other one has not heard of it but from the partitions.
        points = await asyncio.gather(*(two.buy(member, 1000, START + DAY, "p") for member in members))
        assert {receipt.points for receipt in points} == {20}
        for number in range(6):
            # Killed at any place of it: the other one, or the same request again, makes it whole.
            asked = asyncio.create_task(one.apply(document(points=3 + number), SWITCH + number * DAY, f"k{number}"))
            await asyncio.sleep(0.004 * number)
            ledgers[0].kill()
            await asyncio.gather(asked, return_exceptions=True)
            answer = await two.apply(document(points=3 + number), SWITCH + number * DAY, f"k{number}")
            assert answer.version == name_of(document(points=3 + number))
            ledgers[0].start()
            await until_answered(one.rpc.ListPartitions, pb.ListPartitionsRequest())
        assert len(await two.applied()) == 16 * 7
        for ledger in ledgers:
            ledger.kill()
    assert await clean(database, file)


async def test_stored_versions_are_never_changed(shop: Shop, database: Database) -> None:
    for role, error in (("loyalty_ledger", "permission denied"), ("loyalty_owner", "never changed")):
        connection = await asyncpg.connect(database.dsn(role))
        try:
            for statement in (
                "UPDATE ledger.programme_versions SET document = ''",
                "DELETE FROM ledger.programme_versions",
                "TRUNCATE ledger.programme_versions",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match=error):
                    await connection.execute(statement)
        finally:
            await connection.close()
