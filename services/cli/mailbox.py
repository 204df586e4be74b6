"""A local mailbox: takes every message by SMTP and writes it into a Maildir. For trying out; it delivers nothing.

`python -m services.cli.mailbox --listen 127.0.0.1:PORT --maildir DIR`. A message is acknowledged when it is on disk:
written to `tmp`, flushed, then moved to `new`. The envelope's sender and recipients are kept in X-Mailbox headers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_RECIPIENTS = 50
_IDLE_SECONDS = 60.0
_GRACE_SECONDS = 5.0


class Maildir:
    """A folder of messages, one file each, as qmail laid it down: tmp, new, cur."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = itertools.count()
        for part in ("tmp", "new", "cur"):
            (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, message: bytes) -> Path:
        """Writes a message durably and says where; nobody sees half of it."""
        name = f"{time.time():.6f}.P{os.getpid()}Q{next(self._count)}.mailbox"
        partial = self._folder / "tmp" / name
        with partial.open("xb") as file:
            os.chmod(file.fileno(), 0o600)
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        final = self._folder / "new" / name
        partial.rename(final)
        return final


class Inbox:
    """The handler of aiosmtpd: any recipient is known, what does not fit is refused."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir

    async def handle_RCPT(  # the name is aiosmtpd's
        self, server: SMTP, session: Any, envelope: Any, address: str, rcpt_options: list[str]
    ) -> str:
        """Takes a recipient, up to MAX_RECIPIENTS of one message."""
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Keeps a message; a disk that cannot take it is a passing failure, and the sender keeps it."""
        head = "".join(
            [
                f"X-Mailbox-From: {_one_line(envelope.mail_from or '<>')}\r\n",
                *(f"X-Mailbox-To: {_one_line(to)}\r\n" for to in envelope.rcpt_tos),
            ]
        )
        try:
            await asyncio.to_thread(self._maildir.add, head.encode() + bytes(envelope.content))
        except OSError as error:
            print(f"mailbox: a message could not be written: {error.strerror}", file=sys.stderr, flush=True)
            return "452 4.3.1 Insufficient system storage"
        return "250 2.0.0 Kept"


def _one_line(address: str) -> str:
    return "".join(character for character in address if character.isprintable())


async def serve(host: str, port: int, folder: Path) -> None:
    """Takes messages until SIGTERM or SIGINT; sessions under way get a moment to end."""
    inbox = Inbox(Maildir(folder))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sessions: set[SMTP] = set()

    def session() -> SMTP:
        sessions.intersection_update({known for known in sessions if known.transport is not None})
        made = SMTP(
            inbox, data_size_limit=MAX_MESSAGE_BYTES, timeout=_IDLE_SECONDS, ident="loyalty mailbox",
            hostname="localhost", enable_SMTPUTF8=True, loop=loop,
        )  # fmt: skip
        sessions.add(made)
        return made

    server = await loop.create_server(session, host, port)
    print(f"mailbox: listening on {host}:{port}, messages in {folder}", flush=True)
    await stop.wait()
    server.close()
    deadline = loop.time() + _GRACE_SECONDS
    # A session between two messages has nothing to lose; one in the middle of DATA may end it.
    # aiosmtpd tells nobody when a message ends, so this looks.
    while loop.time() < deadline and any(map(_in_message, sessions)):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for open_session in sessions:
        if open_session.transport is not None:
            open_session.transport.close()


def _in_message(session: SMTP) -> bool:
    return session.transport is not None and session.envelope is not None and bool(session.envelope.rcpt_tos)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m services.cli.mailbox", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--maildir", required=True, type=Path, metavar="DIR")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--listen takes HOST:PORT, found {arguments.listen}")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(serve(host, int(port), arguments.maildir))
    except OSError as error:
        sys.exit(f"mailbox: cannot take messages on {arguments.listen} into {arguments.maildir}: {error.strerror}")


if __name__ == "__main__":
    main()
