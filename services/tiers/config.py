"""What the service needs from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime.command import CommonConfig
from services.runtime.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(CommonConfig):
    """`ledger_address`: where the ledger's feed is read and earning classes are sent, as gRPC takes it."""

    ledger_address: str = setting()
