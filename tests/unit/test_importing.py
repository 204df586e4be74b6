"""What `loyalty import` looks at before anything is loaded, and the account it gives afterwards."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from services import programme as programmes
from services.cli.errors import CommandError, UsageError
from services.cli.files import refuse_over
from services.cli.formats import FORMATS, cdnow, online_retail
from services.cli.history import Sink, SourceError, Units
from services.cli.importing import Moves, Report, check_target, find_format, read_history, units_of
from services.cli.installation import DEMO_PROGRAMME, Installation, open_or_create
from services.cli.loader import Answers, Loaded, Notes, RefusedRow, Totals
from services.cli.staging import Tally
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.histories import staged

RULES = programmes.load(DEMO_PROGRAMME)
LINES = "1 19970101 1 5.00\n1 19970102 1 7.00\n2 19970102 1 0.00\n"


def test_every_format_is_known_by_its_name() -> None:
    assert {name: find_format(name).name for name in FORMATS} == {name: name for name in FORMATS}
    with pytest.raises(UsageError, match="no format nonsense; known are complete-journey, online-retail, cdnow"):
        find_format("nonsense")


def test_amounts_and_times_are_as_told_else_as_the_format_has_them_else_as_the_programme() -> None:
    pounds = programmes.load(PROGRAMMES / "tiered-365-gbp.yaml")
    assert units_of(FORMATS["online-retail"], pounds, currency=None, time_zone=None).zone.key == "Europe/London"
    told = units_of(FORMATS["online-retail"], RULES, currency="USD", time_zone="Asia/Tokyo")
    assert (told.currency, told.zone.key, told.digits) == ("USD", "Asia/Tokyo", 2)
    assert units_of(FORMATS["cdnow"], RULES, currency=None, time_zone=None).zone == RULES.zone


@pytest.mark.parametrize(
    ("currency", "time_zone", "said"),
    [
        ("EUR", None, "the amounts are in EUR and the programme retail-demo counts in USD"),
        ("usd", None, "there is no currency usd; write it as in USD"),
        ("XYZ", None, "there is no currency XYZ"),
        (None, "Mars/Olympus", "there is no time zone Mars/Olympus; write it as in Europe/London"),
        (None, "../UTC", "there is no time zone ../UTC"),
        (None, "Europe", "there is no time zone Europe"),
        (None, "zone.tab", "there is no time zone zone.tab"),
    ],
)
def test_units_that_do_not_exist_or_are_not_the_programmes_are_refused(
    currency: str | None, time_zone: str | None, said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        units_of(FORMATS["cdnow"], RULES, currency=currency, time_zone=time_zone)


def test_nothing_is_written_over_what_is_read_or_among_the_files_of_an_installation(tmp_path: Path) -> None:
    source, programme, data = tmp_path / "orders.csv", tmp_path / "programme.yaml", tmp_path / "data"
    source.write_text(LINES)
    link = tmp_path / "link.csv"
    link.symlink_to(source)

    def write_to(path: Path, *, read: Path = source) -> None:
        refuse_over("--rejects", path, data=data, read=(read, programme))

    for same in (source, tmp_path / "elsewhere" / ".." / "orders.csv", link, programme):
        with pytest.raises(UsageError, match="is what this command reads; name another file"):
            write_to(same)
    with pytest.raises(UsageError, match="lies in what this command reads"):
        write_to(tmp_path / "folder" / "transactions.parquet", read=tmp_path / "folder")
    with pytest.raises(UsageError, match="lies in the folder of the installation"):
        write_to(data / "secrets" / "token")
    with pytest.raises(UsageError, match="is the folder of the installation"):
        write_to(data)
    write_to(tmp_path / "rejects.csv")


def test_what_a_load_came_to_is_noted_with_what_was_refused_and_goes_on_from_there(tmp_path: Path) -> None:
    there = open_or_create(tmp_path / "data", clock=ClockMode.SIMULATED)
    units = units_of(cdnow.FORMAT, RULES, currency=None, time_zone=None)

    def notes() -> Notes:
        return Notes(there, cdnow.FORMAT, units, "fingerprint")

    def refused(key: str) -> RefusedRow:
        return RefusedRow("1997-01-01T17:00:00Z", "purchase", "1", key, 100, 1, "INVALID_FIELD", 'it is, "no" amount')

    day = Totals(purchases=Answers(3, 1, Counter(INVALID_FIELD=2)), refused=Tally(2, 200), loaded=Tally(4, 900))
    first = notes()
    first.close(date(1997, 1, 1), day, [refused("b"), refused("a")])
    # A load that was killed had written more than it noted.
    with first.refused_file.open("a") as file:
        file.write("half a li")
    second = notes()
    assert second.through == date(1997, 1, 1)
    assert second.totals == day
    second.close(date(1997, 1, 2), day, [refused("c")])
    assert second.totals.purchases.refused == {"INVALID_FIELD": 4}
    assert [one["key"] for one in notes().first_refused(10)] == ["a", "b", "c"]
    assert notes().first_refused(1)[0]["message"] == 'it is, "no" amount'
    second.forget()
    second.close(date(1997, 1, 1), day, [refused("a")])
    assert [one["key"] for one in notes().first_refused(10)] == ["a"]


def test_a_folder_takes_history_where_it_lives_in_simulated_time_by_the_programme_that_is_named(tmp_path: Path) -> None:
    open_or_create(tmp_path / "real")
    with pytest.raises(CommandError, match="lives in real time"):
        check_target(tmp_path / "real", None)
    open_or_create(tmp_path / "simulated", programme_file=DEMO_PROGRAMME, clock=ClockMode.SIMULATED)
    assert check_target(tmp_path / "simulated", None) == RULES
    with pytest.raises(UsageError, match="leave --programme out, or choose another folder"):
        check_target(tmp_path / "simulated", PROGRAMMES / "tiered-365.yaml")
    assert check_target(tmp_path / "new", PROGRAMMES / "tiered-365.yaml").name == "tiered-365"
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path) -> None:
    class Growing(cdnow.Cdnow):
        def read(self, units: Units, sink: Sink) -> None:
            super().read(units, sink)
            with path.open("a") as file:
                file.write("3 19970103 1 1.00\n")

    path = tmp_path / "lines.txt"
    path.write_text(LINES)
    form = dataclasses.replace(cdnow.FORMAT, open=Growing)
    units = units_of(form, RULES, currency=None, time_zone=None)
    with pytest.raises(SourceError, match="was changed while it was read"), read_history(form, path, units, RULES):
        pass


def report(path: Path, loaded: Tally, refused: Tally) -> Report:
    path.write_text(LINES)
    there = Installation(
        directory=path.parent, clock=ClockMode.SIMULATED, partitions=16, programme_version="1", created=""
    )
    with staged(cdnow.FORMAT, path, RULES) as history:
        notes = Notes(there, history.form, history.units, history.fingerprint)
        notes.close(date(1997, 1, 2), Totals(refused=refused), [])
        notes.refused_file.write_text(",".join(RefusedRow._fields) + "\n")
        return Report(
            installation=there,
            history=history,
            programme=RULES,
            loaded=Loaded(totals=Totals(loaded=loaded, refused=refused), movements_sent=2, seconds=0.5, standings={}),
            moves=Moves(up=0, down=0, down_by_time=0),
            rejects=path,
            notes=notes,
        )


def shown(one: Report) -> str:
    out = StringIO()
    one.show(Console(file=out, width=100))
    return out.getvalue()


def test_an_account_adds_up_when_every_line_and_every_cent_is_somewhere(tmp_path: Path) -> None:
    one = report(tmp_path / "lines.txt", Tally(1, 500), Tally(1, 700))
    assert one.adds_up
    account = one.to_json()["account"]
    assert account["file"] == {"lines": 3, "minor_units": 1200}
    assert account["rejected"] == {"lines": 1, "minor_units": 0}
    assert account["missing"] == {"lines": 0, "minor_units": 0}
    assert "does not add up" not in shown(one)


@pytest.mark.parametrize(
    ("loaded", "refused", "missing"),
    [
        (Tally(1, 500), Tally(0, 0), Tally(1, 700)),
        (Tally(2, 1199), Tally(0, 0), Tally(0, 1)),
        (Tally(2, 1200), Tally(1, 700), Tally(-1, -700)),
    ],
)
def test_an_account_that_does_not_add_up_says_what_is_missing(
    tmp_path: Path, loaded: Tally, refused: Tally, missing: Tally
) -> None:
    one = report(tmp_path / "lines.txt", loaded, refused)
    assert not one.adds_up
    assert one.missing == missing
    assert one.to_json()["account"]["adds_up"] is False
    assert "The account does not add up" in shown(one)


def test_a_file_with_nothing_but_its_columns_is_said_to_hold_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(",".join(online_retail.COLUMNS) + "\n")
    nothing = Loaded(totals=Totals(), movements_sent=0, seconds=0, standings={})
    with staged(online_retail.FORMAT, path, RULES) as history:
        one = dataclasses.replace(report(tmp_path / "lines.txt", Tally(), Tally()), history=history, loaded=nothing)
    assert "nothing to send: the file holds no rows" in shown(one)
    assert one.adds_up
