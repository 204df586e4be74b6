"""What a service says when it cannot start: one line, exit code 2, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROGRAMMES, ROOT, Database


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
