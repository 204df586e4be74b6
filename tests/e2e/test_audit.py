"""The audit log of a running stack: what the gateway lets pass and a service refuses is in it, and is verified."""

from __future__ import annotations

import json
import time

import httpx

from services.cli.installation import Connection
from tests.e2e.conftest import loyalty


def test_a_call_that_is_refused_stands_in_the_audit_log_that_the_check_verifies(live: Connection) -> None:
    data = str(live.installation.directory)
    made = loyalty("token", "--role", "analyst", "--name", "curious", "--data", data)
    assert made.returncode == 0, made.stderr
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}

    def lines() -> int:
        told = loyalty("check", "--json", "--data", data)
        assert told.returncode == 0, told.stdout + told.stderr
        report = {
            service["service"]: service["checked"]["audit_lines"] for service in json.loads(told.stdout)["services"]
        }
        assert report.keys() == {"ledger", "tiers", "notifier"}
        return report["notifier"]

    before = lines()
    assert httpx.get(f"{live.gateway}/v1/deliveries", headers=headers).status_code == 403
    deadline = time.monotonic() + 10
    while lines() == before:
        assert time.monotonic() < deadline
    authorization = {"authorization": live.authorization("desk")}
    answer = httpx.get(f"{live.gateway}/v1/deliveries", headers=authorization)
    assert answer.status_code == 200, answer.text
    assert lines() == before + 2
