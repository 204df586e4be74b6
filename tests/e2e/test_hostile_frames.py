"""Hostile bytes at both doors, the gateway's port and a service's socket: nothing dies, grows or tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services.cli.installation import Connection
from services.runtime.tls import Certificates
from tests.e2e.test_permissions import certified

DOORS = ("gateway", "service")
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MIB: Final = 1 << 20
# What a process may hold afterwards beyond what it held before: buffers of connections that have just gone.
GROWTH: Final = 96 * MIB
# What it may have held at once beyond that: messages of 16 MiB, bounded by 4 MiB at the gateway.
PEAK: Final = 256 * MIB
METHOD: Final = "/loyalty.ledger.v1.LedgerService/GetProgramme"
WRITE: Final = "/loyalty.ledger.v1.LedgerService/EnrollMember"
INSIDES: Final = re.compile(
    rb"Traceback|File \"|\.py\b|/home/|/work|/tmp|/usr/|site-packages|[Pp]ython|asyncpg|grpc[-_/ ]?(c\+\+|core|python)|"
    rb"envoy|nghttp|BoringSSL|upstream connect|remote reset|loyalty_\w+@|\.sock",
    re.ASCII,
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    def __bytes__(self) -> bytes:
        return len(self.payload).to_bytes(3) + struct.pack(">BBI", *self[:3]) + self.payload


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return bytes(Frame(kind, flags, stream, payload))


def number(value: int, bits: int) -> bytes:
    """An integer of HPACK (RFC 7541, 5.1) with nothing set before it."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    value -= most
    more = bytearray([most])
    while value >= 128:
        more.append(value % 128 + 128)
        value //= 128
    return bytes([*more, value])


def headers(*fields: tuple[bytes, bytes]) -> bytes:
    """Header fields as literals, without indexing and without Huffman codes."""
    return b"".join(b"\0" + number(len(name), 7) + name + number(len(value), 7) + value for name, value in fields)


def call_headers(method: str = METHOD, *more: tuple[bytes, bytes]) -> bytes:
    return headers(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"ledger"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    )


def begun() -> bytes:
    return PREFACE + frame(SETTINGS)


def message(content: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", compressed, len(content) if length is None else length) + content


def data(content: bytes, stream: int = 1) -> Iterator[bytes]:
    for at in range(0, len(content), 16384):
        yield frame(DATA, 0, stream, content[at : at + 16384])


class Door:
    """One of the two, as a socket."""

    def __init__(self, live: Connection, name: str) -> None:
        self.live = live
        self.name = name
        self.authorization = live.authorization("hostile")

    def open(self) -> socket.socket:
        if self.name == "gateway":
            host, _, port = self.live.gateway.removeprefix("http://").rpartition(":")
            return socket.create_connection((host, int(port)), timeout=5)
        files = self.live.installation.authority.files("cli")
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(files.authority))
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(["h2"])
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(5)
        raw.connect(self.live.ledger.removeprefix("unix:"))
        return context.wrap_socket(raw, server_hostname="ledger")

    def throw(self, content: Iterable[bytes], *, wait: float = 1.0) -> bytes:
        """Sends what it is let send, without reading, and says what came back until the end or for so long."""
        with self.open() as connection:
            sent = 0
            connection.settimeout(3)
            with contextlib.suppress(OSError):
                for part in content:
                    connection.sendall(part)
                    sent += len(part)
            self.sent = sent
            said = b""
            connection.settimeout(wait)
            with contextlib.suppress(OSError):
                while (part := connection.recv(65536)) and len(said) < 4 * MIB:
                    said += part
        return said


def garbage(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def many(count: int, make: Callable[[int], bytes]) -> Iterator[bytes]:
    """Frames, some hundred in each write."""
    for at in range(0, count, 256):
        yield b"".join(make(one) for one in range(at, min(at + 256, count)))


def streams(count: int) -> Iterator[bytes]:
    return many(count, lambda one: frame(HEADERS, END_HEADERS, 2 * one + 1, call_headers()))


def frames(door: Door) -> dict[str, Iterable[bytes]]:
    """What is thrown at a door, by what it is."""
    token = (b"authorization", door.authorization.encode())
    flood = b"\0" + number(1, 7) + b"a" + number(1, 7) + b"b"
    big = headers((b"x-big", b"b" * MIB))
    # Small enough for the first window, so that the gateway lets it through.
    bomb = gzip.compress(bytes(60 * MIB), 9)
    after = frame(HEADERS, END_HEADERS, 1, call_headers(WRITE, token))

    def posted(*more: tuple[bytes, bytes], path: str = METHOD) -> list[bytes]:
        return [begun(), frame(HEADERS, END_HEADERS | END_STREAM, 1, call_headers(path, token, *more))]

    def split(content: bytes) -> Iterator[bytes]:
        yield begun() + frame(HEADERS, 0, 1, call_headers() + content[:16000])
        for at in range(16000, len(content), 16384):
            yield frame(CONTINUATION, 0, 1, content[at : at + 16384])
        yield frame(CONTINUATION, END_HEADERS, 1)

    return {
        "garbage": [garbage(1, 65536)],
        "a preface and garbage": [begun(), garbage(2, 65536)],
        "garbage in frames": [begun(), *(frame(kind, garbage(kind, 1)[0], 1, garbage(kind, 99)) for kind in range(12))],
        "half a frame": [begun(), frame(HEADERS, END_HEADERS, 1, call_headers())[:40]],
        "a frame that is too long": [begun(), b"\xff\xff\xff" + struct.pack(">BBI", DATA, 0, 1), bytes(MIB)],
        "headers that are none": [begun(), frame(HEADERS, END_HEADERS, 1, b"\xff" * 99)],
        "frames of stream 0": [begun(), frame(HEADERS, END_HEADERS, 0, call_headers()), frame(DATA, 0, 0, b"x")],
        "frames out of order": [begun(), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 0, 1), frame(PING, 0, 0, b"x")],
        "a flood of continuations": [
            begun(),
            frame(HEADERS, 0, 1, call_headers()),
            *many(50_000, lambda _: frame(CONTINUATION, 0, 1, flood)),
        ],
        "a flood of empty continuations": [
            begun(),
            frame(HEADERS, 0, 1, call_headers()),
            *many(50_000, lambda _: frame(CONTINUATION, 0, 1)),
        ],
        "too many headers": split(headers(*((b"x-%d" % one, b"v") for one in range(5000)))),
        "a header that is too large": split(big),
        "rapid resets": [
            begun(),
            *many(
                20_000,
                lambda one: (
                    frame(HEADERS, END_HEADERS, 2 * one + 1, call_headers())
                    + frame(RST_STREAM, 0, 2 * one + 1, bytes(4))
                ),
            ),
        ],
        "too many streams": [begun(), *streams(5000)],
        "a flood of settings": [begun(), *many(50_000, lambda _: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)))],
        "a flood of pings": [begun(), *many(50_000, lambda _: frame(PING, 0, 0, bytes(8)))],
        "windows that overflow": [begun(), after, *[frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2**31 - 1))] * 3],
        "100 MB in one message": [begun(), after, message(b"", length=100 * MIB), *data(bytes(100 * MIB))],
        "100 MB without an end": [
            begun() + after + frame(DATA, 0, 1, message(b"", length=100 * MIB)),
            *data(bytes(100 * MIB)),
        ],
        "a length of 4 GiB": [begun(), after, frame(DATA, END_STREAM, 1, message(b"x", length=2**32 - 1))],
        "a compressed bomb": [
            begun() + frame(HEADERS, END_HEADERS, 1, call_headers(WRITE, token, (b"grpc-encoding", b"gzip"))),
            *data(message(bomb, compressed=1)),
            frame(DATA, END_STREAM, 1),
        ],
        "messages that are none": [begun(), after, *data(message(garbage(3, 5000))), frame(DATA, END_STREAM, 1)],
        "a message that is deep": [
            begun(),
            frame(HEADERS, END_HEADERS, 1, call_headers(WRITE.replace("EnrollMember", "BatchRecord"), token)),
            *data(message(deep(10_000))),
            frame(DATA, END_STREAM, 1),
        ],
        "NUL in a path": posted(path="/loyalty.ledger.v1.LedgerService/\0GetProgramme"),
        "a path that is no UTF-8": [
            begun(),
            frame(HEADERS, END_HEADERS, 1, headers((b":method", b"POST"), (b":path", b"/\xff\xfe"), (b"te", b"x"))),
        ],
        "NUL in a header": posted((b"x-zero", b"a\0b")),
        "a header that is no UTF-8": posted((b"x-on-behalf-of", b"\xff\xfe")),
        "a line end in a header": posted((b"x-on-behalf-of", b"a\r\nx-more: b")),
        "a token that is no UTF-8": [
            begun(),
            frame(
                HEADERS, END_HEADERS | END_STREAM, 1, call_headers(METHOD, (b"authorization", b"Bearer \xff\xfe.\0.x"))
            ),
        ],
        "a token that is long": [
            begun(),
            frame(
                HEADERS, END_HEADERS | END_STREAM, 1, call_headers(METHOD, (b"authorization", b"Bearer " + b"a" * 9000))
            ),
        ],
        "a binary header that is none": posted((b"x-bin", b"***")),
        "a deadline that is none": posted((b"grpc-timeout", b"99999999999999H")),
    }


def deep(levels: int) -> bytes:
    """A message in a message in a message."""
    content = b""
    for _ in range(levels):
        content = b"\x0a" + number(len(content), 7) + content if len(content) < 128 else b"\x0a" + varint(content)
    return content


def varint(content: bytes) -> bytes:
    length, said = len(content), bytearray()
    while length >= 128:
        said.append(length % 128 + 128)
        length //= 128
    return bytes([*said, length]) + content


def processes(live: Connection) -> dict[str, int]:
    """The processes behind the doors."""
    children = json.loads(live.installation.state_file.read_text())["children"]
    return {name: children[name]["pid"] for name in ("gateway", "ledger")}


def held(pid: int) -> int:
    """What a process holds in memory, in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


class Scales(threading.Thread):
    """Weighs processes until it is told to stop, and keeps the most."""

    def __init__(self, pids: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._pids = pids
        self._stopping = threading.Event()
        self.most = dict.fromkeys(pids, 0)

    def run(self) -> None:
        while not self._stopping.wait(0.02):
            for name, pid in self._pids.items():
                with contextlib.suppress(OSError, ValueError):
                    self.most[name] = max(self.most[name], held(pid))

    def stop(self) -> None:
        self._stopping.set()
        self.join()


async def serves(live: Connection) -> None:
    """A proper call works at both doors, and the service says of itself that it serves."""
    headers = {"authorization": live.authorization("proper")}
    async with httpx.AsyncClient(base_url=live.gateway, headers=headers, timeout=20) as http:
        answer = await http.get("/v1/programme")
    assert answer.status_code == 200, answer.text
    channel = certified(live, "ledger", "cli")
    try:
        metadata = tuple(headers.items())
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        await stub.GetProgramme(pb.GetProgrammeRequest(), metadata=metadata, timeout=20)
        said = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
        assert health_pb2.HealthCheckResponse.FromString(said).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await channel.close()


@pytest.fixture
def unharmed(live: Connection) -> Iterator[None]:
    """Before and after: the same processes, serving, and never larger than they may be."""
    asyncio.run(serves(live))
    pids = processes(live)
    before = {name: held(pid) for name, pid in pids.items()}
    scales = Scales(pids)
    scales.start()
    yield
    scales.stop()
    asyncio.run(serves(live))
    assert processes(live) == pids
    peaks = {name: most - before[name] for name, most in scales.most.items()}
    if os.environ.get("LOYALTY_TELL"):
        print(peaks, {name: held(pid) - before[name] for name, pid in pids.items()})
    assert all(peak < PEAK for peak in peaks.values()), peaks
    deadline = time.monotonic() + 10
    while any((grown := held(pid) - before[name]) > GROWTH for name, pid in pids.items()):
        assert time.monotonic() < deadline, grown
        time.sleep(0.5)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", DOORS)
def test_hostile_frames_hurt_nobody_and_learn_nothing(live: Connection, name: str) -> None:
    door = Door(live, name)
    thrown = frames(door)
    with ThreadPoolExecutor(4) as threads:
        said = dict(zip(thrown, threads.map(Door(live, name).throw, thrown.values()), strict=True))
    told = {what: found.group() for what, content in said.items() if (found := INSIDES.search(content))}
    assert told == {}
    # A message of 100 MB is not taken to its end by anyone.
    door.throw(frames(door)["100 MB in one message"])
    assert door.sent < 40 * MIB


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", DOORS)
def test_a_message_of_100_mb_by_a_caller_who_keeps_to_the_rules_is_refused(live: Connection, name: str) -> None:
    async def send() -> grpc.aio.AioRpcError:
        address = live.gateway.removeprefix("http://")
        options = (("grpc.max_send_message_length", -1),)
        channel = grpc.aio.insecure_channel(address, options=options)
        if name == "service":
            certificates = Certificates(live.installation.authority.files("cli"))
            options += (("grpc.ssl_target_name_override", "ledger"),)
            channel = grpc.aio.secure_channel(live.ledger, certificates.channel_credentials(), options=options)
        metadata = (("authorization", live.authorization("hostile")),)
        try:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await channel.unary_unary(WRITE)(bytes(100 * MIB), metadata=metadata, timeout=20)
            return told.value
        finally:
            await channel.close()

    told = asyncio.run(send())
    # In gRPC Envoy calls it so.
    assert told.code() is (grpc.StatusCode.UNKNOWN if name == "gateway" else grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert not INSIDES.search((told.details() or "").encode())


JSON = {"content-type": "application/json"}


def bodies() -> dict[str, tuple[dict[str, str], Iterable[bytes] | bytes]]:
    """What is sent as JSON, by what it is."""
    return {
        "100 MB": (JSON, bytes(100 * MIB)),
        "100 MB in pieces": (JSON, (bytes(MIB) for _ in range(100))),
        "100 MB of one text": (JSON, (b'{"request_id": "', *(b"a" * MIB for _ in range(100)), b'"}')),
        "a bomb": ({**JSON, "content-encoding": "gzip"}, gzip.compress(bytes(100 * MIB))),
        "deep lists": (JSON, b"[" * 1_000_000),
        "deep objects": (JSON, b'{"a":' * 500_000),
        "deep objects of the contract": (JSON, b'{"detail":' * 100_000 + b"1" + b"}" * 100_000),
        "NUL": (JSON, b'{"request_id": "a\0b", "member_id": "x"}'),
        "NUL, escaped": (JSON, b'{"request_id": "a\\u0000b", "member_id": "x"}'),
        "no UTF-8": (JSON, b'{"request_id": "\xff\xfe", "member_id": "x"}'),
        "half a character": (JSON, b'{"request_id": "\\ud800", "member_id": "x"}'),
        "numbers without an end": (JSON, b'{"request_id": ' + b"9" * MIB + b"}"),
        "keys of nobody": (JSON, b"{" + b'"nobody": "a",' * 200_000 + b'"member_id": "x"}'),
    }


@pytest.mark.usefixtures("unharmed")
def test_hostile_json_hurts_nobody_and_learns_nothing(live: Connection) -> None:
    authorization = live.authorization("hostile")
    with httpx.Client(base_url=live.gateway, headers={"authorization": authorization}, timeout=20) as http:
        for what, (more, body) in bodies().items():
            try:
                answer = http.post("/v1/members", content=body, headers=more)
            except httpx.TransportError:
                # The connection was closed on what was too much.
                continue
            assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.text[:500])
            assert not INSIDES.search(answer.content), (what, answer.text[:500])
            assert answer.json().keys() >= {"code", "message"}, what
        for path in (
            "/v1/members/%00/balance",
            "/v1/members/%ff%fe/balance",
            "/v1/" + "a" * 50_000,
            "/v1/..%2f..%2fetc",
        ):
            answer = http.get(path)
            assert 400 <= answer.status_code < 500, (path[:50], answer.text[:500])
            assert not INSIDES.search(answer.content), (path[:50], answer.text[:500])
            assert answer.headers["server"] == "loyalty"


@pytest.mark.usefixtures("unharmed")
def test_callers_that_dawdle_keep_nobody_from_being_served(live: Connection) -> None:
    with contextlib.ExitStack() as stack:
        for name in DOORS:
            door = Door(live, name)
            after = frame(HEADERS, END_HEADERS, 1, call_headers(WRITE, (b"authorization", door.authorization.encode())))
            for _ in range(50):
                connection = stack.enter_context(door.open())
                connection.sendall(begun() + after + frame(DATA, 0, 1, message(b"x", length=1000)))
        head = b"POST /v1/members HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
        for content in (head[:20], head, head + b"\r\n{"):
            for _ in range(20):
                connection = stack.enter_context(Door(live, "gateway").open())
                connection.sendall(content)
        for _ in range(5):
            asyncio.run(serves(live))
