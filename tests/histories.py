"""Histories of tests: read and put in order as `loyalty import` does it, with no stack."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services.cli.history import Format, Line, Units
from services.cli.importing import History, read_history
from services.cli.staging import Movement, Slice, Survey
from services.programme import Programme


@contextlib.contextmanager
def staged(form: Format, path: Path, rules: Programme, *, zone: str = "") -> Iterator[History]:
    """The history of a file or a folder; its times are of the format's zone, where none is named."""
    name = zone or form.zone
    units = Units(currency=rules.currency, digits=rules.minor_unit_digits, zone=ZoneInfo(name) if name else rules.zone)
    with read_history(form, path, units, rules) as history:
        yield history


def survey_of(form: Format, path: Path, rules: Programme, *, zone: str = "") -> Survey:
    """What it holds."""
    with staged(form, path, rules, zone=zone) as history:
        return history.survey


def slices_of(form: Format, path: Path, rules: Programme, *, zone: str = "") -> list[Slice]:
    """All of it, in the order in which it is sent."""
    with staged(form, path, rules, zone=zone) as history:
        return list(history.staging.slices(rules))


def movements_of(form: Format, path: Path, rules: Programme, *, zone: str = "") -> list[Movement]:
    """The same, without who joins when."""
    return [movement for one in slices_of(form, path, rules, zone=zone) for movement in one.movements]


def rejects_of(history: History) -> str:
    """The content of the rejects file."""
    file = StringIO(newline="")
    history.staging.write_rejects(file, history.columns)
    return file.getvalue()


def lines_of(movement: Movement) -> list[Line]:
    """The lines of its receipt."""
    return [
        Line(line.sku, line.name, line.department, line.category, line.quantity, line.amount_minor_units)
        for line in pb.RecordPurchaseRequest.FromString(movement.lines).lines
    ]
