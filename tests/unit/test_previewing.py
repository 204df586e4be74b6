"""`loyalty preview`: what a member would read, and what is written of it."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.ledger.v1.member_pb2 import Balance
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from typer.testing import CliRunner, Result

from services import programme as programmes
from services.cli import installation, previewing, remote
from services.cli.errors import UsageError
from services.cli.installation import Connection
from services.cli.main import app
from services.cli.previewing import Reader
from services.cli.remote import RemoteError, Services
from services.notifier.domain.contacts import Contact
from services.notifier.domain.profiles import Profile
from services.programme.campaigns import Trigger, TriggerKind
from services.programme.templates import OF_MEMBERS, OF_OCCASIONS
from tests.conftest import PROGRAMMES
from tests.messages_desk import MESSAGES

NOON = datetime(2026, 5, 4, 16, tzinfo=UTC)


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


def told_of(monkeypatch: pytest.MonkeyPatch, standing: Callable[[], tiers.GetStandingResponse]) -> Reader:
    """What the command hears of m-1, where tiers answer so."""

    async def contact(request: object, **_: object) -> notifier.GetContactResponse:
        return notifier.GetContactResponse(contact=notifier.Contact(name="Ann", language="pl"))

    async def balance(request: object, **_: object) -> ledger.GetBalanceResponse:
        return ledger.GetBalanceResponse(balance=Balance(available_points=550))

    async def answer(request: object, **_: object) -> tiers.GetStandingResponse:
        return standing()

    @contextlib.asynccontextmanager
    async def reach(up: object) -> AsyncIterator[Services]:
        yield Services(
            ledger=SimpleNamespace(GetBalance=balance),
            tiers=SimpleNamespace(GetStanding=answer),
            notifier=SimpleNamespace(GetContact=contact),
        )

    monkeypatch.setattr(remote, "reach", reach)
    return previewing._told_of(cast(Connection, None), "m-1")


def test_a_member_is_shown_as_the_services_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    held = tiers.Standing(tier_number=3, tier="Silver", benefits_tier_number=2)
    held.at_time.FromDatetime(NOON)
    reader = told_of(monkeypatch, lambda: tiers.GetStandingResponse(standing=held))
    # A cool-off holds back what Silver gives: campaigns go by the benefits.
    assert reader == Reader(
        member_id="m-1", contact=Contact(name="Ann", language="pl"), tier_number=2, points=550, now=NOON
    )


@pytest.mark.parametrize("reason", ["MEMBER_UNKNOWN", "NOT_ENROLLED"])
def test_who_has_no_tier_yet_or_has_left_is_shown_a_message_all_the_same(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def none() -> tiers.GetStandingResponse:
        raise RemoteError("the member has no standing", reason=reason)

    reader = told_of(monkeypatch, none)
    assert (reader.contact.name, reader.tier_number, reader.points) == ("Ann", 0, 550)


def test_who_is_in_the_control_group_is_said_to_get_none_of_it(
    monkeypatch: pytest.MonkeyPatch, programme: Path, tmp_path: Path
) -> None:
    text = programme.read_text(encoding="utf-8")
    programme.write_text(text.replace("  - id: thanks\n", '  - id: thanks\n    control: "100"\n'), encoding="utf-8")
    monkeypatch.setattr(installation, "find", lambda _: SimpleNamespace(directory=tmp_path))
    monkeypatch.setattr(installation, "running", contextlib.nullcontext)
    monkeypatch.setattr(previewing, "_told_of", lambda *_: Reader(member_id="m-1", contact=Contact(name="Ann")))
    result = run("thanks", "--programme", programme, "--member", "m-1")
    assert result.stdout == "Subject: Thank you\n\nHello Ann\n"
    assert result.stderr == "m-1 is in the control group, and would get none of this\n"


@pytest.mark.parametrize("kind", list(TriggerKind))
def test_an_occasion_that_is_made_up_tells_what_a_real_one_tells(kind: TriggerKind) -> None:
    demo = programmes.load(PROGRAMMES / "retail-demo.yaml")
    trigger = Trigger(kind=kind, tiers=("silver",), days=3, points=1000)
    campaign = replace(demo.campaigns[0], trigger=trigger)
    facts = previewing.occasion(demo, campaign, Profile(partition=0, member_id="m-1", available=20), NOON)
    assert facts.keys() - OF_MEMBERS == set(OF_OCCASIONS.get(kind, ()))


@pytest.mark.parametrize(
    ("trigger", "shown"),
    [
        ("trigger: purchase", "White  20  "),
        ("trigger: birthday\n    points: 50", "White  20 50 "),
        ("trigger: tier_reached\n    tiers: [silver]", "Silver Green 20  "),
        ("trigger: tier_lost\n    tiers: [green, silver]", "White Green 20  "),
        ("trigger: tier_at_risk\n    tiers: [silver]\n    when: {before: P7D}", "Silver  20  2026-05-11"),
        ("trigger: points_expiring\n    when: {before: P7D}", "White  20 20 2026-05-11"),
        ("trigger: points_reached\n    when: {points: 1000}", "White  1000  "),
    ],
)
def test_a_preview_says_what_the_mail_of_its_trigger_would_and_nothing_that_it_would_not(
    trigger: str, shown: str
) -> None:
    text = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
    campaign = f"""
  - id: new
    {trigger}
    message:
      subject: Hello
      text: "{{{{ tier }}}} {{{{ previous_tier }}}} {{{{ points_balance }}}} {{{{ points }}}} {{{{ day }}}}"
"""
    # A new programme may not ask for what is always empty; one that is applied already may.
    shop = programmes.parse(text + campaign, "shop.yaml", applied=True)
    found = shop.campaign("new")
    assert found is not None
    reader = Reader(member_id="m-1", tier_number=1, points=20, now=NOON)
    assert previewing.written(shop, found, found.variants[0], reader).text == shown


def test_a_coupon_ends_when_one_that_is_given_now_would() -> None:
    demo = programmes.load(PROGRAMMES / "retail-demo.yaml")
    campaign = demo.campaigns[0]
    text = previewing.written(demo, campaign, campaign.variants[0], Reader(now=NOON)).text
    assert "until 2026-06-02" in text


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
