"""A folder becomes an installation once, whole, and keeps its programme and its clock."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from services.cli import installation
from services.cli.errors import CommandError, NotRunningError, UsageError
from services.cli.installation import DEFAULT_PROGRAMME, open_or_create
from services.cli.local_stack import LocalStack
from services.cli.postgres import Cluster
from services.programme import schema
from services.runtime.clock import ClockMode

OTHER_PROGRAMME = DEFAULT_PROGRAMME.with_name("tiered-365.yaml")


def test_a_new_folder_gets_everything_and_an_existing_one_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "shop"
    made = open_or_create(folder, clock=ClockMode.SIMULATED)
    assert made.programme.read_bytes() == DEFAULT_PROGRAMME.read_bytes()
    assert len(base64.b64decode(made.master_key_file.read_text())) == 32
    assert len(base64.b64decode(made.identifier_key_file.read_text())) == 32
    secret = made.token_keys.first_token()
    assert len(secret) >= 32
    again = open_or_create(folder, clock=ClockMode.REAL)
    assert again == made
    assert again.clock is ClockMode.SIMULATED
    assert again.token_keys.first_token() == secret


def test_a_folder_of_an_earlier_release_gets_a_key_for_identifiers_once(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    made.identifier_key_file.unlink()
    made.ready()
    key = made.identifier_key_file.read_text()
    made.ready()
    assert len(base64.b64decode(made.identifier_key_file.read_text())) == 32
    assert made.identifier_key_file.read_text() == key


def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    assert made.secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.secrets.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made.secrets.rglob("*") if path.is_dir()} == {0o700}


def test_another_programme_is_refused_and_the_same_rules_are_not(tmp_path: Path) -> None:
    open_or_create(tmp_path / "shop")
    with pytest.raises(UsageError, match=r"lives by the programme points-basic@.* is tiered-365@"):
        open_or_create(tmp_path / "shop", programme_file=OTHER_PROGRAMME)
    copy = tmp_path / "copy.yaml"
    copy.write_text("# the same rules, with another comment\n" + DEFAULT_PROGRAMME.read_text())
    open_or_create(tmp_path / "shop", programme_file=copy)


def test_a_folder_keeps_a_programme_that_a_new_one_would_not_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.yaml"
    message = "message: {subject: Hi, text: '{{ years }} years'}"
    empty.write_text(DEFAULT_PROGRAMME.read_text() + f"\ncampaigns: [{{id: hi, trigger: birthday, {message}}}]\n")
    with pytest.raises(CommandError, match='"years" is always empty'):
        open_or_create(tmp_path / "shop", programme_file=empty)
    assert not (tmp_path / "shop").exists()
    # A release before this one took it.
    monkeypatch.setattr(schema, "problems_in_new", lambda content, document: iter(()))
    made = open_or_create(tmp_path / "shop", programme_file=empty)
    monkeypatch.undo()
    assert open_or_create(tmp_path / "shop") == made
    assert open_or_create(tmp_path / "shop", programme_file=empty) == made


def test_a_broken_programme_leaves_no_trace(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("programme: [\n")
    with pytest.raises(CommandError, match=r"broken\.yaml:\d"):
        open_or_create(tmp_path / "shop", programme_file=broken)
    assert not (tmp_path / "shop").exists()


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(CommandError, match=r"holds other things \(holiday\.jpg\)"):
        open_or_create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_creation_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    secret = made.token_keys.first_token()
    (made.directory / "installation.json").rename(made.directory / "installation.json.partial")
    again = open_or_create(tmp_path / "shop")
    assert again.token_keys.first_token() == secret


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "clock": "lunar"}'])
def test_a_damaged_description_is_said(tmp_path: Path, content: str) -> None:
    made = open_or_create(tmp_path / "shop")
    (made.directory / "installation.json").write_text(content)
    with pytest.raises(CommandError, match="is damaged"):
        installation.find(made.directory)


def test_a_folder_of_a_later_release_is_not_read(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    (made.directory / "installation.json").write_text('{"format": 2}')
    with pytest.raises(CommandError, match="has the format 2 and this release reads 1"):
        installation.find(made.directory)


def test_what_is_not_up_cannot_be_reached(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    with pytest.raises(NotRunningError, match="is not up"):
        installation.connection(made.directory)
    assert installation.stop(made) is False
    with pytest.raises(CommandError, match="there is no installation"):
        installation.connection(tmp_path / "other")


def test_a_programme_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    made = open_or_create(tmp_path / "shop")
    text = made.programme.read_text()
    made.programme.chmod(0o600)
    made.programme.write_text(text.replace("from: 500", "from: 400"))
    with pytest.raises(CommandError, match="was changed"):
        open_or_create(tmp_path / "shop")
    made.programme.write_text(text + "\n# a comment changes nothing\n")
    open_or_create(tmp_path / "shop")


def test_what_leads_out_of_the_machine_is_taken_from_the_environment_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = open_or_create(tmp_path / "shop")
    stack = LocalStack(installation=made, cluster=Cluster(made.directory), port=1, smtp_port=2)
    for service in ("ledger", "notifier"):
        (made.secrets / f"database-loyalty_{service}").write_text("a password")
    before = stack.environment("notifier")
    monkeypatch.setenv("LOYALTY_WEBHOOK_NETWORKS", "127.0.0.1/32")
    monkeypatch.setenv("LOYALTY_SMTP_HOST", "mail.example.com")
    monkeypatch.setenv("LOYALTY_MASTER_KEY_FILE", "/nowhere")
    assert stack.environment("notifier") == before | {"LOYALTY_WEBHOOK_NETWORKS": "127.0.0.1/32"}
    assert "LOYALTY_WEBHOOK_NETWORKS" not in stack.environment("ledger")
