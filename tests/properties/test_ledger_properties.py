"""What is always true of the ledger (DESIGN §3), whatever is asked of it in whatever order."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.ledger.domain import commands
from services.ledger.domain.decide import Now, decide
from services.ledger.domain.encoding import decode_body, encode_body
from services.ledger.domain.events import Account, EntryKind, Event
from services.ledger.domain.state import Known, Member, Purchase, evolve_member, evolve_purchase
from services.ledger.errors import RejectedError
from services.programme import Versions, load
from tests.conftest import PROGRAMMES, Database, StartLedger
from tests.ledger_checks import checked

START = datetime(2024, 3, 1, tzinfo=UTC)
VERSIONS = Versions.only(load(PROGRAMMES / "retail-demo.yaml"))
_names = itertools.count()

amounts = st.one_of(st.integers(1, 500), st.integers(1, 1_000_000), st.just(0))
times = st.integers(-5, 60 * 24 * 40).map(lambda minutes: START + timedelta(minutes=minutes))
purchase_ids = st.sampled_from(["a", "b", "c"])
kinds = st.sampled_from(list(commands.LineKind))


def common(request_id: str, occurred: datetime) -> dict[str, Any]:
    return {
        "member_id": "m",
        "request_id": request_id,
        "principal": "test",
        "on_behalf_of": "",
        "occurred_time": occurred,
        "request": request_id.encode(),
    }


@st.composite
def movements(draw: st.DrawFn) -> dict[str, Any]:
    amount = draw(amounts)
    lines: tuple[commands.Line, ...] = ()
    if amount and draw(st.booleans()):
        cut = draw(st.integers(0, amount))
        lines = tuple(commands.Line("sku", "", "", "", 1, part, draw(kinds)) for part in (cut, amount - cut))
    return {
        "currency": draw(st.sampled_from(["USD", "USD", "USD", "PLN"])),
        "amount": amount,
        "lines": lines,
        "store_id": "",
        "receipt_number": "",
        "channel": "pos",
    }


@st.composite
def sequences(draw: st.DrawFn) -> list[commands.MemberCommand]:
    drawn: list[commands.MemberCommand] = [commands.EnrollMember(**common("join", START), channel="")]
    for number in range(draw(st.integers(0, 25))):
        base = common(f"r{number}", draw(times))
        match draw(st.sampled_from(["purchase", "purchase", "return", "unlinked", "award", "class", "join"])):
            case "purchase":
                drawn.append(commands.RecordPurchase(**base, **draw(movements()), purchase_id=draw(purchase_ids)))
            case "return":
                drawn.append(
                    commands.RecordReturn(**base, **draw(movements()), purchase_id=draw(purchase_ids), reason="")
                )
            case "unlinked":
                drawn.append(commands.RecordReturn(**base, **draw(movements()), purchase_id="", reason=""))
            case "award":
                drawn.append(commands.AwardPoints(**base, points=draw(st.integers(1, 10**9)), reason="x", note=""))
            case "class":
                drawn.append(
                    commands.SetEarningClass(
                        **base,
                        earning_class=draw(st.sampled_from(["green", "golden", "unknown"])),
                        effective_time=draw(times),
                        sequence=draw(st.integers(1, 10)),
                    )
                )
            case _:
                drawn.append(commands.EnrollMember(**base, channel=""))
    return drawn


def run(sequence: list[commands.MemberCommand]) -> tuple[Member, dict[str, Purchase], list[Event]]:
    known = Known()
    purchases: dict[str, Purchase] = {}
    events: list[Event] = []
    now = Now(time=START + timedelta(days=60))
    for command in sequence:
        purchase_id = getattr(command, "purchase_id", "")
        try:
            decision = decide(VERSIONS, now, known._replace(purchase=purchases.get(purchase_id)), command)
        except RejectedError:
            continue
        known = decision.known
        if purchase_id and known.purchase is not None:
            purchases[purchase_id] = known.purchase
        events.extend(decision.events)
        member = known.member
        assert member is not None
        assert member.available >= 0
        assert member.debt >= 0
    assert known.member is not None
    return known.member, purchases, events


@given(sequences())
@settings(max_examples=300, deadline=None)
def test_balances_are_the_sum_of_the_entries_and_never_negative(sequence: list[commands.MemberCommand]) -> None:
    member, _, events = run(sequence)
    total = {account: sum(event.posted(account) for event in events) for account in Account}
    assert member.available == total[Account.AVAILABLE]
    assert member.debt == total[Account.DEBT]
    assert total[Account.AVAILABLE] - total[Account.DEBT] == total[Account.ISSUED] == member.earned
    for event in events:
        assert event.points == event.posted(Account.ISSUED)


@given(sequences())
@settings(max_examples=300, deadline=None)
def test_every_state_can_be_rebuilt_from_the_encoded_entries(sequence: list[commands.MemberCommand]) -> None:
    member, purchases, events = run(sequence)
    rebuilt: Member | None = None
    bought: dict[str, Purchase] = {}
    for event in events:
        body = encode_body(event)
        read = Event(
            kind=event.kind,
            member_id=event.member_id,
            request_id=event.request_id,
            occurred_time=event.occurred_time,
            purchase_id=event.purchase_id,
            author=event.author,
            **decode_body(body),
        )
        assert read == event._replace(detail=None)
        assert encode_body(read) == body
        if event.purchase_id:
            known = evolve_purchase(bought.get(event.purchase_id), read)
            if known is not None:
                bought[event.purchase_id] = known
        if event.kind is not EntryKind.REQUEST_REFUSED:
            rebuilt = evolve_member(rebuilt, read)
        assert rebuilt is not None
        assert (rebuilt.available, rebuilt.debt) == (event.available_after, event.debt_after)
    assert rebuilt == member
    assert bought == purchases


@given(sequences())
@settings(max_examples=300, deadline=None)
def test_returns_never_exceed_the_purchase_and_a_full_return_takes_all_its_points(
    sequence: list[commands.MemberCommand],
) -> None:
    _, purchases, _ = run(sequence)
    for purchase in purchases.values():
        assert 0 <= purchase.returned <= purchase.amount
        assert 0 <= purchase.returned_goods <= purchase.goods_paid
        given = sum(grant.rule.points for grant in purchase.grants)
        assert 0 <= purchase.returned_points <= given
        if purchase.arrived and purchase.returned == purchase.amount:
            assert purchase.returned_points == given
            assert purchase.returned_goods == purchase.goods_paid


@given(sequences())
@settings(max_examples=100, deadline=None)
def test_no_float_touches_money_or_points(sequence: list[commands.MemberCommand]) -> None:
    def refuse(text: str) -> float:
        raise AssertionError(f"a float in an entry: {text}")

    for event in run(sequence)[2]:
        json.loads(encode_body(event), parse_float=refuse)


@pytest_asyncio.fixture
async def ledger(start_ledger: StartLedger) -> Any:
    """One ledger for all examples of a test."""
    return ledger_service_pb2_grpc.LedgerServiceStub(await start_ledger())


writes = st.lists(
    st.tuples(
        st.sampled_from(["purchase", "return", "unlinked", "award"]),
        st.integers(0, 6),  # request id: few, so that they are reused with the same and with other content
        st.integers(0, 3),  # member
        st.sampled_from([1, 99, 100, 12345, 0, -1]),
        purchase_ids,
    ),
    min_size=1,
    max_size=40,
)


@given(writes=writes, cuts=st.lists(st.integers(1, 10), min_size=1, max_size=5))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_a_real_ledger_answers_repeated_requests_alike_and_its_check_stays_clean(
    ledger: Any,
    database: Database,
    token_file: Any,
    writes: list[tuple[str, int, int, int, str]],
    cuts: list[int],
) -> None:
    prefix = f"m{next(_names)}"
    members = [f"{prefix}-{number}" for number in range(4)]
    enrolment = pb.BatchRecordRequest()
    for name in members[:3]:  # the fourth never joins
        enrolment.writes.add().enroll_member.CopyFrom(pb.EnrollMemberRequest(request_id="join", member_id=name))
    await ledger.BatchRecord(enrolment, timeout=10)
    answers: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    place, cut = 0, itertools.cycle(cuts)
    while place < len(writes):
        size = next(cut)
        batch = pb.BatchRecordRequest(writes=[_write(*one, members) for one in writes[place : place + size]])
        place += size
        for write, outcome in zip(batch.writes, (await ledger.BatchRecord(batch, timeout=10)).outcomes, strict=True):
            kind = write.WhichOneof("write")
            request = getattr(write, kind)
            key, sent = (request.member_id, request.request_id), kind.encode() + request.SerializeToString()
            if outcome.WhichOneof("outcome") == "error":
                continue
            answer = getattr(outcome, kind)
            replayed, answer.replayed = answer.replayed, False
            content = answer.SerializeToString(deterministic=True)
            if key in answers:
                assert answers[key] == (sent, content), "the same request id, the same content, the same answer"
                assert replayed
            answers[key] = (sent, content)
    report = await checked(database.dsn("loyalty_ledger"), PROGRAMMES / "tiered-365.yaml")
    assert report.differences == ()


def _write(kind: str, request: int, member: int, amount: int, purchase_id: str, members: list[str]) -> pb.Write:
    money = Money(currency_code="PLN", minor_units=amount)
    names = {"request_id": f"r{request}", "member_id": members[member]}
    if kind == "award":
        return pb.Write(award_points=pb.AwardPointsRequest(**names, points=amount, reason="x"))
    # Later than joining, at the start of a simulated installation's time: otherwise nothing is earned.
    noon = Timestamp(seconds=12 * 3600)
    if kind == "purchase":
        bought = pb.RecordPurchaseRequest(**names, amount=money, purchase_id=purchase_id, occurred_time=noon)
        return pb.Write(record_purchase=bought)
    linked = purchase_id if kind == "return" else ""
    back = pb.RecordReturnRequest(**names, amount=money, purchase_id=linked, occurred_time=noon)
    return pb.Write(record_return=back)
