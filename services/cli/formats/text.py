"""Files of text, read line by line in bounded memory, and what is said of those that are none.

Lines are numbered from 1, and blank ones are none.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.cli.history import SourceError

# No line of an export is longer; a file that is one endless line is none.
LONGEST_LINE_BYTES: Final = 1024 * 1024
_LOOKED_AT_BYTES: Final = 4096
_BEGINNINGS: Final = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; save it as CSV",
    b"\x1f\x8b": "compressed; unpack it first",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    codecs.BOM_UTF16_LE: "in UTF-16; save it in UTF-8 (iconv -f UTF-16 -t UTF-8)",
    codecs.BOM_UTF16_BE: "in UTF-16; save it in UTF-8 (iconv -f UTF-16 -t UTF-8)",
}


def check_text(path: Path) -> None:
    """Looks at the beginning of a file; raises SourceError where it is plainly no text in UTF-8."""
    try:
        if path.is_dir():
            raise SourceError(f"{path} is a folder; name the file")
        if path.exists() and not path.is_file():
            # It is read more than once.
            raise SourceError(f"{path} is no regular file; save what comes from there to one")
        with path.open("rb") as file:
            beginning = file.read(_LOOKED_AT_BYTES)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if not beginning.strip():
        raise SourceError(f"{path} is empty")
    for bytes_, what in _BEGINNINGS.items():
        if beginning.startswith(bytes_):
            raise SourceError(f"{path} is {what}")
    if b"\0" in beginning:
        raise SourceError(f"{path} is no text: it holds NUL bytes")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file in UTF-8, with their ends; raises SourceError where it is not one of lines."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LONGEST_LINE_BYTES:
                    raise SourceError(
                        f"{path}, line {number}, is longer than {LONGEST_LINE_BYTES // 1024} KiB: that is no line of "
                        "this format"
                    )
                if b"\0" in line:
                    raise SourceError(f"{path}, line {number}, is no text: it holds NUL bytes")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                try:
                    yield line.decode()
                except UnicodeDecodeError:
                    raise SourceError(
                        f"{path}, line {number}, is not in UTF-8; say what it is in and change it, as in iconv -f "
                        "ISO-8859-1 -t UTF-8"
                    ) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def read_words(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """What stands between spaces in each line, with the number of the line. Raises SourceError."""
    for number, line in enumerate(read_lines(path), start=1):
        if words := line.split():
            yield number, words


def read_csv(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """The records of a CSV file, the header among them, each with the number of its first line. Raises SourceError."""
    reader = csv.reader(read_lines(path), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise SourceError(f"{path}: what begins in line {number} is no record of a CSV file: {error}") from None
        if record is None:
            return
        if record:
            yield number, record


def places_of(columns: Sequence[str], header: Sequence[str], path: Path) -> list[int]:
    """Where the columns stand in a header; raises SourceError that names those that are missing."""
    names = [name.strip() for name in header]
    missing = [column for column in columns if column not in names]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        raise SourceError(f"{path} has no {word} {', '.join(missing)}; its first line is {_shown(names)}")
    twice = [column for column in columns if names.count(column) > 1]
    if twice:
        raise SourceError(f"{path} has the column {twice[0]} twice")
    return [names.index(column) for column in columns]


def _shown(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 120 else f"{text[:120]}..."
