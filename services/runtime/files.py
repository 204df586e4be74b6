"""Files that others replace while a service runs."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """What of a file changes when it is written or replaced; raises OSError where it is not there."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
