"""Configuration, causal tokens, the shared secret and named queries."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import config
from services.runtime.causality import CausalTokenError, format_token, merge, parse_token, reached
from services.runtime.clock import ClockMode
from services.runtime.database import QueryFileError, load_queries
from services.runtime.identity import Identities, SharedSecret, TokenInvalidError, TokenMissingError, bearer
from services.runtime.inlet import Inlet, reading
from services.runtime.interceptors import seconds_to_wait
from services.runtime.logging import Outlet
from services.runtime.tail import Tail

vectors = st.dictionaries(st.integers(0, 99_999), st.integers(0, 10**17), max_size=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    listen: str = config.setting()
    clock: ClockMode = config.setting(default=ClockMode.REAL)
    lanes: int = config.setting(default=1, minimum=1, maximum=8)
    file: Path = config.setting()


def test_all_that_is_wrong_with_the_environment_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigurationError) as caught:
        config.load(Example, {"LOYALTY_CLOCK": "fast", "LOYALTY_LANES": "9", "LOYALTY_FILE": str(tmp_path / "none")})
    message = str(caught.value)
    assert "LOYALTY_LISTEN is not set" in message
    assert "'fast' is none of real, simulated" in message
    assert "9 is not from 1 to 8" in message
    assert "there is no file" in message


def test_a_configuration_is_read_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    loaded = config.load(
        Example, {"LOYALTY_LISTEN": "a", "LOYALTY_CLOCK": "simulated", "LOYALTY_FILE": str(tmp_path / "f")}
    )
    assert (loaded.listen, loaded.clock, loaded.lanes) == ("a", ClockMode.SIMULATED, 1)


@given(vectors)
def test_a_causal_token_reads_as_what_it_was_made_from(vector: dict[int, int]) -> None:
    assert parse_token(format_token(vector)) == vector


@given(vectors, vectors)
def test_cursors_that_reached_a_merged_vector_reached_both(one: dict[int, int], other: dict[int, int]) -> None:
    both = merge([one, other])
    assert reached(both, one)
    assert reached(both, other)


@pytest.mark.parametrize("token", ["x", "1-", "-1", "1-2.", "1-2,3-4", "1-2 ", "１-２", "1-" + "9" * 30])
def test_a_token_that_no_write_gave_out_is_refused(token: str) -> None:
    with pytest.raises(CausalTokenError):
        parse_token(token)


def nobody() -> str:
    return ""


def test_a_caller_is_named_by_its_token() -> None:
    tokens = Identities(shared=SharedSecret("s3cret"))
    assert tokens.authenticate([("authorization", bearer("till-3", "s3cret"))], nobody).principal == "till-3"
    caller = tokens.authenticate([("authorization", bearer("tiers", "s3cret")), ("x-on-behalf-of", "till-3")], nobody)
    assert caller.on_behalf_of == "till-3"


@pytest.mark.parametrize(
    "value", ["Bearer till.wrong", "Basic till.s3cret", "Bearer s3cret", "Bearer .s3cret", "Bearer TILL.s3cret", "x"]
)
def test_a_token_of_another_installation_or_without_a_name_is_refused(value: str) -> None:
    with pytest.raises(TokenInvalidError):
        Identities(shared=SharedSecret("s3cret")).authenticate([("authorization", value)], nobody)


def test_no_token_is_refused() -> None:
    with pytest.raises(TokenMissingError):
        Identities(shared=SharedSecret("s3cret")).authenticate([], nobody)


def test_a_query_without_a_line_of_purpose_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queries.sql").write_text("-- name: nameless\nSELECT 1;\n")
    with pytest.raises(QueryFileError):
        load_queries(tmp_path / "queries.sql")


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_does_not_fail_the_work_that_is_logged() -> None:
    outlet = Outlet(FullDisk())
    outlet.write("an event")
    outlet.flush()


CALL_LINES = """
import structlog
from services.runtime.logging import call_answered, configure

configure("ledger", {level!r})
method, principal = "/loyalty.ledger.v1.LedgerService/GetBalance", 'till-"7'
call_answered(method, principal, 0.125)
log = structlog.get_logger()
log.info("rpc_finished", method=method, code="OK", principal=principal, duration_ms=0.125)
"""


def lines_of_calls(level: str) -> list[dict[str, object]]:
    code = CALL_LINES.format(level=level)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_line_of_a_call_that_was_answered_is_as_any_other_line_would_be() -> None:
    quick, other = lines_of_calls("info")
    times = [datetime.strptime(str(line.pop("timestamp")), "%Y-%m-%dT%H:%M:%S.%f%z") for line in (quick, other)]
    assert quick == other
    assert times[0] <= times[1]


def test_a_call_that_was_answered_has_no_line_where_warnings_alone_are_logged() -> None:
    assert lines_of_calls("warning") == []


LOGGING = """
import asyncio, logging, sys
from pathlib import Path
import grpc
from services.runtime.logging import configure
from tests.e2e.test_hostile_frames import END_HEADERS, END_STREAM, HEADERS, METHOD, begun, call_headers, frame

async def main():
    {configure}
    for name in (None, "grpc", "grpc._cython.cygrpc"):
        logging.getLogger(name).addHandler(logging.StreamHandler(sys.stderr))
    server = grpc.aio.server()
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    reader, writer = await asyncio.open_unix_connection(sys.argv[1])
    headers = call_headers(METHOD, (b"authorization", b"Bearer s3cret\\xa0"))
    writer.write(begun() + frame(HEADERS, END_HEADERS | END_STREAM, 1, headers))
    while b"grpc-status" not in await reader.read(65536):
        pass
    writer.close()
    await server.stop(None)
    logging.getLogger("grpc._cython.cygrpc").error("something else")

asyncio.run(main())
"""


@pytest.mark.parametrize("configured", [True, False], ids=["a service", "without our set-up"])
def test_what_grpc_says_of_headers_that_are_no_utf8_is_not_logged(folder: Path, configured: bool) -> None:
    """The second one shows that there is something to keep out of the log."""
    code = LOGGING.format(configure="configure('ledger', 'info')" if configured else "")
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder / "s.sock")], capture_output=True, text=True, timeout=60, check=True
    )
    assert ("s3cret" in ran.stdout + ran.stderr) is not configured
    assert "something else" in ran.stderr


async def test_a_stream_is_read_ahead_as_far_as_there_is_room_and_taken_all_at_once() -> None:
    sent = 0

    async def stream() -> AsyncIterator[str]:
        nonlocal sent
        for word in ("a", "bb", "ccc", "d", "ee"):
            sent += 1
            yield word

    async def rest() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    arrived = asyncio.Event()
    async with reading(stream(), arrived, size=len, room=3, ended=EOFError("the end")) as inlet:
        await rest()
        assert (arrived.is_set(), sent) == (True, 2)
        assert inlet.take() == ["a", "bb"]
        await rest()
        # What is larger than the room comes alone.
        assert inlet.take() == ["ccc"]
        await rest()
        arrived.clear()
        assert inlet.take() == ["d", "ee"]
        await rest()
        # All has been taken: who waits is told how it ended.
        assert arrived.is_set()
        with pytest.raises(EOFError, match="the end"):
            inlet.take()


async def test_what_breaks_a_stream_off_is_raised_behind_what_came_before() -> None:
    async def stream() -> AsyncIterator[str]:
        yield "a"
        raise ConnectionError("gone")

    arrived = asyncio.Event()
    async with reading(stream(), arrived, size=len, room=10, ended=EOFError("the end")) as inlet:
        await arrived.wait()
        await asyncio.sleep(0)
        assert inlet.take() == ["a"]
        with pytest.raises(ConnectionError, match="gone"):
            inlet.take()


async def test_a_stream_that_is_cancelled_though_its_reader_is_not_has_ended() -> None:
    async def stream() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    arrived = asyncio.Event()
    async with reading(stream(), arrived, size=len, room=10, ended=EOFError("the end")) as inlet:
        await arrived.wait()
        await asyncio.sleep(0)
        arrived.clear()
        assert inlet.take() == ["a"]
        assert arrived.is_set()
        with pytest.raises(EOFError, match="the end"):
            inlet.take()


async def test_a_reader_that_is_cancelled_is_cancelled() -> None:
    async def stream() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "a"

    arrived = asyncio.Event()
    task = asyncio.create_task(Inlet(stream(), arrived, size=len, room=10, ended=EOFError("the end")).read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not arrived.is_set()


@dataclass(frozen=True)
class Line:
    partition: int
    offset: int


def test_the_tail_of_a_log_gives_out_lines_without_a_gap_or_says_that_it_cannot() -> None:
    tail: Tail[Line] = Tail(3)
    assert tail.between(0, 0, 1) is None
    tail.add([Line(0, 1), Line(0, 2), Line(1, 8), Line(0, 3), Line(0, 4)])
    # The first went to make room.
    assert tail.between(0, 0, 4) is None
    assert [line.offset for line in tail.between(0, 1, 4) or ()] == [2, 3, 4]
    assert [line.offset for line in tail.between(0, 2, 3) or ()] == [3]
    assert tail.between(0, 2, 5) is None
    assert [line.offset for line in tail.between(1, 7, 8) or ()] == [8]
    # Another process wrote in between.
    tail.add([Line(0, 6)])
    assert tail.between(0, 3, 6) is None
    assert [line.offset for line in tail.between(0, 5, 6) or ()] == [6]


@pytest.mark.parametrize(("deadline", "waits"), [(None, 28.5), (60.0, 57.0), (2.0, 1.8), (0.1, 0.0), (0.0, 0.0)])
def test_a_wait_leaves_the_answer_time_to_travel_and_more_of_it_where_there_is_more(
    deadline: float | None, waits: float
) -> None:
    class Call:
        def time_remaining(self) -> float | None:
            return deadline

    assert seconds_to_wait(Call()) == pytest.approx(waits)  # type: ignore[arg-type]  # all that is asked of a context
