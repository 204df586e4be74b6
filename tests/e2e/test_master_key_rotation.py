"""The master key of a running folder changes by the command, and the notifier dies in between."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable

import httpx

from services.cli.installation import Connection
from services.cli.master_keys import SETTLED_SECONDS
from tests.e2e.conftest import loyalty


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_master_key_changes_and_the_old_one_goes_while_the_notifier_is_killed(live: Connection) -> None:
    data, file = str(live.installation.directory), live.installation.master_key_file
    old = file.read_text()
    headers = {"authorization": live.authorization("shop")}
    with httpx.Client(base_url=live.gateway, headers=headers, timeout=20) as http:

        def contact(member: str) -> int:
            body = {"request_id": "contact", "contact": {"name": "Ada", "email": f"{member}@example.com"}}
            return http.put(f"/v1/members/{member}/contact", json=body).status_code

        for number in range(20):
            http.post("/v1/members", json={"request_id": "join", "member_id": f"rotated-{number}"})
            assert contact(f"rotated-{number}") == 200
        # Nothing is thrown away that is the only one.
        assert "no older one" in loyalty("master-key-rotate", "--drop-old", "--data", data).stdout
        assert file.read_text() == old

        assert loyalty("master-key-rotate", "--data", data).returncode == 0
        newest, oldest = file.read_text().split()
        assert (oldest, len(base64.b64decode(newest)), file.stat().st_mode & 0o777) == (old.strip(), 32, 0o600)
        children = json.loads(live.installation.state_file.read_text())["children"]
        os.kill(children["notifier"]["pid"], signal.SIGKILL)
        until(lambda: contact("rotated-0") == 200)
        # What was being written when the key came has long been written.
        os.utime(file, (time.time() - SETTLED_SECONDS,) * 2)
        dropped = loyalty("master-key-rotate", "--drop-old", "--data", data)
        assert dropped.returncode == 0, dropped.stderr
        assert file.read_text().split() == [newest]
        until(lambda: contact("rotated-1") == 200)
    assert "keys_rewrapped" in (live.installation.log / "notifier.log").read_text()
    checked = loyalty("check", "--json", "--data", data)
    assert checked.returncode == 0, checked.stdout
    (notifier,) = (one for one in json.loads(checked.stdout)["services"] if one["service"] == "notifier")
    assert notifier["checked"]["keys_of_older_master_keys"] == 0
    assert notifier["checked"]["contacts"] >= 20
