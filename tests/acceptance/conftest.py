"""The stack that is asked whether it does what it should: any that runs, by its address and a token alone.

LOYALTY_ADDRESS   its gateway, `http://127.0.0.1:8080`; with `https` SSL_CERT_FILE may name whom to trust
LOYALTY_TOKEN     a token for it; what the token does not open is skipped, with the reason
LOYALTY_MAILBOX   where its mail arrives, if that is a Mailpit: `http://mailbox:8025`

Without the first two it is a stack that is started for it, as for the other tests.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
import yaml

from services.runtime import contract


@dataclass(frozen=True)
class Given:
    """A gateway and a token for it; `mailbox` is empty where nobody said where mail arrives."""

    address: str
    # A test that fails shows what it was given, and this is nothing to show.
    token: str = field(repr=False)
    mailbox: str

    @cached_property
    def scopes(self) -> frozenset[str]:
        """What the token opens, as it says itself."""
        body = self.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        roles = contract.roles()
        named = [roles.get(role, frozenset()) for role in claims.get("roles", ())]
        return frozenset(str(claims.get("scope", "")).split()).union(*named)

    def needs(self, *scopes: str) -> None:
        """Skips the test where the token does not open all of them."""
        if missing := sorted(set(scopes) - self.scopes):
            pytest.skip(f"the token does not open {', '.join(missing)}")


@pytest.fixture(scope="session")
def given(request: pytest.FixtureRequest) -> Given:
    """What the suite is run against."""
    address, token = os.environ.get("LOYALTY_ADDRESS", ""), os.environ.get("LOYALTY_TOKEN", "")
    mailbox = os.environ.get("LOYALTY_MAILBOX", "").rstrip("/")
    if address or token:
        if not (address and token):
            pytest.fail("set LOYALTY_ADDRESS and LOYALTY_TOKEN, or none of them")
        return Given(address.rstrip("/"), token, mailbox)
    try:
        live = request.getfixturevalue("live")
    except OSError as error:
        pytest.fail(f"LOYALTY_ADDRESS and LOYALTY_TOKEN are not set, and no stack can be started here: {error}")
    return Given(live.gateway, live.installation.token_keys.first_token(), mailbox)


@pytest.fixture(scope="session")
def http(given: Given) -> Iterator[httpx.Client]:
    """JSON over HTTP, with the token."""
    headers = {"authorization": f"Bearer {given.token}"}
    with httpx.Client(base_url=given.address, headers=headers, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def channel(given: Given) -> AsyncIterator[grpc.aio.Channel]:
    """gRPC; each call brings the token itself."""
    async with open_channel(given.address) as opened:
        yield opened


def open_channel(address: str) -> grpc.aio.Channel:
    scheme, _, target = address.partition("://")
    if scheme == "http":
        return grpc.aio.insecure_channel(target)
    trusted = os.environ.get("SSL_CERT_FILE")
    return grpc.aio.secure_channel(
        target, grpc.ssl_channel_credentials(Path(trusted).read_bytes() if trusted else None)
    )


@pytest.fixture(scope="session")
def programme(given: Given, http: httpx.Client) -> dict[str, Any]:
    """The programme that the stack lives by, as its file says it."""
    given.needs("ledger.read")
    answer = http.get("/v1/programme")
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = yaml.safe_load(answer.json()["programme"]["source"])
    return read


@pytest.fixture
def member(given: Given, http: httpx.Client) -> str:
    """A member of this test's own, whatever else is in the stack."""
    given.needs("members.write")
    name = f"acceptance-{uuid.uuid4().hex}"
    answer = http.post("/v1/members", json={"request_id": f"{name}/join", "member_id": name, "channel": "pos"})
    assert answer.status_code == 200, answer.text
    return name
