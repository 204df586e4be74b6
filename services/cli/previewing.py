"""`loyalty preview`: what a member would read of a campaign, as text, as HTML, and as a picture of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli import installation
from services.cli.commands import Data, interruptible
from services.cli.errors import CommandError, UsageError
from services.cli.installation import DEFAULT_DIRECTORY, Connection
from services.programme import VARIABLES, Message, Programme, describe_offer, render
from services.programme.campaigns import Actions, Campaign

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER_SECONDS: Final = 60
_WIDTH: Final = 700
_HEIGHT: Final = 1000


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(preview)


def preview(
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign whose message it is.")],
    member: Annotated[
        str, typer.Option(metavar="ID", help="As this member would read it (default: somebody without a name).")
    ] = "",
    variant: Annotated[str, typer.Option(metavar="ID", help="The variant (default: the first).")] = "",
    language: Annotated[str, typer.Option(metavar="CODE", help="In this language (default: the member's).")] = "",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write message.txt, message.html and message.png there.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--programme", metavar="FILE", help="By this programme (default: the folder's own).")
    ] = None,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Show what a member would read of a campaign. Nothing is sent, no coupon is given: its code is made up."""
    programme = installation.load_programme(file or installation.find(data).programme)
    found = _campaign(programme, campaign)
    actions = _actions(found, variant)
    contact: Any = None
    tier = programme.tiers.levels[0].name
    if member:
        with interruptible("interrupted"), installation.running(installation.find(data).directory) as up:
            contact, held = _told_of(up, member)
            tier = held or tier
    if found.tiers and (level := programme.tiers.find_level(found.tiers[0])) is not None:
        tier = level.name
    message = _filled(programme, found, actions, member, contact, tier, language)
    print(f"Subject: {message.subject}\n\n{message.text}", end="" if message.text.endswith("\n") else "\n")
    if output is not None:
        _write(output, message)


def _campaign(programme: Programme, campaign_id: str) -> Campaign:
    found = programme.campaign(campaign_id)
    if found is None:
        there_are = ", ".join(one.id for one in programme.campaigns) or "none"
        raise UsageError(f"the programme has no campaign {campaign_id}; there are {there_are}")
    return found


def _actions(campaign: Campaign, variant_id: str) -> Actions:
    variants = {variant.id: variant for variant in campaign.variants}
    if variant_id and variant_id not in variants:
        raise UsageError(
            f"the campaign has no variant {variant_id}; there are {', '.join(filter(None, variants)) or 'none'}"
        )
    return (variants[variant_id] if variant_id else campaign.variants[0]).actions


def _told_of(up: Connection, member_id: str) -> tuple[Any, str]:
    """The contact of a member, and the name of its tier (empty where it has none yet)."""
    # It takes its time to load, and `--help` does without.
    import uvloop
    from loyalty.notifier.v1 import notifier_service_pb2 as notifier
    from loyalty.tiers.v1 import tier_service_pb2 as tiers

    from services.cli.remote import RemoteError, call, reach

    async def ask() -> tuple[Any, str]:
        async with reach(up) as services:
            found = await call(services.notifier.GetContact, notifier.GetContactRequest(member_id=member_id))
            try:
                standing = await call(services.tiers.GetStanding, tiers.GetStandingRequest(member_id=member_id))
            except RemoteError as error:
                if error.reason != "MEMBER_UNKNOWN":
                    raise
                return found.contact, ""
            return found.contact, standing.standing.tier

    return uvloop.run(ask())


def _filled(
    programme: Programme,
    campaign: Campaign,
    actions: Actions,
    member_id: str,
    contact: Any,
    tier: str,
    language: str,
) -> Message:
    if actions.message is None:
        raise UsageError("the campaign sends no message")
    values = dict.fromkeys(VARIABLES, "")
    values |= {
        "member_id": member_id,
        "name": contact.name if contact is not None else "",
        "tier": tier,
        "previous_tier": programme.tiers.levels[0].name,
        "balance": programme.format_money(0),
        "points": str(actions.points or 0),
        "points_balance": str(campaign.trigger.points),
        "days": str(campaign.trigger.days or ""),
        "badge": actions.badge,
        "currency": programme.currency,
        "programme": programme.name,
        "unsubscribe_url": "https://example.com/unsubscribe",
    }
    if (survey := programme.survey(actions.survey)) is not None:
        values["survey_link"] = survey.address
    if actions.coupon is not None:
        values |= {
            "code": f"{actions.coupon.prefix or 'CODE'}-0000-0000-0000",
            "discount": describe_offer(programme, actions.coupon.offer),
            "valid_until": "2030-01-31",
        }
    spoken = language or (contact.language if contact is not None else "")
    return render(programme.messages.words(actions.message, spoken), values)


def _write(folder: Path, message: Message) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _private(folder / "message.txt", f"Subject: {message.subject}\n\n{message.text}")
        print(f"written: {folder / 'message.txt'}")
        if not message.html:
            print("the message has no HTML in this language, so there is no page and no picture of it")
            return
        page = folder / "message.html"
        _private(page, message.html)
    except OSError as error:
        raise CommandError(f"{folder} cannot be written to: {error.strerror}") from None
    print(f"written: {page}")
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print(f"no picture: there is no browser here ({', '.join(_BROWSERS[:2])} would do)")
        return
    picture = folder / "message.png"
    _draw(browser, page, picture)
    print(f"written: {picture}")


def _private(path: Path, text: str) -> None:
    """Writes what tells of a member so that nobody else reads it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _draw(browser: str, page: Path, picture: Path) -> None:
    """A picture of a page, as a browser shows it; what the page would fetch from elsewhere is not fetched."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            f"--window-size={_WIDTH},{_HEIGHT}",
            f"--screenshot={picture.absolute()}",
            page.absolute().as_uri(),
        ]
        if os.geteuid() == 0:
            # A browser's own walls need an account without rights; all that is shown here is our own page.
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=_BROWSER_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise CommandError(f"{browser} did not draw the page") from None
    if done.returncode or not picture.is_file():
        raise CommandError(f"{browser} did not draw the page (exit code {done.returncode})")
    picture.chmod(0o600)
