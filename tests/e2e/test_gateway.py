"""Through the real Envoy: JSON over HTTP, gRPC and gRPC-Web, wrong input included."""

from __future__ import annotations

import base64
import json
import mailbox
import uuid
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.installation import Connection


@pytest.fixture
def http(live: Connection) -> Any:
    with httpx.Client(
        base_url=live.gateway, headers={"authorization": live.authorization("till-1")}, timeout=20
    ) as client:
        yield client


@pytest.fixture
def member(http: httpx.Client) -> str:
    name = f"member-{uuid.uuid4().hex[:12]}"
    answer = http.post("/v1/members", json={"request_id": "join", "member_id": name, "channel": "pos"})
    assert answer.status_code == 200, answer.text
    return name


def buy(http: httpx.Client, member: str, minor_units: int, request_id: str, **more: Any) -> httpx.Response:
    body = {"request_id": request_id, "amount": {"currency_code": "USD", "minor_units": minor_units}, **more}
    return http.post(f"/v1/members/{member}/purchases", json=body)


def reason_of(answer: httpx.Response) -> str:
    return str(answer.json()["details"][0]["reason"])


def test_a_member_buys_reaches_green_at_once_gets_a_coupon_by_mail_and_falls_back_by_a_return(
    http: httpx.Client, live: Connection, member: str
) -> None:
    contact = {"request_id": "contact", "contact": {"name": "Ada", "email": f"{member}@example.com"}}
    assert http.put(f"/v1/members/{member}/contact", json=contact).status_code == 200

    token = buy(http, member, 29_500, "p1").json()["causal_token"]
    standing = http.get(f"/v1/members/{member}/standing", params={"causal_token": token}).json()["standing"]
    assert (standing["tier"], standing["missing_for_next_tier"]["minor_units"]) == ("White", "500")

    receipt = buy(http, member, 1_000, "p2", purchase_id="receipt-2").json()
    token = receipt["causal_token"]
    assert receipt["receipt"]["rules"] == [
        {"rule": "base", "points": "10", "reason": "1 point per 1.00 USD of 10.00 USD"}
    ]
    standing = http.get(f"/v1/members/{member}/standing", params={"causal_token": token}).json()["standing"]
    assert (standing["tier_number"], standing["tier"], standing["discount_basis_points"]) == (2, "Green", 500)

    deliveries = http.get("/v1/deliveries", params={"member_id": member, "causal_token": token}).json()
    assert deliveries["total_size"] == "1"
    code = deliveries["deliveries"][0]["coupon_code"]
    coupon = http.get(f"/v1/coupons/{code.lower()}").json()["coupon"]
    assert (coupon["member_id"], coupon["state"]) == (member, "COUPON_STATE_ISSUED")
    assert code in _mail_to(live, http, member)

    back = {
        "request_id": "r1",
        "purchase_id": "receipt-2",
        "amount": {"currency_code": "USD", "minor_units": 1_000},
        "reason": "damaged",
    }
    answer = http.post(f"/v1/members/{member}/returns", json=back).json()
    assert (answer["state"], answer["receipt"]["points"]) == ("RETURN_STATE_RECORDED", "-10")
    query = {"causal_token": answer["causal_token"]}
    standing = http.get(f"/v1/members/{member}/standing", params=query).json()["standing"]
    assert standing["tier"] == "White"


def _mail_to(live: Connection, http: httpx.Client, member: str) -> str:
    """The text of the mail that lies in the mailbox once its delivery is done."""
    for _ in range(200):
        found = http.get("/v1/deliveries", params={"member_id": member, "state": "DELIVERY_STATE_DELIVERED"}).json()
        if found["total_size"] != "0":
            break
    box = mailbox.Maildir(live.installation.mailbox, create=False)
    texts = [
        message.get_payload(decode=True).decode()
        for message in box
        if message["To"] and f"{member}@example.com" in message["To"]
    ]
    assert len(texts) == 1
    return texts[0]


def test_standings_are_listed_page_by_page(http: httpx.Client, member: str) -> None:
    token = buy(http, member, 30_000, "p").json()["causal_token"]
    listed: list[dict[str, Any]] = []
    query: dict[str, Any] = {"causal_token": token, "page_size": 2}
    while True:
        page = http.get("/v1/standings", params=query).json()
        listed += page["standings"]
        if not page["next_page_token"]:
            break
        query["page_token"] = page["next_page_token"]
    assert [one["member_id"] for one in listed] == sorted({one["member_id"] for one in listed})
    (own,) = (one for one in listed if one["member_id"] == member)
    assert (own["tier_number"], own["tier"]) == (2, "Green")
    assert own["balance"] == {"currency_code": "USD", "minor_units": "30000"}
    wrong = http.get("/v1/standings", params={"page_token": "nonsense"})
    assert (wrong.status_code, reason_of(wrong)) == (400, "PAGE_TOKEN_INVALID")


def test_the_same_request_twice_is_answered_alike_and_marked(http: httpx.Client, member: str) -> None:
    first = buy(http, member, 5_000, "p").json()
    again = buy(http, member, 5_000, "p").json()
    assert again == first | {"replayed": True}
    other = buy(http, member, 5_001, "p")
    assert (other.status_code, reason_of(other)) == (409, "REQUEST_ID_REUSED")
    assert other.json()["details"][0]["metadata"] == {"field": "amount"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "request_id"),
        ({"request_id": "p"}, "amount"),
        ({"request_id": "p", "amount": {"currency_code": "USD", "minor_units": -1}}, "amount.minor_units"),
        ({"request_id": "p", "amount": {"currency_code": "usd", "minor_units": 1}}, "amount.currency_code"),
        ({"request_id": "p", "amount": {"currency_code": "PLN", "minor_units": 1}}, "amount.currency_code"),
        ({"request_id": "p", "amount": {"currency_code": "USD", "minor_units": 1}, "store_id": "a\0"}, "store_id"),
        (
            {
                "request_id": "p",
                "amount": {"currency_code": "USD", "minor_units": 2},
                "lines": [{"sku": "a", "amount_minor_units": 1}],
            },
            "lines",
        ),
        (
            {
                "request_id": "p",
                "amount": {"currency_code": "USD", "minor_units": 1},
                "occurred_time": "2100-01-01T00:00:00Z",
            },
            "occurred_time",
        ),
    ],
)
def test_wrong_fields_are_400_with_the_field_and_write_nothing(
    http: httpx.Client, member: str, body: dict[str, Any], field: str
) -> None:
    answer = http.post(f"/v1/members/{member}/purchases", json=body)
    assert answer.status_code == 400
    violations = next(one for one in answer.json()["details"] if one["@type"].endswith("BadRequest"))
    assert field in [one["field"] for one in violations["field_violations"]]
    entries = http.get(f"/v1/members/{member}/entries").json()["entries"]
    assert [entry["kind"] for entry in entries] == ["ENTRY_KIND_MEMBER_JOINED"]


@pytest.mark.parametrize(
    ("path", "body", "violation"),
    [
        (
            "identifiers:unlink",
            {"identifier": {"kind": "IDENTIFIER_KIND_CARD", "value": "4006381333931"}},
            ("reason", "must be one of UNLINK_REASON_LOST, "),
        ),
        # Frozen points with a tier that holds: only tiers can say it for all.
        (":setEarningClass",
         {"earning_class": "suspended", "effective_time": "2030-01-01T00:00:00Z", "sequence": "1"},
         ("earning_class", "is set by tiers alone")),
    ],
)  # fmt: skip
def test_a_wrong_value_is_answered_with_what_would_be_right(
    http: httpx.Client, member: str, path: str, body: dict[str, Any], violation: tuple[str, str]
) -> None:
    separator = "" if path.startswith(":") else "/"
    answer = http.post(f"/v1/members/{member}{separator}{path}", json={"request_id": "wrong-1", **body})
    assert answer.status_code == 400, answer.text
    (told,) = answer.json()["details"][-1]["field_violations"]
    assert told["field"] == violation[0]
    assert told["description"].startswith(violation[1])


@pytest.mark.parametrize("content", ["{", "[]", '{"request_id": 7', "nothing", '{"amount": {"minor_units": "many"}}'])
def test_what_is_no_json_of_the_contract_is_400_and_json(http: httpx.Client, member: str, content: str) -> None:
    answer = http.post(f"/v1/members/{member}/purchases", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_an_unknown_member_and_an_unknown_path_are_404_and_json(http: httpx.Client) -> None:
    answer = http.get("/v1/members/nobody-of-that-name")
    assert (answer.status_code, reason_of(answer)) == (404, "MEMBER_UNKNOWN")
    answer = http.get("/v1/coupons/NONE-2222-2222-2222")
    assert (answer.status_code, reason_of(answer)) == (404, "COUPON_UNKNOWN")
    answer = http.get("/v1/nothing/here")
    assert answer.status_code == 404
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("headers", "reason"), [({}, "TOKEN_MISSING"), ({"authorization": "Bearer a.b"}, "TOKEN_INVALID")]
)
def test_no_token_and_a_wrong_token_are_401(live: Connection, headers: dict[str, str], reason: str) -> None:
    answer = httpx.get(f"{live.gateway}/v1/programme", headers=headers)
    assert (answer.status_code, reason_of(answer)) == (401, reason)


def test_a_clock_that_moves_by_itself_is_not_advanced(http: httpx.Client) -> None:
    answer = http.post("/v1/clock:advance", json={"request_id": "c", "to_time": "2030-01-01T00:00:00Z"})
    assert (answer.status_code, reason_of(answer)) == (400, "CLOCK_NOT_SIMULATED")


async def test_grpc_goes_through_the_same_port_with_details_of_errors(live: Connection, member: str) -> None:
    metadata = (("authorization", live.authorization("backend")),)
    async with grpc.aio.insecure_channel(live.gateway.removeprefix("http://")) as channel:
        ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        request = pb.RecordPurchaseRequest(
            request_id="g", member_id=member, amount=Money(currency_code="USD", minor_units=700)
        )
        answer = await ledger.RecordPurchase(request, metadata=metadata, timeout=10)
        assert answer.receipt.points == 7
        request.member_id = "nobody-of-that-name"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ledger.RecordPurchase(request, metadata=metadata, timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "MEMBER_UNKNOWN"
        received = 0
        async for response in ledger.StreamEntries(pb.StreamEntriesRequest(), metadata=metadata, timeout=20):
            received += len(response.entries)
        assert received >= 2


def test_grpc_web_goes_through_the_same_port(live: Connection, member: str) -> None:
    content = pb.GetBalanceRequest(member_id=member).SerializeToString()
    frame = b"\0" + len(content).to_bytes(4, "big") + content
    answer = httpx.post(
        f"{live.gateway}/loyalty.ledger.v1.LedgerService/GetBalance",
        content=base64.b64encode(frame),
        headers={
            "content-type": "application/grpc-web-text",
            "accept": "application/grpc-web-text",
            "authorization": live.authorization("app"),
            "x-grpc-web": "1",
        },
    )
    assert answer.status_code == 200
    body = base64.b64decode(answer.content)
    length = int.from_bytes(body[1:5], "big")
    assert pb.GetBalanceResponse.FromString(body[5 : 5 + length]).balance.available_points == 100


def test_the_gateway_says_that_it_is_healthy_and_hides_what_is_not_in_the_contract(live: Connection) -> None:
    assert httpx.get(f"{live.gateway}/healthz").status_code == 200
    answer = httpx.post(f"{live.gateway}/grpc.health.v1.Health/Check", headers={"content-type": "application/grpc"})
    assert answer.headers.get("grpc-status") != "0"


@pytest.mark.parametrize("size", [11, 13, 30, 70])
def test_headers_that_no_service_takes_are_turned_away_at_the_gateway(http: httpx.Client, size: int) -> None:
    # Fields of a length that costs a service the most beside what they hold.
    more = [(f"x-{number}", "x" * 160) for number in range(80)][: size * 1024 // 164]
    answer = http.get("/v1/programme", headers=[*more, ("x-rest", "x" * max(0, size * 1024 - 164 * len(more) - 700))])
    if size <= 12:
        assert answer.status_code == 200, answer.text
        return
    assert answer.status_code == 431
    said = "the headers of the request are larger than 12 KiB"
    assert answer.json() == {"code": 8, "message": said, "details": []}


async def test_a_grpc_call_with_headers_that_no_service_takes_is_not_told_of_headers_inside(live: Connection) -> None:
    async with grpc.aio.insecure_channel(live.gateway.removeprefix("http://")) as channel:
        metadata = (("authorization", live.authorization("shop")), ("x-big", "x" * 30_000))
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.GetProgramme(pb.GetProgrammeRequest(), metadata=metadata, timeout=20)
    # Over HTTP/2 Envoy ends such a stream without an answer.
    assert told.value.code() is grpc.StatusCode.INTERNAL
    assert "RST_STREAM" in str(told.value.details())
    assert "x-" not in str(told.value.details())


def test_a_request_of_many_megabytes_is_turned_away(http: httpx.Client, member: str) -> None:
    body = json.dumps({"request_id": "p", "store_id": "x" * 20_000_000})
    answer = http.post(f"/v1/members/{member}/purchases", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["message"]


def test_preferences_webhooks_and_dead_letters_have_their_paths(http: httpx.Client, member: str) -> None:
    said = {"request_id": f"{member}-p", "source": "form", "preferences": [{"topic": "offers", "allowed": False}]}
    assert http.put(f"/v1/members/{member}/preferences", json=said).json() == {"replayed": False}
    heard = http.get(f"/v1/members/{member}/preferences").json()
    assert heard["preferences"] == [{"channel": "email", "topic": "offers", "allowed": False}]
    assert heard["consents"][0]["source"] == "form"
    contact = {"request_id": f"{member}-c", "contact": {"name": "Ann", "email": "ann@example.com", "language": "pl"}}
    assert http.put(f"/v1/members/{member}/contact", json=contact).status_code == 200
    found = http.get(f"/v1/members/{member}/contact").json()["contact"]
    assert (found["name"], found["language"]) == ("Ann", "pl")
    bounced = {"request_id": f"{member}-b", "address": "nobody@example.com", "kind": "BOUNCE_KIND_COMPLAINT"}
    assert http.post("/v1/bounces", json=bounced).json() == {"suppressed": True, "replayed": False}
    made = http.post("/v1/webhookEndpoints", json={"request_id": f"{member}-e", "url": "https://example.com/"}).json()
    assert made["secret"].startswith("whsec_")
    listed = http.get("/v1/webhookEndpoints").json()["endpoints"]
    assert made["endpoint"]["endpoint_id"] in {endpoint["endpoint_id"] for endpoint in listed}
    endpoint = f"/v1/webhookEndpoints/{made['endpoint']['endpoint_id']}"
    assert http.post(f"{endpoint}:enable", json={"request_id": f"{member}-on"}).json()["replayed"] is False
    assert http.post(f"{endpoint}:rotateSecret", json={"request_id": f"{member}-s"}).json()["secret"] != made["secret"]
    assert http.delete(endpoint).json() == {}
    assert http.get("/v1/deadLetters").json()["deliveries"] == []
    wrong = http.post("/v1/unsubscribe", json={"request_id": "u", "token": "x"})
    assert (wrong.status_code, wrong.json()["details"][0]["reason"]) == (400, "UNSUBSCRIBE_TOKEN_INVALID")
    unknown = http.post(f"/v1/deliveries/0000{'a' * 28}:retry", json={"request_id": "r"})
    assert (unknown.status_code, unknown.json()["details"][0]["reason"]) == (404, "DELIVERY_UNKNOWN")
