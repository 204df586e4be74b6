"""Bearer tokens: who is let in, as whom, and who is not."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from loyalty.ledger.v1 import ledger_service_pb2 as ledger

from services.cli.errors import UsageError
from services.cli.token_keys import TokenKeys, read_ttl
from services.runtime import contract, status, tokens
from services.runtime.channels import Between
from services.runtime.config import ConfigurationError
from services.runtime.identity import (
    Caller,
    Identities,
    PermissionDeniedError,
    SharedSecret,
    TokenInvalidError,
    TokenMissingError,
    TokenUncheckedError,
    check_store,
)
from services.runtime.tokens import SKEW_SECONDS, TokenRules, TokenVerifier
from tests.tokens import SigningKey, key_set, signed_with_the_public_key, unsigned, with_another_signature

KEY = SigningKey(key_id="k1")
NOW = int(time.time())


async def verifier(
    tmp_path: Path, *keys: SigningKey, now: Callable[[], float] = time.time, max_token_days: int = 366
) -> TokenVerifier:
    path = tmp_path / "keys.json"
    path.write_text(key_set(*(keys or (KEY,))))
    rules = TokenRules(
        issuer="loyalty",
        audience="loyalty",
        key_set=str(path),
        revoked=str(tmp_path / "revoked-tokens"),
        max_token_days=max_token_days,
    )
    (tmp_path / "revoked-tokens").touch()
    made = TokenVerifier(rules, roles=contract.roles(), now=now)
    await made.begin()
    return made


@pytest.mark.parametrize("key", [KEY, SigningKey.of_p256("p")], ids=["EdDSA", "ES256"])
async def test_a_token_names_its_bearer_and_opens_the_scopes_of_its_roles(tmp_path: Path, key: SigningKey) -> None:
    caller = (await verifier(tmp_path, key)).verify(key.token(sub="till-3", roles=["pos"], store="17", terminal="3"))
    assert (caller.principal, caller.store, caller.terminal, caller.delegates) == ("till-3", "17", "3", False)
    assert caller.scopes == contract.roles()["pos"]


async def test_scopes_may_be_named_one_by_one_and_a_role_nobody_knows_opens_none(tmp_path: Path) -> None:
    caller = (await verifier(tmp_path)).verify(KEY.token(roles=["emperor"], scope="ledger.read tiers.read"))
    assert caller.scopes == {"ledger.read", "tiers.read"}


STRANGER = SigningKey(key_id="k1")


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (KEY.token(exp=NOW - SKEW_SECONDS - 5), "expired"),
        (KEY.token(nbf=NOW + 3600), "not valid yet"),
        (KEY.token(iat=NOW + 3600, nbf=NOW), "not valid yet"),
        (KEY.token(aud="elsewhere"), "another audience"),
        (KEY.token(iss="somebody"), "another issuer"),
        (KEY.token(jti=None), "lacks one of the claims"),
        (KEY.token(exp=None), "lacks one of the claims"),
        (KEY.token(jti="a b"), "id of the token"),
        (KEY.token(sub="No Body"), "subject"),
        (KEY.token(terminal="3"), "store and terminal"),
        (KEY.token(store="a b"), "store and terminal"),
        (KEY.token(store=""), "store and terminal"),
        (KEY.token(store=17), "store and terminal"),
        (KEY.token(exp=10**400), "cannot be read"),
        (f" {KEY.token()}", "cannot be read"),
        (f"{KEY.token()}\u00a0", "cannot be read"),
        (KEY.token(roles="backend", scope=7), "scope is a text"),
        (KEY.token(roles=[7]), "roles is a list"),
        (STRANGER.token(), "signature"),
        (with_another_signature(KEY.token()), "signature"),
        (SigningKey(key_id="k2").token(), "key that is not known"),
        (unsigned(KEY), "cannot be read"),
        (signed_with_the_public_key(KEY), "cannot be read"),
        ("a.b.c", "cannot be read"),
        ("..", "cannot be read"),
        (f"{KEY.token()}{'x' * 9000}", "at most"),
        (KEY.token(exp=NOW + 366 * 86400 + 60), "at most 366 days"),
        (KEY.token(iat=NOW - 366 * 86400, nbf=NOW - 60), "at most 366 days"),
        (KEY.token(exp=10**17), "at most 366 days"),
    ],
)
async def test_a_token_that_is_not_good_is_refused_with_the_reason(tmp_path: Path, token: str, why: str) -> None:
    checked = await verifier(tmp_path)
    for _ in range(2):
        with pytest.raises(TokenInvalidError, match=why):
            checked.verify(token)


async def test_how_long_a_token_may_last_from_when_it_was_issued_can_be_set(tmp_path: Path) -> None:
    checked = await verifier(tmp_path, max_token_days=31)
    assert checked.verify(KEY.token(iat=NOW, exp=NOW + 31 * 86400)).principal == "shop"
    with pytest.raises(TokenInvalidError, match="at most 31 days"):
        checked.verify(KEY.token(iat=NOW, exp=NOW + 31 * 86400 + 1))


async def test_a_token_that_was_let_in_is_not_let_in_when_it_has_expired(tmp_path: Path) -> None:
    # This module may have been read long ago, and a token is first judged by the machine's clock.
    now = time.time()
    checked = await verifier(tmp_path, now=lambda: now)
    token = KEY.token(exp=int(now) + 60)
    checked.verify(token)
    now += 60 + SKEW_SECONDS + 1
    with pytest.raises(TokenInvalidError, match="expired"):
        checked.verify(token)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(200):
        if done():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it does not come about")


def refused(checked: TokenVerifier, token: str) -> bool:
    try:
        checked.verify(token)
    except TokenInvalidError:
        return True
    return False


async def test_a_revoked_token_is_refused_within_five_seconds_and_the_others_are_not(tmp_path: Path) -> None:
    checked = await verifier(tmp_path)
    revoked, other = KEY.token(jti="id-1"), KEY.token(jti="id-2")
    fresh = asyncio.create_task(checked.keep_fresh())
    try:
        checked.verify(revoked)
        (tmp_path / "revoked-tokens").write_text("id-1\n")
        began = time.monotonic()
        await until(lambda: refused(checked, revoked))
        assert time.monotonic() - began < 5
        checked.verify(other)
    finally:
        fresh.cancel()


async def test_while_keys_change_over_both_are_accepted_and_a_dropped_one_no_longer(tmp_path: Path) -> None:
    checked = await verifier(tmp_path)
    new = SigningKey(key_id="k2")
    old_token, new_token = KEY.token(), new.token()
    assert refused(checked, new_token)
    fresh = asyncio.create_task(checked.keep_fresh())
    try:
        replace(tmp_path / "keys.json", key_set(KEY, new))
        await until(lambda: not refused(checked, new_token))
        assert not refused(checked, old_token)
        replace(tmp_path / "keys.json", "{ not a key set")
        replace(tmp_path / "keys.json", key_set(new))
        await until(lambda: refused(checked, old_token))
        assert not refused(checked, new_token)
    finally:
        fresh.cancel()


async def test_a_key_set_that_cannot_be_read_any_more_changes_nothing(tmp_path: Path) -> None:
    checked = await verifier(tmp_path)
    fresh = asyncio.create_task(checked.keep_fresh())
    try:
        (tmp_path / "keys.json").unlink()
        await asyncio.sleep(1.5)
        assert not refused(checked, KEY.token())
    finally:
        fresh.cancel()


async def test_a_revocation_is_not_lost_because_something_could_not_be_read_at_first(tmp_path: Path) -> None:
    checked = await verifier(tmp_path)
    token = KEY.token()
    fresh = asyncio.create_task(checked.keep_fresh())
    try:
        (tmp_path / "keys.json").unlink()
        (tmp_path / "revoked-tokens").write_bytes(b"\xff\n")
        await asyncio.sleep(1.2)
        assert not refused(checked, token)
        (tmp_path / "revoked-tokens").write_text("id-1\n")
        await until(lambda: refused(checked, token))
        # A list that is gone takes nothing back.
        (tmp_path / "revoked-tokens").unlink()
        await asyncio.sleep(1.2)
        assert refused(checked, token)
    finally:
        fresh.cancel()


ODD_KEY = b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": 7}]}'
ODD_SETS = [ODD_KEY, b"[" * 100_000, b"\xff", b'{"keys": [7]}']


@pytest.mark.parametrize("content", ODD_SETS, ids=["odd key", "deep", "no text", "no objects"])
async def test_a_key_set_that_is_wrong_in_any_way_ends_nothing_and_the_next_is_taken(
    tmp_path: Path, content: bytes
) -> None:
    checked = await verifier(tmp_path)
    fresh = asyncio.create_task(checked.keep_fresh())
    try:
        (tmp_path / "keys.json").write_bytes(content)
        await asyncio.sleep(1.2)
        assert not refused(checked, KEY.token())
        replace(tmp_path / "keys.json", key_set(STRANGER))
        # The same id, another key: what the old one signed is worth nothing.
        token = KEY.token()
        await until(lambda: refused(checked, token))
        assert not refused(checked, STRANGER.token())
        # A set without keys lets nobody in.
        replace(tmp_path / "keys.json", '{"keys": []}')
        await until(lambda: refused(checked, STRANGER.token()))
        assert not fresh.done()
    finally:
        fresh.cancel()


async def test_keys_that_are_for_other_things_are_passed_over(tmp_path: Path) -> None:
    odd = [KEY.public | {"kid": "e", "use": "enc"}, {"kty": "RSA", "kid": "r"}, {"kty": "OKP", "crv": "Ed25519"}]
    good = KEY.public | {"alg": "Ed25519"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [*odd, good]}))
    rules = TokenRules(issuer="loyalty", audience="loyalty", key_set=str(tmp_path / "keys.json"))
    checked = TokenVerifier(rules, roles={}, now=time.time)
    await checked.begin()
    assert not refused(checked, KEY.token())


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Basic", "Bearer\u00a0"])
async def test_the_authorization_is_taken_to_the_letter_as_the_gateway_does(tmp_path: Path, scheme: str) -> None:
    identities = Identities(issued=await verifier(tmp_path))
    with pytest.raises(TokenInvalidError):
        identities.authenticate([("authorization", f"{scheme} {KEY.token()}")], lambda: "")


@pytest.mark.parametrize("name", ["authorization", "x-on-behalf-of"])
async def test_a_header_that_says_who_is_there_once(tmp_path: Path, name: str) -> None:
    identities = Identities(issued=await verifier(tmp_path))
    good = [("authorization", f"Bearer {KEY.token(delegates=True)}"), ("x-on-behalf-of", "anna")]
    again = next(one for one in good if one[0] == name)
    with pytest.raises(TokenInvalidError, match="must be there once"):
        identities.authenticate([*good, again], lambda: "")


def test_the_shared_secret_is_not_sent_over_a_port() -> None:
    with pytest.raises(ConfigurationError, match="unix sockets"):
        Between(principal="tiers", certificates=None, secret="s").open("127.0.0.1:7001", server="ledger")


def replace(path: Path, content: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(content)
    os.replace(partial, path)


@contextlib.contextmanager
def keys_served(port: int = 0) -> Iterator[int]:
    """The keys, at `/keys` of a port of this machine."""

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(key_set(KEY).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", port), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def of_url(port: int) -> TokenRules:
    return TokenRules(issuer="loyalty", audience="loyalty", key_set=f"http://127.0.0.1:{port}/keys")


async def test_keys_come_from_a_url_too() -> None:
    with keys_served() as port:
        checked = TokenVerifier(of_url(port), roles=contract.roles(), now=time.time)
        await checked.begin()
    assert checked.verify(KEY.token()).principal == "shop"


async def test_keys_of_a_url_that_is_away_hold_for_a_day_and_again_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "_FETCH_SECONDS", 0.05)
    later = 0.0
    with keys_served() as port:
        checked = TokenVerifier(of_url(port), roles=contract.roles(), now=lambda: time.time() + later)
        await checked.begin()
    token, other = KEY.token(exp=NOW + 7 * 86400), KEY.token(exp=NOW + 7 * 86400, jti="id-2")
    with structlog.testing.capture_logs() as lines:
        fresh = asyncio.create_task(checked.keep_fresh())
        try:
            later = 86400 - 60
            checked.verify(token)
            later = 86400 + 60
            for _ in range(2):
                for one in (token, other):
                    with pytest.raises(TokenUncheckedError):
                        checked.verify(one)
            assert [line["event"] for line in lines].count("token_keys_outdated") == 1
            with keys_served(port):
                await until(lambda: checked._now() - checked._keys_read < 60)
            assert checked.verify(token).principal == "shop"
        finally:
            fresh.cancel()


async def test_keys_of_a_file_hold_however_old_it_is(tmp_path: Path) -> None:
    later = 0.0
    checked = await verifier(tmp_path, now=lambda: time.time() + later)
    later = 300 * 86400
    assert checked.verify(KEY.token(exp=NOW + 365 * 86400)).principal == "shop"


def test_who_cannot_be_checked_is_told_to_come_again_and_not_to_get_another_token() -> None:
    told = status.describe(TokenUncheckedError(TokenUncheckedError.__doc__))
    assert told is not None
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert "later" in told.message


PRIVATE = {**KEY.public, "d": "AAAA"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"keys": []}', '{"keys": [1]}', '{"keys": [{"kty": "RSA"}]}', json.dumps({"keys": [PRIVATE]})],
)
async def test_a_service_does_not_start_with_a_key_set_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    rules = TokenRules(issuer="loyalty", audience="loyalty", key_set=str(tmp_path / "keys.json"))
    with pytest.raises(ConfigurationError, match="keys"):
        await TokenVerifier(rules, roles={}, now=time.time).begin()


@pytest.mark.parametrize("url", ["http://example.com/keys", "file:///etc/keys", "ftp://127.0.0.1/keys"])
def test_keys_come_by_https_where_they_come_from_elsewhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        TokenRules(issuer="loyalty", audience="loyalty", key_set=url)


async def test_only_who_may_act_for_others_is_heard_when_it_says_so(tmp_path: Path) -> None:
    identities = Identities(shared=SharedSecret("s"), issued=await verifier(tmp_path))

    def authenticate(token: str) -> Caller:
        metadata = [("authorization", f"Bearer {token}"), ("x-on-behalf-of", "anna")]
        return identities.authenticate(metadata, lambda: "")

    assert authenticate(KEY.token(delegates=True)).on_behalf_of == "anna"
    assert authenticate("tiers.s").on_behalf_of == "anna"
    with pytest.raises(PermissionDeniedError, match="act for others"):
        authenticate(KEY.token())


async def test_a_token_cannot_speak_for_a_service(tmp_path: Path) -> None:
    identities = Identities(issued=await verifier(tmp_path), services=contract.SERVICES)
    with pytest.raises(TokenInvalidError, match="names a service"):
        identities.authenticate([("authorization", f"Bearer {KEY.token(sub='ledger')}")], lambda: "gateway")


def test_a_till_speaks_for_its_own_store_alone() -> None:
    till = Caller(principal="till", scopes=frozenset({"ledger.record"}), store="17")
    check_store(till, ledger.RecordPurchaseRequest(store_id="17"))
    # It names no store, ever.
    check_store(till, ledger.GetMemberRequest())
    for store in ("18", "", "17 "):
        with pytest.raises(PermissionDeniedError, match="bound to the store 17"):
            check_store(till, ledger.RecordPurchaseRequest(store_id=store))
    check_store(Caller(principal="shop"), ledger.RecordPurchaseRequest(store_id="18"))


RECORD = "/loyalty.ledger.v1.LedgerService/RecordPurchase"
SET_CLASS = "/loyalty.ledger.v1.LedgerService/SetEarningClass"


def test_a_service_is_known_by_its_certificate_and_calls_what_the_contract_opens_to_it() -> None:
    identities = Identities(services=contract.SERVICES)
    permissions = contract.permissions(contract.SERVICES["ledger"])
    tiers = identities.authenticate([], lambda: "tiers")
    permissions.check(tiers, SET_CLASS)
    with pytest.raises(PermissionDeniedError, match="no business"):
        permissions.check(tiers, RECORD)
    with pytest.raises(PermissionDeniedError, match="no business"):
        permissions.check(identities.authenticate([], lambda: "notifier"), SET_CLASS)


@pytest.mark.parametrize("name", ["", "gateway", "cli", "LEDGER", "somebody"])
def test_who_speaks_for_others_needs_a_token_beside_its_certificate(name: str) -> None:
    with pytest.raises(TokenMissingError):
        Identities(services=contract.SERVICES).authenticate([], lambda: name)


def test_every_scope_but_the_notifiers_own_is_opened_by_a_role_and_every_role_opens_known_ones() -> None:
    named = {scope for names in contract.SERVICES.values() for scope in contract.scopes(names).values()}
    opened = frozenset().union(*contract.roles().values())
    # The ledger's part of an erasure is asked for by the notifier's certificate alone (ADR 26).
    assert named - opened == {"ledger.erase"}
    assert set(contract.roles()) == {"pos", "backend", "support", "analyst", "ops"}


@pytest.fixture
def token_keys(tmp_path: Path) -> TokenKeys:
    (tmp_path / "run").mkdir()
    keys = TokenKeys(tmp_path, run=tmp_path / "run")
    keys.ready()
    return keys


async def checking(keys: TokenKeys) -> TokenVerifier:
    rules = TokenRules(
        issuer="loyalty", audience="loyalty", key_set=str(keys.key_set_file), revoked=str(keys.revoked_file)
    )
    checked = TokenVerifier(rules, roles=contract.roles(), now=time.time)
    await checked.begin()
    return checked


async def test_what_an_installation_issues_is_what_its_services_accept(token_keys: TokenKeys) -> None:
    checked = await checking(token_keys)
    first = checked.verify(token_keys.first_token())
    assert first.principal == "first"
    assert first.scopes is not None
    assert "ops" in first.scopes
    issued = token_keys.issue(principal="pos-17-3", roles=["pos"], store="17", terminal="3", ttl=timedelta(hours=8))
    assert checked.verify(issued.token).store == "17"
    assert token_keys.revoke(issued.token_id)
    assert not token_keys.revoke(issued.token_id)
    with pytest.raises(TokenInvalidError, match="revoked"):
        (await checking(token_keys)).verify(issued.token)


async def test_a_new_key_signs_at_once_and_old_tokens_live_on_until_their_key_is_dropped(
    token_keys: TokenKeys,
) -> None:
    old = token_keys.first_token()
    token_keys.rotate(drop_old=False)
    issued = token_keys.issue(principal="shop", roles=["backend"], ttl=timedelta(hours=1))
    checked = await checking(token_keys)
    assert checked.verify(old).principal == "first"
    assert checked.verify(issued.token).principal == "shop"
    token_keys.rotate(drop_old=True)
    token_keys.ready()
    checked = await checking(token_keys)
    assert refused(checked, old)
    assert refused(checked, issued.token)
    assert checked.verify(token_keys.first_token()).principal == "first"


def test_secrets_are_for_their_owner_alone_and_are_not_written_again_without_need(
    token_keys: TokenKeys, tmp_path: Path
) -> None:
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    before = {path: path.stat().st_mtime_ns for path in files}
    token_keys.ready()
    assert {path: path.stat().st_mtime_ns for path in files} == before


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"roles": ["king"]}, "no role king"),
        ({"principal": "A B"}, "principal"),
        ({"principal": "ledger"}, "a service of the platform"),
        ({"terminal": "3"}, "a terminal stands in a store"),
        ({"ttl": timedelta(days=367)}, "at most 366 days"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_issued(token_keys: TokenKeys, asked: dict[str, Any], why: str) -> None:
    wanted: dict[str, Any] = {"principal": "shop", "roles": ["pos"], "ttl": timedelta(hours=1)} | asked
    with pytest.raises(UsageError, match=why):
        token_keys.issue(**wanted)


@pytest.mark.parametrize(("text", "seconds"), [("45m", 2700), ("8h", 28800), ("90d", 7776000), ("1s", 1)])
def test_how_long_a_token_lasts_is_written_with_its_unit(text: str, seconds: int) -> None:
    assert read_ttl(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "0h", "-1h", "1.5h", "8 h", "1w", "٣h"])
def test_what_is_no_time_for_a_token_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        read_ttl(text)
