"""A mail server that takes everything and keeps nothing, in a process of its own: prints its port, and at the end of
its standard input how many messages it took and how many of them were new by their Message-ID."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP


class Sink:
    """Counts."""

    def __init__(self) -> None:
        self.taken = 0
        self.ids: set[bytes] = set()

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Takes a message."""
        self.taken += 1
        head = envelope.content.partition(b"\r\n\r\n")[0]
        self.ids.update(line for line in head.split(b"\r\n") if line.startswith(b"Message-ID:"))
        return "250 2.0.0 taken"


async def serve() -> None:
    """Listens until nothing more comes on standard input."""
    sink, loop = Sink(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="localhost", loop=loop, timeout=600), "127.0.0.1", int(sys.argv[1])
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(sink.taken, len(sink.ids), flush=True)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
