"""Forward-only migrations: plain SQL files `NNNN_name.sql`, each in one transaction, under an advisory lock."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.runtime.database import loss_told

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class MigrationError(Exception):
    """The migrations on disk do not continue those in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file; `checksum` is the SHA-256 of its content."""

    version: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """The migrations of a folder, numbered from 1 without gaps."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named like 0001_what_it_does.sql")
        sql = path.read_text(encoding="utf-8")
        found.append(
            Migration(
                version=int(match[1]),
                name=match[2],
                sql=sql,
                checksum=hashlib.sha256(sql.encode()).hexdigest(),
            )
        )
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"the migrations in {folder} are not numbered 0001, 0002, ... without gaps")
    return tuple(found)


async def migrate(dsn: str, schema: str, folder: Path) -> int:
    """Brings the schema up to date and says how many migrations it ran. Two runs at once are safe."""
    migrations = read_migrations(folder)
    with loss_told():
        connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute("SET statement_timeout = '5min'; SET timezone = 'UTC'; SET lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('loyalty.migrations.' || $1, 0))", schema)
        # Beside a running release: give up on a table's lock soon instead of queueing everyone behind us.
        await connection.execute("SET lock_timeout = '4s'")
        await connection.execute(
            f"""CREATE TABLE IF NOT EXISTS {schema}.schema_migrations (
                version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
                applied_time timestamptz NOT NULL DEFAULT now())"""
        )
        done = {
            row["version"]: row["checksum"]
            for row in await connection.fetch(f"SELECT version, checksum FROM {schema}.schema_migrations")  # noqa: S608  # as below
        }
        if len(done) > len(migrations):
            raise MigrationError(f"the schema {schema} is newer than this release; run the release that made it")
        ran = 0
        for migration in migrations:
            if migration.version in done:
                if done[migration.version] != migration.checksum:
                    raise MigrationError(
                        f"{schema}: migration {migration.version:04} was changed after it ran; add a new one instead"
                    )
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    f"INSERT INTO {schema}.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",  # noqa: S608  # the schema is a constant of the service
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
            ran += 1
        return ran
    finally:
        await connection.close()
