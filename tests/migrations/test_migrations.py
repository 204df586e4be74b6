"""Migrations and queries against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from services.cli.postgres import Cluster
from services.runtime.database import Connection, create_pool, load_queries, transact
from services.runtime.migrations import MigrationError, migrate
from tests.conftest import PROGRAMMES, ROOT, Database
from tests.ledger_checks import checked

SERVICES = ("ledger", "tiers", "notifier")


def migrations_of(service: str) -> Path:
    return ROOT / "services" / service / "sql" / "migrations"


@pytest.mark.parametrize("service", SERVICES)
async def test_two_runs_at_once_run_every_migration_once(cluster: Cluster, service: str) -> None:
    name = f"twice_{service}"
    cluster.create_database(name)
    try:
        dsn = cluster.dsn("loyalty_owner", database=name)
        ran = await asyncio.gather(*(migrate(dsn, service, migrations_of(service)) for _ in range(2)))
        assert sorted(ran) == [0, len(list(migrations_of(service).glob("*.sql")))]
    finally:
        cluster.drop_database(name)


async def test_a_migration_that_was_changed_after_it_ran_is_refused(database: Database, tmp_path: Path) -> None:
    for path in migrations_of("ledger").glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text() + "\n-- changed")
    with pytest.raises(MigrationError, match="was changed after it ran"):
        await migrate(database.dsn("loyalty_owner"), "ledger", tmp_path)


async def test_a_gap_in_the_numbers_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "0002_late.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="without gaps"):
        await migrate(database.dsn("loyalty_owner"), "ledger", tmp_path)


async def test_a_table_that_a_migration_widens_does_not_disturb_who_reads_it_already(database: Database) -> None:
    async def read(connection: Connection) -> dict[str, int]:
        return dict(await connection.fetchrow("SELECT * FROM ledger.read_by_an_older_release"))

    dsn = database.dsn("loyalty_owner")
    pool, migration = await create_pool(dsn, service="test", size=1), await asyncpg.connect(dsn)
    try:
        await migration.execute("CREATE TABLE ledger.read_by_an_older_release AS SELECT 1 AS old")
        assert await transact(pool, read) == {"old": 1}
        await migration.execute("ALTER TABLE ledger.read_by_an_older_release ADD COLUMN new integer DEFAULT 2")
        assert await transact(pool, read) == {"old": 1, "new": 2}
    finally:
        await migration.close()
        await pool.close()


async def test_a_ledger_of_the_first_release_is_brought_over_whole(cluster: Cluster, tmp_path: Path) -> None:
    name, first = "from_first_release", tmp_path / "first"
    first.mkdir()
    shutil.copy(migrations_of("ledger") / "0001_ledger.sql", first)
    cluster.create_database(name)
    try:
        dsn = cluster.dsn("loyalty_owner", database=name)
        await migrate(dsn, "ledger", first)
        owner = await asyncpg.connect(dsn)
        try:
            await owner.execute((Path(__file__).parent / "ledger_0001.sql").read_text())
        finally:
            await owner.close()
        await migrate(dsn, "ledger", migrations_of("ledger"))
        report = await checked(cluster.dsn("loyalty_ledger", database=name), PROGRAMMES / "tiered-365.yaml")
    finally:
        cluster.drop_database(name)
    assert report.differences == ()
    assert (report.checked["entries"], report.checked["members"], report.checked["purchases"]) == (18, 3, 3)


def queries_of(service: str) -> Mapping[str, str]:
    sql = ROOT / "services" / service / "sql"
    return load_queries(sql / "queries" if (sql / "queries").is_dir() else sql / "queries.sql")


@pytest.mark.parametrize("service", SERVICES)
async def test_every_named_query_prepares_for_the_role_of_its_service(database: Database, service: str) -> None:
    queries = queries_of(service)
    connection = await asyncpg.connect(database.dsn(f"loyalty_{service}"))
    try:
        for name, sql in queries.items():
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{service}: {name}: {error}")
    finally:
        await connection.close()


@pytest.mark.parametrize("service", SERVICES)
def test_every_named_query_is_used(service: str) -> None:
    queries = queries_of(service)
    code = "\n".join(path.read_text() for path in (ROOT / "services" / service).rglob("*.py"))
    unnamed = {name for name in queries if not re.search(rf'["\']{name}["\']', code)}
    # The notifier's list of what it keeps of people names these: tests/integration/test_notifier_privacy.py.
    assert {name for name in unnamed if not name.startswith(("export_", "erase_"))} == set()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_sees_no_schema_but_its_own(database: Database, service: str) -> None:
    connection = await asyncpg.connect(database.dsn(f"loyalty_{service}"))
    try:
        for other in SERVICES:
            if other != service:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(f"SELECT * FROM {other}.schema_migrations")
    finally:
        await connection.close()


async def test_a_batch_finds_the_purchase_it_names_by_its_key_however_many_the_member_has(database: Database) -> None:
    query = load_queries(migrations_of("ledger").parent / "queries.sql")["read_batch"]
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await connection.execute(
            """INSERT INTO ledger.purchases (partition, member_id, purchase_id, amount, goods_paid, returned,
                                             returned_goods, waiting, entry_offset)
               SELECT 0, 'm' || number % 3, 'p' || number, 1, 1, 0, 0, '[]', number
               FROM generate_series(1, 20000) AS number;
               ANALYZE ledger.purchases"""
        )
        await connection.execute(f"PREPARE batch (integer[], text[], text[], text[]) AS {query}")
        for mode in ("force_generic_plan", "force_custom_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            plan = await connection.fetch("EXPLAIN EXECUTE batch ('{0,0}', '{m1,m1}', '{r1,r2}', '{p1,p2}')")
            text = "\n".join(row[0] for row in plan)
            assert "purchases_pkey" in text
            assert "Filter: (purchase_id" not in text
    finally:
        await connection.close()


async def test_a_page_of_entries_is_read_by_their_keys_and_details_for_its_own_entries_alone(
    database: Database,
) -> None:
    query = load_queries(migrations_of("ledger").parent / "queries.sql")["list_entries"]
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await connection.execute(
            """INSERT INTO ledger.entries
               SELECT 0, number, 'POINTS_AWARDED', 'm' || number % 3, 'r', 'p', '', 'epoch', 'epoch', 'v', '', '{}',
                      '', '', '' FROM generate_series(1, 20000) AS number;
               INSERT INTO ledger.entry_details
               SELECT 0, number, '', '{"note": "n"}' FROM generate_series(1, 20000, 2) AS number;
               ANALYZE ledger.entries, ledger.entry_details"""
        )
        await connection.execute(
            "PREPARE page (integer, text, bigint, integer, text[], timestamptz, timestamptz, text) AS " + query
        )
        for mode in ("force_generic_plan", "force_custom_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            for limit in (51, 1001):
                plan = await connection.fetch(
                    "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) "
                    f"EXECUTE page (0, 'm1', 1000000, {limit}, '{{}}', NULL, NULL, '')"
                )
                text = "\n".join(row[0] for row in plan)
                assert re.search(rf"entries_member on entries \(actual rows={limit}(\.00)? loops=1\)", text), text
                assert re.search(rf"entry_details_pkey on \w+ \(actual rows=[\d.]+ loops={limit}\)", text), text
    finally:
        await connection.close()
