"""What `loyalty import` looks at before anything is loaded, and the account it gives afterwards."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from services import programme as programmes
from services.cli.errors import CommandError, UsageError
from services.cli.formats import FORMATS, cdnow
from services.cli.history import Sink, SourceError, Units
from services.cli.importing import Moves, Report, check_rejects, check_target, find_format, read_history, units_of
from services.cli.installation import DEFAULT_PROGRAMME, Installation, open_or_create
from services.cli.loader import Loaded, Totals
from services.cli.staging import Tally
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.histories import staged

RULES = programmes.load(DEFAULT_PROGRAMME)
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


def test_rejected_lines_never_go_over_what_is_read_or_among_the_files_of_an_installation(tmp_path: Path) -> None:
    source, data = tmp_path / "orders.csv", tmp_path / "data"
    source.write_text(LINES)
    link = tmp_path / "link.csv"
    link.symlink_to(source)
    for same in (source, tmp_path / "elsewhere" / ".." / "orders.csv", link):
        with pytest.raises(UsageError, match="is the source, which is only read; name another file"):
            check_rejects(same, source=source, data=data)
    with pytest.raises(UsageError, match="lies in the source"):
        check_rejects(tmp_path / "folder" / "transactions.parquet", source=tmp_path / "folder", data=data)
    with pytest.raises(UsageError, match="lies in the folder of the installation"):
        check_rejects(data / "secrets" / "token", source=source, data=data)
    with pytest.raises(UsageError, match="is the folder of the installation"):
        check_rejects(data, source=source, data=data)
    check_rejects(tmp_path / "rejects.csv", source=source, data=data)


def test_a_folder_takes_history_where_it_lives_in_simulated_time_by_the_programme_that_is_named(tmp_path: Path) -> None:
    open_or_create(tmp_path / "real")
    with pytest.raises(CommandError, match="lives in real time"):
        check_target(tmp_path / "real", None)
    open_or_create(tmp_path / "simulated", clock=ClockMode.SIMULATED)
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
    with staged(cdnow.FORMAT, path, RULES) as history:
        return Report(
            installation=Installation(
                directory=path.parent, clock=ClockMode.SIMULATED, partitions=16, programme_version="1", created=""
            ),
            history=history,
            programme=RULES,
            loaded=Loaded(
                totals=Totals(loaded=loaded, refused=refused), movements_sent=2, seconds=0.5, standings={}, refusals=[]
            ),
            moves=Moves(up=0, down=0, down_by_time=0),
            rejects=path,
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
