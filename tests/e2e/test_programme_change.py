"""`loyalty programme`: a folder's programme changes, and everything else of the folder goes on."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.installation import load_programme
from tests.e2e.conftest import loyalty

FILE = """
programme: corner-shop
currency: PLN
time_zone: Europe/Warsaw
earning: {{base: total, points: {points}, per: "1.00"}}
tiers:
  base: total
  window: P365D
  levels: [{{name: White}}, {{name: Green, from: "300.00"}}]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ly-programme-"))
    for points in (1, 2, 3):
        (made / f"{points}.yaml").write_text(FILE.format(points=points))
    yield made
    loyalty("down", "--data", str(made / "data"))
    shutil.rmtree(made, ignore_errors=True)


def test_a_folder_changes_its_programme_and_goes_on(folder: Path) -> None:
    data = ("--data", str(folder / "data"))
    first, second, third = (load_programme(folder / f"{points}.yaml").version for points in (1, 2, 3))
    started = loyalty("up", *data, "--programme", str(folder / "1.yaml"), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr

    preview = loyalty("programme", "preview", str(folder / "2.yaml"), *data)
    assert preview.returncode == 0, preview.stderr
    assert preview.stdout.startswith(f"{second} from 20")
    assert "for 0 members" in preview.stdout
    applied = loyalty("programme", "apply", str(folder / "2.yaml"), "--from", "now", *data)
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.startswith(f"{second} holds from 20")
    coming = ("programme", "apply", str(folder / "3.yaml"), "--from", "2199-01-01", *data)
    for said in ("holds", "was applied before: it holds"):
        applied = loyalty(*coming)
        assert applied.stdout == f"{third} {said} from 2199-01-01 00:00:00 CET on\n", applied.stderr
    again = loyalty("programme", "apply", str(folder / "3.yaml"), "--from", "2199-01-02", *data)
    assert again.returncode == 1
    assert "PROGRAMME_UNCHANGED" in again.stderr

    # It was made with the first, keeps that file, and lives by what the ledger has.
    assert loyalty("down", *data).returncode == 0
    started = loyalty("up", *data, "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    listed = json.loads(loyalty("programme", "list", "--json", *data).stdout)["versions"]
    assert [(one["version"], one["in_force"]) for one in listed] == [(first, False), (second, True), (third, False)]
    assert loyalty("programme", "show", *data).stdout == FILE.format(points=2)
    assert loyalty("programme", "show", first, *data).stdout == FILE.format(points=1)
    assert "PROGRAMME_UNKNOWN" in loyalty("programme", "show", "other", *data).stderr
    other = loyalty("up", *data, "--programme", str(folder / "3.yaml"), "--port", "0", "--detach")
    assert "loyalty programme apply" in other.stderr
    checked = loyalty("check", *data)
    assert checked.returncode == 0, checked.stdout + checked.stderr
