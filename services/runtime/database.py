"""PostgreSQL: pools, named queries, and transactions that are tried again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias, TypeVar

import asyncpg
import structlog

log = structlog.get_logger()

T = TypeVar("T")

_NAME = re.compile(r"^-- name: ([a-z_]+)\n((?:-- .*\n)+)", re.MULTILINE)


class NoConnectionError(ConnectionError):
    """There is no connection: none could be made, its pool is closing, or it was closed while it was used.

    asyncpg says so by InterfaceError, which is also what it says of a call that is wrong: the log has its traceback.
    """


# What a lost or refused connection looks like. Whether a commit went through is settled by sending again.
CONNECTION_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # What asyncpg raises when the connection dies while it rolls back.
    asyncpg.InternalClientError,
    # NoConnectionError is one.
    OSError,
)

# The whole transaction may be tried again. A cached statement becomes invalid when a migration changes a table beside a
# running older release: asyncpg forgets it then, and prepares it anew at the next try.
TRY_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.InvalidCachedStatementError)

# What passes when an operator has helped (disk full, too many connections, read-only after a failover, a lock or a
# statement that took too long): nothing was written, the same may be tried again.
PASSING_ERRORS = (
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresIOError,
)

Connection: TypeAlias = asyncpg.Connection
PostgresError = asyncpg.PostgresError

CONNECT_TIMEOUT_SECONDS = 5.0
# PostgreSQL counts from here.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_TRANSACTION_TRIES = 5


class QueryFileError(Exception):
    """A file of named queries does not read as one."""


def load_queries(path: Path) -> Mapping[str, str]:
    """The queries of a file, or of the files of a folder, by name. Each begins with `-- name: ...` and a line that says
    what it is for."""
    files = sorted(path.glob("*.sql")) if path.is_dir() else [path]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    queries: dict[str, str] = {}
    starts = list(_NAME.finditer(text))
    if not starts or len(starts) != text.count("-- name:"):
        raise QueryFileError(f"{path.name} has a query without a name or a line of purpose")
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        name = start.group(1)
        if name in queries:
            raise QueryFileError(f"{path.name} names {name} twice")
        queries[name] = text[start.end() : following.start() if following else len(text)].strip().rstrip(";")
    return queries


class Pool:
    """Connections to one database, each lent to one at a time."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def acquire(
        self,
        *,
        timeout: float = CONNECT_TIMEOUT_SECONDS,  # noqa: ASYNC109  # for the way to a connection alone
    ) -> AsyncIterator[Connection]:
        """Lends a connection; waits so many seconds for one. Its loss is one of CONNECTION_ERRORS."""
        with loss_told():
            lent = await self._pool.acquire(timeout=timeout)
        try:
            with loss_told():
                yield lent
        finally:
            # One that was lost in the middle of something may say so once more.
            with loss_told():
                await self._pool.release(lent)

    async def close(self) -> None:
        """Closes the connections, when all have come back."""
        await self._pool.close()


@contextlib.contextmanager
def loss_told() -> Iterator[None]:
    """Makes a NoConnectionError of what asyncpg says by InterfaceError.

    It says so of a connection that was lost, at any moment of a server's end and not only when it knows it as closed;
    and of a call that is wrong, which the log tells apart by its traceback.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        raise NoConnectionError(str(error)) from error


async def connect(dsn: str, *, service: str) -> asyncpg.Connection:
    """One connection; its statements speak UTC."""
    with loss_told():
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": service, "timezone": "UTC"},
        )
    await _speak_times(connection)
    return connection


async def create_pool(dsn: str, *, service: str, size: int = 4) -> Pool:
    """A pool; waits up to half a minute for a database that is starting."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        try:
            with loss_told():
                pool = await asyncpg.create_pool(
                    dsn,
                    min_size=1,
                    max_size=size,
                    timeout=CONNECT_TIMEOUT_SECONDS,
                    command_timeout=60,
                    init=_speak_times,
                    reset=_leave_session,
                    server_settings={"application_name": service, "timezone": "UTC"},
                )
            return Pool(pool)
        except CONNECTION_ERRORS:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _speak_times(connection: asyncpg.Connection) -> None:
    """Times go over the wire as microseconds, aware and in UTC on our side. asyncpg's own codec does the same through
    the calendar, and takes twice as long for it; times are most of what we send."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode_time, decoder=_decode_time, format="tuple"
    )


def _encode_time(time: datetime) -> tuple[int]:
    since = time - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds,)


def _decode_time(value: tuple[int]) -> datetime:
    return _EPOCH + timedelta(0, 0, value[0])


async def _leave_session(connection: asyncpg.Connection) -> None:
    """A connection goes back to its pool as it is: none of our statements sets, listens or locks anything beyond its
    transaction, and one left open is rolled back before this. What asyncpg does otherwise is a round trip each time."""


async def transact(pool: Pool, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Runs `work` in one transaction; what is in TRY_AGAIN tries the whole again, bounded."""
    async with pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
        return await transact_over(connection, work)


async def transact_over(connection: asyncpg.Connection, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """The same over a connection that the caller holds: whoever has one transaction after the other saves the way to
    the pool, which costs as much as two statements."""
    for attempt in range(_TRANSACTION_TRIES):
        try:
            with loss_told():
                async with connection.transaction():
                    return await work(connection)
        except TRY_AGAIN:
            if attempt == _TRANSACTION_TRIES - 1:
                raise
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))
    raise AssertionError("unreachable")


async def keep_going(name: str, work: Callable[[], Awaitable[None]], *, also: tuple[type[Exception], ...] = ()) -> None:
    """Runs `work` for ever; when a connection is lost, begins it again after a pause that grows to five seconds."""
    loop = asyncio.get_running_loop()
    pause = 0.1
    while True:
        began = loop.time()
        try:
            await work()
            pause = 0.1
        except (*CONNECTION_ERRORS, *PASSING_ERRORS, *also) as error:
            if loop.time() - began > 30:
                pause = 0.1
            log.warning("work_interrupted", work=name, error=type(error).__name__, pause_seconds=pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 5.0)
