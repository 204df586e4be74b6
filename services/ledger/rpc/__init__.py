"""The ledger's RPCs: messages to commands, entries to messages, errors to statuses."""

from services.ledger.rpc.servicer import LedgerServicer
from services.ledger.rpc.statuses import describe

__all__ = ["LedgerServicer", "describe"]
