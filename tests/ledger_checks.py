"""What the ledger's own check finds."""

from __future__ import annotations

from pathlib import Path

from services.ledger.check import check
from services.ledger.config import Config
from services.runtime.clock import ClockMode
from services.runtime.command import CheckReport


async def checked(database_url: str, programme: Path) -> CheckReport:
    """Everything in a ledger's database, rebuilt and compared; it asks for no token."""
    return await check(
        Config(
            listen="",
            database_url=database_url,
            programme=programme,
            token_file=programme.parent / "token",
            identifier_key_file=programme.parent / "identifier-key",
            clock=ClockMode.SIMULATED,
        )
    )
