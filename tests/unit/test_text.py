"""Files of text: what is read of them, and what is said of those that are none."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from services.cli.formats.text import LONGEST_LINE_BYTES, check_text, read_csv, read_lines, read_words
from services.cli.history import SourceError

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"
ROWS = "Invoice,Price\n" + "536365,2.55\n" * 1000


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")


def content(of: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(of)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (content(b""), "is empty"),
        (content(b" \r\n\n"), "is empty"),
        (content(PNG), "is no text: it holds NUL bytes"),
        (content(gzip.compress(ROWS.encode())), "is compressed; unpack it first"),
        (content(b"%PDF-1.7\n"), "is a PDF"),
        (zipped, "is a ZIP archive or a spreadsheet; save it as CSV"),
        (lambda path: pl.DataFrame({"Invoice": ["1"]}).write_parquet(path), "is a Parquet file"),
        (content(ROWS.encode("utf-16")), r"is in UTF-16; save it in UTF-8 \(iconv -f UTF-16 -t UTF-8\)"),
        (content(b"\xfe\xff" + ROWS.encode("utf-16-be")), "is in UTF-16"),
        (content(ROWS.encode("utf-16-le")), "is no text: it holds NUL bytes"),
        (Path.mkdir, "is a folder; name the file"),
        (lambda path: None, "cannot be read: No such file or directory"),
        (os.mkfifo, "is no regular file; save what comes from there to one"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    path = tmp_path / "orders.csv"
    make(path)
    with pytest.raises(SourceError, match=rf"^{path} {said}"):
        check_text(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("536365,CAFÉ".encode("latin-1"), "is not in UTF-8; say what it is in and change it"),
        (b"536365,\0", "is no text: it holds NUL bytes"),
        (b"x" * LONGEST_LINE_BYTES, "is longer than 1024 KiB: that is no line of this format"),
    ],
)
def test_a_line_that_is_no_text_is_named_however_late_it_comes(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(ROWS.encode() + line + b"\n")
    check_text(path)
    lines = read_lines(path)
    assert [next(lines) for _ in range(1001)] == ROWS.splitlines(keepends=True)
    with pytest.raises(SourceError, match=f"^{path}, line 1002, {said}"):
        next(lines)


def test_a_file_that_is_one_endless_line_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(ROWS + "536365")
    # Without a place on disk, and too much for memory.
    os.truncate(path, 2**40)
    with pytest.raises(SourceError, match="line 1002, is longer than 1024 KiB"):
        list(read_lines(path))


def test_a_line_as_long_as_can_be_is_read(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"x" * (LONGEST_LINE_BYTES - 1) + b"\ny")
    assert [len(line) for line in read_lines(path)] == [LONGEST_LINE_BYTES, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a,b\n1,2\n3,"4\n5,6\n', "what begins in line 3 is no record of a CSV file: unexpected end of data"),
        ('a,b\n1,"2" or 3\n', "what begins in line 2 is no record of a CSV file: ',' expected after '\"'"),
        ("a,b\r1,2\r", "what begins in line 1 is no record of a CSV file: new-line character seen in unquoted field"),
        (
            'a,b\n1,"2\n' + "3,4\n" * 100_000,
            r"what begins in line 2 is no record of a CSV file: field larger than field limit \(131072\)",
        ),
    ],
)
def test_where_quotes_go_wrong_the_record_is_named_by_the_line_it_begins_in(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(text, newline="")
    with pytest.raises(SourceError, match=said):
        list(read_csv(path))


def test_records_are_numbered_by_their_first_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n1,"two\r\nlines"\r\n\n3,"say ""x"", twice"\n')
    assert list(read_csv(path)) == [(1, ["a", "b"]), (3, ["1", "two\r\nlines"]), (6, ["3", 'say "x", twice'])]
    path.write_bytes(b"\xef\xbb\xbf a  b\r\n \t\n\n1\t2")
    assert list(read_words(path)) == [(1, ["a", "b"]), (4, ["1", "2"])]
