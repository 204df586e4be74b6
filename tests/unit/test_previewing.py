"""`loyalty preview`: what a member would read, and what is written of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.errors import UsageError
from services.cli.main import app
from tests.conftest import PROGRAMMES
from tests.messages_desk import MESSAGES


@pytest.fixture
def programme(tmp_path: Path) -> Path:
    """The demo's programme with one campaign in two languages."""
    text = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
    campaign = """
  - id: thanks
    trigger: first_purchase
    message:
      subject: {en: "Thank you", pl: "Dziękujemy"}
      text: {en: "Hello {{ name or 'there' }}", pl: "Witaj {{ name }}"}
      html: {en: "<h1>Hello {{ name or 'there' }}</h1>"}
"""
    path = tmp_path / "shop.yaml"
    path.write_text(text.replace("\ncampaigns:", f"{MESSAGES}\ncampaigns:") + campaign, encoding="utf-8")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


def test_a_preview_shows_the_words_with_a_code_that_is_made_up(programme: Path) -> None:
    result = run("green-reached", "--programme", programme)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Subject: You are Green now: 5 % off your next purchase\n\nHello there,")
    assert "GREEN-0000-0000-0000" in result.output


def test_a_preview_is_in_the_language_that_was_asked_for(programme: Path) -> None:
    assert run("thanks", "--programme", programme, "--language", "pl").output == "Subject: Dziękujemy\n\nWitaj \n"
    assert "Hello there" in run("thanks", "--programme", programme, "--language", "de").output


def test_files_are_for_the_owner_alone_and_a_picture_needs_a_browser(
    programme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "out"
    result = run("thanks", "--programme", programme, "--output", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "message.html").read_text() == "<h1>Hello there</h1>"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert "no picture: there is no browser here" in result.output
    plain = run("green-reached", "--programme", programme, "--output", tmp_path / "plain")
    assert "no HTML in this language" in plain.output
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["message.txt"]


def test_a_browser_that_is_there_is_asked_for_the_picture(
    programme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "chromium"
    browser.write_text(
        "#!/bin/sh\n"
        'for one in "$@"; do case "$one" in --screenshot=*) echo drawn > "${one#--screenshot=}";; esac; done\n'
    )
    browser.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = tmp_path / "out"
    result = run("thanks", "--programme", programme, "--output", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "message.png").read_text() == "drawn\n"
    browser.write_text("#!/bin/sh\nexit 3\n")
    failed = run("thanks", "--programme", programme, "--output", tmp_path / "other")
    assert "did not draw the page (exit code 3)" in str(failed.exception)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nothing"], "no campaign nothing; there are green-reached, silver-reached, golden-reached, "),
        (["thanks", "--variant", "b"], "no variant b"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(programme: Path, arguments: list[str], problem: str) -> None:
    result = run(*arguments, "--programme", programme)
    assert isinstance(result.exception, UsageError)
    assert problem in str(result.exception)


def test_a_preview_shows_the_link_of_a_survey_and_what_the_campaign_goes_by() -> None:
    demo = PROGRAMMES / "retail-demo.yaml"
    assert "https://shop.example.com/recommend?survey=recommend" in run("hundredth-visit", "--programme", demo).output
    assert "25000 points" in run("free-shipping", "--programme", demo).output
    assert "for 90 days" in run("come-back", "--programme", demo).output
