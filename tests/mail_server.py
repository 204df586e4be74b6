"""A mail server for tests: the local mailbox of the platform on a port of its own, with replies that a test can set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

from services.cli.mailbox import Inbox, Maildir


class LocalMailServer(Inbox):
    """Keeps messages in a Maildir. `refusals` gives the reply to a recipient, `farewell` the one to every message."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Maildir(folder))
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._sessions: set[SMTP] = set()
        self.port = 0
        self.sessions_opened = 0
        self.refusals: dict[str, str] = {}
        self.farewell = ""
        self.breaks_off = False
        self.when_taken: Callable[[], None] = lambda: None
        self.arrived: asyncio.Queue[None] = asyncio.Queue()

    async def start(self) -> None:
        """Listens; after a stop, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Goes away, in the middle of whatever is under way."""
        if self._server is not None:
            self._server.close()
            for session in self._sessions:
                if session.transport is not None:
                    session.transport.abort()
            self._sessions.clear()
            await self._server.wait_closed()
            self._server = None

    def _session(self) -> SMTP:
        session = SMTP(self, enable_SMTPUTF8=True, hostname="localhost", loop=asyncio.get_running_loop())
        self._sessions.add(session)
        self.sessions_opened += 1
        return session

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Any, address: str, rcpt_options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        return await super().handle_RCPT(server, session, envelope, address, rcpt_options)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.breaks_off:
            server.transport.abort()
            return "421 4.3.0 Gone"
        if self.farewell:
            return self.farewell
        reply = await super().handle_DATA(server, session, envelope)
        self.arrived.put_nowait(None)
        self.when_taken()
        return reply

    async def next_message(self) -> None:
        """Waits for a message that no one has waited for."""
        async with asyncio.timeout(20):
            await self.arrived.get()

    def messages(self) -> list[EmailMessage]:
        """All that the Maildir holds, oldest first."""
        paths = sorted((self._folder / "new").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [message_from_bytes(path.read_bytes(), policy=default_policy) for path in paths]  # type: ignore[misc]


@contextlib.asynccontextmanager
async def mail_server(folder: Path) -> AsyncIterator[LocalMailServer]:
    """A mail server that listens."""
    server = LocalMailServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
