"""The master key changes while the service runs: a changed file is taken up, what older keys wrapped is wrapped anew.

An older key may leave the file when nothing needs it any more: then `keys_rewrapped` stands in the log, and the check
counts none. Several notifiers may do the same at once, and a kill in between loses nothing: each batch is one
transaction.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from services.notifier.errors import InstallationError, SealError
from services.notifier.store import Installation, Store, Transaction, WrappedKey
from services.notifier.vault import Vault, read_master_keys, sealing_key_id
from services.runtime.files import Stamp, stamp

log = structlog.get_logger()

BATCH: Final = 500
_LOOK_SECONDS: Final = 1.0
# Between batches others have their turn.
_PAUSE_SECONDS: Final = 0.02
# What was being written when a new key came may be wrapped by the old one: a write ends within 30 seconds, and another
# notifier may read the file a little later.
_AGAIN_SECONDS: Final = 60.0
_PASSES: Final = 2


class KeyRotation:
    """Looks after the master keys for as long as the service lives."""

    def __init__(self, *, store: Store, vault: Vault, file: Path) -> None:
        self._store = store
        self._vault = vault
        self._file = file
        # Read once more at the first look: it may have changed since it was read for the start.
        self._seen: Stamp | None = (0, 0, 0)
        self._failing = False

    async def run(self) -> None:
        """Wraps anew what is to be, at the start and whenever the file has changed, until nothing is left."""
        left = _PASSES
        while True:
            left = _PASSES if await self.rewrap() else left - 1
            if await self._changed(within_seconds=_AGAIN_SECONDS if left else None):
                left = _PASSES

    async def rewrap(self) -> int:
        """Brings everything under the newest master key and says how many members' keys that were."""
        sealed = await self._seal()
        newest_id = self._vault.newest_id
        place = (-1, "")
        rewrapped = lost = 0
        while batch := await self._older(newest_id, place):
            place = batch[-1].partition, batch[-1].member_id
            keys, after = [], []
            for key in batch:
                try:
                    after.append(self._vault.wrap(key.member_id, self._vault.unwrap(key.member_id, key.wrapped_key)))
                    keys.append(key)
                except SealError:
                    lost += 1
            await self._write(keys, after)
            rewrapped += len(keys)
            await asyncio.sleep(_PAUSE_SECONDS)
        if lost:
            log.error("keys_not_rewrapped", member_keys=lost)
        elif rewrapped or sealed:
            log.info("keys_rewrapped", member_keys=rewrapped, master_key=newest_id.hex()[:8])
        return rewrapped

    async def _seal(self) -> bool:
        """Has the newest master key seal the derived keys; False where it does."""
        kept = await self._installation()
        if sealing_key_id(kept) == self._vault.newest_id:
            return False
        after = self._vault.sealed_keys()

        async def replace(transaction: Transaction) -> bool:
            return await transaction.replace_sealed_keys(kept.sealed_keys, after)

        return await self._store.transact(replace)

    async def _older(self, newest_id: bytes, place: tuple[int, str]) -> list[WrappedKey]:
        async def find(transaction: Transaction) -> list[WrappedKey]:
            return await transaction.find_keys_of_older(newest_id, place, BATCH)

        return await self._store.read(find)

    async def _write(self, keys: list[WrappedKey], after: list[bytes]) -> None:
        async def write(transaction: Transaction) -> None:
            await transaction.rewrap_keys(keys, after)

        await self._store.transact(write)

    async def _changed(self, *, within_seconds: float | None) -> bool:
        """Waits until the file says something else, which is in effect then; False when the time is over."""
        loop = asyncio.get_running_loop()
        until = None if within_seconds is None else loop.time() + within_seconds
        while until is None or loop.time() < until:
            await asyncio.sleep(_LOOK_SECONDS)
            seen = self._stamp()
            if seen == self._seen:
                continue
            kept = await self._installation()
            try:
                changed = self._vault.take(read_master_keys(self._file), kept)
            except InstallationError as error:
                # What cannot be read changes nothing.
                if not self._failing:
                    log.error("master_keys_not_read", error=str(error))
                self._failing = True
                continue
            self._seen = seen
            self._failing = False
            if changed:
                log.info("master_keys_read", master_key=self._vault.newest_id.hex()[:8])
                return True
        return False

    def _stamp(self) -> Stamp | None:
        try:
            return stamp(self._file)
        except OSError:
            return None

    async def _installation(self) -> Installation:
        kept = await self._store.read(Transaction.read_installation)
        assert kept is not None, "the service has claimed the database at its start"
        return kept
