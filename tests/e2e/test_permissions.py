"""Who may call what: every method with every role and with every token that is not good, at both doors.

The matrix comes from the contract: a new method, scope or role is in it by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from google.protobuf import message_factory
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.certificates import LocalAuthority
from services.cli.installation import Connection
from services.runtime import contract
from services.runtime.channels import open_secure_channel
from services.runtime.tls import Certificates
from tests.e2e.conftest import loyalty
from tests.tokens import SigningKey, signed_with_the_public_key, unsigned, with_another_signature

OK, DENIED, UNKNOWN = None, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
DOORS = ("gateway", "service")
REVOKED = "revoked-by-the-matrix"


class Method(NamedTuple):
    service: str
    path: str
    scope: str
    client_streams: bool
    server_streams: bool
    request: Any


def methods() -> Iterator[Method]:
    scopes = {path: scope for names in contract.SERVICES.values() for path, scope in contract.scopes(names).items()}
    for service, names in contract.SERVICES.items():
        for file in contract.FILES:
            for described in file.services_by_name.values():
                if described.full_name not in names:
                    continue
                for method in described.methods:
                    path = f"/{described.full_name}/{method.name}"
                    yield Method(
                        service, path, scopes[path], method.client_streaming, method.server_streaming, method.input_type
                    )


METHODS = list(methods())


async def refusal(channel: Any, method: Method, token: str | None, content: bytes = b"") -> grpc.StatusCode | None:
    """How a request is turned away at the door; None where it came further, whatever was said then."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    call: Any
    if method.client_streams:
        # Nothing is sent before an answer had its time: a request on its way into a stream that has ended makes the
        # client say INTERNAL, whatever the server said.
        call = channel.stream_stream(method.path)(metadata=metadata, timeout=20)
        told = asyncio.ensure_future(call.code())
        if not (await asyncio.wait({told}, timeout=0.5))[0]:
            await call.done_writing()
    elif method.server_streams:
        call = channel.unary_stream(method.path)(content, metadata=metadata, timeout=20)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in call:
                pass
    else:
        call = channel.unary_unary(method.path)(content, metadata=metadata, timeout=20)
    code = await call.code()
    assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL), (method.path, await call.details())
    return code if code in (DENIED, UNKNOWN) else OK


class Doors:
    """Channels to the gateway and past it, and the key that signs the installation's tokens."""

    def __init__(self, live: Connection) -> None:
        self.key = signing_key(live)
        gateway = grpc.aio.insecure_channel(live.gateway.removeprefix("http://"))
        self._open = [gateway, *(certified(live, name, "cli") for name in contract.SERVICES)]
        self._channels = {
            "gateway": dict.fromkeys(contract.SERVICES, gateway),
            "service": dict(zip(contract.SERVICES, self._open[1:], strict=True)),
        }

    async def close(self) -> None:
        for channel in self._open:
            await channel.close()

    def channel(self, door: str, service: str) -> Any:
        return self._channels[door][service]

    def ledger(self, door: str) -> Any:
        return ledger_service_pb2_grpc.LedgerServiceStub(self._channels[door]["ledger"])

    async def refusal(
        self, door: str, method: Method, token: str | None, content: bytes = b""
    ) -> grpc.StatusCode | None:
        return await refusal(self._channels[door][method.service], method, token, content)


def certified(live: Connection, server: str, name: str) -> grpc.aio.Channel:
    """A channel to a service with the certificate of that name, and no token."""
    certificates = Certificates(live.installation.authority.files(name))
    return open_secure_channel(getattr(live, server), server=server, certificates=certificates)


def signing_key(live: Connection) -> SigningKey:
    path = max((live.installation.secrets / "token-keys").glob("*.pem"))
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    return SigningKey(key_id=path.stem, private=private)


@pytest_asyncio.fixture
async def doors(live: Connection) -> AsyncIterator[Doors]:
    made = Doors(live)
    yield made
    await made.close()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("role", contract.roles())
async def test_a_role_opens_the_methods_of_its_scopes_and_no_other(doors: Doors, door: str, role: str) -> None:
    opened = contract.roles()[role]
    token = doors.key.token(roles=[role])
    found = {method.path: await doors.refusal(door, method, token) for method in METHODS}
    assert found == {method.path: OK if method.scope in opened else DENIED for method in METHODS}
    assert OK in found.values()
    assert DENIED in found.values()


OF_STORES = [method for method in METHODS if "store_id" in method.request.fields_by_name]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("store", ["18", ""])
async def test_a_till_is_refused_at_every_method_that_names_a_store_unless_it_is_its_own(
    doors: Doors, door: str, store: str
) -> None:
    token = doors.key.token(roles=list(contract.roles()), store="17", terminal="3")
    for method in OF_STORES:
        request = message_factory.GetMessageClass(method.request)
        assert await doors.refusal(door, method, token, request(store_id=store).SerializeToString()) is DENIED
        own = request(store_id="17").SerializeToString()
        assert await doors.refusal(door, method, token, own) is OK
    assert len(OF_STORES) >= 5


def bad_tokens(key: SigningKey) -> dict[str, str | None]:
    now = int(time.time())
    return {
        "no token": None,
        "expired": key.token(iat=now - 7200, nbf=now - 7200, exp=now - 3600),
        "not yet valid": key.token(nbf=now + 3600),
        "wrong audience": key.token(aud="elsewhere"),
        "wrong issuer": key.token(iss="somebody"),
        "revoked": key.token(jti=REVOKED),
        "wrong signature": with_another_signature(key.token()),
        "a stranger's key": SigningKey(key_id=key.key_id).token(),
        "an unknown key": SigningKey(key_id="unknown").token(),
        "alg: none": unsigned(key),
        "another algorithm": signed_with_the_public_key(key),
        "the words of a service": "ledger.not-the-secret",
        "nonsense": "x",
    }


@pytest.mark.parametrize("door", DOORS)
async def test_a_token_that_is_not_good_opens_nothing(doors: Doors, live: Connection, door: str) -> None:
    live.installation.token_keys.revoke(REVOKED)
    deadline = time.monotonic() + 5
    while any([await doors.refusal(door, method, doors.key.token(jti=REVOKED)) is OK for method in METHODS]):
        assert time.monotonic() < deadline
    for name, token in bad_tokens(doors.key).items():
        # Envoy calls a token for others forbidden.
        refused = DENIED if (door, name) == ("gateway", "wrong audience") else UNKNOWN
        found = await asyncio.gather(*(doors.refusal(door, method, token) for method in METHODS))
        let_in = [method.path for method, code in zip(METHODS, found, strict=True) if code is not refused]
        assert let_in == [], name


@pytest.mark.parametrize("name", ["ledger", "tiers", "notifier", "gateway", "cli"])
async def test_a_certificate_opens_to_its_service_what_the_contract_says_and_to_others_nothing(
    live: Connection, name: str
) -> None:
    callers = {path: who for names in contract.SERVICES.values() for path, who in callers_of(names).items()}
    for server in contract.SERVICES:
        channel = certified(live, server, name)
        for method in METHODS:
            if method.service != server:
                continue
            expected = OK if name in callers[method.path] else DENIED if name in contract.SERVICES else UNKNOWN
            assert await refusal(channel, method, None) is expected, (name, method.path)
        await channel.close()


async def test_a_service_says_for_whom_it_calls_what_the_contract_opens_to_it_and_nothing_else(
    live: Connection,
) -> None:
    for_anna = (("x-on-behalf-of", "anna"),)
    tiers, notifier = certified(live, "ledger", "tiers"), certified(live, "ledger", "notifier")
    key = signing_key(live)
    by_token = (("authorization", f"Bearer {key.token(roles=['backend'])}"),)
    own = certified(live, "ledger", "cli")
    try:
        joining = pb.EnrollMemberRequest(request_id="join", member_id="classed")
        await ledger_service_pb2_grpc.LedgerServiceStub(own).EnrollMember(joining, metadata=by_token, timeout=20)
        told = pb.SetEarningClassRequest(
            request_id="~tiers/class/classed/1", member_id="classed", earning_class="suspended", sequence=1
        )
        told.effective_time.FromSeconds(int(time.time()) + 60)
        batch = pb.BatchRecordRequest(writes=[pb.Write(set_earning_class=told)])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ledger_service_pb2_grpc.LedgerServiceStub(notifier).SetEarningClass(
                told, metadata=for_anna, timeout=20
            )
        assert refused.value.code() is DENIED
        answer = await ledger_service_pb2_grpc.LedgerServiceStub(tiers).BatchRecord(
            batch, metadata=for_anna, timeout=20
        )
        assert answer.outcomes[0].WhichOneof("outcome") == "set_earning_class", answer
        asked = pb.ListEntriesRequest(member_id="classed", page_size=10)
        entries = await ledger_service_pb2_grpc.LedgerServiceStub(own).ListEntries(asked, metadata=by_token, timeout=20)
        (entry, _) = entries.entries
        assert (entry.principal, entry.on_behalf_of) == ("tiers", "anna")
    finally:
        for channel in (tiers, notifier, own):
            await channel.close()


def callers_of(names: tuple[str, ...]) -> dict[str, frozenset[str]]:
    return dict(contract.permissions(names).callers)


async def test_nobody_comes_in_without_a_certificate_of_the_authority(live: Connection, tmp_path: Path) -> None:
    stranger = LocalAuthority(tmp_path / "tls")
    stranger.ready()
    own, theirs = live.installation.authority.files("cli"), stranger.files("cli")
    authority = own.authority.read_bytes()
    for credentials in (
        grpc.ssl_channel_credentials(authority),
        grpc.ssl_channel_credentials(authority, theirs.key.read_bytes(), theirs.certificate.read_bytes()),
    ):
        options = (("grpc.ssl_target_name_override", "ledger"),)
        async with grpc.aio.secure_channel(live.ledger, credentials, options=options) as channel:
            stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stub.GetProgramme(pb.GetProgrammeRequest(), timeout=10)
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    async with grpc.aio.insecure_channel(live.ledger) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await ledger_service_pb2_grpc.LedgerServiceStub(channel).GetProgramme(pb.GetProgrammeRequest(), timeout=10)
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_service_that_shows_another_name_is_not_believed(live: Connection) -> None:
    certificates = Certificates(live.installation.authority.files("cli"))
    channel = open_secure_channel(live.tiers, server="ledger", certificates=certificates)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await ledger_service_pb2_grpc.LedgerServiceStub(channel).GetProgramme(pb.GetProgrammeRequest(), timeout=10)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    await channel.close()


def purchase(store: str, request_id: str = "p") -> pb.RecordPurchaseRequest:
    return pb.RecordPurchaseRequest(
        request_id=request_id,
        member_id="bound",
        amount=Money(currency_code="USD", minor_units=100),
        store_id=store,
    )


def info(status: Any) -> error_details_pb2.ErrorInfo:
    told = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(told)
    return told


@pytest.mark.parametrize("door", DOORS)
async def test_a_till_is_bound_to_its_store(doors: Doors, door: str) -> None:
    ledger = doors.ledger(door)
    token = doors.key.token(sub="till", roles=["pos"], store="17", terminal="3")
    metadata = (("authorization", f"Bearer {token}"),)
    await ledger.EnrollMember(
        pb.EnrollMemberRequest(request_id="join", member_id="bound"), metadata=metadata, timeout=20
    )
    answer = await ledger.RecordPurchase(purchase("17", f"{door}-own"), metadata=metadata, timeout=20)
    assert answer.receipt.points == 1
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await ledger.RecordPurchase(purchase("18", f"{door}-other"), metadata=metadata, timeout=20)
    assert told.value.code() is DENIED
    details = dict(told.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert info(status_pb2.Status.FromString(details)).reason == "STORE_DENIED"


@pytest.mark.parametrize("door", DOORS)
async def test_each_write_of_a_list_needs_its_own_scope_and_store_and_is_refused_alone(doors: Doors, door: str) -> None:
    ledger = doors.ledger(door)
    metadata = (("authorization", f"Bearer {doors.key.token(sub='till', roles=['pos'], store='17')}"),)
    writes = [
        pb.Write(enroll_member=pb.EnrollMemberRequest(request_id="join-2", member_id="bound-2")),
        pb.Write(adjust_points=pb.AdjustPointsRequest(request_id="a", member_id="bound-2", points=5, reason="gift")),
        pb.Write(record_purchase=purchase("18")),
    ]
    batch = pb.BatchRecordRequest(writes=writes)
    stream = iter([pb.RecordStreamRequest(writes=writes)])
    for answer in (
        await ledger.BatchRecord(batch, metadata=metadata, timeout=20),
        await anext(aiter(ledger.RecordStream(stream, metadata=metadata, timeout=20))),
    ):
        joined, adjusted, bought = answer.outcomes
        assert joined.WhichOneof("outcome") == "enroll_member"
        assert (info(adjusted.error).reason, info(adjusted.error).metadata["scope"]) == (
            "SCOPE_MISSING",
            "ledger.adjust",
        )
        assert info(bought.error).reason == "STORE_DENIED"


def test_the_gateway_tells_in_json_why_a_token_is_not_good(live: Connection) -> None:
    headers = {"authorization": f"Bearer {signing_key(live).token(exp=int(time.time()) - 3600)}"}
    answer = httpx.get(f"{live.gateway}/v1/programme", headers=headers)
    said = answer.json()
    assert (answer.status_code, said["code"], said["details"][0]["reason"]) == (401, 16, "TOKEN_INVALID")
    assert "expired" in said["message"].lower()


def test_a_token_of_the_command_line_opens_the_gateway_until_it_is_revoked(live: Connection) -> None:
    data = str(live.installation.directory)
    made = loyalty("token", "--role", "pos", "--store", "17", "--terminal", "3", "--ttl", "8h", "--data", data)
    assert made.returncode == 0, made.stderr
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}
    assert httpx.get(f"{live.gateway}/v1/programme", headers=headers).status_code == 200
    token_id = made.stderr.split()[1].rstrip(",")
    assert loyalty("token-revoke", token_id, "--data", data).returncode == 0
    began = time.monotonic()
    while httpx.get(f"{live.gateway}/v1/programme", headers=headers).status_code == 200:
        assert time.monotonic() - began < 5, "a revocation is in effect within five seconds"
        time.sleep(0.1)
    answer = httpx.get(f"{live.gateway}/v1/programme", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (401, "the token was revoked")


@pytest.mark.parametrize("door", DOORS)
async def test_a_stream_that_is_open_ends_when_its_token_is_revoked(doors: Doors, live: Connection, door: str) -> None:
    issued = live.installation.token_keys.issue(principal="reader", roles=["ops"], ttl=timedelta(hours=1))
    ledger = doors.ledger(door)
    stream = ledger.StreamEntries(
        pb.StreamEntriesRequest(follow=True), metadata=(("authorization", f"Bearer {issued.token}"),), timeout=60
    )
    live.installation.token_keys.revoke(issued.token_id)

    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await drained(stream)
    assert told.value.code() is UNKNOWN
    assert time.monotonic() - began < 5, "a revocation is in effect within five seconds"


async def drained(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_nobody_has_all_streams(doors: Doors, live: Connection) -> None:
    ledger = doors.ledger("service")
    metadata = (("authorization", f"Bearer {doors.key.token(sub='greedy', roles=['pos'])}"),)
    streams = [ledger.RecordStream(metadata=metadata, timeout=30) for _ in range(65)]
    told = await asyncio.gather(*(code_within(stream, 3) for stream in streams))
    assert (told.count(grpc.StatusCode.RESOURCE_EXHAUSTED), told.count(None)) == (1, 64)
    metadata = (("authorization", f"Bearer {doors.key.token(sub='modest', roles=['pos'])}"),)
    assert await code_within(ledger.RecordStream(metadata=metadata, timeout=30), 1) is None
    for stream in streams:
        stream.cancel()


async def code_within(stream: Any, seconds: float) -> grpc.StatusCode | None:
    """How a stream ended; None where it is still open."""
    code = asyncio.ensure_future(stream.code())
    done, _ = await asyncio.wait({code}, timeout=seconds)
    return code.result() if done else None


@pytest.mark.parametrize("door", DOORS)
async def test_who_may_not_call_is_told_so_before_the_request_is_read(doors: Doors, door: str) -> None:
    call = doors.channel(door, "ledger").unary_unary("/loyalty.ledger.v1.LedgerService/RecordPurchase")
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await call(b"\xff no message", timeout=20)
    assert told.value.code() is UNKNOWN


def test_a_new_key_is_taken_up_at_both_doors_while_old_tokens_live_on(live: Connection) -> None:
    data = str(live.installation.directory)
    old = {"authorization": live.authorization("shop")}
    assert loyalty("token-rotate", "--data", data).returncode == 0
    new = {"authorization": live.authorization("shop")}
    deadline = time.monotonic() + 10
    while httpx.get(f"{live.gateway}/v1/programme", headers=new).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{live.gateway}/v1/programme", headers=old).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--role", "king"], "there is no role king"),
        (["--role", "pos", "--ttl", "soon"], "is no time"),
        (["--role", "pos", "--terminal", "3"], "a terminal stands in a store"),
        (["--role", "pos", "--role", "ops"], "needs a name"),
        *((["--role", "ops", "--name", name], "part of the platform") for name in ("tiers", "gateway", "cli")),
    ],
)
def test_a_token_that_cannot_be_made_is_explained(live: Connection, arguments: list[str], why: str) -> None:
    made = loyalty("token", *arguments, "--data", str(live.installation.directory))
    assert made.returncode == 2
    assert made.stdout == ""
    assert why in made.stderr


def test_the_gateway_takes_up_a_new_certificate_without_a_restart(live: Connection) -> None:
    def updates() -> int:
        admin = f"{json.loads(live.installation.state_file.read_text())['addresses']['sockets']}/admin.sock"
        with httpx.Client(transport=httpx.HTTPTransport(uds=admin), base_url="http://envoy") as client:
            said = client.get("/stats", params={"filter": "cluster.ledger.*ssl_context_update_by_sds"}).text
        return int(said.rpartition(":")[2])

    before = updates()
    live.installation.authority.files("gateway").certificate.unlink()
    live.installation.ready()
    deadline = time.monotonic() + 10
    while updates() == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    headers = {"authorization": live.authorization("shop")}
    assert httpx.get(f"{live.gateway}/v1/programme", headers=headers).status_code == 200
