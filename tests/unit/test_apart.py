"""What runs apart: the health of a service from outside it, secrets by parts, the gateway's configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.handout import PARTS, Handout
from services.gateway import __main__ as gateway
from services.runtime import health
from services.runtime.config import ConfigurationError

ADDRESSES = {"ledger_address": "ledger:7001", "tiers_address": "tiers:7002", "notifier_address": "notifier:7003"}


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:7001", "127.0.0.1:7001"),
        ("[::]:7001", "[::1]:7001"),
        ("10.0.0.7:7001", "10.0.0.7:7001"),
        ("unix:/run/ledger.sock", "unix:/run/ledger.sock"),
    ],
)
def test_a_service_is_asked_where_its_own_machine_reaches_it(listen: str, address: str) -> None:
    assert health.reachable(listen) == address


def test_where_nobody_listens_nobody_is_healthy_and_it_says_why(folder: Path) -> None:
    command = [sys.executable, "-m", "services.runtime.health", "ledger"]
    done = subprocess.run(
        command, env={"LOYALTY_LISTEN": f"unix:{folder}/none.sock", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.startswith("ledger: ")) == (1, True)


def test_secrets_are_made_once_and_each_part_gets_its_own(tmp_path: Path) -> None:
    handout = Handout(tmp_path)
    handout.ready()
    assert {path.name for path in tmp_path.iterdir()} == {"keys", *PARTS}
    certificates = {name: (tmp_path / name / "certificate.pem").read_text() for name in ("ledger", "tiers", "gateway")}
    assert len(set(certificates.values())) == 3
    assert "loyalty_tiers" in (tmp_path / "tiers" / "pgpass").read_text()
    assert not (tmp_path / "tiers" / "master-key").exists()
    assert [path.parent.name for path in tmp_path.glob("*/identifier-key")] in (["keys", "ledger"], ["ledger", "keys"])
    handout.ready()
    assert {name: (tmp_path / name / "certificate.pem").read_text() for name in certificates} == certificates


def test_a_part_that_lost_a_secret_gets_it_again(tmp_path: Path) -> None:
    handout = Handout(tmp_path)
    handout.ready()
    given = tmp_path / "notifier" / "master-key"
    before = given.read_text()
    given.unlink()
    handout.ready()
    assert given.read_text() == before


def test_a_revoked_token_is_told_to_every_service(tmp_path: Path) -> None:
    handout = Handout(tmp_path)
    handout.ready()
    handout.token_keys.revoke("some-id")
    handout.hand_out()
    for name in ("ledger", "tiers", "notifier"):
        assert (tmp_path / name / "revoked-tokens").read_text().split() == ["some-id"]


def test_written_again_the_gateways_files_change_with_what_they_are_made_of_alone(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    settings = gateway.Config(**ADDRESSES, token_keys=str(keys))

    def written() -> dict[str, int]:
        gateway.write(settings, tmp_path)
        return {path.name: path.stat().st_ino for path in tmp_path.iterdir() if path != keys}

    before = written()
    assert set(before) == {"envoy.yaml", "contract.binpb", "token-filter.json"}
    assert written() == before
    keys.write_text('{"keys": [{"kid": "new"}]}')
    after = written()
    assert {name for name in after if after[name] != before[name]} == {"token-filter.json"}
    assert "new" in json.dumps(json.loads((tmp_path / "token-filter.json").read_text()))


@pytest.mark.parametrize(
    "settings",
    [
        {"gateway_tls_certificate": "certificate.pem"},
        {"gateway_tls_certificate": "nowhere.pem", "gateway_tls_key": "nowhere-key.pem"},
        {"tls_certificate": "certificate.pem"},
        {"token_keys": "nowhere.json"},
    ],
)
def test_half_of_a_certificate_and_a_file_that_is_not_there_are_refused(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError):
        gateway.write(gateway.Config(**ADDRESSES, **settings), tmp_path)
