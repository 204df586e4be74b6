"""What staff and members decide about a standing: overrides and confirmations, once for each request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from loyalty.ledger.v1 import entry_pb2
from loyalty.tiers.v1 import tier_service_pb2 as pb

from services.runtime.clock import ClockMode, machine_now
from tests.conftest import PROGRAMMES, Database, StartLedger
from tests.tiers_desk import SECONDS, CheckTiers, Desk, OpenShop, StartTiers, Till, at, info_of, refused

DOCUMENT = (PROGRAMMES / "tiered-365.yaml").read_text()
VALID = DOCUMENT.replace(
    "  window: P365D\n", "  window: P365D\n  validity: {period: P1Y, transactions: 0, warning: P30D}\n"
)
DAY = at("2024-02-01T00:00")
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
BOUGHT = DAY + 10 * HOUR

REUSED = (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def reasons(desk: Desk) -> list[tuple[str, int, int]]:
    """Reason, tier and tier of the benefits of all changes, in their order."""
    return [
        (pb.ChangeReason.Name(one.reason)[14:], one.to_tier_number, one.to_benefits_tier_number)
        for one in await desk.changes()
    ]


async def first_difference(call: Awaitable[Any]) -> str:
    """The field that a refused call names."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return info_of(caught.value).metadata["field"]


async def opened(open_shop: OpenShop, document: str = DOCUMENT) -> tuple[Till, Desk]:
    """A shop with one member, who is Green at BOUGHT."""
    till, desk = await open_shop(document)
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 30_000, BOUGHT)
    await desk.count(await till.advance(BOUGHT))
    return till, desk


async def test_an_override_is_shown_with_its_reason_beside_what_automation_says(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    end = at("2024-05-01T00:00")
    answer = await desk.override("m-1", 4, end=end, reason="a lost parcel")
    standing = answer.standing
    assert (standing.tier, standing.benefits_tier_number, standing.discount_basis_points) == ("Golden", 4, 1000)
    assert (standing.automatic_tier, standing.automatic_tier_number, answer.replayed) == ("Green", 2, False)
    assert standing.since_time.ToDatetime(UTC) == BOUGHT
    override = standing.override
    assert (override.tier, override.tier_number, override.scope) == ("Golden", 4, pb.OVERRIDE_SCOPE_TIER)
    assert (override.reason, override.principal, override.end_time.ToDatetime(UTC)) == ("a lost parcel", "test", end)
    assert (standing.next_change_time.ToDatetime(UTC), standing.next_change_tier_number) == (end, 2)
    assert standing.next_change_reason == pb.CHANGE_REASON_OVERRIDE_ENDED
    # Automation goes on beneath it.
    standing = await desk.standing("m-1", await till.buy("m-1", 70_000, BOUGHT + HOUR))
    assert (standing.tier, standing.automatic_tier, standing.balance.minor_units) == ("Golden", "Silver", 100_000)
    assert await reasons(desk) == [("MOVEMENT", 2, 2), ("OVERRIDE", 4, 4)]
    changes = await desk.changes()
    assert (changes[1].WhichOneof("cause"), changes[1].decision) == ("decision", 1)
    # It ends by itself, at its very instant.
    assert (await desk.standing("m-1", await till.advance(end - TICK))).tier == "Golden"
    standing = await desk.standing("m-1", await till.advance(end))
    assert (standing.tier, standing.HasField("override"), standing.since_time.ToDatetime(UTC)) == ("Silver", False, end)
    assert (await reasons(desk))[2:] == [("OVERRIDE_ENDED", 3, 3)]
    assert (await desk.changes())[2].due_time.ToDatetime(UTC) == end
    assert (await desk.standing("m-1", time=end - TICK)).tier == "Golden"
    assert (await desk.standing("m-1", time=BOUGHT - TICK)).tier == "White"
    await desk.count(await till.advance(end + timedelta(days=1)))
    assert [name for name, _ in await till.classes("m-1")] == ["green", "golden", "silver"]


async def test_an_override_lasts_until_it_is_cleared_and_another_takes_its_place(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    await desk.override("m-1", 4)
    standing = (await desk.override("m-1", 1, request_id="override-2")).standing
    assert (standing.tier, standing.automatic_tier, standing.override.HasField("end_time")) == ("White", "Green", False)
    # What the window loses changes nothing that is shown.
    token = await till.advance(at("2025-03-01T00:00"))
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.automatic_tier, standing.balance.minor_units) == ("White", "White", 0)
    await till.buy("m-1", 30_000, at("2025-03-01T10:00"))
    await desk.count(await till.advance(at("2025-03-02T00:00")))
    cleared = await desk.clear("m-1")
    assert (cleared.standing.tier, cleared.standing.HasField("override"), cleared.replayed) == ("Green", False, False)
    assert (await desk.clear("m-1")).replayed
    # Another request has nothing left to end.
    assert (await desk.clear("m-1", "clear-2")).standing.tier == "Green"
    assert await reasons(desk) == [
        ("MOVEMENT", 2, 2),
        ("OVERRIDE", 4, 4),
        ("OVERRIDE", 1, 1),
        ("OVERRIDE_ENDED", 2, 2),
    ]


async def test_an_override_of_the_benefits_leaves_the_tier(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    standing = (await desk.override("m-1", 3, scope=pb.OVERRIDE_SCOPE_BENEFITS)).standing
    assert (standing.tier, standing.benefits_tier_number, standing.discount_basis_points) == ("Green", 3, 800)
    assert await reasons(desk) == [("MOVEMENT", 2, 2), ("OVERRIDE", 2, 3)]
    change = (await desk.changes())[1]
    assert (change.from_tier, change.to_tier, change.to_benefits_tier) == ("Green", "Green", "Silver")
    await desk.count(await till.advance(DAY + timedelta(days=2)))
    assert [name for name, _ in await till.classes("m-1")] == ["green", "silver"]


async def test_the_same_request_is_carried_out_once_and_another_under_its_id_is_refused(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    token = await till.advance(BOUGHT)
    first = await desk.override("m-1", 4)
    # What it waits for is no part of it.
    again = await desk.override("m-1", 4, causal_token=token)
    assert (first.replayed, again.replayed, again.standing) == (False, True, first.standing)
    assert await refused(desk.override("m-1", 3)) == REUSED
    for other, field in (
        (desk.override("m-1", 3), "tier_number"),
        (desk.override("m-1", 4, end=at("2030-01-01T00:00")), "end_time"),
        (desk.clear("m-1", "override-1"), "the method"),
    ):
        assert await first_difference(other) == field
    assert await refused(desk.override("m-1", 4, reason="another")) == REUSED
    assert await refused(desk.override("m-1", 4, scope=pb.OVERRIDE_SCOPE_BENEFITS)) == REUSED
    assert await refused(desk.override("m-1", 4, end=at("2030-01-01T00:00"))) == REUSED
    # An id of one kind of request is none of another, and of another member it is another request.
    assert await refused(desk.clear("m-1", "override-1")) == REUSED
    assert await refused(desk.confirm("m-1", "override-1")) == REUSED
    token = await till.enroll("m-2", BOUGHT)
    assert not (await desk.override("m-2", 4, causal_token=token)).replayed
    # Sent again after it was undone it says how things are, and undoes nothing.
    await desk.clear("m-1")
    late = await desk.override("m-1", 4)
    assert (late.replayed, late.standing.tier) == (True, "Green")
    assert len(await desk.changes()) == 4


async def test_each_decision_waits_for_the_write_of_its_token(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    for number in range(5):
        # Whose joining is still on its way is known by the token.
        member = f"new-{number}"
        token = await till.enroll(member, DAY)
        given = (
            await desk.override(member, 4, causal_token=token),
            await desk.clear(member, token=await till.buy(member, 30_000, BOUGHT)),
            await desk.confirm(member, token=await till.buy(member, 70_000, BOUGHT)),
        )
        assert [answer.standing.tier for answer in given] == ["Golden", "Green", "Silver"]
        # What it waited for is no part of the request.
        assert (await desk.clear(member)).replayed
        assert (await desk.confirm(member)).replayed
    beyond = "0-999999"
    for request, call in (
        (pb.SetTierOverrideRequest(tier_number=2, scope=pb.OVERRIDE_SCOPE_TIER, reason="x"), desk.stub.SetTierOverride),
        (pb.ClearTierOverrideRequest(reason="x"), desk.stub.ClearTierOverride),
        (pb.ConfirmAccountRequest(), desk.stub.ConfirmAccount),
    ):
        request.request_id, request.member_id, request.causal_token = "beyond", "m-1", beyond
        assert await refused(call(request, timeout=0.5)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_CAUGHT_UP")
        request.causal_token = "9999-1"
        assert await refused(call(request, timeout=SECONDS)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "CAUSAL_TOKEN_INVALID",
        )


async def test_requests_that_come_twice_at_once_are_carried_out_once(open_shop: OpenShop) -> None:
    _, desk = await opened(open_shop)
    answers = await asyncio.gather(*(desk.override("m-1", 4) for _ in range(6)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 5
    others = await asyncio.gather(*(desk.override("m-1", 1 + n % 4, request_id=f"other-{n}") for n in range(6)))
    assert not any(answer.replayed for answer in others)
    assert [change.sequence for change in await desk.changes()] == list(range(1, len(await desk.changes()) + 1))


async def test_what_cannot_be_decided_says_why(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(desk.override("m-1", 5)) == (invalid, "TIER_UNKNOWN")
    field = (invalid, "INVALID_FIELD")
    # Not later than now is the past.
    for end in (BOUGHT, BOUGHT - TICK):
        assert await refused(desk.override("m-1", 4, end=end)) == field
    for wrong in (0, 21):
        assert await refused(desk.override("m-1", wrong)) == field
    assert await refused(desk.override("m-1", 4, reason="")) == field
    assert await refused(desk.override("m-1", 4, request_id="~own")) == field
    assert await refused(desk.override("m-1", 4, scope=pb.OVERRIDE_SCOPE_UNSPECIFIED)) == field
    unknown = (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    for call in (desk.override("nobody", 4), desk.clear("nobody"), desk.confirm("nobody")):
        assert await refused(call) == unknown
    await desk.standing("m-1", time=BOUGHT)
    assert len(await desk.changes()) == 1
    assert (await desk.override("m-1", 4, end=BOUGHT + TICK)).standing.tier == "Golden"
    assert (await desk.standing("m-1", await till.advance(BOUGHT + TICK))).tier == "Green"


async def test_how_it_was_known_before_a_decision_is_without_it(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    before = BOUGHT + HOUR
    await desk.count(await till.advance(before + TICK))
    await desk.override("m-1", 4)
    assert (await desk.standing("m-1")).tier == "Golden"
    known = await desk.standing("m-1", known=before)
    assert (known.tier, known.HasField("override")) == ("Green", False)
    assert (await desk.standing("m-1", known=before + TICK)).tier == "Golden"


async def test_a_late_purchase_changes_what_automation_says_beneath_an_override(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    await desk.count(await till.advance(at("2024-03-01T00:00")))
    await desk.override("m-1", 4, end=at("2024-04-01T00:00"))
    standing = await desk.standing("m-1", await till.buy("m-1", 70_000, at("2024-02-10T00:00")))
    assert (standing.tier, standing.automatic_tier) == ("Golden", "Silver")
    assert (await desk.standing("m-1", time=at("2024-02-11T00:00"))).tier == "Silver"
    standing = await desk.standing("m-1", await till.advance(at("2024-04-01T00:00")))
    assert standing.tier == "Silver"


async def test_a_suspended_account_has_no_benefits_whatever_staff_gave(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop, VALID)
    await desk.override("m-1", 4)
    ended = at("2025-02-01T00:00")
    await desk.count(await till.advance(ended))
    standing = await desk.standing("m-1")
    assert (standing.tier, standing.suspended, standing.benefits_tier_number) == ("Golden", True, 0)
    standing = (await desk.confirm("m-1")).standing
    assert (standing.suspended, standing.benefits_tier_number) == (False, 4)
    assert [reason for reason, _, _ in await reasons(desk)] == [
        "MOVEMENT",
        "OVERRIDE",
        "WARNED",
        "SUSPENDED",
        "REVIVED",
    ]


async def test_a_confirmation_in_time_is_one_that_nobody_hears_of(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop, VALID)
    assert not (await desk.confirm("m-1")).replayed
    await desk.count(await till.advance(at("2025-02-02T00:00")))
    standing = await desk.standing("m-1")
    assert (standing.suspended, standing.valid_until_time.ToDatetime(UTC)) == (False, at("2026-02-01T00:00"))
    assert [reason for reason, _, _ in await reasons(desk)] == ["MOVEMENT", "WINDOW"]


async def test_the_entry_at_the_ledger_names_who_decided_what_it_follows_from(
    open_shop: OpenShop, check_tiers: CheckTiers
) -> None:
    till, desk = await opened(open_shop)
    for member_id in ("m-2", "m-3"):
        await desk.standing(member_id, await till.enroll(member_id, DAY))
    # One for another, one by itself; what was bought is nobody's decision. All are told with the same day.
    for member_id, metadata in (("m-1", (("x-on-behalf-of", "anna"),)), ("m-2", ())):
        request = pb.SetTierOverrideRequest(
            request_id="given",
            member_id=member_id,
            tier_number=4,
            scope=pb.OVERRIDE_SCOPE_TIER,
            reason="a complaint",
        )
        await desk.stub.SetTierOverride(request, metadata=metadata, timeout=SECONDS)
    await till.buy("m-3", 30_000, BOUGHT)
    assert (await check_tiers()).differences == ()
    await desk.count(await till.advance(DAY + timedelta(days=2)))
    await desk.clear("m-1")
    await desk.count(await till.advance(DAY + timedelta(days=4)))
    assert await classes_of(till, "m-1") == [("green", ""), ("golden", "anna"), ("green", "test")]
    assert await classes_of(till, "m-2") == [("golden", "test")]
    assert await classes_of(till, "m-3") == [("green", "")]
    assert (await check_tiers()).differences == ()


async def classes_of(till: Till, member_id: str) -> list[tuple[str, str]]:
    """The earning classes that the ledger was told of a member, and for whom each was."""
    entries = await till.entries(member_id)
    told = [entry for entry in entries if entry.kind == entry_pb2.ENTRY_KIND_EARNING_CLASS_SET]
    assert {entry.principal for entry in told} <= {"test", "tiers"}
    return [(entry.earning_class, entry.on_behalf_of) for entry in told]


async def test_decisions_are_there_after_a_restart_and_are_numbered_on(
    open_shop: OpenShop, start_tiers: StartTiers, database: Database
) -> None:
    async with contextlib.AsyncExitStack() as own:
        till, desk = await open_shop(DOCUMENT, own=own)
        await till.advance(DAY)
        await desk.standing("m-1", await till.enroll("m-1", DAY))
        await desk.override("m-1", 4)
    desk = await start_tiers()
    assert (await desk.standing("m-1")).override.tier == "Golden"
    assert (await desk.override("m-1", 4)).replayed
    await desk.clear("m-1")
    connection = await asyncpg.connect(database.dsn("loyalty_tiers"))
    try:
        rows = await connection.fetch("SELECT number, request_id, on_behalf_of FROM tiers.decisions ORDER BY number")
        facts = await connection.fetch("SELECT number, principal, reason FROM tiers.facts WHERE number > 0 ORDER BY 1")
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [(1, "override-1", ""), (2, "clear-1", "")]
    assert [tuple(row) for row in facts] == [(1, "test", "a complaint"), (2, "test", "settled")]


async def test_in_real_time_an_override_ends_within_a_second_of_its_instant(
    start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL))
    desk = await start_tiers()
    await desk.standing("m-1", await till.enroll("m-1", machine_now() - timedelta(days=1)))
    end = machine_now() + timedelta(seconds=2)
    await desk.override("m-1", 4, end=end)
    call: Any = desk.stub.StreamTierChanges(pb.StreamTierChangesRequest(follow=True), timeout=SECONDS)
    changes: list[pb.TierChange] = []
    while len(changes) < 2:
        changes.extend((await call.read()).changes)
    heard = machine_now()
    call.cancel()
    assert changes[1].due_time.ToDatetime(UTC) == end
    assert end <= heard < end + timedelta(seconds=1)
    assert (await desk.standing("m-1")).tier == "White"
    # A purchase of before the decision comes late, and the check understands both.
    await desk.override("m-1", 2, request_id="override-2")
    token = await till.buy("m-1", 40_000, end - timedelta(hours=1))
    assert (await desk.standing("m-1", token)).automatic_tier == "Green"
    await desk.count(token)
    assert (await check_tiers()).differences == ()


@pytest.mark.parametrize("tier", [1, 4])
async def test_an_override_to_the_tier_that_is_held_is_shown_and_changes_nothing(
    open_shop: OpenShop, tier: int
) -> None:
    till, desk = await open_shop(DOCUMENT)
    await till.advance(DAY)
    token = await till.enroll("m-1", DAY)
    if tier == 4:
        token = await till.buy("m-1", 200_000, DAY + TICK)
    standing = (await desk.override("m-1", tier, causal_token=token)).standing
    assert (standing.tier_number, standing.override.tier_number) == (tier, tier)
    assert len(await desk.changes()) == (tier == 4)


async def test_an_override_ends_at_its_instant_though_nothing_else_happens(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    end = at("2024-03-01T00:00")
    await desk.override("m-1", 4, end=end)
    await desk.count(await till.advance(end))
    assert (await reasons(desk))[-1] == ("OVERRIDE_ENDED", 2, 2)


async def test_the_same_request_gets_the_same_answer_after_the_override_has_ended(open_shop: OpenShop) -> None:
    till, desk = await opened(open_shop)
    end = at("2024-03-01T00:00")
    await desk.override("m-1", 4, end=end, request_id="once")
    await desk.count(await till.advance(end))
    again = await desk.override("m-1", 4, end=end, request_id="once")
    assert (again.replayed, again.standing.tier) == (True, "Green")
