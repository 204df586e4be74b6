"""Members whole, goodwill, exports and erasures, over real gRPC with a real ledger and real tiers behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import member_pb2
from loyalty.notifier.v1 import (
    campaign_pb2,
    checkout_service_pb2,
    message_pb2,
    notifier_service_pb2_grpc,
    privacy_pb2,
)
from loyalty.notifier.v1 import notifier_service_pb2 as pb

from services.notifier.app import build
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.holdings import HOLDINGS, Erasure
from services.notifier.domain.programmes import Programmes
from services.notifier.erasure_file import ErasureFile
from services.notifier.errors import MemberErasedError, PeerError, PeerRefusedError
from services.notifier.peers import acting_for
from services.notifier.progress import Progress
from services.notifier.service.contacts import ContactService
from services.notifier.service.members import MemberService, masked
from services.notifier.service.privacy import PrivacyService
from services.notifier.store import QUERIES, Grant, Store, Transaction
from tests import messages_desk
from tests.checkout_shop import settled
from tests.conftest import PROGRAMMES, Database
from tests.integration.test_audit import bearer, known
from tests.integration.test_notifier_service import (
    DAY,
    SECONDS,
    Installation,
    Notifier,
    clock,
    installation,
    reason_of,
    retention,
)
from tests.messages_desk import NOON, PARTITIONS, VAULT, open_store

__all__ = ["clock", "installation", "retention"]

CONTACT = pb.Contact(
    name="Zoë Kowalska",
    email="zoe@example.com",
    phone="+48601234567",
    language="pl",
    time_zone="Europe/Warsaw",
    birth_date="1990-05-17",
    demographics={"city": "Łódź"},
)
COMMENT = "My sister Basia is 40 today, and you had a cake."
PERSONAL = ("Zoë", "Kowalska", "zoe@example.com", "+48601234567", "1990-05-17", "Łódź", "Basia")


@pytest.fixture
def programme(folder: Path) -> Path:
    """Staff may give 300 points a month."""
    path = folder / "programme.yaml"
    text = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
    path.write_text(f"{text}\nsupport:\n  goodwill_points: 300\n", encoding="utf-8")
    return path


async def opened(installation: Installation, **changed: Any) -> Notifier:
    token = await installation.till.advance(DAY)
    await installation.start_tiers()
    notifier = await installation.start(**changed)
    await notifier.deliveries(token)
    return notifier


async def tell(notifier: Notifier, member_id: str) -> None:
    request = pb.SetContactRequest(request_id=f"contact-{member_id}", member_id=member_id, contact=CONTACT)
    await notifier.stub.SetContact(request, timeout=SECONDS)


async def comment(notifier: Notifier, member_id: str = "m-1") -> None:
    request = campaign_pb2.RecordFeedbackRequest(
        request_id="f-1", member_id=member_id, survey_id="recommend", score=10, source="till", comment=COMMENT
    )
    await notifier.stub.RecordFeedback(request, timeout=SECONDS)


async def grant(notifier: Notifier, points: int, request_id: str = "g-1", member_id: str = "m-1") -> Any:
    request = privacy_pb2.GrantGoodwillRequest(
        request_id=request_id, member_id=member_id, points=points, reason="the parcel came late"
    )
    return await notifier.stub.GrantGoodwill(request, timeout=SECONDS)


async def exported(notifier: Notifier, member_id: str = "m-1", page_size: int = 0) -> tuple[list[Any], dict[str, Any]]:
    """The holdings, and all records by category."""
    request = privacy_pb2.ExportMemberRequest(member_id=member_id, page_size=page_size)
    first = answer = await notifier.stub.ExportMember(request, timeout=SECONDS)
    records: dict[str, Any] = {}
    while True:
        for record in answer.records:
            records.setdefault(record.category, []).append(json.loads(record.json))
        if not answer.next_page_token:
            return list(first.holdings), records
        request.page_token = answer.next_page_token
        answer = await notifier.stub.ExportMember(request, timeout=SECONDS)


async def erase(notifier: Notifier, member_id: str = "m-1", request_id: str = "e-1") -> Any:
    request = privacy_pb2.EraseMemberRequest(request_id=request_id, member_id=member_id, reason="asked")
    return await notifier.stub.EraseMember(request, timeout=SECONDS)


async def rows_about(database: Database, member_id: str) -> str:
    """All rows of the notifier that name a member, as text."""
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        found = []
        for table in await tables_about_members(connection):
            rows = await connection.fetch(
                f"SELECT to_jsonb(kept)::text AS row FROM notifier.{table} AS kept WHERE member_id = $1", member_id
            )
            found += [f"{table}: {row['row']}" for row in rows]
        return "\n".join(found)
    finally:
        await connection.close()


async def tables_about_members(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch(
        """SELECT table_name FROM information_schema.columns
           WHERE table_schema = 'notifier' AND column_name = 'member_id'"""
    )
    return {row["table_name"] for row in rows}


async def test_every_table_that_names_a_member_is_exported_and_says_what_an_erasure_does_to_it(
    database: Database,
) -> None:
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        tables = await tables_about_members(connection)
    finally:
        await connection.close()
    listed = [table for holding in HOLDINGS for table in holding.tables]
    assert set(listed) == tables - {"member_keys"}
    assert len(listed) == len(set(listed))
    assert {f"export_{table}" for table in listed if table != "contacts"} <= QUERIES.keys()
    forgotten = {
        table for holding in HOLDINGS if holding.erasure is not Erasure.KEPT for table in holding.tables
    }  # fmt: skip
    assert {f"erase_{table}" for table in forgotten | {"member_keys"}} == {
        name for name in QUERIES if name.startswith("erase_")
    }


async def test_a_member_is_shown_whole(installation: Installation) -> None:
    notifier = await opened(installation)
    till = installation.till
    await till.enroll("m-1")
    await tell(notifier, "m-1")
    await till.buy("m-1", 10000, DAY)
    token = await till.buy("m-1", 25000, DAY)
    await notifier.deliveries(token)
    await comment(notifier)
    request = privacy_pb2.GetMemberViewRequest(member_id="m-1", causal_token=token)
    view = (await notifier.stub.GetMemberView(request, timeout=SECONDS)).view
    assert (view.member.member_id, view.name, view.email, view.phone) == (
        "m-1",
        "Zoë Kowalska",
        "zoe@example.com",
        "+48601234567",
    )
    assert (view.standing.tier, view.standing.balance.minor_units) == ("Green", 35000)
    assert [line.amount.minor_units for line in view.standing_lines if line.counted] == [25000, 10000]
    assert [purchase.amount.minor_units for purchase in view.purchases] == [25000, 10000]
    assert [coupon.campaign_id for coupon in view.coupons] == ["green-reached"]
    assert [message.campaign_id for message in view.messages] == ["green-reached"]
    assert [(badge.badge_id, badge.name, badge.campaign_id) for badge in view.badges] == [
        ("first-basket", "First basket", "first-basket")
    ]
    (said,) = view.answers
    assert (said.survey_id, said.score, said.comment, said.source) == ("recommend", 10, COMMENT, "till")
    assert list(view.missing_parts) == []


async def test_a_till_takes_answers_down_and_reads_neither_them_nor_consents(installation: Installation) -> None:
    await opened(installation)
    await installation.till.enroll("m-1")
    config = installation.config(listen=f"unix:{installation.folder}/known.sock")
    service = await build(config, installation.stack)
    channel = await installation.stack.enter_async_context(known(service, config.listen, installation.folder))
    stub = notifier_service_pb2_grpc.NotifierServiceStub(channel)
    answer = campaign_pb2.RecordFeedbackRequest(
        request_id="f-1", member_id="m-1", survey_id="recommend", score=10, source="till"
    )
    await stub.RecordFeedback(answer, metadata=bearer("pos", store="17"), timeout=SECONDS)
    agreed = message_pb2.SetPreferencesRequest(
        request_id="p-1", member_id="m-1", source="form", preferences=[message_pb2.Preference(allowed=True)]
    )
    await stub.SetPreferences(agreed, metadata=bearer("support"), timeout=SECONDS)
    request = privacy_pb2.GetMemberViewRequest(member_id="m-1")
    seen = []
    for role in ("support", "pos"):
        view = (await stub.GetMemberView(request, metadata=bearer(role), timeout=SECONDS)).view
        seen.append((len(view.answers), len(view.consents)))
    assert seen == [(1, 1), (0, 0)]


async def test_a_member_is_found_by_a_card_and_who_is_unknown_is_said_so(installation: Installation) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    card = member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value="4711")
    await installation.till.stub.LinkIdentifier(
        ledger_pb.LinkIdentifierRequest(request_id="l-1", member_id="m-1", identifier=card), timeout=SECONDS
    )
    view = (await notifier.stub.GetMemberView(privacy_pb2.GetMemberViewRequest(identifier=card), timeout=SECONDS)).view
    assert view.member.member_id == "m-1"
    for request, reason in (
        (privacy_pb2.GetMemberViewRequest(), "INVALID_FIELD"),
        (privacy_pb2.GetMemberViewRequest(member_id="m-1", identifier=card), "INVALID_FIELD"),
        (privacy_pb2.GetMemberViewRequest(member_id="nobody"), "MEMBER_UNKNOWN"),
        (
            privacy_pb2.GetMemberViewRequest(
                identifier=member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value="4712")
            ),
            "IDENTIFIER_UNKNOWN",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await notifier.stub.GetMemberView(request, timeout=SECONDS)
        assert reason_of(caught.value)[1] == reason


async def test_who_tries_cards_that_nobody_has_must_wait_wherever_they_are_asked_for(
    installation: Installation,
) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    card = member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value="4711")
    await installation.till.stub.LinkIdentifier(
        ledger_pb.LinkIdentifierRequest(request_id="l-1", member_id="m-1", identifier=card), timeout=SECONDS
    )

    def view(**whom: Any) -> Any:
        request = privacy_pb2.GetMemberViewRequest(**whom)
        return notifier.stub.GetMemberView(request, timeout=SECONDS, metadata=acting_for("till-6"))

    def quote(till: str = "till-6", **whom: Any) -> Any:
        basket = {"currency_code": "USD", "lines": [checkout_service_pb2.CheckoutLine(amount_minor_units=1_000)]}
        request = checkout_service_pb2.QuoteCheckoutRequest(**basket, **whom)
        return notifier.checkouts.QuoteCheckout(request, timeout=SECONDS, metadata=acting_for(till))

    def cancel(**whom: Any) -> Any:
        request = checkout_service_pb2.CancelCheckoutRequest(request_id="x-1", checkout_id="c-1", **whom)
        return notifier.checkouts.CancelCheckout(request, timeout=SECONDS, metadata=acting_for("till-6"))

    for number in range(10):
        unknown = member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value=f"wrong-{number}")
        await quote(identifier=card)
        for asked in (view(identifier=unknown), quote(identifier=unknown)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asked
            assert reason_of(caught.value)[1] == "IDENTIFIER_UNKNOWN"
    for asked in (view(identifier=card), quote(identifier=card), cancel(identifier=card)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert reason_of(caught.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UNKNOWN_IDENTIFIERS")
    # Whoever is known by id needs no card, and other tills have their own tries.
    assert (await view(member_id="m-1")).view.member.member_id == "m-1"
    assert (await quote("till-7", identifier=card)).quote.member_id == "m-1"


async def test_while_tiers_are_away_the_rest_of_a_member_is_shown(installation: Installation) -> None:
    async with contextlib.AsyncExitStack() as tiers:
        await installation.till.advance(DAY)
        await installation.start_tiers(tiers)
        notifier = await installation.start()
        await installation.till.enroll("m-1")
    view = (await notifier.stub.GetMemberView(privacy_pb2.GetMemberViewRequest(member_id="m-1"), timeout=SECONDS)).view
    assert (view.member.member_id, list(view.missing_parts)) == ("m-1", ["standing"])


def test_a_masked_name_shows_first_letters_alone() -> None:
    assert masked("Zoë Kowalska") == "Z** K*******"
    assert masked("") == ""


async def test_goodwill_is_given_up_to_its_limit_and_a_request_once(installation: Installation) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    first = await grant(notifier, 200)
    assert (first.points_left_this_month, first.replayed) == (100, False)
    again = await grant(notifier, 200)
    assert (again.points_left_this_month, again.replayed) == (100, True)
    for points, request_id, reason in ((101, "g-2", "GOODWILL_LIMIT"), (100, "g-1", "REQUEST_ID_REUSED")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await grant(notifier, points, request_id)
        assert reason_of(caught.value)[1] == reason
    await grant(notifier, 100, "g-3")
    member = (
        await installation.till.stub.GetMember(ledger_pb.GetMemberRequest(member_id="m-1"), timeout=SECONDS)
    ).member
    # 100 for joining.
    assert member.balance.available_points == 400


async def test_goodwill_that_the_ledger_refuses_leaves_the_month_as_it_was(installation: Installation) -> None:
    notifier = await opened(installation)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await grant(notifier, 300, member_id="nobody")
    assert reason_of(caught.value)[1] == "MEMBER_UNKNOWN"
    await installation.till.enroll("m-1")
    await installation.till.stub.ResignMember(
        ledger_pb.ResignMemberRequest(request_id="r-1", member_id="m-1", occurred_time=_stamp()), timeout=SECONDS
    )
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await grant(notifier, 300)
        assert reason_of(caught.value)[1] == "MEMBER_RESIGNED"
    await installation.till.stub.RejoinMember(
        ledger_pb.RejoinMemberRequest(request_id="j-1", member_id="m-1", occurred_time=_stamp()), timeout=SECONDS
    )
    assert (await grant(notifier, 300, "g-2")).points_left_this_month == 0


async def test_goodwill_that_the_ledger_cannot_be_told_keeps_none_of_the_rest_from_it(database: Database) -> None:
    class Peers:
        async def award(self, *, member_id: str, **_: Any) -> str:
            if member_id == "m-1":
                raise PeerError
            return "token"

    async def awarded(transaction: Transaction) -> list[str]:
        found = [await transaction.find_goodwill(0, member_id, "g-1") for member_id in ("m-1", "m-2")]
        return [grant.member_id for grant in found if grant is not None and grant.awarded_time]

    async with open_store(database) as store:
        for number, member_id in enumerate(("m-1", "m-2")):
            grant = Grant(
                partition=0, member_id=member_id, request_id="g-1", month=NOON.date().replace(day=1), points=5,
                reason="late", principal="support", granted_time=NOON + timedelta(seconds=number),
            )  # fmt: skip
            await store.transact(partial(Transaction.insert_goodwill, grant=grant, most=300))
        members = MemberService(
            store=store, vault=VAULT, partitions=PARTITIONS, programmes=Programmes(messages_desk.programme()),
            progress=Progress({}), peers=cast(Any, Peers()),
            machine_now=lambda: NOON + timedelta(hours=1), business_now=lambda: NOON,
        )  # fmt: skip
        telling = asyncio.create_task(members.run())
        try:
            await settled(partial(store.read, awarded), ["m-2"])
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


def _stamp() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(DAY)
    return stamp


@pytest.mark.parametrize("page_size", [0, 1])
async def test_an_export_hands_out_all_that_is_kept_whatever_its_pages(
    installation: Installation, page_size: int
) -> None:
    notifier = await opened(installation)
    till = installation.till
    await till.enroll("m-1")
    await tell(notifier, "m-1")
    await notifier.deliveries(await till.buy("m-1", 35000, DAY))
    await comment(notifier)
    await grant(notifier, 10)
    holdings, records = await exported(notifier, page_size=page_size)
    assert [holding.category for holding in holdings] == [holding.category for holding in HOLDINGS]
    assert all(holding.purpose and holding.retention for holding in holdings)
    (contact,) = records["contact"]
    assert contact == {
        "name": "Zoë Kowalska",
        "email": "zoe@example.com",
        "phone": "+48601234567",
        "language": "pl",
        "time_zone": "Europe/Warsaw",
        "birth_date": "1990-05-17",
        "demographics": {"city": "Łódź"},
    }
    assert [membership["memberId"] for membership in records["membership"]] == ["m-1"]
    assert [purchase["amount"]["minorUnits"] for purchase in records["purchases"]] == ["35000"]
    assert {"ENTRY_KIND_MEMBER_JOINED", "ENTRY_KIND_PURCHASE_RECORDED"} <= {
        entry["kind"] for entry in records["entries"]
    }
    assert records["standing"][0]["tier"] == "Green"
    assert [coupon["campaign_id"] for coupon in records["coupons"]] == ["green-reached"]
    assert [message["campaign_id"] for message in records["messages"]] == ["green-reached"]
    assert "address_hash" not in records["messages"][0]
    assert [(one["score"], one["comment"]) for one in records["feedback"]] == [(10, COMMENT)]
    assert "content_digest" not in records["feedback"][0]
    assert [grant["points"] for grant in records["goodwill"] if "request_id" in grant] == [10]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exported(notifier, "nobody")
    assert reason_of(caught.value)[1] == "MEMBER_UNKNOWN"


async def test_what_is_written_between_two_pages_of_an_export_moves_none_of_the_others(
    installation: Installation,
) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    for request_id in ("g-4", "g-5", "g-6"):
        await grant(notifier, 10, request_id)
    request = privacy_pb2.ExportMemberRequest(member_id="m-1", page_size=1)
    given: list[str] = []
    while True:
        page = await notifier.stub.ExportMember(request, timeout=SECONDS)
        kept = [json.loads(record.json) for record in page.records if record.category == "goodwill"]
        given += [record["request_id"] for record in kept if "request_id" in record]
        if given == ["g-4"]:
            # One that comes before what was handed out already, and one that comes after.
            await grant(notifier, 10, "g-1")
            await grant(notifier, 10, "g-9")
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert given == ["g-4", "g-5", "g-6", "g-9"]


async def test_an_erased_member_is_forgotten_everywhere_and_the_accounts_still_hold(
    installation: Installation,
) -> None:
    notifier = await opened(installation)
    till = installation.till
    await till.enroll("m-1")
    await tell(notifier, "m-1")
    await notifier.deliveries(await till.buy("m-1", 35000, DAY))
    await comment(notifier)
    await grant(notifier, 10)
    await installation.mail.next_message()
    before = await rows_about(installation.database, "m-1")
    assert '"address_hash": null' not in before
    assert '"comment": null' not in before
    assert not [told for told in PERSONAL if told in before]
    answer = await erase(notifier)
    assert (answer.HasField("erased_time"), answer.replayed) == (True, False)
    again = await erase(notifier)
    assert (again.erased_time, again.replayed) == (answer.erased_time, True)
    kept = await rows_about(installation.database, "m-1")
    assert not [table for table in ("contacts:", "member_keys:", "contact_requests:") if table in kept]
    assert '"address_hash": null' in kept
    assert '"comment": null' in kept
    assert ("came late" in before, "came late" in kept) == (True, False)
    assert (await grant(notifier, 10)).replayed
    member = (await till.stub.GetMember(ledger_pb.GetMemberRequest(member_id="m-1"), timeout=SECONDS)).member
    assert member.status == member_pb2.MEMBER_STATUS_ERASED
    assert await installation.differences() == []
    for refused in (tell(notifier, "m-1"), grant(notifier, 10, "g-2")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert reason_of(caught.value)[1] == "MEMBER_ERASED"
    assert await installation.done_by_hand() == [
        ("GrantGoodwill", "m-1"), ("EraseMember", "m-1"), ("EraseMember", "m-1"), ("GrantGoodwill", "m-1")
    ]  # fmt: skip
    _, records = await exported(notifier)
    text = json.dumps(records, ensure_ascii=False)
    assert not [told for told in PERSONAL if told in text]


async def test_what_the_feeds_tell_late_of_an_erased_member_is_missing_to_nobody(installation: Installation) -> None:
    notifier = await opened(installation)
    # Here it is done before the feeds tell of the member, and the ledger has yet to be reached.
    await installation.as_owner(
        f"""INSERT INTO notifier.erasures
            VALUES ({partition_of("m-1", 4)}, 'm-1', 'e-1', 'asked', 'support', now(), now())"""
    )
    await installation.till.enroll("m-1")
    assert await notifier.deliveries(await installation.till.buy("m-1", 35000, DAY)) == []
    kept = await rows_about(installation.database, "m-1")
    assert {line.partition(":")[0] for line in kept.splitlines()} == {"members", "erasures"}
    assert await installation.differences() == []


async def test_a_member_whom_the_ledger_forgot_before_is_forgotten_for_another_reason_too(
    installation: Installation,
) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    await tell(notifier, "m-1")
    await erase(notifier)
    # As a backup of before leaves it.
    await installation.as_owner("DELETE FROM notifier.erasures")
    again = privacy_pb2.EraseMemberRequest(request_id="e-2", member_id="m-1", reason="inactive")
    answer = await notifier.stub.EraseMember(again, timeout=SECONDS)
    assert (answer.HasField("erased_time"), answer.replayed) == (True, False)


class Ledger:
    """The ledger, as erasures ask it: of these members it refuses to."""

    def __init__(self, *refuses: str) -> None:
        self.refuses = refuses

    async def records(self, *_: Any) -> tuple[list[str], str]:
        return ["{}"], ""

    async def erase(self, *, member_id: str, **_: Any) -> None:
        if member_id in self.refuses:
            raise PeerRefusedError("ALREADY_EXISTS", "REQUEST_ID_REUSED", "the id was used before")


def privacy_over(store: Store, *refuses: str, file: Path | None = None) -> PrivacyService:
    return PrivacyService(
        store=store, vault=VAULT, partitions=PARTITIONS, elsewhere=Ledger(*refuses), file=ErasureFile(file),
        machine_now=lambda: NOON,
    )  # fmt: skip


async def test_an_erasure_that_the_ledger_refuses_keeps_none_of_the_others_from_it(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "erasures.jsonl"
    for member_id, reason in (("m-1", "asked"), ("m-1", "inactive"), ("m-2", "asked")):
        line = {"member_id": member_id, "request_id": "e-1", "reason": reason, "principal": "support"}
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**line, "asked_time": NOON.isoformat()}) + "\n")

    async def forgotten(transaction: Transaction) -> list[str]:
        found = [
            await transaction.find_erasure(partition_of(member_id, PARTITIONS), member_id)
            for member_id in ("m-1", "m-2")
        ]
        return [erasure.member_id for erasure in found if erasure is not None and erasure.erased_time]

    monkeypatch.setattr("services.notifier.service.privacy._AT_ONCE", 1)
    async with open_store(database) as store:
        privacy = privacy_over(store, "m-1", file=file)
        finishing = asyncio.create_task(privacy.run())
        try:
            await settled(partial(store.read, forgotten), ["m-2"])
            assert not finishing.done()
        finally:
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)
        asked = {"request_id": "e-2", "reason": "asked", "principal": "support"}
        assert await privacy.erase(member_id="m-1", **asked) == (None, True)


@pytest.mark.parametrize("had_one", [False, True])
async def test_a_contact_that_is_set_while_its_member_is_erased_is_not_kept(database: Database, had_one: bool) -> None:
    async with open_store(database) as store:
        privacy = privacy_over(store)

        async def erased_meanwhile(member_id: str) -> bool:
            if not had_one or await store.read(partial(_has_key, member_id=member_id)):
                await privacy.erase(request_id="e-1", member_id=member_id, reason="asked", principal="support")
            return True

        contacts = ContactService(
            store=store, vault=VAULT, partitions=PARTITIONS, member_exists=erased_meanwhile,
            messages_queued=lambda: None, machine_now=lambda: NOON, business_now=lambda: NOON,
        )  # fmt: skip
        if had_one:
            await contacts.set_contact(request_id="c-1", member_id="m-1", contact=Contact(name="Ann"))
        with pytest.raises(MemberErasedError):
            await contacts.set_contact(request_id="c-2", member_id="m-1", contact=Contact(name="Zoë"))
    assert await sealed_rows(database) == ([], [])


async def _has_key(transaction: Transaction, *, member_id: str) -> bool:
    return await transaction.find_member_key(partition_of(member_id, PARTITIONS), member_id) is not None


async def test_who_erases_and_who_sends_to_the_same_member_do_not_wait_for_each_other(database: Database) -> None:
    home, tries = partition_of("m-1", PARTITIONS), []

    async def send(transaction: Transaction) -> None:
        tries.append("send")
        until = NOON + timedelta(minutes=1)
        assert await transaction.lease_deliveries(home, "email", "offer", now=NOON, until=until, limit=1)
        erasing.append(asyncio.create_task(store.transact(forget)))
        await settled(partial(waiting, transaction), 1)
        await transaction.lock_contacts(home, ["m-1"])

    async def waiting(transaction: Transaction) -> int:
        return int(await transaction._connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async def forget(transaction: Transaction) -> None:
        tries.append("forget")
        await transaction.forget(home, "m-1")

    erasing: list[asyncio.Task[None]] = []
    async with open_store(database) as store:
        desk = messages_desk.Desk(database=database, store=store, programme=messages_desk.programme(), channels={})
        await desk.contact("m-1")
        await desk.send("m-1")
        await store.transact(send)
        await asyncio.gather(*erasing)
        assert await desk.states() == {"dead": 1}
    assert tries == ["send", "forget"]


async def test_a_message_that_waits_for_a_contact_is_stopped_by_an_erasure(installation: Installation) -> None:
    notifier = await opened(installation)
    till = installation.till
    await till.enroll("m-1")
    (message,) = await notifier.deliveries(await till.buy("m-1", 35000, DAY))
    assert message.state == pb.DELIVERY_STATE_NO_CONTACT
    await erase(notifier)
    (message,) = await notifier.deliveries()
    assert (message.state, message.last_error) == (pb.DELIVERY_STATE_DEAD, "the member was erased")


async def test_an_erasure_goes_on_by_itself_when_the_ledger_comes_back(installation: Installation) -> None:
    notifier = await opened(installation)
    await installation.till.enroll("m-1")
    await tell(notifier, "m-1")
    await erase(notifier)
    # As a crash between the two leaves it.
    await installation.as_owner("UPDATE notifier.erasures SET erased_time = NULL")
    answer = await erase(notifier)
    assert answer.HasField("erased_time")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await erase(notifier, "nobody", "e-2")
    assert reason_of(caught.value)[1] == "MEMBER_UNKNOWN"


async def test_an_erasure_is_replayed_after_a_restore(installation: Installation) -> None:
    file = str(installation.folder / "erasures.jsonl")
    async with contextlib.AsyncExitStack() as own:
        notifier = await opened(installation, own=own, erasures_file=file)
        await installation.till.enroll("m-1")
        await tell(notifier, "m-1")
        backup = await sealed_rows(installation.database)
        await erase(notifier)
    assert await sealed_rows(installation.database) == ([], [])
    await restore(installation.database, *backup)
    notifier = await installation.start(erasures_file=file)
    for _ in range(200):
        answer = await erase(notifier, request_id="e-1")
        if answer.replayed and answer.HasField("erased_time"):
            break
    assert await sealed_rows(installation.database) == ([], [])


async def sealed_rows(database: Database) -> tuple[list[Any], list[Any]]:
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        keys = await connection.fetch("SELECT * FROM notifier.member_keys")
        contacts = await connection.fetch("SELECT partition, member_id, email, set_time FROM notifier.contacts")
        return [tuple(row) for row in keys], [tuple(row) for row in contacts]
    finally:
        await connection.close()


async def restore(database: Database, keys: list[Any], contacts: list[Any]) -> None:
    """The rows of a backup that was made before the erasure."""
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await connection.execute("DELETE FROM notifier.erasures")
        await connection.executemany("INSERT INTO notifier.member_keys VALUES ($1, $2, $3)", keys)
        await connection.executemany(
            "INSERT INTO notifier.contacts (partition, member_id, email, set_time) VALUES ($1, $2, $3, $4)", contacts
        )
    finally:
        await connection.close()
