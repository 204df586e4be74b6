"""Structured logs: one JSON object per line on standard output.

Event names are static, snake_case, in the past tense; ids, never contents; no personal data. What PostgreSQL adds to an
error (`DETAIL: Failing row contains ...`) is left out of tracebacks: it shows rows.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO, TypeAlias, cast

import structlog


class Outlet:
    """Where log lines go. A disk that is full, or a reader that has gone, must not fail the work that is logged.

    The lines of one turn of the event loop are written together: a system call for each costs as much as making it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        # The loop that will write; another one cannot be relied upon to.
        self._writer: asyncio.AbstractEventLoop | None = None
        atexit.register(self._write)

    def write(self, text: str) -> None:
        """Takes text; it is written after this turn of the event loop, or at once where there is none."""
        self._lines.append(text)

    def flush(self) -> None:
        """Has what was taken written."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return
        if self._writer is not loop:
            self._writer = loop
            loop.call_soon(self._write)

    def _write(self) -> None:
        self._writer = None
        lines, self._lines = self._lines, []
        with contextlib.suppress(OSError):
            self._stream.write("".join(lines))
            self._stream.flush()


ExcInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None]"

# Of a group of errors each line begins with how deep it lies.
_DETAIL = re.compile(r"^([ |]*)DETAIL:  .*$", re.MULTILINE)


def traceback_text(error: BaseException) -> str:
    """The traceback of an error without the rows that the database shows in it."""
    return _DETAIL.sub(r"\1DETAIL:  left out", "".join(traceback.format_exception(error))).rstrip("\n")


def _exception(exc_info: ExcInfo) -> str:
    return traceback_text(exc_info[1])


class _Formatter(logging.Formatter):
    """The standard library's lines, with our tracebacks."""

    def formatException(self, ei: object) -> str:
        """The traceback."""
        _, error, _ = cast(ExcInfo, ei)
        return traceback_text(error)


def _shows_no_header(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Invalid encoding on")


_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


# Writes the line of a call that was answered: set by `configure`, where such lines are wanted.
_answered: Callable[[str, str, float], None] | None = None


def call_answered(method: str, principal: str, duration_ms: float) -> None:
    """Logs that a call was answered with OK, as structlog would: it takes four times as long for a line as this, and of
    these there is one for each call."""
    if _answered is not None:
        _answered(method, principal, duration_ms)


def _answers(service: str, outlet: Outlet) -> Callable[[str, str, float], None]:
    def answered(method: str, principal: str, duration_ms: float) -> None:
        outlet.write(
            f'{{"service": "{service}", "method": "{method}", "code": "OK", "principal": {json.dumps(principal)}, '
            f'"duration_ms": {duration_ms}, "event": "rpc_finished", "level": "info", '
            f'"timestamp": "{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}}\n'
        )
        outlet.flush()

    return answered


def configure(service: str, level: str) -> None:
    """Sets up structlog and the standard library's logging for this process."""
    global _answered  # A process has one log, as structlog has it.
    number = _LEVELS.get(level.lower(), logging.INFO)
    outlet = Outlet(sys.stdout)
    _answered = _answers(service, outlet) if number <= logging.INFO else None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_exception),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, outlet)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Of a header that is no UTF-8 gRPC logs the whole value, and that may be a token with a byte behind it. The filter
    # is the logger's own: no handler gets to see it.
    logging.getLogger("grpc._cython.cygrpc").addFilter(_shows_no_header)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler])
