"""`loyalty preview`: what a member would read of a campaign, as text, as HTML, and as a picture of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli import installation
from services.cli.commands import Data, interruptible
from services.cli.errors import CommandError, UsageError
from services.cli.installation import DEFAULT_DIRECTORY, Connection
from services.notifier.channels.words import fill
from services.notifier.domain.assignments import Assignment, Claim, Cost, variant_of
from services.notifier.domain.campaigns import Gifts
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery
from services.notifier.domain.profiles import Profile, level_key, standing
from services.notifier.domain.programmes import Programmes
from services.programme import Message, Programme, parse
from services.programme.campaigns import Campaign, Trigger, TriggerKind, Variant
from services.programme.messages import EMAIL, Consent
from services.programme.model import Level

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER_SECONDS: Final = 60
_WIDTH: Final = 700
_HEIGHT: Final = 1000

# What is made up, where nobody is asked: it is told from what is real.
_NO_CODE: Final = "-0000-0000-0000"
_POINTS: Final = 100
_UNSUBSCRIBE: Final = "https://example.com/unsubscribe"


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(preview)


def preview(
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign whose message it is.")],
    member: Annotated[
        str, typer.Option(metavar="ID", help="As this member would read it (default: somebody without a name).")
    ] = "",
    variant: Annotated[str, typer.Option(metavar="ID", help="The variant (default: the member's, or the first).")] = "",
    language: Annotated[str, typer.Option(metavar="CODE", help="In this language (default: the member's).")] = "",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write message.txt, message.html and message.png there.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--programme",
            metavar="FILE",
            help="By this programme (default: with --member the one in force, else the one the folder was made with).",
        ),
    ] = None,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Show what a member would read of a campaign. Nothing is sent and no coupon is given: its code is made up, and so
    is what sets the campaign off."""
    programme = installation.load_programme(file or installation.find(data).programme, applied=file is None)
    reader = Reader()
    if member:
        with interruptible("interrupted"), installation.running(installation.find(data).directory) as up:
            reader = _told_of(up, member)
            programme = programme if file else _in_force(up)
    found = _campaign(programme, campaign)
    chosen, in_control = _variant(found, variant, member)
    if in_control:
        print(f"{member} is in the control group, and would get none of this", file=sys.stderr)
    if language:
        reader = replace(reader, contact=replace(reader.contact, language=language))
    message = written(programme, found, chosen, reader)
    print(f"Subject: {message.subject}\n\n{message.text}", end="" if message.text.endswith("\n") else "\n")
    if output is not None:
        _write(output, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who would read it; what is left out is made up. `tier_number`: of the level whose benefits the member has, 0
    where there is none; `now`: what the installation's clock shows."""

    member_id: str = ""
    contact: Contact = field(default_factory=Contact)
    tier_number: int = 0
    points: int = _POINTS
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def written(programme: Programme, campaign: Campaign, variant: Variant, reader: Reader) -> Message:
    """The message as the notifier would write it, of an occasion that is made up. Raises UsageError where there is
    none."""
    action = variant.actions.message
    if action is None:
        raise UsageError("the campaign sends no message")
    profile = _profile(programme, campaign, reader)
    claim = Claim(
        programme=programme,
        campaign=campaign,
        partition=0,
        member_id=reader.member_id,
        trigger="preview",
        time=reader.now,
        facts={**standing(profile, programme), **occasion(programme, campaign, profile, reader.now)},
    )
    prefix = "" if variant.actions.coupon is None else variant.actions.coupon.prefix
    code = f"{prefix or 'CODE'}{_NO_CODE}"
    # Of a key there is no need: the code is there already.
    gifts = Gifts(programmes=Programmes(programme), codes=CouponCodes(key=b"", partitions=1), delivery_key=b"")
    gift = gifts.gift(Assignment(claim=claim, variant=variant.id, in_control=False, cost=Cost(), code=code))
    message = next(message for message in gift.messages if message.channel == action.channel)
    due = DueDelivery(delivery_id="", message=message, coupon=gift.coupon, attempts=0, leased_until=reader.now)
    refusable = action.channel == EMAIL and programme.messages.topic(action.topic).consent is not Consent.ALWAYS
    return fill(programme, action, due, reader.contact, unsubscribe_url=_UNSUBSCRIBE if refusable else "")


def occasion(programme: Programme, campaign: Campaign, profile: Profile, now: datetime) -> dict[str, str | int]:
    """What an occasion of the campaign's trigger would tell (`templates.OF_OCCASIONS`)."""
    trigger = campaign.trigger
    day = programme.local_day(now) + timedelta(days=trigger.days)
    match trigger.kind:
        case TriggerKind.TIER_REACHED | TriggerKind.TIER_LOST:
            level = _level(programme, trigger, profile)
            below = programme.tiers.level(level.number - 1)
            before, after = (below, level) if trigger.kind is TriggerKind.TIER_REACHED else (level, below)
            return {"tier": after.name, "previous_tier": before.name, "balance": after.threshold or 0}
        case TriggerKind.TIER_AT_RISK:
            return {"tier": _level(programme, trigger, profile).name, "day": f"{day}"}
        case TriggerKind.POINTS_REACHED:
            return {"points_balance": max(trigger.points, profile.available)}
        case TriggerKind.POINTS_EXPIRING:
            return {"points": profile.available or _POINTS, "day": f"{day}"}
        case TriggerKind.ANNIVERSARY:
            return {"years": 1}
        case TriggerKind.INACTIVITY:
            return {"days": trigger.days}
        case TriggerKind.COUPON_EXPIRING:
            # It ends in the course of the day.
            return {"code": f"CODE{_NO_CODE}", "day": f"{day - timedelta(days=1)}"}
        case TriggerKind.PROGRAMME_CHANGE:
            return {"version": programme.version}
        case _:
            return {}


def _profile(programme: Programme, campaign: Campaign, reader: Reader) -> Profile:
    """The reader as campaigns know it; who is made up is one of the campaign's audience."""
    wanted = campaign.audience.tiers
    levels = (level.key for level in programme.tiers.levels if not wanted or level.key in wanted)
    tier = level_key(programme, reader.tier_number) or next(levels, "")
    return Profile(partition=0, member_id=reader.member_id, tier=tier, available=reader.points)


def _level(programme: Programme, trigger: Trigger, profile: Profile) -> Level:
    """The level that a trigger is about: the member's own where it is one of several."""
    key = profile.tier if profile.tier in trigger.tiers else trigger.tiers[0]
    return next(level for level in programme.tiers.levels if level.key == key)


def _campaign(programme: Programme, campaign_id: str) -> Campaign:
    found = programme.campaign(campaign_id)
    if found is None:
        there_are = ", ".join(one.id for one in programme.campaigns) or "none"
        raise UsageError(f"the programme has no campaign {campaign_id}; there are {there_are}")
    return found


def _variant(campaign: Campaign, variant_id: str, member_id: str) -> tuple[Variant, bool]:
    """The variant that was asked for, or else the member's, or else the first; and whether the member is in the control
    group."""
    variants = {variant.id: variant for variant in campaign.variants}
    if variant_id and variant_id not in variants:
        raise UsageError(
            f"the campaign has no variant {variant_id}; there are {', '.join(filter(None, variants)) or 'none'}"
        )
    drawn, in_control = variant_of(campaign, member_id) if member_id else (campaign.variants[0], False)
    return (variants[variant_id], False) if variant_id else (drawn, in_control)


def _told_of(up: Connection, member_id: str) -> Reader:
    """What the services know of a member."""
    # It takes its time to load, and `--help` does without.
    import uvloop
    from loyalty.ledger.v1 import ledger_service_pb2 as ledger
    from loyalty.notifier.v1 import notifier_service_pb2 as notifier
    from loyalty.tiers.v1 import tier_service_pb2 as tiers

    from services.cli.remote import RemoteError, call, reach

    async def ask() -> Reader:
        async with reach(up) as services:
            found = await call(services.notifier.GetContact, notifier.GetContactRequest(member_id=member_id))
            points = await call(services.ledger.GetBalance, ledger.GetBalanceRequest(member_id=member_id))
            reader = Reader(
                member_id=member_id,
                contact=Contact(name=found.contact.name, language=found.contact.language),
                points=points.balance.available_points,
            )
            try:
                answer = await call(services.tiers.GetStanding, tiers.GetStandingRequest(member_id=member_id))
            except RemoteError as error:
                # Who has no level yet, or has left, is shown the message all the same.
                if error.reason not in ("MEMBER_UNKNOWN", "NOT_ENROLLED"):
                    raise
                return reader
            held = answer.standing
            return replace(reader, tier_number=held.benefits_tier_number, now=held.at_time.ToDatetime(tzinfo=UTC))

    return uvloop.run(ask())


def _in_force(up: Connection) -> Programme:
    """The version of the programme that the ledger goes by now."""
    import uvloop
    from loyalty.ledger.v1 import ledger_service_pb2 as ledger

    from services.cli.remote import call, reach

    async def ask() -> str:
        async with reach(up) as services:
            found = await call(services.ledger.GetProgramme, ledger.GetProgrammeRequest())
            source: str = found.programme.source
            return source

    return parse(uvloop.run(ask()), "the programme in force", applied=True)


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
