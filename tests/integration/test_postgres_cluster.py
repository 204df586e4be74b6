"""The embedded database: made once, safe against kill -9, and every role sees its own schema alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from services.cli import certificates, postgres
from services.cli.certificates import LocalAuthority
from services.cli.postgres import DATABASE, OWNER, ROLES, SUPERUSER, Cluster, PostgresError
from services.runtime.database import connect, create_pool
from services.runtime.migrations import migrate
from services.runtime.tls import TlsFiles
from tests.conftest import ROOT, Database

SERVICES = ("ledger", "tiers", "notifier")


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that tests may kill."""
    made = Cluster(tmp_path_factory.mktemp("c"))
    made.init()
    made.start()
    yield made
    made.stop()


async def run(cluster: Cluster, role: str, *statements: str, database: str = DATABASE) -> object:
    connection = await asyncpg.connect(cluster.dsn(role, database=database))
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def kill(cluster: Cluster) -> None:
    assert cluster.pid is not None
    os.kill(cluster.pid, signal.SIGKILL)
    while cluster.pid is not None:
        pass


async def test_what_was_committed_survives_kill_9(own_cluster: Cluster) -> None:
    await run(own_cluster, OWNER, "CREATE TABLE ledger.kept (n int)", "INSERT INTO ledger.kept VALUES (42) RETURNING n")
    kill(own_cluster)
    own_cluster.start()
    assert await run(own_cluster, OWNER, "SELECT n FROM ledger.kept") == 42


async def test_stop_and_start_keep_everything(own_cluster: Cluster) -> None:
    await run(own_cluster, OWNER, "CREATE TABLE tiers.kept (n int)", "INSERT INTO tiers.kept VALUES (7) RETURNING n")
    own_cluster.stop()
    assert own_cluster.pid is None
    assert not own_cluster.is_ready()
    own_cluster.start()
    assert await run(own_cluster, OWNER, "SELECT n FROM tiers.kept") == 7


def test_a_second_init_changes_nothing(own_cluster: Cluster) -> None:
    before = own_cluster.dsn(OWNER)
    own_cluster.init()
    assert own_cluster.dsn(OWNER) == before
    assert own_cluster.is_ready()


def test_an_init_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    rest = tmp_path / "postgres.partial" / "data"
    rest.mkdir(parents=True)
    (rest / "PG_VERSION").write_text("18\n")
    cluster = Cluster(tmp_path)
    cluster.init()
    assert cluster.data.is_dir()
    assert not rest.exists()


def test_a_lock_of_a_process_that_is_gone_does_not_hinder(own_cluster: Cluster) -> None:
    kill(own_cluster)
    pid_file = own_cluster.data / "postmaster.pid"
    # The number of the dead server belongs to somebody else now: to this test.
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    own_cluster.start()
    assert own_cluster.is_ready()


def test_two_servers_over_one_folder_are_refused(own_cluster: Cluster) -> None:
    with pytest.raises(PostgresError, match="is in use by the process"):
        Cluster(own_cluster.directory).start()
    assert own_cluster.is_ready()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_sees_its_own_schema_alone(own_cluster: Cluster, service: str) -> None:
    role = f"loyalty_{service}"
    for other in SERVICES:
        expected = other == service
        query = f"SELECT has_schema_privilege('{other}', 'USAGE')"
        assert await run(own_cluster, role, query) is expected, other
    for statement in (
        f"CREATE TABLE {service}.mine (n int)",
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "CREATE SCHEMA mine",
        f"SET ROLE {OWNER}",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(own_cluster, role, statement)


async def test_no_role_may_connect_elsewhere_or_rule(own_cluster: Cluster) -> None:
    for role in ROLES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(own_cluster, role, "SELECT 1", database="postgres")
        query = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
        assert await run(own_cluster, role, query) is False


async def test_a_wrong_password_is_refused(own_cluster: Cluster) -> None:
    dsn = own_cluster.dsn(OWNER)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn.replace(f"{OWNER}@", f"{OWNER}:{'0' * 48}@"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn.partition("&passfile=")[0], passfile="/none")


async def test_passwords_are_checked_by_scram_and_stand_in_no_address(own_cluster: Cluster) -> None:
    for role in (SUPERUSER, *ROLES):
        password = (own_cluster.directory / "secrets" / f"database-{role}").read_text().strip()
        assert password not in own_cluster.dsn(role)
        kept = f"SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = '{role}'"
        assert await run(own_cluster, SUPERUSER, kept, database="postgres") is True
    ways = "SELECT array_agg(DISTINCT type || ' ' || auth_method) FROM pg_hba_file_rules"
    assert await run(own_cluster, SUPERUSER, ways, database="postgres") == ["local scram-sha-256"]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_services_role_owns_nothing_migrates_nothing_and_reaches_no_table_of_another(
    database: Database, service: str
) -> None:
    role = f"loyalty_{service}"
    connection = await asyncpg.connect(database.dsn(role))
    try:
        rows = await connection.fetch(
            """SELECT relnamespace::regnamespace::text AS schema, relname AS name, relowner::regrole::text AS owner,
                CASE relkind
                    WHEN 'S' THEN has_sequence_privilege(pg_class.oid, 'USAGE, SELECT, UPDATE')
                    ELSE has_table_privilege(
                            pg_class.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN')
                        OR has_any_column_privilege(pg_class.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                END AS reached
            FROM pg_class
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                AND relnamespace::regnamespace::text = ANY($1::text[])""",
            list(SERVICES),
        )
        assert {row["schema"] for row in rows} == set(SERVICES)
        assert {row["owner"] for row in rows} == {OWNER}
        assert {row["schema"] for row in rows if row["reached"]} == {service}
        assert "schema_migrations" not in {row["name"] for row in rows if row["reached"]}
        assert await connection.fetchval("SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole", role) == 0
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await migrate(database.dsn(role), service, ROOT / "services" / service / "sql" / "migrations")


@contextlib.asynccontextmanager
async def tls_before(cluster: Cluster, files: TlsFiles) -> AsyncIterator[int]:
    """A port at which the cluster's server speaks TLS, which the wheel's own build cannot."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(65536):
                writer.write(content)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) != struct.pack(">II", 8, 80877103):
            # Nobody is let in without TLS.
            writer.close()
            return
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            return
        inner = await asyncio.open_unix_connection(str(cluster.socket_directory / ".s.PGSQL.5432"))
        await asyncio.gather(pour(reader, inner[1]), pour(inner[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_an_address_asks_for_tls_and_for_whose_certificate_it_must_be(
    own_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "NAMES", ("localhost",))
    authority, stranger = LocalAuthority(tmp_path / "own"), LocalAuthority(tmp_path / "another")
    authority.ready()
    stranger.ready()
    plain = own_cluster.dsn("loyalty_ledger", host="localhost")
    async with tls_before(own_cluster, authority.files("localhost")) as port:
        dsn = f"{plain}&port={port}&sslmode=verify-full&sslrootcert="
        pool = await create_pool(dsn + quote(str(authority.files("localhost").authority)), service="test", size=1)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user::text") == "loyalty_ledger"
        await pool.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(dsn + quote(str(stranger.files("localhost").authority)), service="test")
        by_number = dsn.replace("host=localhost", "host=127.0.0.1")
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(by_number + quote(str(authority.files("localhost").authority)), service="test")


async def test_nothing_is_lost_for_speed_and_nothing_listens(own_cluster: Cluster) -> None:
    for name, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
    }.items():
        assert await run(own_cluster, OWNER, f"SELECT current_setting('{name}')") == value, name


async def test_a_copied_database_has_the_content_and_the_rights(own_cluster: Cluster) -> None:
    own_cluster.create_database("original")
    await run(own_cluster, OWNER, "CREATE TABLE ledger.t AS SELECT 5 AS n", "SELECT 1", database="original")
    own_cluster.create_database("copy", template="original")
    try:
        assert await run(own_cluster, OWNER, "SELECT n FROM ledger.t", database="copy") == 5
        assert await run(own_cluster, "loyalty_tiers", "SELECT 1", database="copy") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(own_cluster, "loyalty_tiers", "CREATE TEMPORARY TABLE t (n int)", database="copy")
    finally:
        own_cluster.drop_database("copy")
        own_cluster.drop_database("original")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await run(own_cluster, OWNER, "SELECT 1", database="copy")


def test_secrets_are_for_the_owner_alone(own_cluster: Cluster) -> None:
    folder = own_cluster.directory / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_folder_with_a_long_path_gets_a_short_one_for_its_sockets(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    folder = postgres.socket_folder(long)
    try:
        assert len(str(folder)) < 60
        assert folder.stat().st_mode & 0o777 == 0o700
        assert postgres.socket_folder(long) == folder
    finally:
        folder.rmdir()


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_LEAST_FREE_BYTES", 2**62)
    with pytest.raises(PostgresError, match="MiB free"):
        Cluster(tmp_path).init()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_root_without_user_namespaces_becomes_an_account_without_rights(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(postgres, "namespace_account", lambda: None)
    try:
        cluster = Cluster(folder)
    except PostgresError as error:
        pytest.skip(str(error))
    cluster.init()
    cluster.start()
    try:
        assert cluster.is_ready()
        assert cluster.data.stat().st_uid != 0
    finally:
        cluster.stop()
