"""What docs/authentication.md says: its examples run as they stand there, its tables are the contract's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from services.cli import stack
from services.cli.installation import Connection, connection
from services.runtime import contract
from services.runtime.tokens import REQUIRED_CLAIMS
from tests.e2e.conftest import loyalty

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/authentication.md").read_text(encoding="utf-8")
WITH_OUTPUT = re.compile(r"^```(sh|python)\n(.*?)^```\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    language: str
    code: str
    output: str


EXAMPLES = [Example(*found) for found in WITH_OUTPUT.findall(PAGE)]


def run(script: str, live: Connection, given: str = "") -> str:
    """What a script writes, to both outputs; the commands are those of this interpreter."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GATEWAY": live.gateway,
        "DATA": str(live.installation.directory),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], input=given, text=True, cwd=ROOT, env=environment, timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def says(output: str, shown: str) -> bool:
    """Whether an output is what the page shows: blanks do not count, and `...` is whatever stands there."""
    parts = "".join(shown.split()).split("...")
    return re.fullmatch(".*".join(map(re.escape, parts)), "".join(output.split())) is not None


@pytest.fixture(scope="module")
def plain() -> Iterator[Connection]:
    """A stack as a reader of the page has it: `loyalty up`, and nothing said about a programme."""
    directory = Path(tempfile.mkdtemp(prefix="ly-plain-"))
    started = loyalty("up", "--data", str(directory), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_does_what_the_page_shows(plain: Connection, number: int) -> None:
    language, code, shown = EXAMPLES[number]
    if "curl -s" in code and shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    # The first one gets the token that all others use.
    before = f"{{ {EXAMPLES[0].code}}} 2> /dev/null\n" if number else ""
    output = run(f"{before}python -", plain, code) if language == "python" else run(f"{before}{code}", plain)
    assert says(output, shown), output


def test_what_loyalty_up_says_to_try_works_and_shows_the_token_to_nobody(
    live: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    stack._explain(live)
    said = capsys.readouterr().out
    assert f"(id {live.installation.token_keys.first_token_id()})" in said
    (command,) = (line for line in said.splitlines() if "curl" in line)
    # The shell writes the token itself: no program has it among its arguments.
    assert "$" not in command.partition("| curl")[2]
    assert "retail-demo" in run(command, live)


def test_every_example_of_the_page_is_run() -> None:
    fences = re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)
    assert len(fences) == 2 * len(EXAMPLES)
    assert {example.language for example in EXAMPLES} == {"sh", "python"}


def table(heading: str) -> list[list[str]]:
    """The cells of the table that begins with this heading."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_shows_the_roles_of_the_contract_with_their_scopes() -> None:
    shown = {named(role)[0]: frozenset(named(scopes)) for role, _, scopes in table("role")}
    assert shown == contract.roles()


def test_the_page_names_the_claims_that_a_token_needs() -> None:
    needed = [claim for claims, need, _ in table("claim") if need == "yes" for claim in named(claims)]
    assert sorted(needed) == sorted(REQUIRED_CLAIMS)
