"""The list of members who were erased, in a file of its own: a backup of the database that is restored knows them
again, and this list says who has to be erased anew.

One JSON line each, written through to the disk before anything is erased, never changed. It holds opaque ids alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from services.notifier.store import ErasureKept

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureLine:
    """One member who was erased."""

    member_id: str
    request_id: str
    reason: str
    principal: str
    asked_time: datetime


class ErasureFile:
    """The file; without a path nothing is kept, and there is nothing to replay."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def append(self, erasure: ErasureKept) -> None:
        """Adds a line, on the disk when this returns."""
        if self._path is None:
            return
        line = json.dumps(
            {
                "member_id": erasure.member_id,
                "request_id": erasure.request_id,
                "reason": erasure.reason,
                "principal": erasure.principal,
                "asked_time": erasure.asked_time.isoformat(),
            }
        )
        # One write of a file opened to append: two processes do not tear each other's lines.
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, f"{'' if not torn else chr(10)}{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> Iterator[ErasureLine]:
        """Every line, the first first. One that a crash cut off is left out: nothing was done of it."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                try:
                    values = json.loads(text)
                    line = ErasureLine(**{**values, "asked_time": datetime.fromisoformat(values["asked_time"])})
                except (ValueError, TypeError, KeyError):
                    log.warning("erasure_line_not_read", line=number)
                    continue
                yield line
