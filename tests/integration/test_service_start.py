"""What a service says when it cannot start: one line, exit code 2, no traceback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from loyalty.tiers.v1 import tier_service_pb2, tier_service_pb2_grpc

from services.ledger.app import build as build_ledger
from services.ledger.config import Config as LedgerConfig
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES, ROOT, Database, identifier_key, serving


def ledger(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("LOYALTY_")}
    return subprocess.run(
        [sys.executable, "-m", "services.ledger", command],
        env=variables | {f"LOYALTY_{name}": value for name, value in environment.items()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def environment(database: Database, folder: Path, token_file: Path) -> dict[str, str]:
    return {
        "LISTEN": f"unix:{folder}/l.sock",
        "DATABASE_URL": database.dsn("loyalty_ledger"),
        "PROGRAMME": str(PROGRAMMES / "tiered-365.yaml"),
        "TOKEN_FILE": str(token_file),
        "IDENTIFIER_KEY_FILE": str(identifier_key(folder)),
        "CLOCK": "simulated",
    }


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_all_that_is_missing_is_said_in_one_line() -> None:
    refused(ledger("serve"), "LOYALTY_LISTEN is not set", "LOYALTY_DATABASE_URL is not set")


def test_a_broken_programme_names_file_and_line(environment: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("programme: x\ncurency: PLN\n")
    refused(ledger("serve", **environment | {"PROGRAMME": str(broken)}), f"{broken}:2", "curency")


def test_a_wrong_password_is_said_without_a_traceback(environment: dict[str, str]) -> None:
    wrong = environment["DATABASE_URL"].replace("loyalty_ledger@", "loyalty_ledger:wrong@", 1)
    done = ledger("serve", **environment | {"DATABASE_URL": wrong})
    refused(done, "the database refuses")
    assert "wrong" not in done.stderr


def test_an_address_that_cannot_be_listened_on_is_refused(environment: dict[str, str], folder: Path) -> None:
    done = ledger("serve", **environment | {"LISTEN": f"unix:{folder}/none/l.sock"})
    refused(done, "cannot listen on")


def test_the_number_of_partitions_is_fixed_when_the_ledger_is_created(environment: dict[str, str]) -> None:
    assert ledger("check", **environment).returncode == 0
    taken = environment | {"LISTEN": "unix:/none/l.sock"}
    refused(ledger("serve", **taken | {"PARTITIONS": "4"}), "cannot listen on")
    refused(ledger("serve", **environment | {"PARTITIONS": "8"}), "created with 4 partitions")


class Forgotten(tier_service_pb2_grpc.TierServiceServicer):
    """Served by a process that the contract does not give it to."""

    async def GetStanding(self, request: Any, context: Any) -> Any:
        return tier_service_pb2.GetStandingResponse()


async def test_what_the_contract_does_not_give_to_a_service_is_open_to_nobody(
    database: Database, folder: Path, token_file: Path
) -> None:
    listen = f"unix:{folder}/ledger.sock"
    config = LedgerConfig(
        listen=listen,
        database_url=database.dsn("loyalty_ledger"),
        programme=PROGRAMMES / "tiered-365.yaml",
        token_file=token_file,
        identifier_key_file=identifier_key(folder),
        clock=ClockMode.REAL,
    )
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)

        def register(server: grpc.aio.Server) -> None:
            service.register(server)
            tier_service_pb2_grpc.add_TierServiceServicer_to_server(Forgotten(), server)

        async with serving(replace(service, register=register), listen) as channel:
            stub = tier_service_pb2_grpc.TierServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stub.GetStanding(tier_service_pb2.GetStandingRequest(member_id="m"), timeout=10)
    assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
