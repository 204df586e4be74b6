"""`loyalty import`: loads a history into a folder that lives in simulated time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from services import programme as programmes
from services.cli import installation
from services.cli.display import facts, progress_bar
from services.cli.errors import CommandError, UsageError
from services.cli.formats import FORMATS
from services.cli.history import Source, Survey
from services.cli.installation import DEFAULT_PROGRAMME, Connection, Installation
from services.cli.loader import Closed, ContactOf, Loaded, Loader, Notes, Watcher, alone
from services.cli.remote import Services, open_stream, reach
from services.programme import Programme, format_amount
from services.runtime.clock import ClockMode

# Without a terminal, how often a line says how far it is.
_LINE_SECONDS = 10.0


def import_history(source: Path, format_name: str, *, data: Path, programme_file: Path | None, as_json: bool) -> None:
    """Loads a source into a folder and prints the report."""
    console = Console(stderr=as_json, highlight=False)
    opened = open_source(source, format_name)
    rules = check_target(data, opened, programme_file)
    with console.status("reading the source") if console.is_terminal else contextlib.nullcontext():
        survey = opened.survey()
        fingerprint = opened.fingerprint
    there = installation.open_or_create(data, programme_file=programme_file, clock=ClockMode.SIMULATED)
    with (
        alone(there),
        installation.running(there.directory, say=lambda text: console.print(f"  {text}", style="dim")) as up,
        load_progress(console, survey) as watcher,
    ):
        notes = Notes(there, opened, fingerprint)
        loaded, moves = uvloop.run(_load(up, rules, opened, survey, notes, watcher))
    report = Report(installation=there, source=opened, programme=rules, loaded=loaded, moves=moves)
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        report.show(console)


def open_source(path: Path, format_name: str) -> Source:
    """The source in a format; raises UsageError for a format that is not known, SourceError for another content."""
    if format_name not in FORMATS:
        raise UsageError(f"there is no format {format_name}; known are {', '.join(FORMATS)}")
    return FORMATS[format_name](path)


def check_target(data: Path, source: Source, programme_file: Path | None) -> Programme:
    """The programme that the source would be loaded under; raises CommandError where the two do not go together."""
    path = programme_file or DEFAULT_PROGRAMME
    if (data / "installation.json").exists():
        there = installation.find(data)
        if there.clock is not ClockMode.SIMULATED:
            raise CommandError(
                f"{there.directory} lives in real time: its members' tiers hold now, and a past loaded into it would "
                "give coupons and messages for what is long over; load history into a folder of its own (--data)"
            )
        path = there.programme
    try:
        rules = programmes.load(path)
    except programmes.ProgrammeError as error:
        raise CommandError(str(error)) from None
    if rules.currency != source.currency:
        raise CommandError(
            f"the amounts of {source.format} are in {source.currency} and the programme {rules.name} counts in "
            f"{rules.currency}; name a programme in {source.currency} with --programme"
        )
    return rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Changes of tier in the whole installation, and how many of those down were made by time alone."""

    up: int
    down: int
    down_by_time: int


async def count_moves(services: Services) -> Moves:
    """Reads the log of tier changes; raises RemoteError."""
    up = down = by_time = 0
    async for response in open_stream(services.tiers.StreamTierChanges, tiers.StreamTierChangesRequest()):
        for change in response.changes:
            if change.to_tier_number > change.from_tier_number:
                up += 1
            else:
                down += 1
                by_time += change.WhichOneof("cause") == "due_time"
    return Moves(up=up, down=down, down_by_time=by_time)


async def load(
    services: Services,
    *,
    programme: Programme,
    source: Source,
    survey: Survey,
    notes: Notes,
    watcher: Watcher,
    contact_of: ContactOf | None = None,
) -> Loaded:
    """Loads a source whose survey was made; see Loader."""
    loader = Loader(
        services=services,
        programme=programme,
        source=source,
        notes=notes,
        watcher=watcher,
        contact_of=contact_of,
    )
    return await loader.load(survey)


async def _load(
    up: Connection, rules: Programme, source: Source, survey: Survey, notes: Notes, watcher: Watcher
) -> tuple[Loaded, Moves]:
    async with reach(up) as services:
        loaded = await load(services, programme=rules, source=source, survey=survey, notes=notes, watcher=watcher)
        return loaded, await count_moves(services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a load did, for people and for programs."""

    installation: Installation
    source: Source
    programme: Programme
    loaded: Loaded
    moves: Moves

    @property
    def purchases_per_second(self) -> float:
        """Sent in the time of the load; 0 where nothing was sent."""
        return self.loaded.purchases_sent / self.loaded.seconds if self.loaded.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """As one object. Money in minor units."""
        survey, totals = self.loaded.survey, self.loaded.totals
        currency = self.programme.currency
        return {
            "data": str(self.installation.directory),
            "format": self.source.format,
            "programme": self.programme.version,
            "lines": {
                "read": survey.lines_read,
                "rejected": sum(survey.lines_rejected.values()),
                "rejected_by_reason": dict(survey.lines_rejected),
            },
            "baskets": {"read": survey.baskets, "without_lines": survey.baskets_without_lines},
            "purchases": {
                "recorded": totals.purchases_recorded,
                "already_there": totals.purchases_there,
                "refused": totals.purchases_refused.total(),
                "refused_by_reason": dict(totals.purchases_refused),
            },
            "members": {
                "joined": totals.members_joined,
                "already_there": totals.members_there,
                "refused": totals.members_refused.total(),
                "refused_by_reason": dict(totals.members_refused),
            },
            "amount_loaded": {"currency_code": currency, "minor_units": totals.amount_loaded},
            "amount_refused": {"currency_code": currency, "minor_units": totals.amount_refused},
            "points_given": totals.points_given,
            "standings": dict(self.loaded.standings),
            "tier_changes": {
                "up": self.moves.up,
                "down": self.moves.down,
                "down_by_time": self.moves.down_by_time,
            },
            "load": {
                "purchases_sent": self.loaded.purchases_sent,
                "seconds": round(self.loaded.seconds, 3),
                "purchases_per_second": round(self.purchases_per_second, 1),
            },
        }

    def show(self, console: Console) -> None:
        """A line for each figure."""
        survey, totals = self.loaded.survey, self.loaded.totals

        load = "nothing to send: all of it was there"
        if self.loaded.seconds:
            load = (
                f"{self.loaded.purchases_sent:,} purchases in {self.loaded.seconds:.1f} s: "
                f"{self.purchases_per_second:,.0f} a second"
            )
        console.print(f"[bold]{escape(self.source.title)}[/] is in {escape(str(self.installation.directory))}")
        facts(
            console,
            [
                ("lines", f"{survey.lines_read:,} read, {_by_reason('rejected', survey.lines_rejected)}"),
                ("baskets", f"{survey.baskets:,}, {survey.baskets_without_lines:,} of them without a line that counts"),
                (
                    "purchases",
                    f"{totals.purchases_recorded:,} recorded, {totals.purchases_there:,} already there, "
                    + _by_reason("refused", totals.purchases_refused),
                ),
                (
                    "members",
                    f"{totals.members_joined:,} joined, {totals.members_there:,} already there, "
                    + _by_reason("refused", totals.members_refused),
                ),
                ("money", f"{self._money(totals.amount_loaded)} loaded, {self._money(totals.amount_refused)} refused"),
                ("points", f"{totals.points_given:,} given"),
                ("tiers", ", ".join(f"{members:,} {tier}" for tier, members in self.loaded.standings.items())),
                (
                    "changes",
                    f"{self.moves.up:,} up, {self.moves.down:,} down ({self.moves.down_by_time:,} by time alone)",
                ),
                ("load", load),
            ],
        )

    def _money(self, minor_units: int) -> str:
        whole, _, digits = format_amount(minor_units, self.programme.minor_unit_digits).partition(".")
        return f"{int(whole):,}{'.' + digits if digits else ''} {self.programme.currency}"


def _by_reason(word: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return f"0 {word}"
    return f"{total:,} {word}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


@contextlib.contextmanager
def load_progress(console: Console, survey: Survey) -> Iterator[Watcher]:
    """Shows how a load goes on: a bar on a terminal, otherwise a line now and then."""
    if not console.is_terminal:
        yield _Lines(console, survey)
        return
    with progress_bar(console, "purchases") as progress:
        task = progress.add_task("loading", total=survey.purchases)
        yield _Bar(progress, task)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def day_closed(self, closed: Closed) -> None:
        self._progress.update(self._task, completed=closed.purchases, description=f"{closed.date:%d %b %Y}")


class _Lines:
    def __init__(self, console: Console, survey: Survey) -> None:
        self._console = console
        self._survey = survey
        self._said = time.monotonic()

    def day_closed(self, closed: Closed) -> None:
        if time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._said = time.monotonic()
        self._console.print(f"  {closed.date}: {closed.purchases:,} of {self._survey.purchases:,} purchases")
