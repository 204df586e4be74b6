"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from services.cli.errors import CommandError, UsageError


def refuse_over(option: str, path: Path, *, data: Path, read: Sequence[Path] = ()) -> None:
    """Raises UsageError where a file would be written over what is read, or between the files of an installation."""
    place = path.resolve()
    kept = [(one, "what this command reads") for one in read] + [(data, "the folder of the installation")]
    for one, what in kept:
        if one.resolve() in (place, *place.parents):
            where = "is" if one.resolve() == place else "lies in"
            raise UsageError(f"{option} {path} {where} {what}; name another file")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file in UTF-8 that takes the name `path` once all of it is on disk.

    Until then an older file of that name stays as it was, and a new one keeps its mode; on any error, an interruption
    among them, the unfinished one is removed. Raises CommandError where it cannot be written, before the body begins
    where that can be seen by then.
    """
    with _in_words(path):
        # What a symbolic link stands for is written, and not over the link.
        target = Path(os.path.realpath(path))
        mode = _mode_to_keep(path, target)
    # A short name of its own, so that a long one of the file fits.
    partial = target.with_name(f".loyalty-{secrets.token_hex(8)}.partial")
    try:
        with _in_words(path):
            raw = _Raw(partial, path)
        file = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", newline="")
        try:
            if mode is not None:
                os.fchmod(raw.fileno(), mode)
            yield file
            with _in_words(path):
                file.flush()
                os.fsync(raw.fileno())
        finally:
            # What could not be written is not tried again.
            with contextlib.suppress(CommandError):
                file.close()
        with _in_words(path):
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    # The file is there, and whole, also where a file system does not do this.
    with contextlib.suppress(OSError):
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Raw(io.FileIO):
    """A new file. That it cannot be written is told apart from all else that goes wrong meanwhile."""

    def __init__(self, partial: Path, path: Path) -> None:
        self._path = path
        super().__init__(partial, "x")

    def write(self, content: Any, /) -> int:
        """Writes some of it; raises CommandError."""
        with _in_words(self._path):
            return super().write(content)


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _mode_to_keep(path: Path, target: Path) -> int | None:
    """The mode of the older file; None where there is none. Raises CommandError where it must not be replaced."""
    try:
        there = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise CommandError(f"{path} cannot be written: there is no folder {target.parent}; make it first") from None
        return None
    if stat.S_ISDIR(there):
        raise CommandError(f"{path} is a folder; name a file in it")
    if not stat.S_ISREG(there):
        raise CommandError(f"{path} is no regular file; name another one")
    if not os.access(target, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(there)
