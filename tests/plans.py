"""What a statement reads to answer, as PostgreSQL tells it."""

from __future__ import annotations

import json

import asyncpg


async def rows_touched(connection: asyncpg.Connection, table: str, statement: str) -> int:
    """How many rows of a table a prepared statement reads, those included that it throws away; changes nothing."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {statement}")
    finally:
        await transaction.rollback()
    nodes, touched = [json.loads(explained)[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        if "Scan" in node["Node Type"] and node.get("Relation Name") == table:
            rows = sum(node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter"))
            touched += round(rows * node["Actual Loops"])
    return touched
