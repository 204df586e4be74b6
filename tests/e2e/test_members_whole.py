"""Members whole, an export and an erasure over the gateway, each service by its own certificate."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from services.cli.installation import Connection
from tests.conftest import loyalty


@pytest.fixture(scope="module")
def member(live: Connection) -> str:
    """Somebody who joined, told a contact and bought."""
    member_id = f"whole-{secrets.token_hex(4)}"
    with caller(live, "backend") as http:
        http.post("/v1/members", json={"request_id": "join", "member_id": member_id}).raise_for_status()
        contact = {"name": "Ola Nowak", "email": "ola@example.com", "phone": "+48601234567"}
        http.put(
            f"/v1/members/{member_id}/contact", json={"request_id": "contact", "contact": contact}
        ).raise_for_status()
        amount = {"currency_code": "USD", "minor_units": 35_000}
        bought = http.post(f"/v1/members/{member_id}/purchases", json={"request_id": "buy", "amount": amount})
        bought.raise_for_status()
        said = {"request_id": "said", "survey_id": "recommend", "score": 9, "source": "app", "comment": "Ola was here"}
        http.post(f"/v1/members/{member_id}/feedback", json=said).raise_for_status()
    return member_id


def caller(live: Connection, role: str) -> httpx.Client:
    told = loyalty("token", "--role", role, "--name", f"{role}-whole", "--data", str(live.installation.directory))
    assert told.returncode == 0, told.stderr
    headers = {"authorization": f"Bearer {told.stdout.strip()}"}
    return httpx.Client(base_url=live.gateway, headers=headers, timeout=30)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def viewed(http: httpx.Client, member_id: str) -> dict[str, Any]:
    answer = http.post("/v1/members:view", json={"member_id": member_id})
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()["view"]
    return view


def test_staff_see_a_member_whole_and_a_till_a_masked_name(live: Connection, member: str) -> None:
    with caller(live, "support") as support, caller(live, "pos") as till:
        view = until(lambda: (seen := viewed(support, member)).get("coupons") and seen)
        assert (view["name"], view["email"], view["phone"]) == ("Ola Nowak", "ola@example.com", "+48601234567")
        assert (view["standing"]["tier"], len(view["purchases"]), len(view["standing_lines"])) == ("Green", 1, 1)
        assert view.get("missing_parts", []) == []
        masked = viewed(till, member)
        assert (masked["name"], masked["email"], masked["phone"]) == ("O** N****", "", "")
        assert masked["messages"] == []
        assert [(one["score"], one["comment"]) for one in view["answers"]] == [(9, "Ola was here")]
        assert (masked["answers"], masked["consents"]) == ([], [])
        assert [one["name"] for one in masked["badges"]] == ["First basket"]
        assert till.get("/v1/surveys/recommend/results").status_code == 403
    with caller(live, "analyst") as analyst:
        periods = analyst.get("/v1/surveys/recommend/results?by=SURVEY_PERIODS_MONTH").json()["periods"]
        assert sum(int(one["members"]) for one in periods) >= 1
        assert "Ola" not in json.dumps(periods)


def test_who_may_not_is_told_so(live: Connection, member: str) -> None:
    with caller(live, "analyst") as analyst, caller(live, "ops") as ops, caller(live, "pos") as till:
        assert analyst.post("/v1/members:view", json={"member_id": member}).status_code == 403
        assert till.get(f"/v1/members/{member}:export").status_code == 403
        # The ledger's own part of it is the notifier's to ask for.
        assert ops.post(f"/v1/members/{member}:erase", json={"request_id": "x"}).status_code == 403


def test_an_export_has_what_all_services_keep_and_an_erasure_leaves_nothing_of_the_person(
    live: Connection, member: str
) -> None:
    with caller(live, "support") as support:
        first = support.get(f"/v1/members/{member}:export")
        assert first.status_code == 200, first.text
        categories = {record["category"] for record in first.json()["records"]}
        assert {"contact", "membership", "entries", "purchases", "standing"} <= categories
        body = {"request_id": "forget", "reason": "asked"}
        answer = support.post(f"/v1/members/{member}:forget", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["erased_time"]
        after = support.get(f"/v1/members/{member}:export").json()["records"]
        assert not [told for told in ("Ola", "ola@example.com", "+48601234567") if told in json.dumps(after)]
        view = viewed(support, member)
        assert (view["member"]["status"], view["name"], view["email"]) == ("MEMBER_STATUS_ERASED", "", "")
