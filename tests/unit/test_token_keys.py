"""The keys that sign an installation's tokens: two at once, old ones, what is missing, and whose the files are."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import jwt
import pytest

from services.cli import tokens
from services.cli.certificates import NAMES, LocalAuthority
from services.cli.errors import CommandError, UsageError
from services.cli.handout import Handout
from services.cli.postgres import write_secret
from services.cli.token_keys import TokenKeys

NOBODY = 65534


@pytest.fixture
def keys(tmp_path: Path) -> TokenKeys:
    made = of(tmp_path)
    made.ready()
    return made


def of(folder: Path) -> TokenKeys:
    return TokenKeys(folder, run=folder / "run")


def key_ids(keys: TokenKeys) -> list[str]:
    """The keys whose tokens are accepted."""
    return [key["kid"] for key in json.loads(keys.key_set_file.read_text())["keys"]]


def private(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "token-keys").glob("*.pem"))


def claims(token: str) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return said


def revoke_some(folder: Path, name: str, begin: Barrier) -> None:
    begin.wait()
    for number in range(20):
        of(folder).revoke(f"{name}-{number}")


def hand_out_some(folder: Path, name: str, begin: Barrier) -> None:
    handout = Handout(folder)
    begin.wait()
    for number in range(10):
        handout.token_keys.revoke(f"{name}-{number}")
        handout.hand_out()


def make_ready(folder: Path, _: str, begin: Barrier) -> None:
    begin.wait()
    for _number in range(20):
        of(folder).ready()


def drop_some(folder: Path, _: str, begin: Barrier) -> None:
    begin.wait()
    for _number in range(10):
        of(folder).rotate(drop_old=True)


def at_once(folder: Path, *works: Any) -> None:
    """Runs them in processes of their own that begin together."""
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(len(works))
    processes = [
        spawn.Process(target=work, args=(folder, f"p{number}", begin), daemon=True) for number, work in enumerate(works)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(works)


def test_of_revocations_at_once_none_is_lost(keys: TokenKeys, tmp_path: Path) -> None:
    at_once(tmp_path, revoke_some, revoke_some, revoke_some)
    assert len(keys.revoked_file.read_text().split()) == 60


def test_of_revocations_that_are_handed_out_at_once_none_is_lost(tmp_path: Path) -> None:
    Handout(tmp_path).ready()
    at_once(tmp_path, hand_out_some, hand_out_some)
    assert len((tmp_path / "ledger" / "revoked-tokens").read_text().split()) == 20


def test_a_key_that_was_dropped_is_not_published_again_by_who_looks_at_the_same_time(
    keys: TokenKeys, tmp_path: Path
) -> None:
    at_once(tmp_path, drop_some, make_ready, make_ready)
    assert key_ids(keys) == private(tmp_path)
    assert len(key_ids(keys)) == 1


def test_who_changes_keys_waits_for_who_is_at_it(keys: TokenKeys, tmp_path: Path) -> None:
    code = f"from tests.unit.test_token_keys import of, Path; of(Path({str(tmp_path)!r})).revoke('a')"
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    with keys.locked():
        waiting = subprocess.Popen([sys.executable, "-c", code], env=environment)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
    assert waiting.wait(30) == 0
    assert keys.revoked_file.read_text().split() == ["a"]
    assert (tmp_path / "token-keys" / "lock").stat().st_mode & 0o777 == 0o600


def test_a_retired_key_signs_no_more_and_what_it_has_signed_is_accepted(keys: TokenKeys, tmp_path: Path) -> None:
    (old,) = private(tmp_path)
    new = keys.rotate(drop_old=False)
    assert private(tmp_path) == [new]
    assert key_ids(keys) == [old, new]
    retired = json.loads((tmp_path / "token-keys" / f"{old}.json").read_text())
    assert abs(retired["retired"] - time.time()) < 60
    assert "d" not in retired["key"]
    assert jwt.get_unverified_header(keys.first_token())["kid"] == old


def test_a_retired_key_is_forgotten_when_the_longest_token_of_it_has_expired(keys: TokenKeys, tmp_path: Path) -> None:
    (old,) = private(tmp_path)
    new = keys.rotate(drop_old=False)
    file = tmp_path / "token-keys" / f"{old}.json"
    said = json.loads(file.read_text())

    def retired_since(days: float) -> None:
        file.write_text(json.dumps(said | {"retired": int(time.time() - days * 86400)}))
        keys.ready()

    retired_since(365.9)
    assert key_ids(keys) == [old, new]
    retired_since(366.1)
    assert key_ids(keys) == [new]
    assert jwt.get_unverified_header(keys.first_token())["kid"] == new


def test_retired_keys_can_be_dropped_at_once(keys: TokenKeys, tmp_path: Path) -> None:
    keys.rotate(drop_old=False)
    new = keys.rotate(drop_old=True)
    assert key_ids(keys) == private(tmp_path) == [new]
    assert not list((tmp_path / "token-keys").glob("*.json"))
    assert jwt.get_unverified_header(keys.first_token())["kid"] == new


def test_a_key_never_gets_the_number_of_one_that_is_still_accepted(keys: TokenKeys) -> None:
    made = [keys.rotate(drop_old=False) for _ in range(3)]
    assert [one.partition("-")[0] for one in made] == ["0002", "0003", "0004"]


def test_of_a_folder_with_several_private_keys_the_newest_signs_and_the_others_retire(
    keys: TokenKeys, tmp_path: Path
) -> None:
    (new,) = private(tmp_path)
    older = of(tmp_path / "older")
    (tmp_path / "older").mkdir()
    older.ready()
    (old,) = private(tmp_path / "older")
    (tmp_path / "older" / "token-keys" / f"{old}.pem").rename(tmp_path / "token-keys" / "0000-abcdef.pem")
    keys.ready()
    assert private(tmp_path) == [new]
    assert key_ids(keys) == ["0000-abcdef", new]


def test_a_damaged_retired_key_is_named(keys: TokenKeys, tmp_path: Path) -> None:
    (tmp_path / "token-keys" / "0000-abcdef.json").write_text("{}")
    with pytest.raises(CommandError, match=r"0000-abcdef\.json is damaged"):
        keys.ready()


def test_the_id_of_a_token_is_no_option_of_a_command_line(keys: TokenKeys) -> None:
    issued = keys.issue(principal="shop", roles=["backend"], ttl=timedelta(hours=1))
    assert re.fullmatch(r"[0-9a-f]{24}", issued.token_id)


def test_a_list_of_revoked_tokens_is_there_from_the_beginning(keys: TokenKeys) -> None:
    assert keys.revoked_file.read_text().split() == []
    assert keys.revoked_file.stat().st_mode & 0o777 == 0o600


def test_every_service_is_handed_a_list_of_revoked_tokens_from_the_beginning(tmp_path: Path) -> None:
    Handout(tmp_path).ready()
    for name in ("ledger", "tiers", "notifier"):
        assert (tmp_path / name / "revoked-tokens").read_text().split() == []


def test_a_first_token_that_was_revoked_is_made_anew(keys: TokenKeys) -> None:
    revoked = keys.first_token_id()
    assert revoked == claims(keys.first_token())["jti"]
    assert keys.revoke(revoked)
    assert keys.first_token_id() != revoked
    kept = keys.first_token()
    keys.ready()
    assert keys.first_token() == kept


@pytest.mark.parametrize("place", ["a b", "Köln", "x" * 65, "17\n"])
def test_a_place_that_the_services_would_refuse_is_not_issued(keys: TokenKeys, place: str) -> None:
    for places in ({"store": place}, {"store": "17", "terminal": place}):
        with pytest.raises(UsageError, match="no store or terminal"):
            keys.issue(principal="till", roles=["pos"], ttl=timedelta(hours=1), **places)


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    Handout(tmp_path).ready()
    return tmp_path


@pytest.mark.parametrize("option", ["name", "store", "terminal"])
def test_an_option_that_is_given_and_empty_is_refused(
    apart: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    given: dict[str, Any] = {"store": "17", option: ""}
    with pytest.raises(UsageError, match=f"--{option} is empty"):
        tokens.token(role=["pos"], ttl="1h", data=apart, **given)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("store", "terminal"), [("1-2", "3"), ("1", "2-3"), ("A1", None), ("17", "A1")])
def test_tills_whose_names_could_be_the_same_need_one_each(apart: Path, store: str, terminal: str | None) -> None:
    with pytest.raises(UsageError, match="--name"):
        tokens.token(role=["pos"], store=store, terminal=terminal, ttl="1h", data=apart)


def test_a_till_is_named_by_its_place_unless_it_has_a_name(apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens.token(role=["pos"], store="17", terminal="a1", ttl="1h", data=apart)
    assert claims(capsys.readouterr().out.strip())["sub"] == "pos-17-a1"
    tokens.token(role=["pos"], name="till", store="1-2", terminal="A1", ttl="1h", data=apart)
    said = claims(capsys.readouterr().out.strip())
    assert (said["sub"], said["store"], said["terminal"]) == ("till", "1-2", "A1")


@pytest.mark.parametrize("name", NAMES)
def test_a_key_of_a_certificate_that_is_gone_or_another_is_made_anew_with_it(tmp_path: Path, name: str) -> None:
    authority = LocalAuthority(tmp_path / "tls")
    authority.ready()
    files = authority.files(name)
    other = authority.files("cli" if name != "cli" else "ledger")
    kept = other.certificate.read_bytes()
    for damage in (files.key.unlink, lambda: files.key.write_bytes(other.key.read_bytes())):
        before = files.certificate.read_bytes()
        damage()
        authority.ready()
        assert files.certificate.read_bytes() != before
        assert files.key.read_bytes() != other.key.read_bytes()
        assert other.certificate.read_bytes() == kept
        whole = files.certificate.read_bytes()
        authority.ready()
        assert files.certificate.read_bytes() == whole


@contextlib.contextmanager
def as_another_user(folder: Path) -> Iterator[None]:
    """Not the folder's owner, or one that may not enter it."""
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_another_user_is_told_in_a_sentence_whose_the_secrets_are(apart: Path) -> None:
    with as_another_user(apart):
        for command in (
            lambda: tokens.token(role=["pos"], ttl="1h", data=apart),
            lambda: tokens.revoke("some-id", data=apart),
            lambda: tokens.rotate(data=apart),
        ):
            with pytest.raises(CommandError, match="Permission denied; run the command as the owner of"):
                command()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_in_the_folder_of_somebody_else_is_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    keys = of(folder)
    keys.ready()
    keys.rotate(drop_old=False)
    LocalAuthority(folder / "tls").ready()
    made = list(folder.rglob("*"))
    assert len(made) > 10
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(NOBODY, NOBODY)}


def test_a_secret_that_could_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "taken"
    (place / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_secret(place, "secret")
    assert list(tmp_path.iterdir()) == [place]
