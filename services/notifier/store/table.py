"""What the rooms of the store share: the connection, and the named statements."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from services.runtime.database import load_queries

QUERIES = load_queries(Path(__file__).parents[1] / "sql" / "queries")


class Table:
    """The statements of one noun, over the connection of a transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
