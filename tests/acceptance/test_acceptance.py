"""Through the gateway, over JSON and gRPC: what a member, a till and a backend may rely on, in any installation.

It may be run again and again on the same stack: every test has members of its own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.runtime import contract
from tests.acceptance.conftest import Given

# A mail is under way for as long at most.
MAIL_SECONDS = 60


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["details"][0]["reason"])


def new_id() -> str:
    return uuid.uuid4().hex


def money(programme: dict[str, Any], minor_units: int) -> dict[str, Any]:
    return {"currency_code": programme["currency"], "minor_units": minor_units}


def buy(http: httpx.Client, programme: dict[str, Any], member: str, minor_units: int, **more: Any) -> dict[str, Any]:
    body = {"request_id": new_id(), "amount": money(programme, minor_units), **more}
    return ok(http.post(f"/v1/members/{member}/purchases", json=body))


def balance(http: httpx.Client, member: str) -> dict[str, int]:
    said = ok(http.get(f"/v1/members/{member}/balance"))["balance"]
    return {name: int(said[name]) for name in said if name.endswith("_points") and not name.startswith("next_")}


def standing(http: httpx.Client, member: str, causal_token: str = "") -> dict[str, Any]:
    query = {"causal_token": causal_token} if causal_token else {}
    said: dict[str, Any] = ok(http.get(f"/v1/members/{member}/standing", params=query))["standing"]
    return said


def redeemable(programme: dict[str, Any]) -> int:
    """The fewest points that may go at once."""
    rules = programme.get("redemption", {})
    step, minimum = int(rules.get("step", 1)), int(rules.get("minimum", 1))
    return -(-max(minimum, 1) // step) * step


def reached_by(programme: dict[str, Any], tier: str) -> list[str]:
    """The campaigns that reaching a level sets off."""
    reached = [one for one in programme.get("campaigns", ()) if one["trigger"] == "tier_reached"]
    return [one["id"] for one in reached if tier.lower() in one["tiers"]]


def award(http: httpx.Client, member: str, points: int) -> None:
    body = {"request_id": new_id(), "points": points, "reason": "acceptance"}
    ok(http.post(f"/v1/members/{member}:awardPoints", json=body))


def test_who_joins_is_a_member_and_joins_once(given: Given, http: httpx.Client) -> None:
    given.needs("members.write", "ledger.read")
    name = f"acceptance-{new_id()}"
    body = {"request_id": new_id(), "member_id": name, "channel": "online"}
    joined = ok(http.post("/v1/members", json=body))
    assert (joined["member"]["member_id"], joined["member"]["status"]) == (name, "MEMBER_STATUS_ACTIVE")
    assert ok(http.post("/v1/members", json=body)) == joined | {"replayed": True}
    assert refused(http.post("/v1/members", json=body | {"request_id": new_id()})) == (409, "MEMBER_EXISTS")
    assert ok(http.get(f"/v1/members/{name}"))["member"]["member_id"] == name


def test_a_purchase_gives_what_was_quoted_and_says_by_which_rules(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.record", "ledger.read")
    amount = money(programme, 12_345)
    quoted = ok(http.post(f"/v1/members/{member}:quotePurchase", json={"amount": amount}))["receipt"]
    before = balance(http, member)
    bought = buy(http, programme, member, 12_345, purchase_id=f"p-{new_id()}")["receipt"]
    assert (bought["points"], bought["rules"]) == (quoted["points"], quoted["rules"])
    assert int(bought["points"]) == sum(int(rule["points"]) for rule in bought["rules"])
    after = balance(http, member)
    assert after["earned_points"] - before["earned_points"] == int(bought["points"])
    assert after["available_points"] == int(bought["available_points"])
    kept = ok(http.get(f"/v1/members/{member}/purchases/{bought['purchase_id']}"))["purchase"]
    assert kept["amount"] == {name: str(value) for name, value in amount.items()}


def test_the_same_request_gets_the_same_answer_and_other_content_is_refused(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.record", "ledger.read")
    body = {"request_id": new_id(), "amount": money(programme, 5_000)}
    first = ok(http.post(f"/v1/members/{member}/purchases", json=body))
    assert ok(http.post(f"/v1/members/{member}/purchases", json=body)) == first | {"replayed": True}
    other = http.post(f"/v1/members/{member}/purchases", json=body | {"amount": money(programme, 5_001)})
    assert refused(other) == (409, "REQUEST_ID_REUSED")
    entries = ok(http.get(f"/v1/members/{member}/entries"))["entries"]
    assert [entry["request_id"] for entry in entries].count(body["request_id"]) == 1


def test_a_return_takes_back_what_the_purchase_gave(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.record", "ledger.read")
    before = balance(http, member)
    bought = buy(http, programme, member, 20_000)["receipt"]
    body = {"purchase_id": bought["purchase_id"], "reason": "damaged"}
    path = f"/v1/members/{member}/returns"
    back = [
        ok(http.post(path, json=body | {"request_id": new_id(), "amount": money(programme, part)}))
        for part in (7_000, 13_000)
    ]
    assert [one["state"] for one in back] == ["RETURN_STATE_RECORDED"] * 2
    assert sum(int(one["receipt"]["points"]) for one in back) == -int(bought["points"])
    assert balance(http, member) == before
    more = http.post(path, json=body | {"request_id": new_id(), "amount": money(programme, 1)})
    assert refused(more) == (400, "RETURN_EXCEEDS_PURCHASE")


def test_points_are_redeemed_given_back_and_never_more_than_there_are(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.award", "ledger.redeem", "ledger.read")
    points = redeemable(programme)
    award(http, member, 2 * points)
    before = balance(http, member)
    path = f"/v1/members/{member}/redemptions"
    spent = ok(http.post(path, json={"request_id": new_id(), "points": points, "reason": "discount"}))
    assert int(spent["receipt"]["points"]) == -points
    after = balance(http, member)
    assert after["available_points"] == before["available_points"] - points
    assert after["redeemed_points"] == before["redeemed_points"] + points
    many = http.post(path, json={"request_id": new_id(), "points": 1_000 * points})
    assert refused(many) == (400, "NOT_ENOUGH_POINTS")
    ok(http.post(f"{path}/{spent['redemption_id']}:reverse", json={"request_id": new_id()}))
    assert balance(http, member) == before


def test_points_on_hold_are_captured_or_released(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.award", "ledger.redeem", "ledger.read")
    points = redeemable(programme)
    award(http, member, 2 * points)
    before = balance(http, member)
    path = f"/v1/members/{member}/holds"
    first, second = (
        ok(http.post(path, json={"request_id": new_id(), "points": points, "reason": "checkout"}))["hold"]["hold_id"]
        for _ in range(2)
    )
    held = balance(http, member)
    assert (held["held_points"], held["available_points"]) == (2 * points, before["available_points"] - 2 * points)
    captured = ok(http.post(f"{path}/{first}:capture", json={"request_id": new_id()}))
    assert int(captured["receipt"]["points"]) == -points
    ok(http.post(f"{path}/{second}:release", json={"request_id": new_id()}))
    assert balance(http, member) == before | {
        "available_points": before["available_points"] - points,
        "redeemed_points": before["redeemed_points"] + points,
    }
    again = http.post(f"{path}/{first}:capture", json={"request_id": new_id()})
    assert refused(again) == (404, "HOLD_UNKNOWN")


def test_a_level_is_reached_at_its_amount_brings_its_coupon_and_goes_with_a_return(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.record", "ledger.read", "tiers.read", "contacts.read", "contacts.write", "coupons.redeem")
    address = f"{member}@example.com"
    contact = {"request_id": new_id(), "contact": {"name": "Ada", "email": address}}
    ok(http.put(f"/v1/members/{member}/contact", json=contact))
    lowest = standing(http, member)
    if not lowest["next_tier"]:
        pytest.skip("the programme has one level alone")
    missing = int(lowest["missing_for_next_tier"]["minor_units"])

    almost = buy(http, programme, member, missing - 1)
    said = standing(http, member, almost["causal_token"])
    assert (said["tier"], said["missing_for_next_tier"]["minor_units"]) == (lowest["tier"], "1")

    last = buy(http, programme, member, 1)
    said = standing(http, member, last["causal_token"])
    assert (said["tier"], said["tier_number"]) == (lowest["next_tier"], lowest["tier_number"] + 1)
    assert said["balance"] == {"currency_code": programme["currency"], "minor_units": str(missing)}

    expected = reached_by(programme, lowest["next_tier"])
    query = {"member_id": member, "causal_token": last["causal_token"]}
    # A purchase may set off other campaigns, too.
    others = {one["id"] for one in programme.get("campaigns", ()) if one["trigger"] != "tier_reached"}
    deliveries = ok(http.get("/v1/deliveries", params=query))["deliveries"]
    deliveries = [one for one in deliveries if one["campaign_id"] not in others]
    assert sorted(one["campaign_id"] for one in deliveries) == sorted(expected)
    for delivery in deliveries:
        coupon = ok(http.get(f"/v1/coupons/{delivery['coupon_code'].lower()}"))["coupon"]
        assert (coupon["member_id"], coupon["campaign_id"]) == (member, delivery["campaign_id"])
        assert coupon["state"] == "COUPON_STATE_ISSUED"

    back = {
        "request_id": new_id(),
        "purchase_id": last["receipt"]["purchase_id"],
        "amount": money(programme, 1),
        "reason": "damaged",
    }
    returned = ok(http.post(f"/v1/members/{member}/returns", json=back))
    assert standing(http, member, returned["causal_token"])["tier"] == lowest["tier"]


def test_the_mail_of_a_level_that_was_reached_arrives_with_its_code(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str
) -> None:
    if not given.mailbox:
        pytest.skip("LOYALTY_MAILBOX does not say where mail arrives")
    given.needs("ledger.record", "tiers.read", "contacts.read", "contacts.write")
    first = standing(http, member)
    expected = reached_by(programme, first["next_tier"])
    if not expected:
        pytest.skip("the programme writes to nobody who reaches its second level")
    contact = {"request_id": new_id(), "contact": {"name": "Ada", "email": f"{member}@example.com"}}
    ok(http.put(f"/v1/members/{member}/contact", json=contact))
    bought = buy(http, programme, member, int(first["missing_for_next_tier"]["minor_units"]))
    query = {"member_id": member, "causal_token": bought["causal_token"]}
    deliveries = ok(http.get("/v1/deliveries", params=query))["deliveries"]
    (delivery,) = (one for one in deliveries if one["campaign_id"] in expected)
    assert delivery["coupon_code"] in arrived(given.mailbox, f"{member}@example.com")


def arrived(mailbox: str, address: str) -> str:
    """The text of the one mail to an address, as Mailpit has it."""
    deadline = time.monotonic() + MAIL_SECONDS
    while True:
        found = ok(httpx.get(f"{mailbox}/api/v1/search", params={"query": f'to:"{address}"'}, timeout=10))["messages"]
        if found or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    (mail,) = found
    return str(ok(httpx.get(f"{mailbox}/api/v1/message/{mail['ID']}", timeout=10))["Text"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"amount": None}, "amount"),
        ({"amount": {"minor_units": 0}}, "amount.minor_units"),
        ({"amount": {"minor_units": -1}}, "amount.minor_units"),
        ({"amount": {"currency_code": "XXX"}}, "amount.currency_code"),
        ({"occurred_time": "2190-01-01T00:00:00Z"}, "occurred_time"),
        ({"store_id": "x" * 65}, "store_id"),
        ({"lines": [{"sku": "a", "amount_minor_units": 1}]}, "lines"),
    ],
)
def test_wrong_input_names_the_field_and_writes_nothing(
    given: Given, http: httpx.Client, programme: dict[str, Any], member: str, change: dict[str, Any], field: str
) -> None:
    given.needs("ledger.record", "ledger.read")
    body: dict[str, Any] = {"request_id": new_id(), "amount": money(programme, 700)}
    for name, value in change.items():
        body[name] = body[name] | value if isinstance(value, dict) else value
    answer = http.post(f"/v1/members/{member}/purchases", json=body)
    assert answer.status_code == 400, answer.text
    wrong = next(one for one in answer.json()["details"] if one["@type"].endswith("BadRequest"))
    assert field in [one["field"] for one in wrong["field_violations"]]
    kinds = [entry["kind"] for entry in ok(http.get(f"/v1/members/{member}/entries"))["entries"]]
    assert "ENTRY_KIND_PURCHASE_RECORDED" not in kinds


@pytest.mark.parametrize("content", ["{", "[]", "nothing", '{"no_such_field": 1}'])
def test_what_is_not_of_the_contract_is_refused_as_json(given: Given, http: httpx.Client, content: str) -> None:
    given.needs("members.write")
    answer = http.post("/v1/members", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_what_is_not_there_is_not_found(given: Given, http: httpx.Client) -> None:
    assert http.get("/v1/nothing/here").status_code == 404
    given.needs("ledger.read")
    assert refused(http.get(f"/v1/members/nobody-{new_id()}")) == (404, "MEMBER_UNKNOWN")


@pytest.mark.parametrize(
    ("headers", "reason"), [({}, "TOKEN_MISSING"), ({"authorization": "Bearer a.b.c"}, "TOKEN_INVALID")]
)
def test_nobody_comes_in_without_a_good_token(given: Given, headers: dict[str, str], reason: str) -> None:
    assert refused(httpx.get(f"{given.address}/v1/programme", headers=headers, timeout=30)) == (401, reason)


def test_the_gateway_is_healthy_and_shows_nothing_but_the_contract(given: Given) -> None:
    assert httpx.get(f"{given.address}/healthz", timeout=30).status_code == 200
    inside = httpx.post(
        f"{given.address}/grpc.health.v1.Health/Check", headers={"content-type": "application/grpc"}, timeout=30
    )
    assert inside.headers.get("grpc-status") != "0"


async def test_grpc_answers_at_the_same_address_with_details_of_errors(
    given: Given, channel: grpc.aio.Channel, programme: dict[str, Any], member: str
) -> None:
    given.needs("ledger.record", "ledger.read")
    metadata = (("authorization", f"Bearer {given.token}"),)
    ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    request = pb.RecordPurchaseRequest(
        request_id=new_id(),
        member_id=member,
        amount=Money(currency_code=programme["currency"], minor_units=700),
    )
    answer = await ledger.RecordPurchase(request, metadata=metadata, timeout=30)
    again = await ledger.RecordPurchase(request, metadata=metadata, timeout=30)
    assert (again.receipt, again.causal_token, again.replayed) == (answer.receipt, answer.causal_token, True)
    request.member_id = f"nobody-{new_id()}"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.RecordPurchase(request, metadata=metadata, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "MEMBER_UNKNOWN"


async def test_the_token_opens_what_its_roles_open_and_nothing_else(given: Given, channel: grpc.aio.Channel) -> None:
    metadata = (("authorization", f"Bearer {given.token}"),)
    for path, scope in sorted(unary_methods()):
        call = channel.unary_unary(path)(b"", metadata=metadata, timeout=30)
        denied = await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert denied == (scope not in given.scopes), f"{path} needs {scope}: {await call.details()}"


def unary_methods() -> Iterator[tuple[str, str]]:
    """The paths of what is answered once, each with the scope that it needs."""
    scopes = {path: scope for names in contract.SERVICES.values() for path, scope in contract.scopes(names).items()}
    for file in contract.FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                if path in scopes and not method.client_streaming and not method.server_streaming:
                    yield path, scopes[path]


def reason_of(error: grpc.aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            assert status_pb2.Status.FromString(value).details[0].Unpack(info)
            return str(info.reason)
    return ""
