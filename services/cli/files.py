"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from services.cli.errors import CommandError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file in UTF-8 that takes the name `path` once all of it is on disk.

    Until then an older file of that name stays as it was; on any error, an interruption among them, the unfinished one
    is removed. Raises CommandError where it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is no regular file; name another one")
    partial: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        partial = Path(name)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            # As any new file: what is exported is for others, too, where the umask lets them.
            os.fchmod(descriptor, 0o666 & ~_umask())
            os.fsync(descriptor)
        partial.replace(path)
        partial = None
        _sync_folder(path.parent)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _umask() -> int:
    # There is no way to read it without setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
