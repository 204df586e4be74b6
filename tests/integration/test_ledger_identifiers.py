"""Cards and phone numbers lead to members, and members are erased: over real gRPC and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, member_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services.ledger.domain.identifiers import MAX_IDENTIFIERS
from services.runtime.config import ConfigurationError
from tests.conftest import Database, StartLedger, identifier_key
from tests.integration.test_ledger_points import (
    NOON,
    Ledger,
    M,
    at,
    details_of,
    enrol,
    hold,
    money,
    purchase,
    redeem,
    refused,
    returned,
)
from tests.ledger_checks import checked
from tests.till import write

PROGRAMME = """
programme: found
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00", pending: P14D}
expiry: {policy: after, period: P1Y}
liability: {values: [{from: 1970-01-01, points: 100, worth: "1.00"}]}
tiers:
  base: total
  window: P365D
  levels: [{name: White}]
"""
OTHER = "m-2"
SECRET_NUMBER = "4006381333931-zxqv"

TAKEN, NOT_FOUND = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def card(value: str = SECRET_NUMBER) -> member_pb2.Identifier:
    return member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value=value)


def phone(value: str = "+48600100200") -> member_pb2.Identifier:
    return member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_PHONE, value=value)


def link(request_id: str, identifier: Any = None, member_id: str = M) -> pb.LinkIdentifierRequest:
    return pb.LinkIdentifierRequest(request_id=request_id, member_id=member_id, identifier=identifier or card())


def unlink(request_id: str, reason: str = "LOST", **more: Any) -> pb.UnlinkIdentifierRequest:
    fields = {"request_id": request_id, "member_id": M, "reason": pb.UnlinkReason.Value(f"UNLINK_REASON_{reason}")}
    named = {} if "identifier_id" in more else {"identifier": card()}
    return pb.UnlinkIdentifierRequest(**fields | named | more)


def erase(request_id: str = "x", member_id: str = M) -> pb.EraseMemberRequest:
    return pb.EraseMemberRequest(request_id=request_id, member_id=member_id, reason="asked")


async def found(ledger: Ledger, identifier: Any = None) -> member_pb2.Member:
    request = pb.LookupMemberRequest(identifier=identifier or card())
    member: member_pb2.Member = (await ledger.LookupMember(request)).member
    return member


async def streamed(ledger: Ledger) -> list[Any]:
    return [entry async for part in ledger.StreamEntries(pb.StreamEntriesRequest()) for entry in part.entries]


async def kept_texts(database: Database) -> str:
    """All that the ledger keeps, as text; bytes in hexadecimal digits."""
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'")
        rows = [row for (table,) in tables for row in await owner.fetch(f"SELECT t::text FROM ledger.{table} t")]
    finally:
        await owner.close()
    return "\n".join(row[0] for row in rows)


@pytest_asyncio.fixture
async def ledger(start_ledger: StartLedger, folder: Path, database: Database) -> AsyncIterator[Ledger]:
    """A ledger with two members. At the end its states follow from its log."""
    path = folder / "found.yaml"
    path.write_text(PROGRAMME)
    started = Ledger(await start_ledger(programme=path))
    await started.EnrollMember(enrol())
    await started.EnrollMember(enrol(OTHER))
    yield started
    assert (await checked(database.dsn("loyalty_ledger"), path)).differences == ()


# Identifiers


async def test_a_member_is_found_by_its_card_and_its_phone_number(ledger: Ledger) -> None:
    await ledger.RecordPurchase(purchase("p"))
    linked = await ledger.LinkIdentifier(link("1"))
    assert (linked.applied, linked.replayed, len(linked.identifier_id)) == (True, False, 64)
    await ledger.LinkIdentifier(link("2", phone(), OTHER))
    member = await found(ledger)
    assert (member.member_id, member.balance.pending_points) == (M, 1000)
    assert (await found(ledger, phone())).member_id == OTHER
    # The same digits are another identifier where they are of another kind.
    with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
        await found(ledger, card("+48600100200"))
    entries = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_IDENTIFIER_LINKED])
    assert [(one.reference, one.detail.identifier_id) for one in entries] == [("card", linked.identifier_id)]
    assert linked.causal_token == f"{entries[0].partition}-{entries[0].offset}"


async def test_who_tries_cards_that_nobody_has_must_wait_and_then_finds_not_even_a_right_one(ledger: Ledger) -> None:
    await ledger.LinkIdentifier(link("l-1"))
    tries = 0

    async def guess() -> None:
        nonlocal tries
        while tries < 2_000:
            # What is found costs nothing, until nothing is looked up.
            await found(ledger)
            with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
                await found(ledger, card(f"wrong-{tries}"))
            tries += 1

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await guess()
    # Who says for nobody that it asks has the tries of many tills.
    assert tries >= 500
    told = details_of(caught.value)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told["ErrorInfo"].reason == "TOO_MANY_UNKNOWN_IDENTIFIERS"
    assert 0 < told["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 15
    # A service that acts for somebody counts that by itself.
    request = pb.LookupMemberRequest(identifier=card())
    answer = await ledger.LookupMember(request, metadata=(("x-on-behalf-of", "till-7"),))
    assert answer.member.member_id == M


async def test_the_same_request_links_once_and_another_one_of_the_same_card_changes_nothing(ledger: Ledger) -> None:
    first = await ledger.LinkIdentifier(link("1"))
    again = await ledger.LinkIdentifier(link("1"))
    assert (again.applied, again.replayed, again.causal_token) == (True, True, first.causal_token)
    other = await ledger.LinkIdentifier(link("2"))
    assert (other.applied, other.replayed, other.causal_token) == (False, False, "")
    with refused("REQUEST_ID_REUSED", TAKEN) as caught:
        await ledger.LinkIdentifier(link("1", card("another")))
    assert details_of(caught.value)["ErrorInfo"].metadata["field"] == "identifier"
    assert len(await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_IDENTIFIER_LINKED])) == 1


async def test_a_card_leads_to_one_member(ledger: Ledger) -> None:
    await ledger.LinkIdentifier(link("1"))
    for _ in range(2):
        with refused("IDENTIFIER_TAKEN", TAKEN):
            await ledger.LinkIdentifier(link("2", member_id=OTHER))
    with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
        await ledger.UnlinkIdentifier(unlink("3", member_id=OTHER))
    with refused("MEMBER_UNKNOWN", NOT_FOUND):
        await ledger.LinkIdentifier(link("4", member_id="nobody"))


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("LOST", "this card was reported as lost and can be used no more; find the member by another one"),
        ("STOLEN", "this card was reported as stolen and can be used no more; find the member by another one"),
        ("REPLACED", "this card has been replaced and can be used no more; find the member by another one"),
    ],
)
async def test_a_blocked_card_leads_to_nobody_ever_again_and_the_cashier_is_told_why(
    ledger: Ledger, reason: str, sentence: str
) -> None:
    await ledger.LinkIdentifier(link("1"))
    blocked = await ledger.UnlinkIdentifier(unlink("2", reason))
    assert (blocked.applied, (await ledger.UnlinkIdentifier(unlink("2", reason))).replayed) == (True, True)
    with refused("IDENTIFIER_BLOCKED") as caught:
        await found(ledger)
    assert caught.value.details() == sentence
    assert details_of(caught.value)["ErrorInfo"].metadata == {"blocked": reason.lower()}
    for member_id in (M, OTHER):
        with refused("IDENTIFIER_BLOCKED"):
            await ledger.LinkIdentifier(link("3", member_id=member_id))
    assert not (await ledger.UnlinkIdentifier(unlink("4", "OTHER"))).applied
    with refused("IDENTIFIER_BLOCKED"):
        await found(ledger)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_IDENTIFIER_UNLINKED])
    assert (entry.reference, entry.reason, entry.detail.identifier_id) == (
        "card",
        reason.lower(),
        blocked.identifier_id,
    )


async def test_an_identifier_that_is_let_go_may_be_another_members(ledger: Ledger) -> None:
    await ledger.LinkIdentifier(link("1"))
    await ledger.UnlinkIdentifier(unlink("2", "OTHER"))
    with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
        await found(ledger)
    await ledger.LinkIdentifier(link("3", member_id=OTHER))
    assert (await found(ledger)).member_id == OTHER


async def test_a_card_that_is_not_at_hand_is_blocked_by_its_id(ledger: Ledger) -> None:
    linked = await ledger.LinkIdentifier(link("1"))
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_IDENTIFIER_LINKED])
    await ledger.UnlinkIdentifier(unlink("2", identifier_id=entry.detail.identifier_id))
    with refused("IDENTIFIER_BLOCKED"):
        await found(ledger)
    with refused("INVALID_FIELD", INVALID):
        await ledger.UnlinkIdentifier(unlink("3", identifier_id=linked.identifier_id, identifier=card()))
    with refused("INVALID_FIELD", INVALID):
        await ledger.UnlinkIdentifier(unlink("3", identifier_id=""))


async def test_a_member_has_twenty_identifiers_and_those_that_are_blocked_do_not_count(ledger: Ledger) -> None:
    for number in range(MAX_IDENTIFIERS):
        await ledger.LinkIdentifier(link(f"l{number}", card(f"card-{number}")))
    with refused("TOO_MANY_IDENTIFIERS"):
        await ledger.LinkIdentifier(link("one-more", card("one-more")))
    await ledger.UnlinkIdentifier(unlink("u", "REPLACED", identifier=card("card-7")))
    assert (await ledger.LinkIdentifier(link("another", card("one-more")))).applied


async def test_who_left_is_found_and_gets_no_new_card(ledger: Ledger) -> None:
    await ledger.LinkIdentifier(link("1"))
    await ledger.ResignMember(
        pb.ResignMemberRequest(request_id="r", member_id=M, occurred_time=at("1970-01-01T00:00:00Z"))
    )
    assert (await found(ledger)).status == member_pb2.MEMBER_STATUS_RESIGNED
    with refused("MEMBER_RESIGNED"):
        await ledger.LinkIdentifier(link("2", card("new")))
    assert (await ledger.UnlinkIdentifier(unlink("3"))).applied


@pytest.mark.parametrize("number", ["700300400", "+0700300400", "+48 700", "+487003004005006007"])
async def test_a_phone_number_is_written_as_e164_and_is_not_told_back(ledger: Ledger, number: str) -> None:
    with refused("INVALID_FIELD", INVALID) as caught:
        await ledger.LinkIdentifier(link("1", phone(number)))
    (violation,) = details_of(caught.value)["BadRequest"].field_violations
    assert violation.field == "identifier.value"
    assert number not in str(violation)
    assert number not in caught.value.details()


async def test_the_value_of_an_identifier_is_kept_nowhere(
    ledger: Ledger, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    await ledger.LinkIdentifier(link("1"))
    with refused("IDENTIFIER_TAKEN", TAKEN):
        await ledger.LinkIdentifier(link("2", member_id=OTHER))
    await found(ledger)
    await ledger.UnlinkIdentifier(unlink("3"))
    kept = await kept_texts(database)
    assert "IDENTIFIER_TAKEN" in kept
    for form in (SECRET_NUMBER, SECRET_NUMBER.encode().hex(), hashlib.sha256(SECRET_NUMBER.encode()).hexdigest()):
        assert form not in kept
    assert SECRET_NUMBER not in "".join(capfd.readouterr())
    assert not any(entry.HasField("detail") for entry in await streamed(ledger))


async def test_of_many_who_link_one_card_at_once_exactly_one_gets_it(
    ledger: Ledger, start_ledger: StartLedger, folder: Path
) -> None:
    other = Ledger(await start_ledger(programme=folder / "found.yaml", name="other"))
    members = [f"x{number}" for number in range(12)]
    writes = [write(enrol(member_id)) for member_id in members]
    await ledger.BatchRecord(pb.BatchRecordRequest(writes=writes))

    async def attempt(number: int, member_id: str, value: str) -> str:
        through = (ledger, other)[number % 2]
        try:
            await through.LinkIdentifier(link(f"l-{value}", card(value), member_id))
        except grpc.aio.AioRpcError as error:
            return str(details_of(error)["ErrorInfo"].reason)
        return member_id

    for value in ("one", "two", "three"):
        # Lanes write beside them.
        traffic = [ledger.RecordPurchase(purchase(f"p-{value}-{one}", member_id=one)) for one in members]
        told = await asyncio.gather(*(attempt(n, one, value) for n, one in enumerate(members)), *traffic)
        (winner,) = [one for one in told[: len(members)] if one in members]
        assert told[: len(members)].count("IDENTIFIER_TAKEN") == len(members) - 1
        assert (await found(other, card(value))).member_id == winner


@contextlib.asynccontextmanager
async def stopped_at(database: Database, table: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Whoever writes to the table waits meanwhile; what is given waits for that and cuts its connection."""
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    breaker = await asyncpg.connect(database.dsn("loyalty_ledger"))

    async def cut() -> None:
        for _ in range(400):
            if await breaker.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ledger' AND datname = current_database() AND wait_event_type = 'Lock'"
            ):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody waits")

    try:
        async with owner.transaction():
            await owner.execute(f"LOCK TABLE ledger.{table} IN SHARE MODE")
            yield cut
    finally:
        await owner.close()
        await breaker.close()


async def test_a_link_that_is_cut_off_anywhere_leaves_nothing_and_is_done_when_sent_again(
    ledger: Ledger, database: Database
) -> None:
    before = len(await streamed(ledger))
    tables = ("entries", "entry_details", "requests", "member_identifiers", "identifiers", "partitions")
    for number, table in enumerate(tables):
        request = link(f"l{number}", card(f"card-{number}"), (M, OTHER)[number % 2])
        async with stopped_at(database, table) as cut:
            # The client sends it again by itself, and that waits, too.
            linking = asyncio.ensure_future(ledger.LinkIdentifier(request))
            await cut()
            with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
                await found(ledger, request.identifier)
            assert len(await streamed(ledger)) == before + number
        answer = await linking
        assert (answer.applied, answer.replayed) == (True, False)
        assert (await found(ledger, request.identifier)).member_id == request.member_id
        assert len(await streamed(ledger)) == before + number + 1


async def test_another_key_does_not_start(ledger: Ledger, start_ledger: StartLedger, folder: Path) -> None:
    import tests.conftest as conftest

    def another(folder: Path) -> Path:
        path = identifier_key(folder)
        path.write_text("A" * 43 + "=")
        return path

    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patched:
        patched.setattr(conftest, "identifier_key", another)
        with pytest.raises(ConfigurationError, match="is not the one that this ledger was created with"):
            await start_ledger(programme=folder / "found.yaml", name="other")


# Erasing


async def filled(ledger: Ledger) -> None:
    """The member with points in every place, details, a hold, a card and a blocked one."""
    lines = [pb.Line(sku="sku-zxqv", name="Zxqvname", amount_minor_units=100000)]
    await ledger.RecordPurchase(purchase("p", lines=lines, store_id="store-zxqv", receipt_number="receipt-zxqv"))
    await ledger.advance("1970-01-16T12:00:00Z")
    await ledger.RecordPurchase(purchase("q", 50000, occurred_time=at("1970-01-16T12:00:00Z")))
    await ledger.AwardPoints(
        pb.AwardPointsRequest(request_id="a", member_id=M, points=70, reason="gift", note="note-zxqv")
    )
    await ledger.HoldPoints(hold("h", 200))
    await ledger.RedeemPoints(redeem("r", 100, occurred_time=at("1970-01-16T12:00:00Z")))
    await ledger.LinkIdentifier(link("1"))
    await ledger.LinkIdentifier(link("2", card("blocked-zxqv")))
    await ledger.UnlinkIdentifier(unlink("3", "STOLEN", identifier=card("blocked-zxqv")))
    with refused("NOT_ENOUGH_POINTS"):
        await ledger.RedeemPoints(redeem("too-much", 5000, note="refused-zxqv"))


async def test_an_erased_member_is_gone_and_all_still_adds_up(ledger: Ledger, database: Database) -> None:
    await filled(ledger)
    await ledger.RecordPurchase(purchase("other", 30000, member_id=OTHER))
    before = (await ledger.GetLiability(pb.GetLiabilityRequest(period="1970"))).liability
    balance = await ledger.balance()
    assert (balance.available_points, balance.pending_points, balance.held_points) == (770, 500, 200)
    hashes = {(entry.partition, entry.offset): entry.hash for entry in await streamed(ledger)}

    answer = await ledger.EraseMember(erase())
    assert (answer.replayed, answer.erased_time) == (False, at("1970-01-16T12:00:00Z"))
    member = (await ledger.GetMember(pb.GetMemberRequest(member_id=M))).member
    assert (member.status, member.erased_time) == (member_pb2.MEMBER_STATUS_ERASED, answer.erased_time)
    assert (member.balance.available_points, member.balance.pending_points, member.balance.held_points) == (0, 0, 0)
    entries = await ledger.entries()
    last = entries[0]
    assert (last.kind, last.reason) == (entry_pb2.ENTRY_KIND_MEMBER_ERASED, "asked")
    assert f"{last.partition}-{last.offset}" == answer.causal_token
    assert sum(leg.points for leg in last.postings if leg.account == entry_pb2.ACCOUNT_EXPIRED) == 1470
    details = [entry.detail for entry in entries if entry.HasField("detail")]
    assert details == [entry_pb2.EntryDetail(erased=True)] * len(details)
    assert len(details) == 5

    after = (await ledger.GetLiability(pb.GetLiabilityRequest(period="1970"))).liability
    assert after.closing.points == before.closing.points - 1470
    assert after.expired.points - before.expired.points == 1470
    in_all = after.opening.points + after.issued.points - after.redeemed.points - after.expired.points
    assert in_all + after.adjusted.points + after.debt_change.points == after.closing.points
    now_streamed = {(entry.partition, entry.offset): entry.hash for entry in await streamed(ledger)}
    assert hashes.items() <= now_streamed.items()
    kept = await kept_texts(database)
    assert "zxqv" not in kept.lower()
    assert b"zxqv".hex() not in kept
    for identifier in (card(), card("blocked-zxqv")):
        with refused("IDENTIFIER_UNKNOWN", NOT_FOUND):
            await found(ledger, identifier)
    assert (await ledger.LinkIdentifier(link("new", member_id=OTHER))).applied
    # As it was before, as far as the log tells.
    then = await ledger.balance(at_time=at("1970-01-10T12:00:00Z"))
    assert then.pending_points == 1000
    now = await ledger.balance(at_time=at("1970-01-17T12:00:00Z"))
    assert (now.available_points, now.pending_points, now.held_points, now.debt_points) == (0, 0, 0, 0)


async def test_erasing_again_is_answered_the_same(ledger: Ledger) -> None:
    await filled(ledger)
    first = await ledger.EraseMember(erase())
    for request_id in ("x", "y", "y"):
        again = await ledger.EraseMember(erase(request_id))
        assert (again.replayed, again.erased_time, again.causal_token) == (True, first.erased_time, first.causal_token)
    assert len(await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_MEMBER_ERASED])) == 1
    with refused("MEMBER_UNKNOWN", NOT_FOUND):
        await ledger.EraseMember(erase(member_id="nobody"))


async def test_what_was_answered_before_is_answered_still_and_nothing_new_is_written(ledger: Ledger) -> None:
    await filled(ledger)
    await ledger.EraseMember(erase())
    lines = [pb.Line(sku="sku-zxqv", name="Zxqvname", amount_minor_units=100000)]
    kept = purchase("p", lines=lines, store_id="store-zxqv", receipt_number="receipt-zxqv")
    answer = await ledger.RecordPurchase(kept)
    assert (answer.replayed, answer.receipt.points) == (True, 1000)
    with refused("NOT_ENOUGH_POINTS"):
        await ledger.RedeemPoints(redeem("too-much", 5000, note="refused-zxqv"))
    with refused("REQUEST_ID_REUSED", TAKEN) as caught:
        await ledger.RecordPurchase(purchase("p", 1))
    assert caught.value.details() == "this request id was used before with other content; nothing was changed"

    new: Sequence[Any] = (
        enrol(),
        purchase("n1", occurred_time=at("1970-01-16T12:00:00Z")),
        purchase("n2"),
        returned("n3", "p", amount=money(100)),
        redeem("n4", 10, offline=True),
        hold("n5", 10),
        pb.ReleaseHoldRequest(request_id="n6", member_id=M, hold_id="h"),
        pb.AwardPointsRequest(request_id="n7", member_id=M, points=1, reason="gift"),
        pb.RejoinMemberRequest(request_id="n8", member_id=M),
        link("n9", phone()),
        unlink("n10"),
        pb.AdjustPointsRequest(request_id="n11", member_id=M, points=1, reason="x"),
    )
    for request in new:
        if request.request_id == "e":
            request.request_id = "n0"
        with refused("MEMBER_ERASED"):
            await getattr(ledger, type(request).DESCRIPTOR.name.removesuffix("Request"))(request)
    with refused("MEMBER_ERASED"):
        await ledger.QuotePurchase(pb.QuotePurchaseRequest(member_id=M, amount=money(100), occurred_time=at(NOON)))
    classed = pb.SetEarningClassRequest(
        request_id="c", member_id=M, earning_class="white", sequence=1, effective_time=Timestamp()
    )
    assert not (await ledger.SetEarningClass(classed)).applied
    assert (await ledger.balance()).available_points == 0


async def test_what_an_erased_member_owed_is_written_off(ledger: Ledger) -> None:
    await ledger.RedeemPoints(redeem("r", 300, offline=True))
    await ledger.RecordPurchase(purchase("p", 10000))
    before = (await ledger.GetLiability(pb.GetLiabilityRequest(period="1970"))).liability
    assert before.debt_points == 300
    await ledger.EraseMember(erase())
    after = (await ledger.GetLiability(pb.GetLiabilityRequest(period="1970"))).liability
    assert (after.debt_points, after.closing.points, after.adjusted.points) == (0, 0, 300)
    assert after.debt_change.points == 0
    assert (await ledger.balance()).debt_points == 0


@pytest.mark.parametrize(
    "table",
    [
        "entry_details",
        "requests",
        "entries",
        "members",
        "lapsed_lots",
        "member_identifiers",
        "identifiers",
        "partitions",
    ],
)
async def test_an_erasure_that_is_cut_off_anywhere_leaves_all_as_it_was_until_it_is_done(
    ledger: Ledger, database: Database, table: str
) -> None:
    await filled(ledger)
    before = await ledger.entries()
    async with stopped_at(database, table) as cut:
        erasing = asyncio.ensure_future(ledger.EraseMember(erase()))
        await cut()
        assert (await found(ledger)).balance.available_points == 770
        assert await ledger.entries() == before
    assert not (await erasing).replayed
    assert (await ledger.balance()).available_points == 0
