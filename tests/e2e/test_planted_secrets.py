"""Secrets stay where they belong: a stack with known ones is used, misused, crashed and cut off, and then searched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from loyalty.notifier.v1 import coupon_pb2, coupon_pb2_grpc

from services.cli.installation import Connection, connection
from services.cli.postgres import OWNER, ROLES, SUPERUSER, Cluster
from services.runtime.channels import open_secure_channel
from services.runtime.tls import Certificates
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import loyalty
from tests.e2e.test_hostile_frames import END_HEADERS, END_STREAM, HEADERS, METHOD, Door, begun, call_headers, frame

NAME, EMAIL = "Zxqvname", "zxqvaddress@example.com"
# Digits that nothing else has; a date of birth that no run of the test falls on.
PHONE, BORN, CITY = "+48739184625", "1903-07-29", "Zxqvcity"
CONTACT = {"name": NAME, "email": EMAIL, "phone": PHONE, "birth_date": BORN, "demographics": {"city": CITY}}
COMMENT = "Zxqvcomment"
CARD = "zxqvcard4006381333931"
FEEDBACK = {"request_id": "said", "survey_id": "recommend", "score": 9, "source": "app", "comment": COMMENT}
TIERS = {"green": 30_000}


@pytest.fixture
def own() -> Iterator[Connection]:
    """A stack of this test's own: it is crashed."""
    directory = Path(tempfile.mkdtemp(prefix="ly-planted-"))
    programme = str(PROGRAMMES / "retail-demo.yaml")
    started = loyalty("up", "--data", str(directory), "--programme", programme, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(up: Connection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(up.installation.state_file.read_text())["children"]
    return found


def written(content: bytes) -> set[bytes]:
    """Ways in which a secret may be written down."""
    return {
        content,
        content.hex().encode(),
        base64.b64encode(content).rstrip(b"="),
        base64.urlsafe_b64encode(content).rstrip(b"="),
    }


def planted(up: Connection, tokens: list[str], codes: list[str]) -> dict[str, set[bytes]]:
    """What must be found nowhere, by what it is."""
    there = up.installation
    secrets: dict[str, set[bytes]] = {
        "master key": written(base64.b64decode(there.master_key_file.read_text()))
        | {there.master_key_file.read_bytes().strip()},
        "identifier key": written(base64.b64decode(there.identifier_key_file.read_text()))
        | {there.identifier_key_file.read_bytes().strip()},
        "identifier": {CARD.encode(), *written(CARD.encode())},
        "contact": {
            form
            for told in (NAME, EMAIL, PHONE, BORN, CITY, COMMENT)
            for form in (told.encode(), *written(told.encode()))
        },
        "coupon": {code.encode() for code in codes} | {code.replace("-", "").encode() for code in codes},
        # The signature is what makes a token one.
        "token": {part.encode() for token in tokens for part in (token, token.rpartition(".")[2])},
    }
    for role in (SUPERUSER, *ROLES):
        secrets[f"password of {role}"] = {(there.secrets / f"database-{role}").read_bytes().strip()}
    for path in [*(there.secrets / "token-keys").glob("*.pem"), *(there.secrets / "tls").glob("*-key.pem")]:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        body = b"".join(path.read_bytes().strip().splitlines()[1:-1])
        secrets[f"key {path.name}"] = {body, body[:60], body[-60:]}
        if path.parent.name == "token-keys":
            raw = serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
            secrets[f"key {path.name}"] |= written(key.private_bytes(*raw))
    return secrets


def holding(content: bytes, secrets: dict[str, set[bytes]]) -> list[str]:
    return sorted(what for what, forms in secrets.items() if any(form in content for form in forms))


def processes(supervisor: int) -> list[int]:
    """The supervisor, its children, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [supervisor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def admin(up: Connection, path: str) -> bytes:
    """What Envoy says of itself."""
    folder = json.loads(up.installation.state_file.read_text())["addresses"]["sockets"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/admin.sock"), base_url="http://envoy") as client:
        return client.get(path).content


def card(value: str) -> dict[str, str]:
    return {"kind": "IDENTIFIER_KIND_CARD", "value": value}


class Caller:
    """Calls that succeed and calls that are refused; keeps what was answered to the latter."""

    def __init__(self, up: Connection, token: str) -> None:
        self.token = token
        self.http = httpx.Client(base_url=up.gateway, headers={"authorization": f"Bearer {token}"}, timeout=30)
        self.refused: list[bytes] = []
        # What Envoy says of a body that it cannot read shows the place: to nobody but who sent it.
        self.unreadable: list[bytes] = []

    def join(self, member: str) -> None:
        self.http.post("/v1/members", json={"request_id": "join", "member_id": member}).raise_for_status()
        contact = {"request_id": "contact", "contact": CONTACT}
        self.http.put(f"/v1/members/{member}/contact", json=contact).raise_for_status()
        self.http.post(f"/v1/members/{member}/feedback", json=FEEDBACK).raise_for_status()
        link = {"request_id": "link", "identifier": card(f"{CARD}-{member}")}
        self.http.post(f"/v1/members/{member}/identifiers", json=link).raise_for_status()
        found = self.http.post("/v1/members:lookup", json={"identifier": card(f"{CARD}-{member}")})
        assert found.json()["member"]["member_id"] == member

    def buy(self, member: str, request_id: str = "buy") -> httpx.Response:
        body = {"request_id": request_id, "amount": {"currency_code": "USD", "minor_units": TIERS["green"]}}
        return self.http.post(f"/v1/members/{member}/purchases", json=body)

    def codes(self) -> list[str]:
        said = self.http.get("/v1/deliveries").json()
        return [delivery["coupon_code"] for delivery in said.get("deliveries", [])]

    def refuse(self, method: str, path: str, **more: Any) -> None:
        answer = self.http.request(method, path, **more)
        assert answer.status_code >= 400, (method, path, answer.text)
        by_the_gateway = answer.status_code == 400 and not answer.json()["details"] and answer.request.content
        (self.unreadable if by_the_gateway else self.refused).append(answer.content)


@pytest.fixture
def caller(own: Connection) -> Iterator[Caller]:
    """Somebody with a token of the command line."""
    data = str(own.installation.directory)
    made = loyalty("token", "--role", "backend", "--role", "support", "--name", "shop", "--data", data)
    calling = Caller(own, made.stdout.strip())
    yield calling
    calling.http.close()


def misuse(caller: Caller, tokens: list[str], code: str) -> None:
    """Secrets in every place where they do not belong."""
    for token in tokens:
        caller.refuse("GET", f"/v1/members/{token}/balance")
        caller.refuse("GET", "/v1/programme", headers={"authorization": f"Bearer {token}x"})
        caller.refuse("GET", "/v1/programme", headers={"authorization": f"Basic {token}"})
        caller.refuse("GET", f"/v1/nothing?access_token={token}")
        caller.refuse("GET", f"/v1/programme?nonsense={token}")
        caller.refuse("GET", "/v1/nothing", headers={"x-request-id": token, "user-agent": token, "referer": token})
        original = {"x-envoy-original-method": token, "x-envoy-original-path": f"/{token}"}
        caller.refuse("GET", "/v1/nothing", headers=original)
    for headers in no_utf8(caller.token):
        # What stands behind a token may be passed over as a space.
        answer = caller.http.get("/v1/programme", headers=list(headers))
        caller.refused.append(answer.content if answer.status_code >= 400 else b"")
    for path in (f"/v1/coupons/{code}/no", f"/v1/coupons/{code}X", f"/{EMAIL}", f"/v1/members/{EMAIL}%00/balance"):
        caller.refuse("GET", path)
    for body in (f'{{"{NAME}": "{EMAIL}"', f'{{"{NAME}": 1}}', f'{{"request_id": ["{NAME}"]}}', NAME):
        caller.refuse("POST", "/v1/members", content=body, headers={"content-type": "application/json"})
    for contact in (
        {"name": NAME, "email": f"{EMAIL}@@"},
        {"name": f"{NAME}\n", "email": EMAIL},
        {**CONTACT, "phone": f"{PHONE}x"},
        {**CONTACT, "birth_date": BORN.replace("1903", "1803")},
        {**CONTACT, "birth_date": BORN.replace("-07-", "-13-")},
        {**CONTACT, "demographics": {CITY: CITY}},
        {**CONTACT, "time_zone": f"Europe/{CITY}"},
        NAME,
    ):
        caller.refuse("PUT", "/v1/members/planted-1/contact", json={"request_id": "bad", "contact": contact})
    for feedback in ({"score": 11}, {"survey_id": "none"}, {"source": COMMENT}, {"comment": f"{COMMENT}, too"}):
        caller.refuse("POST", "/v1/members/planted-1/feedback", json={**FEEDBACK, **feedback})
    other = {"request_id": "contact", "contact": {"name": f"{NAME} the second", "email": EMAIL}}
    caller.refuse("PUT", "/v1/members/planted-1/contact", json=other)
    for identifier in (card(CARD), {"kind": "IDENTIFIER_KIND_PHONE", "value": CARD}, card(f"{CARD} "), CARD):
        caller.refuse("POST", "/v1/members:lookup", json={"identifier": identifier})
        caller.refuse("POST", "/v1/members/nobody/identifiers", json={"request_id": "l", "identifier": identifier})
    caller.refuse("GET", f"/v1/members:lookup?identifier.value={CARD}")
    for request_id, member in (("taken", "planted-2"), ("link", "planted-3")):
        body = {"request_id": request_id, "identifier": card(f"{CARD}-planted-1")}
        caller.refuse("POST", f"/v1/members/{member}/identifiers", json=body)
    caller.refuse("PUT", "/v1/members/nobody/contact", json={"request_id": "c", "contact": {"email": EMAIL}})


def no_utf8(token: str) -> list[tuple[tuple[bytes, bytes], ...]]:
    """Headers of calls whose values are no UTF-8."""
    good = b"Bearer " + token.encode()
    return [
        ((b"authorization", good + b"\xa0"),),
        ((b"authorization", good + b"\xff"),),
        ((b"authorization", good), (b"x-on-behalf-of", NAME.encode() + b"\xff")),
    ]


def misuse_socket(up: Connection, token: str) -> list[bytes]:
    """Headers that no client of gRPC would send, past the gateway."""
    door = Door(up, "service")
    sent = [frame(HEADERS, END_HEADERS | END_STREAM, 1, call_headers(METHOD, *headers)) for headers in no_utf8(token)]
    return [door.throw([begun(), headers]) for headers in sent]


async def misuse_service(up: Connection, token: str, code: str) -> list[bytes]:
    """The same past the gateway, and in bytes that are no message."""
    certificates = Certificates(up.installation.authority.files("cli"))
    channel = open_secure_channel(up.notifier, server="notifier", certificates=certificates)
    said = []
    try:
        for credentials in (token, f"{token}x", code):
            metadata = (("authorization", f"Bearer {credentials}"),)
            rewards = coupon_pb2_grpc.RewardServiceStub(channel)
            raw = channel.unary_unary("/loyalty.notifier.v1.NotifierService/SetContact")
            for call in (
                rewards.GetCoupon(coupon_pb2.GetCouponRequest(code=f"{code}X"), metadata=metadata, timeout=20),
                raw(f"{NAME} {EMAIL}".encode(), metadata=metadata, timeout=20),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as told:
                    await call
                said.append(repr((told.value.details(), tuple(told.value.trailing_metadata() or ()))).encode())
    finally:
        await channel.close()
    return said


async def poison(cluster: Cluster, *statements: str) -> None:
    database = await asyncpg.connect(cluster.dsn(OWNER))
    try:
        for statement in statements:
            await database.execute(statement)
    finally:
        await database.close()


def test_secrets_are_in_no_log_no_process_list_no_answer_and_no_crash(own: Connection, caller: Caller) -> None:
    there = own.installation
    tokens = [there.token_keys.first_token(), caller.token]
    caller.http.get("/v1/programme", headers={"authorization": f"Bearer {tokens[0]}"}).raise_for_status()
    for member in ("planted-1", "planted-2", "planted-3"):
        caller.join(member)
    assert caller.buy("planted-1").status_code == 200
    until(lambda: len(caller.codes()) == 1)
    (code,) = caller.codes()
    assert caller.http.get(f"/v1/coupons/{code}").status_code == 200
    misuse(caller, tokens, code)
    caller.refused += asyncio.run(misuse_service(own, tokens[1], code))
    caller.refused += misuse_socket(own, tokens[1])

    # A coupon that the database does not take: the notifier dies of it, again and again.
    cluster = Cluster(there.directory)
    limit = "ADD CONSTRAINT poisoned CHECK (member_id <> 'planted-2') NOT VALID"
    asyncio.run(poison(cluster, f"ALTER TABLE notifier.coupons {limit}"))
    restarts = children(own)["notifier"]["restarts"]
    assert caller.buy("planted-2").status_code == 200
    until(lambda: children(own)["notifier"]["restarts"] > restarts)
    asyncio.run(poison(cluster, "ALTER TABLE notifier.coupons DROP CONSTRAINT poisoned"))
    # A contact that the database does not take: the call fails, and nothing else.
    asyncio.run(poison(cluster, "ALTER TABLE notifier.contacts ADD CONSTRAINT poisoned CHECK (name IS NULL) NOT VALID"))
    until(lambda: children(own)["notifier"]["state"] == "healthy")
    until(lambda: caller.http.get("/v1/deliveries").status_code == 200)
    body = {"request_id": "poisoned", "contact": CONTACT}
    caller.refuse("PUT", "/v1/members/planted-3/contact", json=body)
    asyncio.run(poison(cluster, "ALTER TABLE notifier.contacts DROP CONSTRAINT poisoned"))

    for child in ("mailbox", "ledger", "notifier", "gateway", "postgres"):
        pid = children(own)[child]["pid"]
        os.kill(pid, signal.SIGABRT)
        if child == "postgres":
            # While it is away.
            with contextlib.suppress(httpx.HTTPError):
                answer = caller.buy("planted-3", "outage")
                caller.refused.append(answer.content if answer.status_code >= 400 else b"")
        until(lambda child=child, pid=pid: (now := children(own)[child])["state"] == "healthy" and now["pid"] != pid)

    def bought() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return caller.buy("planted-3").status_code == 200
        return False

    until(bought)
    until(lambda: caller.http.get("/v1/deliveries").status_code == 200 and len(caller.codes()) == 3)
    secrets = planted(own, tokens, caller.codes())
    planted_forms = f"{tokens[1]} {NAME} {caller.codes()[2]} {CARD}".encode()
    assert holding(planted_forms, secrets) == ["contact", "coupon", "identifier", "token"]

    found: dict[str, list[str]] = {}
    for pid in processes(own.supervisor.pid):
        for kind in ("cmdline", "environ"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[f"{kind} of {pid}"] = holding(Path(f"/proc/{pid}/{kind}").read_bytes(), secrets)
    for path in there.log.rglob("*"):
        found[str(path)] = [
            f"{what}: {line[:300]!r}" for line in path.read_bytes().splitlines() for what in holding(line, secrets)
        ]
    for path in (*there.run.rglob("*"), there.directory / "installation.json"):
        if path.is_file():
            found[str(path)] = holding(path.read_bytes(), secrets)
    for path in ("/config_dump?include_eds", "/certs", "/clusters", "/stats"):
        found[f"Envoy's {path}"] = holding(admin(own, path), secrets)
    for content in caller.refused:
        found[f"answer {content!r}"] = holding(content, secrets)
    told = ("contact", "identifier")
    others = {what: forms for what, forms in secrets.items() if what not in told}
    for content in caller.unreadable:
        found[f"answer {content!r}"] = holding(content, others)
    for path in (there.directory / "postgres").rglob("*"):
        if path.is_file():
            found[str(path)] = holding(path.read_bytes(), {what: secrets[what] for what in told})
    dumps = [path for path in there.directory.rglob("core*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    assert dumps == []
    assert len(caller.refused) > 20
    assert len([name for name in found if name.startswith("environ")]) > 6
    assert {where: what for where, what in found.items() if what} == {}
    for pid in (child["pid"] for child in children(own).values()):
        limit = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line)
        assert int(limit.split()[4]) <= 1
