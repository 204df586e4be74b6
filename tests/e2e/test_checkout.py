"""A checkout through the gateway, as JSON and as gRPC, with the figures of the plan; and with any service killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.ledger.v1.member_pb2 import IDENTIFIER_KIND_CARD, Identifier
from loyalty.notifier.v1 import checkout_service_pb2 as pb
from loyalty.notifier.v1 import checkout_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.installation import Connection, connection
from tests.checkout_shop import PROGRAMME
from tests.e2e.conftest import loyalty

PLN = "PLN"
# Two articles and a gift card.
LINES = [
    {"sku": "lamp", "unit_price_minor_units": 5_000, "quantity": 2},
    {"kind": "LINE_KIND_GIFT_CARD", "sku": "card", "amount_minor_units": 5_000},
]
KILLED = ("notifier", "ledger", "tiers", "postgres")
WHOLE, NOTHING = ((580, 0), "COUPON_STATE_REDEEMED"), ((1_000, 0), "COUPON_STATE_ISSUED")
# What passes by sending the same again.
AWAY = {502, 503, 504}


@pytest.fixture(scope="module")
def stack() -> Iterator[Connection]:
    """A stack of its own, with the programme of the plan."""
    directory = Path(tempfile.mkdtemp(prefix="ly-till-"))
    programme = directory.with_suffix(".yaml")
    programme.write_text(PROGRAMME)
    started = loyalty("up", "--data", str(directory), "--programme", str(programme), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)
        programme.unlink()


@pytest.fixture(scope="module")
def till(stack: Connection) -> Iterator[httpx.Client]:
    headers = {"authorization": stack.authorization("till-1")}
    with httpx.Client(base_url=stack.gateway, headers=headers, timeout=20) as client:
        yield client


def answered(call: Callable[[], httpx.Response]) -> httpx.Response:
    """As a till does: the same again, until there is an answer."""
    began = time.monotonic()
    while True:
        try:
            answer = call()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code not in AWAY:
            return answer
        assert time.monotonic() - began < 60, "nothing within a minute"
        time.sleep(0.1)  # what a till does between tries


def send(till: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = answered(lambda: till.post(path, json=body))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read(till: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    answer = answered(lambda: till.get(path, params=query))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def at(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()


def customer(till: httpx.Client) -> tuple[str, str]:
    """Somebody with 950.00 and 1,000 points, Green; and a coupon for 10.00."""
    name = f"m-{uuid.uuid4().hex[:12]}"
    send(till, "/v1/members", {"request_id": "join", "member_id": name, "occurred_time": at(100)})
    amount = {"currency_code": PLN, "minor_units": 95_000}
    send(till, f"/v1/members/{name}/purchases", {"request_id": "before", "occurred_time": at(90), "amount": amount})
    award = {"request_id": "given", "points": 50, "reason": "goodwill"}
    token = send(till, f"/v1/members/{name}:awardPoints", award)["causal_token"]
    assert standing(till, name, token) == ("Green", "95000")
    issue = {
        "request_id": uuid.uuid4().hex,
        "member_id": name,
        "offer": {"kind": "OFFER_KIND_DISCOUNT_AMOUNT", "amount": {"currency_code": PLN, "minor_units": 1_000}},
        "valid_until_time": at(-30),
        "prefix": "TEN",
        "reason": "goodwill",
    }
    return name, send(till, "/v1/coupons", issue)["coupon"]["code"]


def standing(till: httpx.Client, member: str, token: str = "") -> tuple[str, str]:
    found = read(till, f"/v1/members/{member}/standing", causal_token=token)["standing"]
    return found["tier"], found["balance"]["minor_units"]


def basket(member: str, code: str) -> dict[str, Any]:
    return {
        "member_id": member,
        "currency_code": PLN,
        "lines": LINES,
        "coupon_codes": [code],
        "points": 500,
        "store_id": "store-1",
        "channel": "pos",
    }


def commitment(member: str, code: str) -> dict[str, Any]:
    return {
        **basket(member, code),
        "request_id": "c-1",
        "checkout_id": "sale-1",
        "expected_pay": {"currency_code": PLN, "minor_units": 13_000},
        "receipt_number": "R-1",
    }


def points(till: httpx.Client, member: str) -> tuple[int, int]:
    balance = read(till, f"/v1/members/{member}/balance")["balance"]
    return int(balance.get("available_points", 0)), int(balance.get("held_points", 0))


def sold_once(till: httpx.Client, member: str, code: str, token: str) -> None:
    assert points(till, member) == (580, 0)
    assert standing(till, member, token) == ("Silver", "103000")
    purchases = read(till, f"/v1/members/{member}/purchases")["purchases"]
    assert [purchase["purchase_id"] for purchase in purchases] == ["sale-1", "before"]
    assert read(till, f"/v1/coupons/{code}")["coupon"]["state"] == "COUPON_STATE_REDEEMED"


def one_comes_back(till: httpx.Client, member: str) -> None:
    back = {
        "request_id": "back",
        "purchase_id": "sale-1",
        "returned_lines": [{"line_number": 1, "quantity": 1}],
        "reason": "wrong_size",
    }
    answer = send(till, f"/v1/members/{member}/returns", back)
    assert answer["refund_amount"] == {"currency_code": PLN, "minor_units": "4000"}
    assert (answer["points_returned"], answer["receipt"]["points"]) == ("250", "-40")
    assert points(till, member) == (790, 0)
    assert standing(till, member, answer["causal_token"]) == ("Green", "99000")


def all_comes_back(till: httpx.Client, member: str, code: str) -> None:
    send(till, f"/v1/members/{member}/purchases/sale-1:void", {"request_id": "void", "store_id": "store-1"})
    assert points(till, member) == (1_000, 0)
    began = time.monotonic()
    while coupon_state(till, code) != "COUPON_STATE_ISSUED":
        assert time.monotonic() - began < 60
        time.sleep(0.1)  # the feed brings it


def test_a_basket_is_quoted_sold_and_partly_returned_with_the_figures_of_the_plan(till: httpx.Client) -> None:
    member, code = customer(till)

    quote = send(till, "/v1/checkouts:quote", basket(member, code.lower()))["quote"]
    off = [(one["kind"], one["reason"], one["amount"]["minor_units"]) for one in quote["discounts"]]
    assert off == [
        ("DISCOUNT_KIND_TIER", "Green: 5 % of 100.00 PLN", "500"),
        ("DISCOUNT_KIND_COUPON", f"coupon {code}: 10.00 PLN", "1000"),
    ]
    assert (quote["points"], quote["points_amount"]["minor_units"]) == ("500", "500")
    assert (quote["pay"]["minor_units"], quote["earned_points"]) == ("13000", "80")
    assert [line["amount"]["minor_units"] for line in quote["lines"]] == ["8500", "5000"]
    assert quote["summary"] == (
        f"To pay: 130.00 PLN. Off: 5.00 PLN Green, 10.00 PLN coupon {code}. 500 points pay 5.00 PLN. Earns 80 points."
    )
    # Nothing was kept.
    assert points(till, member) == (1_000, 0)

    sold = send(till, "/v1/checkouts", commitment(member, code))
    assert (sold["quote"]["pay"]["minor_units"], sold["quote"]["earned_points"]) == ("13000", "80")
    assert (sold["available_points"], sold["checkout_id"]) == ("580", "sale-1")
    token = sold["causal_token"]
    sold_once(till, member, code, token)
    assert send(till, "/v1/checkouts", commitment(member, code)) == {**sold, "replayed": True}

    following = {**basket(member, code), "causal_token": token, "coupon_codes": []}
    after = send(till, "/v1/checkouts:quote", following)["quote"]
    assert after["discounts"][0]["reason"] == "Silver: 8 % of 100.00 PLN"
    one_comes_back(till, member)
    assert coupon_state(till, code) == "COUPON_STATE_REDEEMED"
    all_comes_back(till, member, code)


def test_a_till_hears_with_reason_and_sentence_what_is_not_sold(till: httpx.Client) -> None:
    member, code = customer(till)
    wrong = {**commitment(member, code), "expected_pay": {"currency_code": PLN, "minor_units": 12_999}}

    refused = till.post("/v1/checkouts", json=wrong)

    detail = refused.json()["details"][0]
    assert (refused.status_code, detail["reason"]) == (400, "CHECKOUT_PRICE_CHANGED")
    assert detail["metadata"] == {"pay_minor_units": "13000", "currency_code": PLN}
    used = {**basket(member, code), "coupon_codes": [code, "TEN-NOPE"], "points": 1_500}
    quote = send(till, "/v1/checkouts:quote", used)["quote"]
    assert [(one.get("coupon_code", ""), one["reason"]) for one in quote["refusals"]] == [
        ("TEN-NOPE", "COUPON_UNKNOWN"),
        ("", "NOT_ENOUGH_POINTS"),
    ]
    assert "1500 points are wanted, 1000 are there" in quote["summary"]

    cancel = {"request_id": "x-1", "member_id": member}
    assert send(till, "/v1/checkouts/sale-1:cancel", cancel).get("replayed", False) is False
    late = till.post("/v1/checkouts", json={**commitment(member, code), "request_id": "c-2"})
    assert late.json()["details"][0]["reason"] == "CHECKOUT_CANCELLED"
    assert points(till, member) == (1_000, 0)


async def test_a_card_is_enough_and_grpc_says_the_same(stack: Connection, till: httpx.Client) -> None:
    member, code = await asyncio.to_thread(customer, till)
    card = Identifier(kind=IDENTIFIER_KIND_CARD, value=f"9{uuid.uuid4().int % 10**12}")
    metadata = (("authorization", stack.authorization("till-1")),)
    async with grpc.aio.insecure_channel(stack.gateway.removeprefix("http://")) as channel:
        ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        link = ledger_pb.LinkIdentifierRequest(request_id="link", member_id=member, identifier=card)
        await ledger.LinkIdentifier(link, metadata=metadata, timeout=20)
        checkouts = checkout_service_pb2_grpc.CheckoutServiceStub(channel)
        more: dict[str, Any] = {
            "identifier": card,
            "currency_code": PLN,
            "lines": [
                pb.CheckoutLine(sku="lamp", unit_price_minor_units=5_000, quantity=2),
                pb.CheckoutLine(kind=ledger_pb.LINE_KIND_GIFT_CARD, amount_minor_units=5_000),
            ],
            "coupon_codes": [code],
            "points": 500,
            "store_id": "store-1",
            "channel": "pos",
        }

        request = pb.QuoteCheckoutRequest(**more)
        quote = (await checkouts.QuoteCheckout(request, metadata=metadata, timeout=20)).quote
        commit = pb.CommitCheckoutRequest(request_id="c-1", checkout_id="sale-1", expected_pay=quote.pay, **more)
        sold = await checkouts.CommitCheckout(commit, metadata=metadata, timeout=20)

    assert quote.pay == Money(currency_code=PLN, minor_units=13_000)
    assert (sold.quote.earned_points, sold.available_points, sold.quote.member_id) == (80, 580, member)
    await asyncio.to_thread(sold_once, till, member, code, sold.causal_token)


def pid_of(stack: Connection, child: str) -> int:
    state = json.loads((stack.installation.directory / "run" / "state.json").read_text())
    return int(state["children"][child]["pid"])


@pytest.mark.parametrize("victim", KILLED)
def test_a_sale_with_a_service_killed_at_any_moment_has_the_same_figures(
    stack: Connection, till: httpx.Client, victim: str
) -> None:
    for milliseconds in (2, 15, 40):
        member, code = customer(till)
        with ThreadPoolExecutor(1) as other:
            selling = other.submit(send, till, "/v1/checkouts", commitment(member, code))
            time.sleep(milliseconds / 1000)  # the moment is what differs
            os.kill(pid_of(stack, victim), signal.SIGKILL)
            sold = selling.result()
        assert (sold["available_points"], sold["quote"]["earned_points"]) == ("580", "80")
        sold_once(till, member, code, sold["causal_token"])
        one_comes_back(till, member)


def test_a_sale_whose_till_dies_with_the_notifier_ends_by_itself(stack: Connection, till: httpx.Client) -> None:
    for milliseconds in (15, 30, 60):
        member, code = customer(till)
        with httpx.Client(base_url=stack.gateway, headers=till.headers, timeout=milliseconds / 1000) as dying:
            with contextlib.suppress(httpx.TransportError):
                dying.post("/v1/checkouts", json=commitment(member, code))
            os.kill(pid_of(stack, "notifier"), signal.SIGKILL)
        began = time.monotonic()
        while (now := (points(till, member), coupon_state(till, code))) not in (WHOLE, NOTHING):
            assert time.monotonic() - began < 60, now
            time.sleep(0.2)  # what it takes is what is asked here
        # Whoever asks later is told the same.
        told = answered(partial(till.post, "/v1/checkouts", json=commitment(member, code)))
        if told.status_code == 200:
            sold_once(till, member, code, told.json()["causal_token"])
        else:
            assert told.json()["details"][0]["reason"] == "CHECKOUT_TIMED_OUT", told.text
            assert (points(till, member), coupon_state(till, code)) == NOTHING


def test_after_all_of_this_every_sale_stands_at_the_ledger_as_it_was_answered(stack: Connection) -> None:
    checked = loyalty("check", "--data", str(stack.installation.directory))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "checkout requests" in checked.stdout


def coupon_state(till: httpx.Client, code: str) -> str:
    return str(read(till, f"/v1/coupons/{code}")["coupon"]["state"])
