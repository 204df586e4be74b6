"""What is rendered is what Envoy takes, and shows no more than the contract."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.gateway import render
from services.gateway.render import Address, GatewayError
from services.runtime import contract

ADDRESSES = {"ledger": "unix:/run/loyalty/ledger.sock", "tiers": "127.0.0.1:7002", "notifier": "notifier:7003"}


def rendered(folder: Path, **changes: Any) -> str:
    descriptors = contract.descriptor_set()
    descriptor_path = folder / "contract.binpb"
    descriptor_path.write_bytes(descriptors)
    arguments: dict[str, Any] = {"port": 8080, "descriptor_path": descriptor_path} | changes
    return render.render(render.backends(ADDRESSES, contract.SERVICES, descriptors), **arguments)


def validated(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "envoy.yaml"
    path.write_text(text)
    command = [*render.command(path), "--mode", "validate"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def connection_manager(text: str) -> dict[str, Any]:
    listener = yaml.safe_load(text)["static_resources"]["listeners"][0]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


@pytest.mark.parametrize("with_admin", [False, True])
def test_envoy_takes_the_configuration(tmp_path: Path, with_admin: bool) -> None:
    text = rendered(tmp_path, admin_path=tmp_path / "admin.sock" if with_admin else None)
    done = validated(tmp_path, text)
    assert done.returncode == 0, done.stderr


def test_a_path_with_quotes_and_spaces_stays_one_value(folder: Path) -> None:
    folder = folder / """it's "a" folder: {x}, #1"""
    folder.mkdir()
    done = validated(folder, rendered(folder, admin_path=folder / "admin.sock"))
    assert done.returncode == 0, done.stderr


def test_only_the_services_of_the_contract_have_a_route(tmp_path: Path) -> None:
    hosts = connection_manager(rendered(tmp_path))["route_config"]["virtual_hosts"]
    assert len(hosts) == 1
    services = [service for theirs in contract.SERVICES.values() for service in theirs]
    for route in hosts[0]["routes"]:
        assert (route["match"].get("prefix") or route["match"]["path"]).startswith(
            tuple(f"/{service}/" for service in services)
        )
    assert {route["match"].get("prefix") for route in hosts[0]["routes"]} >= {f"/{service}/" for service in services}


def test_a_stream_has_no_timeout_and_comes_before_its_service(tmp_path: Path) -> None:
    routes = connection_manager(rendered(tmp_path))["route_config"]["virtual_hosts"][0]["routes"]
    matches = [route["match"].get("path") or route["match"]["prefix"] for route in routes]
    stream = matches.index("/loyalty.ledger.v1.LedgerService/StreamEntries")
    assert stream < matches.index("/loyalty.ledger.v1.LedgerService/")
    assert routes[stream]["route"]["timeout"] == "0s"


def test_administration_is_never_reachable_by_network(tmp_path: Path) -> None:
    assert "admin" not in yaml.safe_load(rendered(tmp_path))
    admin = yaml.safe_load(rendered(tmp_path, admin_path=Path("/run/admin.sock")))["admin"]
    assert admin["address"] == {"pipe": {"path": "/run/admin.sock", "mode": 0o600}}


def test_a_name_is_looked_up_and_an_address_is_not(tmp_path: Path) -> None:
    clusters = {c["name"]: c for c in yaml.safe_load(rendered(tmp_path))["static_resources"]["clusters"]}
    assert {name: c["type"] for name, c in clusters.items()} == {
        "ledger": "STATIC",
        "tiers": "STATIC",
        "notifier": "STRICT_DNS",
    }


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", Address(path="/run/a.sock")),
        ("unix:///run/a.sock", Address(path="/run/a.sock")),
        ("127.0.0.1:7001", Address(host="127.0.0.1", port=7001)),
        ("[::1]:7001", Address(host="::1", port=7001)),
        ("ledger:7001", Address(host="ledger", port=7001)),
    ],
)
def test_addresses_read_as_grpc_writes_them(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["", "ledger", "ledger:", ":7001", "ledger:0", "ledger:70000", "ledger:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(GatewayError, match="is no address"):
        Address.parse(text)


def test_a_service_that_the_contract_lacks_is_refused() -> None:
    with pytest.raises(GatewayError, match=r"the contract has no service loyalty\.x\.v1\.X"):
        render.backends({"x": "x:1"}, {"x": ["loyalty.x.v1.X"]}, contract.descriptor_set())
