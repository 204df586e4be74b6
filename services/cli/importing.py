"""`loyalty import`: loads a history into a folder that lives in simulated time, and accounts for every line of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import uvloop
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from services import programme as programmes
from services.cli import installation
from services.cli.display import facts, progress_bar
from services.cli.errors import CommandError, UsageError
from services.cli.files import refuse_over, whole_file
from services.cli.formats import FORMATS
from services.cli.history import Format, SourceError, Units, fingerprint_of, states_of
from services.cli.installation import DEMO_PROGRAMME, Connection, Installation
from services.cli.loader import Answers, Closed, ContactOf, Loaded, Loader, Notes, Watcher, alone
from services.cli.remote import Services, open_stream, reach
from services.cli.staging import Staging, Survey, Tally
from services.programme import Programme, format_amount
from services.runtime.clock import ClockMode

# Without a terminal, how often a line says how far it is.
_LINE_SECONDS = 10.0
_SHOWN_REFUSALS = 10


def import_history(
    path: Path,
    format_name: str,
    *,
    data: Path,
    programme_file: Path | None,
    currency: str | None,
    time_zone: str | None,
    rejects: Path | None,
    as_json: bool,
) -> bool:
    """Loads a source into a folder, prints the account, and says whether it adds up."""
    console = Console(stderr=as_json, highlight=False)
    form = find_format(format_name)
    rules = check_target(data, programme_file)
    units = units_of(form, rules, currency=currency, time_zone=time_zone)
    if rejects is not None:
        refuse_over("--rejects", rejects, data=data, read=(path, *filter(None, (programme_file,))))
    with contextlib.ExitStack() as stack:
        is_new = not (data / "installation.json").exists()
        if not is_new:
            # Who is second hears it before a long file is read.
            stack.enter_context(alone(installation.find(data)))
        # The same goes for a place where nothing can be written.
        with contextlib.nullcontext() if rejects is None else whole_file(rejects) as file:
            with console.status(f"reading {path}") if console.is_terminal else contextlib.nullcontext():
                history = stack.enter_context(read_history(form, path, units, rules))
            if file is not None:
                history.staging.write_rejects(file, history.columns)
        rules_file = programme_file or (None if _is_made(data) else DEMO_PROGRAMME)
        there = installation.open_or_create(data, programme_file=rules_file, clock=ClockMode.SIMULATED)
        refuse_real_time(there)
        if is_new:
            stack.enter_context(alone(there))
        notes = Notes(there, form, units, history.fingerprint)
        if rejects is None:
            rejects = there.imports / f"{notes.name}.rejects.csv"
            try:
                there.imports.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise CommandError(f"{there.imports} cannot be made: {error.strerror}") from None
            with whole_file(rejects) as file:
                history.staging.write_rejects(file, history.columns)
        up = stack.enter_context(
            installation.running(there.directory, say=lambda text: console.print(f"  {text}", style="dim"))
        )
        with load_progress(console, history.survey) as watcher:
            loaded, moves = uvloop.run(_load(up, rules, history, notes, watcher))
    report = Report(
        installation=there,
        history=history,
        programme=rules,
        loaded=loaded,
        moves=moves,
        rejects=rejects,
        notes=notes,
    )
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        report.show(console)
    return report.adds_up


def find_format(name: str) -> Format:
    """The format of this name; raises UsageError where there is none."""
    if name not in FORMATS:
        raise UsageError(f"there is no format {name}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def check_target(data: Path, programme_file: Path | None) -> Programme:
    """The programme that would be loaded under; raises CommandError where the folder does not take history."""
    path, is_made = programme_file or DEMO_PROGRAMME, _is_made(data)
    if is_made:
        refuse_real_time(installation.find(data))
        path = installation.open_or_create(data, programme_file=programme_file).programme
    return installation.load_programme(path, applied=is_made)


def _is_made(data: Path) -> bool:
    return (data / "installation.json").exists()


def refuse_real_time(there: Installation) -> None:
    """Raises CommandError for a folder that does not live in simulated time."""
    if there.clock is not ClockMode.SIMULATED:
        raise CommandError(
            f"{there.directory} lives in real time: its members' tiers hold now, and a past loaded into it would "
            "give coupons and messages for what is long over; load history into a folder of its own (--data)"
        )


def units_of(form: Format, rules: Programme, *, currency: str | None, time_zone: str | None) -> Units:
    """What the source is in: as told, else as the format has it. Raises UsageError, CommandError."""
    code = currency or form.currency
    if code not in programmes.MINOR_UNIT_DIGITS:
        raise UsageError(f"there is no currency {code}; write it as in {rules.currency}")
    if code != rules.currency:
        raise CommandError(
            f"the amounts are in {code} and the programme {rules.name} counts in {rules.currency}; name a programme in "
            f"{code} with --programme, or say with --currency what the amounts are in"
        )
    name = time_zone or form.zone
    try:
        zone = ZoneInfo(name) if name else rules.zone
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"there is no time zone {name}; write it as in Europe/London") from None
    return Units(currency=code, digits=rules.minor_unit_digits, zone=zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A source, read and in order."""

    form: Format
    units: Units
    title: str
    columns: Sequence[str]
    fingerprint: str
    staging: Staging
    seconds: float
    """How long it took to read it."""

    @property
    def survey(self) -> Survey:
        """What it holds."""
        return self.staging.survey


@contextlib.contextmanager
def read_history(form: Format, path: Path, units: Units, rules: Programme) -> Iterator[History]:
    """Reads a source; nothing is sent yet. Raises SourceError where it cannot be read so."""
    began = time.perf_counter()
    source = form.open(path)
    states = states_of(source.paths)
    with contextlib.closing(Staging()) as staging:
        source.read(units, staging)
        fingerprint = fingerprint_of(source.paths)
        if states_of(source.paths) != states:
            # What was read would be noted under another name than its own.
            raise SourceError(f"{path} was changed while it was read; load it when nobody writes to it")
        staging.arrange(rules)
        yield History(
            form=form,
            units=units,
            title=source.title,
            columns=source.columns,
            fingerprint=fingerprint,
            staging=staging,
            seconds=time.perf_counter() - began,
        )


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
    history: History,
    notes: Notes,
    watcher: Watcher,
    contact_of: ContactOf | None = None,
) -> Loaded:
    """Loads a history; see Loader."""
    loader = Loader(
        services=services,
        programme=programme,
        form=history.form,
        staging=history.staging,
        notes=notes,
        watcher=watcher,
        contact_of=contact_of,
    )
    return await loader.load()


async def _load(
    up: Connection, rules: Programme, history: History, notes: Notes, watcher: Watcher
) -> tuple[Loaded, Moves]:
    async with reach(up) as services:
        loaded = await load(services, programme=rules, history=history, notes=notes, watcher=watcher)
        return loaded, await count_moves(services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a load did, for people and for programs."""

    installation: Installation
    history: History
    programme: Programme
    loaded: Loaded
    moves: Moves
    rejects: Path
    notes: Notes

    @property
    def account(self) -> dict[str, Tally]:
        """Where the lines of the file went: what was loaded and refused the ledger said, the rest was read."""
        survey, totals = self.history.survey, self.loaded.totals
        rejected = Tally()
        for tally in survey.rejected.values():
            rejected.add(tally.lines, tally.amount)
        return {
            "loaded": totals.loaded,
            "duplicates": survey.duplicates,
            "guests": survey.guests,
            "rejected": rejected,
            "refused": totals.refused,
        }

    @property
    def missing(self) -> Tally:
        """What is in the file and in none of its parts: nothing, where the account adds up."""
        parts, read = self.account.values(), self.history.survey.read
        return Tally(read.lines - sum(one.lines for one in parts), read.amount - sum(one.amount for one in parts))

    @property
    def adds_up(self) -> bool:
        """Whether every line of the file, and every cent, is accounted for."""
        return self.missing == Tally()

    @property
    def movements_per_second(self) -> float:
        """Purchases and returns sent in the time of the load; 0 where nothing was sent."""
        return self.loaded.movements_sent / self.loaded.seconds if self.loaded.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """As one object. Money in minor units."""
        survey, totals = self.history.survey, self.loaded.totals
        return {
            "data": str(self.installation.directory),
            "format": self.history.form.name,
            "programme": self.programme.version,
            "currency_code": self.programme.currency,
            "time_zone": self.history.units.zone.key,
            "account": {
                "file": _tally_json(survey.read),
                **{name: _tally_json(tally) for name, tally in self.account.items()},
                "missing": _tally_json(self.missing),
                "adds_up": self.adds_up,
            },
            "rejected_by_reason": {reason: _tally_json(tally) for reason, tally in sorted(survey.rejected.items())},
            "rejects_file": str(self.rejects),
            "source": {
                "purchases": survey.purchases,
                "returns": survey.returns,
                "without_lines": survey.without_lines,
                "members": survey.members,
                "members_by_purchases": dict(survey.frequencies),
                "first_day": survey.first_day and survey.first_day.isoformat(),
                "last_day": survey.last_day and survey.last_day.isoformat(),
            },
            "purchases": _answers_json(totals.purchases),
            "returns": _answers_json(totals.returns),
            "members": {"joined": totals.members.recorded, **_answers_json(totals.members)},
            "points": totals.points,
            "before_joining": totals.before_joining,
            "standings": dict(self.loaded.standings),
            "tier_changes": {
                "up": self.moves.up,
                "down": self.moves.down,
                "down_by_time": self.moves.down_by_time,
            },
            "refused_file": str(self.notes.refused_file) if totals.refused.lines else None,
            "load": {
                "read_seconds": round(self.history.seconds, 3),
                "sent": self.loaded.movements_sent,
                "seconds": round(self.loaded.seconds, 3),
                "per_second": round(self.movements_per_second, 1),
            },
        }

    def show(self, console: Console) -> None:
        """A line for each figure, and the account."""
        survey, totals = self.history.survey, self.loaded.totals

        frequencies = ", ".join(f"{count}: {members:,}" for count, members in survey.frequencies.items() if members)
        load = "nothing to send: all of it was there"
        if not survey.movements:
            load = "nothing to send: no line counts" if survey.read.lines else "nothing to send: the file holds no rows"
        if self.loaded.seconds:
            load = (
                f"read in {self.history.seconds:.1f} s; {self.loaded.movements_sent:,} purchases and returns in "
                f"{self.loaded.seconds:.1f} s: {self.movements_per_second:,.0f} a second"
            )
        console.print(
            f"[bold]{escape(self.history.title)}[/] is in {escape(str(self.installation.directory))}", soft_wrap=True
        )
        facts(
            console,
            [
                ("purchases", _answers(totals.purchases)),
                ("returns", _answers(totals.returns)),
                ("members", _answers(totals.members)),
                ("frequency", f"members by purchases: {frequencies or 'none'}"),
                ("points", f"{totals.points:,}: given, less taken back"),
                ("tiers", ", ".join(f"{members:,} {tier}" for tier, members in self.loaded.standings.items())),
                (
                    "changes",
                    f"{self.moves.up:,} up, {self.moves.down:,} down ({self.moves.down_by_time:,} by time alone)",
                ),
                ("load", load),
            ],
        )
        console.print()
        self._show_account(console)
        for one in self.notes.first_refused(_SHOWN_REFUSALS):
            console.print(
                f"  refused: {one['kind']} {one['key']} of {one['member_id']}: {one['message']} ({one['reason']})",
                markup=False,
                soft_wrap=True,
            )
        if totals.refused.lines:
            console.print(f"  The refused ones are in {self.notes.refused_file}.", markup=False, soft_wrap=True)
        if survey.rejected:
            console.print(f"  The rejected lines are in {self.rejects}.", markup=False, soft_wrap=True)
        if totals.before_joining:
            console.print(
                f"  {totals.before_joining:,} of those loaded are not later than the joining of their member, known "
                "from before: they earn nothing and count for no tier."
            )
        if not self.adds_up:
            console.print(
                "[bold red]The account does not add up:[/] a part of the file is in none of these; run "
                "`loyalty check`, and load the file into a new folder."
            )

    def _show_account(self, console: Console) -> None:
        table = Table(box=None, padding=(0, 2))
        table.add_column("account", no_wrap=True)
        table.add_column("lines", justify="right")
        table.add_column(self.programme.currency, justify="right")
        reasons = sorted(self.history.survey.rejected.items())
        rows = [("file", self.history.survey.read, "bold")]
        for name, tally in self.account.items():
            rows.append((name, tally, ""))
            if name == "rejected":
                rows += [(f"  {reason}", part, "dim") for reason, part in reasons]
        if not self.adds_up:
            rows.append(("missing", self.missing, "bold red"))
        for name, tally, style in rows:
            table.add_row(escape(name), f"{tally.lines:,}", self._money(tally.amount), style=style)
        console.print(table)

    def _money(self, minor_units: int) -> str:
        whole, _, digits = format_amount(abs(minor_units), self.programme.minor_unit_digits).partition(".")
        return f"{'-' * (minor_units < 0)}{int(whole):,}{'.' + digits if digits else ''}"


def _tally_json(tally: Tally) -> dict[str, int]:
    return {"lines": tally.lines, "minor_units": tally.amount}


def _answers_json(answers: Answers) -> dict[str, Any]:
    return {
        "recorded": answers.recorded,
        "already_there": answers.there,
        "refused": answers.refused.total(),
        "refused_by_reason": dict(answers.refused),
    }


def _answers(answers: Answers) -> str:
    text = f"{answers.recorded:,} recorded, {answers.there:,} already there"
    if answers.refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in answers.refused.items())
        text += f", {answers.refused.total():,} refused: {reasons}"
    return text


@contextlib.contextmanager
def load_progress(console: Console, survey: Survey) -> Iterator[Watcher]:
    """Shows how a load goes on: a bar on a terminal, otherwise a line now and then."""
    if not console.is_terminal:
        yield _Lines(console, survey)
        return
    with progress_bar(console, "purchases and returns") as progress:
        task = progress.add_task("loading", total=survey.movements)
        yield _Bar(progress, task)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def day_closed(self, closed: Closed) -> None:
        self._progress.update(self._task, completed=closed.movements, description=f"{closed.date:%d %b %Y}")


class _Lines:
    def __init__(self, console: Console, survey: Survey) -> None:
        self._console = console
        self._survey = survey
        self._said = time.monotonic()

    def day_closed(self, closed: Closed) -> None:
        if time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._said = time.monotonic()
        self._console.print(f"  {closed.date}: {closed.movements:,} of {self._survey.movements:,} loaded")
