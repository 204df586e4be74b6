"""The audit logs of the services: refused calls, reads of contact data, and a chain that shows what was changed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
import structlog
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import message_pb2, notifier_service_pb2_grpc
from loyalty.notifier.v1 import notifier_service_pb2 as notifier_pb
from loyalty.tiers.v1 import tier_service_pb2 as tiers_pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.certificates import LocalAuthority
from services.cli.postgres import Cluster
from services.ledger.app import build as build_ledger
from services.ledger.config import Config as LedgerConfig
from services.notifier.app import build as build_notifier
from services.notifier.config import NotifierConfig
from services.runtime import audit, contract
from services.runtime.audit import BURST, AuditTrail
from services.runtime.channels import open_secure_channel
from services.runtime.clock import ClockMode, machine_now
from services.runtime.database import create_pool, load_queries
from services.runtime.identity import Caller, Identities, PermissionDeniedError, SharedSecret
from services.runtime.server import Service, running
from services.runtime.tls import Certificates
from services.runtime.tokens import TokenRules, TokenVerifier
from services.tiers.app import build as build_tiers
from services.tiers.config import Config as TiersConfig
from tests.conftest import PROGRAMMES, ROOT, SECRET, Database, StartLedger, identifier_key
from tests.tokens import SigningKey, key_set

PROGRAMME = PROGRAMMES / "retail-demo.yaml"
SERVICES = tuple(contract.SERVICES)
KEY = SigningKey(key_id="k1")
LEDGER = "/loyalty.ledger.v1.LedgerService"
NOTIFIER = "/loyalty.notifier.v1.NotifierService"
DENIED = grpc.StatusCode.PERMISSION_DENIED

Row = dict[str, Any]
Lines = Callable[..., Awaitable[list[Row]]]


@pytest_asyncio.fixture
async def lines(database: Database) -> Lines:
    """`await lines("ledger", 3)` waits until there are so many lines, and gives all."""

    async def read(service: str, at_least: int = 0) -> list[Row]:
        connection = await asyncpg.connect(database.dsn(f"loyalty_{service}"))
        deadline = time.monotonic() + 20
        try:
            while True:
                rows = await connection.fetch(f"SELECT * FROM {service}.audit_log ORDER BY number")
                if len(rows) >= at_least:
                    return [dict(row) for row in rows]
                assert time.monotonic() < deadline, rows
                await asyncio.sleep(0.02)
        finally:
            await connection.close()

    return read


@contextlib.asynccontextmanager
async def known(service: Service, listen: str, folder: Path, certificates: Certificates | None = None) -> AsyncIterator:
    """The service as it knows the bearers of tokens, and a channel to it."""
    (folder / "keys.json").write_text(key_set(KEY))
    rules = TokenRules(issuer="loyalty", audience="loyalty", key_set=str(folder / "keys.json"))
    issued = TokenVerifier(rules, roles=contract.roles(), now=time.time)
    await issued.begin()
    identities = Identities(issued=issued, shared=SharedSecret(SECRET), services=contract.SERVICES)
    async with (
        running(service, listen=listen, identities=identities, certificates=certificates),
        grpc.aio.insecure_channel(listen) as channel,
    ):
        yield channel


def bearer(*roles: str, behalf: str = "", **claims: Any) -> tuple[tuple[str, str], ...]:
    metadata = (("authorization", f"Bearer {KEY.token(roles=list(roles), **claims)}"),)
    return (*metadata, ("x-on-behalf-of", behalf)) if behalf else metadata


async def refused(call: Awaitable[Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await call
    assert told.value.code() is DENIED


def ledger_config(database: Database, folder: Path, token_file: Path) -> LedgerConfig:
    return LedgerConfig(
        listen=f"unix:{folder}/ledger.sock",
        database_url=database.dsn("loyalty_ledger"),
        programme=PROGRAMME,
        token_file=token_file,
        identifier_key_file=identifier_key(folder),
        clock=ClockMode.SIMULATED,
    )


@pytest_asyncio.fixture
async def ledger(database: Database, folder: Path, token_file: Path) -> AsyncIterator[Any]:
    config = ledger_config(database, folder, token_file)
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)
        channel = await stack.enter_async_context(known(service, config.listen, folder))
        yield ledger_service_pb2_grpc.LedgerServiceStub(channel)


@pytest_asyncio.fixture
async def notifier(
    database: Database, start_ledger: StartLedger, folder: Path, token_file: Path
) -> AsyncIterator[notifier_service_pb2_grpc.NotifierServiceStub]:
    ledger = ledger_service_pb2_grpc.LedgerServiceStub(await start_ledger(programme=PROGRAMME))
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="join", member_id="ann"), timeout=10)
    (folder / "master-key").write_text(base64.b64encode(b"m" * 32).decode())
    config = NotifierConfig(
        listen=f"unix:{folder}/notifier.sock",
        database_url=database.dsn("loyalty_notifier"),
        programme=PROGRAMME,
        token_file=token_file,
        ledger_address=f"unix:{folder}/ledger.sock",
        tiers_address=f"unix:{folder}/tiers.sock",
        smtp_host="127.0.0.1",
        smtp_port=1,
        mail_from="shop@example.com",
        master_key_file=folder / "master-key",
    )
    async with contextlib.AsyncExitStack() as stack:
        service = await build_notifier(config, stack)
        channel = await stack.enter_async_context(known(service, config.listen, folder))
        yield notifier_service_pb2_grpc.NotifierServiceStub(channel)


def purchase(store: str) -> pb.RecordPurchaseRequest:
    amount = Money(currency_code="USD", minor_units=100)
    return pb.RecordPurchaseRequest(request_id="p", member_id="ann", amount=amount, store_id=store)


# --- what is written ---


async def test_a_refused_call_leaves_a_line_that_says_who_where_what_and_why(ledger: Any, lines: Lines) -> None:
    before = machine_now()
    till = bearer("pos", sub="till", store="17", terminal="3", jti="t-1")
    await refused(ledger.RecordPurchase(purchase("18"), metadata=till, timeout=10))
    desk = bearer("support", sub="desk", jti="t-2", delegates=True, behalf="anna")
    await refused(ledger.GetLiability(pb.GetLiabilityRequest(), metadata=desk, timeout=10))
    shop = bearer("backend", sub="shop", jti="t-3", behalf="boss")
    await refused(ledger.GetProgramme(pb.GetProgrammeRequest(), metadata=shop, timeout=10))
    stream = ledger.StreamEntries(pb.StreamEntriesRequest(), metadata=bearer("analyst", sub="ana"), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(aiter(stream))
    written = await lines("ledger", 4)
    names = ("method", "reason", "principal", "on_behalf_of", "token_id", "store", "terminal")
    assert [tuple(line[name] for name in names) for line in written] == [
        (f"{LEDGER}/RecordPurchase", "STORE_DENIED", "till", "", "t-1", "17", "3"),
        (f"{LEDGER}/GetLiability", "SCOPE_MISSING", "desk", "anna", "t-2", "", ""),
        (f"{LEDGER}/GetProgramme", "DELEGATION_DENIED", "shop", "boss", "t-3", "", ""),
        (f"{LEDGER}/StreamEntries", "SCOPE_MISSING", "ana", "", "id-1", "", ""),
    ]
    assert [line["number"] for line in written] == [1, 2, 3, 4]
    assert {(line["outcome"], line["member_ids"], line["left_out"]) for line in written} == {("REFUSED", "", 0)}
    assert before - timedelta(seconds=1) < written[0]["call_time"] <= written[-1]["call_time"] <= machine_now()


async def test_the_log_says_who_was_refused_to_act_for_another(ledger: Any) -> None:
    shop = bearer("backend", sub="shop", behalf="boss")
    with structlog.testing.capture_logs() as logged:
        await refused(ledger.GetProgramme(pb.GetProgrammeRequest(), metadata=shop, timeout=10))
    (line,) = [line for line in logged if line["event"] == "rpc_finished"]
    assert (line["reason"], line["principal"]) == ("DELEGATION_DENIED", "shop")


async def test_who_is_let_in_or_not_known_leaves_no_line(ledger: Any, lines: Lines) -> None:
    await ledger.GetProgramme(pb.GetProgrammeRequest(), metadata=bearer("pos"), timeout=10)
    for metadata in ((), bearer("ops", exp=1), bearer("ops", jti="a b")):
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await ledger.GetLiability(pb.GetLiabilityRequest(), metadata=metadata, timeout=10)
        assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await refused(ledger.GetLiability(pb.GetLiabilityRequest(), metadata=bearer("pos", sub="till"), timeout=10))
    assert [line["principal"] for line in await lines("ledger", 1)] == ["till"]


async def test_each_refused_write_of_a_list_leaves_a_line_of_its_own_method(ledger: Any, lines: Lines) -> None:
    till = bearer("pos", sub="till", store="17")
    writes = [
        pb.Write(enroll_member=pb.EnrollMemberRequest(request_id="join", member_id="ann")),
        pb.Write(adjust_points=pb.AdjustPointsRequest(request_id="a", member_id="ann", points=5, reason="gift")),
        pb.Write(record_purchase=purchase("18")),
    ]
    await ledger.BatchRecord(pb.BatchRecordRequest(writes=writes), metadata=till, timeout=10)
    expected = [(f"{LEDGER}/AdjustPoints", "SCOPE_MISSING"), (f"{LEDGER}/RecordPurchase", "STORE_DENIED")]
    assert [(line["method"], line["reason"]) for line in await lines("ledger", 2)] == expected
    stream = ledger.RecordStream(iter([pb.RecordStreamRequest(writes=writes)]), metadata=till, timeout=10)
    await anext(aiter(stream))
    assert [(line["method"], line["reason"]) for line in await lines("ledger", 4)] == 2 * expected


async def test_a_service_that_calls_what_it_may_not_leaves_a_line_without_a_token(
    database: Database, folder: Path, token_file: Path, lines: Lines
) -> None:
    authority = LocalAuthority(folder / "tls")
    authority.ready()
    config = ledger_config(database, folder, token_file)
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)
        own = Certificates(authority.files("ledger"))
        await stack.enter_async_context(known(service, config.listen, folder, own))
        theirs = Certificates(authority.files("notifier"))
        channel = open_secure_channel(config.listen, server="ledger", certificates=theirs)
        stack.push_async_callback(channel.close)
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        adjustment = pb.AdjustPointsRequest(request_id="a", member_id="ann", points=1, reason="why")
        await refused(stub.AdjustPoints(adjustment, timeout=10))
        (line,) = await lines("ledger", 1)
    assert (line["principal"], line["token_id"], line["reason"]) == ("notifier", "", "CALLER_DENIED")


async def test_tiers_and_notifier_have_logs_of_their_own(
    database: Database, notifier: Any, folder: Path, token_file: Path, lines: Lines
) -> None:
    config = TiersConfig(
        listen=f"unix:{folder}/tiers.sock",
        database_url=database.dsn("loyalty_tiers"),
        programme=PROGRAMME,
        token_file=token_file,
        ledger_address=f"unix:{folder}/ledger.sock",
    )
    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(known(await build_tiers(config, stack), config.listen, folder))
        stub = tier_service_pb2_grpc.TierServiceStub(channel)
        nobody = bearer(sub="nobody")
        await refused(stub.GetStanding(tiers_pb.GetStandingRequest(member_id="ann"), metadata=nobody, timeout=10))
        await refused(notifier.ListDeliveries(notifier_pb.ListDeliveriesRequest(), metadata=nobody, timeout=10))
        assert [line["method"] for line in await lines("tiers", 1)] == ["/loyalty.tiers.v1.TierService/GetStanding"]
        (line,) = await lines("notifier", 1)
        assert (line["method"], line["outcome"]) == (f"{NOTIFIER}/ListDeliveries", "REFUSED")
        assert await lines("ledger") == []


async def test_a_flood_of_refusals_is_counted_and_what_was_left_out_is_written_at_the_stop(
    database: Database, folder: Path, token_file: Path, lines: Lines
) -> None:
    config = ledger_config(database, folder, token_file)
    write = pb.Write(adjust_points=pb.AdjustPointsRequest(request_id="a", member_id="ann", points=5, reason="gift"))
    batch = pb.BatchRecordRequest(writes=[write] * 1000)
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)
        channel = await stack.enter_async_context(known(service, config.listen, folder))
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        for _ in range(3):
            await stub.BatchRecord(batch, metadata=bearer("pos", sub="till"), timeout=10)
    written = await lines("ledger")
    assert BURST < len(written) < BURST + 10
    assert sum(line["left_out"] + 1 for line in written) == 3000


# --- reads of contact data ---


async def deliver(database: Database, members: Collection[str]) -> None:
    """Puts a message to each of the members into the outbox, as if sent long ago."""
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await connection.execute(
            """INSERT INTO notifier.coupons (partition, campaign_id, member_id, trigger, code, variant, offer,
                                             issued_time, valid_until_time)
               SELECT 0, 'c', member, row_number() OVER (), 'CODE-' || member, 0, '{"kind": "gift_card"}', now(),
                      now() + interval '1 day'
               FROM unnest($1::text[]) AS member""",
            list(members),
        )
        await connection.execute(
            """INSERT INTO notifier.deliveries (partition, campaign_id, member_id, trigger, delivery_id, facts,
                                                created_time, state, not_before)
               SELECT 0, 'c', member_id, trigger, lpad(trigger, 32, '0'), '{}', now(), 'dead', now()
               FROM notifier.coupons"""
        )
    finally:
        await connection.close()


CONTACTS = "contacts.read"
# Every method that shows contact data, with a request; one that is new in the contract must be here, too.
CONTACT_READS = {
    f"{NOTIFIER}/ListDeliveries": notifier_pb.ListDeliveriesRequest(),
    f"{NOTIFIER}/ListDeadLetters": notifier_pb.ListDeadLettersRequest(),
    f"{NOTIFIER}/GetContact": notifier_pb.GetContactRequest(member_id="ann"),
    f"{NOTIFIER}/GetPreferences": message_pb2.GetPreferencesRequest(member_id="ann"),
}


async def test_every_read_of_contact_data_leaves_a_line(notifier: Any, lines: Lines) -> None:
    reads = [method for method, scope in contract.scopes(contract.SERVICES["notifier"]).items() if scope == CONTACTS]
    assert set(reads) == set(CONTACT_READS)
    for method, request in CONTACT_READS.items():
        await getattr(notifier, method.rpartition("/")[2])(request, metadata=bearer("support"), timeout=10)
    assert [line["method"] for line in await lines("notifier")] == list(CONTACT_READS)


async def test_a_read_says_whom_it_showed_and_is_written_when_the_answer_comes(
    notifier: Any, database: Database, lines: Lines
) -> None:
    await deliver(database, [f"m-{number:02}" for number in range(30)])
    desk = bearer("support", sub="desk", delegates=True, behalf="anna", jti="t-9")

    async def listed(**asked: Any) -> Row:
        request = notifier_pb.ListDeliveriesRequest(**asked)
        await notifier.ListDeliveries(request, metadata=desk, timeout=10)
        return (await lines("notifier"))[-1]

    line = await listed(page_size=2)
    assert (line["outcome"], line["reason"], line["principal"], line["on_behalf_of"], line["token_id"]) == (
        *("READ", "", "desk", "anna", "t-9"),
    )
    assert (len(line["member_ids"].split()), line["members"]) == (2, 2)
    line = await listed()
    assert (line["member_ids"], line["members"]) == ("", 30)
    line = await listed(member_id="ann")
    assert (line["member_ids"], line["members"], line["number"]) == ("ann", 1, 3)


async def test_reads_are_never_left_out(notifier: Any, lines: Lines) -> None:
    request = notifier_pb.ListDeliveriesRequest()
    many = 3 * BURST
    reading = (notifier.ListDeliveries(request, metadata=bearer("support"), timeout=20) for _ in range(many))
    await asyncio.gather(*reading)
    assert [line["number"] for line in await lines("notifier")] == list(range(1, many + 1))


async def test_a_read_that_cannot_be_written_down_is_not_answered(
    notifier: Any, database: Database, lines: Lines
) -> None:
    await deliver(database, ["ann"])
    request = notifier_pb.ListDeliveriesRequest()
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE notifier.audit_log IN EXCLUSIVE MODE")
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await notifier.ListDeliveries(request, metadata=bearer("support"), timeout=1)
            assert told.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await owner.execute("REVOKE INSERT ON notifier.audit_log FROM loyalty_notifier")
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await notifier.ListDeliveries(request, metadata=bearer("support"), timeout=10)
        assert told.value.code() is grpc.StatusCode.INTERNAL
        await owner.execute("GRANT INSERT ON notifier.audit_log TO loyalty_notifier")
    finally:
        await owner.close()
    answer = await notifier.ListDeliveries(request, metadata=bearer("support"), timeout=10)
    assert [delivery.member_id for delivery in answer.deliveries] == ["ann"]
    assert await lines("notifier")


# --- the chain ---


def refusal(principal: str = "till", reason: str = "SCOPE_MISSING") -> PermissionDeniedError:
    return PermissionDeniedError(Caller(principal=principal, token_id="t", store="17"), reason, "")


@contextlib.asynccontextmanager
async def trail(dsn: str, service: str) -> AsyncIterator[AuditTrail]:
    """The audit trail of one process of a service, flushed at the end."""
    pool = await create_pool(dsn, service="test")
    made = AuditTrail(service, pool, machine_now)
    writing = asyncio.create_task(made.keep_written())
    try:
        yield made
        await made.flush()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await pool.close()


async def fill(database: Database, service: str) -> str:
    """Ten lines, of refusals and of a read; the role's DSN."""
    dsn = database.dsn(f"loyalty_{service}")
    async with trail(dsn, service) as made:
        for number in range(9):
            made.refused(refusal(f"p-{number}"), "/a/B")
        await made.flush()
        await made.read(Caller(principal="desk"), "/a/C", {"ann", "bob"})
    return dsn


@pytest.mark.parametrize("service", SERVICES)
async def test_the_check_of_an_untouched_log_is_clean(database: Database, service: str) -> None:
    dsn = database.dsn(f"loyalty_{service}")
    assert await audit.check(dsn, service) == audit.AuditReport(lines=0, differences=())
    await fill(database, service)
    assert await audit.check(dsn, service) == audit.AuditReport(lines=10, differences=())


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET left_out = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_nobody_changes_or_removes_a_line(database: Database, service: str, statement: str) -> None:
    await fill(database, service)
    for role in (f"loyalty_{service}", "loyalty_owner"):
        connection = await asyncpg.connect(database.dsn(role))
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.format(f"{service}.audit_log"))
        finally:
            await connection.close()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("statement", "what", "where"),
    [
        ("UPDATE {0}.audit_log SET principal = 'eve' WHERE number = 4", "hash chain of the audit log", "audit line 4"),
        ("UPDATE {0}.audit_log SET member_ids = '' WHERE number = 10", "hash chain of the audit log", "audit line 10"),
        ("DELETE FROM {0}.audit_log WHERE number = 4", "number without a gap", "audit line 5"),
        ("DELETE FROM {0}.audit_log WHERE number > 8", "end of the audit log", "audit_head"),
        ("DELETE FROM {0}.audit_log", "end of the audit log", "audit_head"),
        ("UPDATE {0}.audit_head SET last_number = 9", "end of the audit log", "audit_head"),
        ("DELETE FROM {0}.audit_head", "end of the audit log", "audit_head"),
    ],
)
async def test_the_check_finds_what_was_changed(
    database: Database, service: str, statement: str, what: str, where: str
) -> None:
    dsn = await fill(database, service)
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute(f"ALTER TABLE {service}.audit_log DISABLE TRIGGER USER")
        assert not (await owner.execute(statement.format(service))).endswith(" 0")
    finally:
        await owner.close()
    report = await audit.check(dsn, service)
    assert (what, where) in {(found["what"], found["where"]) for found in report.differences}


async def test_lines_of_one_service_do_not_pass_for_those_of_another(database: Database) -> None:
    await fill(database, "ledger")
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute("INSERT INTO tiers.audit_log SELECT * FROM ledger.audit_log")
        await owner.execute(
            "UPDATE tiers.audit_head SET (last_number, hash) = (SELECT last_number, hash FROM ledger.audit_head)"
        )
    finally:
        await owner.close()
    assert (await audit.check(database.dsn("loyalty_tiers"), "tiers")).differences


async def test_the_command_that_checks_a_service_verifies_its_audit_log(
    ledger: Any, database: Database, folder: Path, token_file: Path, lines: Lines
) -> None:
    await refused(ledger.GetLiability(pb.GetLiabilityRequest(), metadata=bearer("pos"), timeout=10))
    await lines("ledger", 1)

    async def report() -> tuple[int, dict[str, Any]]:
        environment = {
            "LOYALTY_LISTEN": f"unix:{folder}/ledger.sock",
            "LOYALTY_DATABASE_URL": database.dsn("loyalty_ledger"),
            "LOYALTY_PROGRAMME": str(PROGRAMME),
            "LOYALTY_TOKEN_FILE": str(token_file),
            "LOYALTY_IDENTIFIER_KEY_FILE": str(identifier_key(folder)),
        }
        command = [sys.executable, "-m", "services.ledger", "check"]
        done = await asyncio.to_thread(
            subprocess.run, command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.returncode, json.loads(done.stdout)

    code, clean = await report()
    assert (code, clean["checked"]["audit_lines"], clean["differences"]) == (0, 1, [])
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute("ALTER TABLE ledger.audit_log DISABLE TRIGGER USER")
        await owner.execute("UPDATE ledger.audit_log SET reason = ''")
    finally:
        await owner.close()
    code, changed = await report()
    assert (code, [found["what"] for found in changed["differences"]]) == (1, ["hash chain of the audit log"])


async def test_the_recipe_of_the_documentation_verifies_the_chain_and_finds_a_change(database: Database) -> None:
    dsn = await fill(database, "notifier")
    section = (ROOT / "docs" / "operations.md").read_text().partition("## The audit log")[2]
    recipe = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert recipe is not None
    names: dict[str, Any] = {}
    exec(recipe[1], names)
    connection = await asyncpg.connect(dsn)
    try:
        rows = [dict(row) for row in await connection.fetch("SELECT * FROM notifier.audit_log ORDER BY number")]
    finally:
        await connection.close()
    assert names["verify"]("notifier", rows) == "verified"
    rows[3]["store"] = "18"
    assert names["verify"]("notifier", rows) == "line 4 does not follow from the one before"


async def test_several_processes_write_one_chain_without_gaps(database: Database) -> None:
    dsn = database.dsn("loyalty_notifier")
    async with contextlib.AsyncExitStack() as stack:
        trails = [await stack.enter_async_context(trail(dsn, "notifier")) for _ in range(3)]

        async def work(place: int, made: AuditTrail) -> None:
            for number in range(40):
                made.refused(refusal(f"p-{place}-{number}"), "/a/B")
                await made.read(Caller(principal="desk"), "/a/C", {f"m-{number}"})

        await asyncio.gather(*(work(place, made) for place, made in enumerate(trails)))
    assert await audit.check(dsn, "notifier") == audit.AuditReport(lines=240, differences=())


@pytest.mark.parametrize("service", SERVICES)
async def test_every_query_of_the_audit_log_prepares_for_the_role_of_each_service(
    database: Database, service: str
) -> None:
    connection = await asyncpg.connect(database.dsn(f"loyalty_{service}"))
    try:
        for sql in load_queries(ROOT / "services" / "runtime" / "sql" / "audit.sql").values():
            await connection.prepare(sql.replace("{schema}", service))
    finally:
        await connection.close()


# --- a database that is away ---


async def test_while_the_database_is_away_refusals_wait_in_bounded_memory_and_none_goes_uncounted(
    database: Database, cluster: Cluster, lines: Lines
) -> None:
    async with trail(database.dsn("loyalty_ledger"), "ledger") as made:
        made.refused(refusal("first"), "/a/B")
        await lines("ledger", 1)
        cluster.stop()
        try:
            began = time.perf_counter()
            for number in range(20_000):
                made.refused(refusal(f"p-{number % 500}"), "/a/B")
            assert time.perf_counter() - began < 2, "a refusal waits for nothing"
            assert len(made._waiting) == 1000
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await made.read(Caller(principal="desk"), "/a/C", {"ann"})
        finally:
            cluster.start()
        await lines("ledger", 1001)
    written = await lines("ledger")
    assert sum(line["left_out"] + 1 for line in written) == 20_001
    assert len(written) == 1501
    assert (await audit.check(database.dsn("loyalty_ledger"), "ledger")).differences == ()


async def test_what_cannot_be_written_at_the_stop_is_told_in_the_log(
    database: Database, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trail(database.dsn("loyalty_ledger"), "ledger") as made:
        cluster.stop()
        try:
            for _ in range(BURST + 7):
                made.refused(refusal(), "/a/B")
            await made.flush()
        finally:
            cluster.start()
        assert f"refusals={BURST + 7}" in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


async def test_a_service_whose_audit_log_is_missing_does_not_run(
    database: Database, folder: Path, token_file: Path
) -> None:
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute("DROP TABLE ledger.audit_head")
    finally:
        await owner.close()
    config = ledger_config(database, folder, token_file)
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)
        with pytest.raises(ExceptionGroup) as told:
            async with known(service, config.listen, folder):
                await asyncio.sleep(10)
        assert told.group_contains(asyncpg.UndefinedTableError)
