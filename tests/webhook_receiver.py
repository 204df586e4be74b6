"""A receiver of webhooks: an ordinary HTTP server that verifies what it gets with the standard's own library."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass
class Received:
    """One request."""

    id: str
    path: str
    headers: dict[str, str]
    event: Any


@dataclass
class Receiver:
    """What came, and what is answered: `answers` in turn, then `answer`, with `extra` headers."""

    port: int = 0
    secret: str = ""
    answer: int = 200
    answers: list[int] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    # What is answered beside the status.
    content: bytes = b"thank you"
    received: list[Received] = field(default_factory=list)
    forged: int = 0
    tries: int = 0
    connections: int = 0
    hang: threading.Event | None = None
    came: threading.Event = field(default_factory=threading.Event)

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.received]


@contextlib.contextmanager
def webhook_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that listens on a port of its own."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            receiver.tries += 1
            receiver.came.set()
            if receiver.hang is not None:
                receiver.hang.wait(30)
            status = receiver.answers.pop(0) if receiver.answers else receiver.answer
            try:
                event = Webhook(receiver.secret).verify(content, dict(self.headers.items()))
            except Exception:
                receiver.forged += 1
                status = 400
            else:
                if status < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.received.append(
                        Received(id=headers["webhook-id"], path=self.path, headers=headers, event=event)
                    )
            self.send_response(status)
            for name, value in receiver.extra.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(receiver.content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.hang is not None:
            receiver.hang.set()
        server.shutdown()
        server.server_close()
        thread.join()
