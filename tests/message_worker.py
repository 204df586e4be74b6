"""A worker in a process of its own, to be killed: `python -m tests.message_worker DSN SMTP_PORT`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from services.notifier.store import Store
from services.runtime.database import create_pool
from tests.conftest import Database
from tests.messages_desk import Desk, programme


class _Now(Desk):
    """A desk whose time is that of the machine."""

    def __getattribute__(self, name: str) -> object:
        return datetime.now(UTC) if name == "now" else super().__getattribute__(name)


async def main(dsn: str, port: int) -> None:
    pool = await create_pool(dsn, service="test", size=4)
    nowhere = Database(cluster=None, name="")  # type: ignore[arg-type]  # it is not asked
    desk = _Now(database=nowhere, store=Store(pool), programme=programme(), channels={})
    desk.email(port)
    await desk.new_worker().run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
