"""Rewards that were asked for, and how many were taken."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.notifier.domain.rewards import IntentState, ReversalState, RewardIntent, RewardReversal
from services.notifier.domain.uses import Refusal
from services.notifier.store.table import QUERIES, Table

# A partition, a member of it or none for the stock, a reward.
CountKey = tuple[int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedReward:
    """A reward that was asked for. `coupon`: "issued", "void", "preparing", or empty where there is none; `reversal`:
    how far its taking back is, where it is taken back."""

    intent: RewardIntent
    coupon: str
    reversal: str | None


class RewardIntents(Table):
    """Rewards on their way, and counts."""

    async def insert_reward_intent(self, intent: RewardIntent) -> bool:
        """Keeps that a reward was asked for; False where it was asked for before."""
        kept = await self._connection.fetchval(
            QUERIES["insert_reward_intent"],
            intent.partition,
            intent.member_id,
            intent.request_id,
            intent.content_digest,
            intent.reward_id,
            intent.principal,
            intent.begun_time,
            intent.points,
            intent.money_minor_units,
            intent.state.value,
            intent.from_stock,
            _written(intent.refusal),
            intent.not_before,
        )
        return kept is not None

    async def find_reward_intent(self, partition: int, member_id: str, request_id: str) -> RewardIntent | None:
        """A reward that was asked for."""
        row = await self._connection.fetchrow(QUERIES["find_reward_intent"], partition, member_id, request_id)
        return None if row is None else _intent(row)

    async def lock_reward_intent(self, intent: RewardIntent) -> RewardIntent:
        """The same as it is now, locked until the end of the transaction."""
        key = (intent.partition, intent.member_id, intent.request_id)
        return _intent(await self._connection.fetchrow(QUERIES["lock_reward_intent"], *key))

    async def move_reward_intent(self, intent: RewardIntent) -> None:
        """Keeps state, code and refusal of a reward that was asked for."""
        await self._connection.execute(
            QUERIES["move_reward_intent"],
            intent.partition,
            intent.member_id,
            intent.request_id,
            intent.state.value,
            intent.code,
            _written(intent.refusal),
        )

    async def find_reward_intents(self, partition: int, member_id: str) -> list[RewardIntent]:
        """All rewards that a member asked for."""
        rows = await self._connection.fetch(QUERIES["find_reward_intents"], partition, member_id)
        return [_intent(row) for row in rows]

    async def open_rewards(self) -> dict[int, datetime]:
        """For each partition with rewards to go on with, or to go on taking back: when the first may be."""
        rows = await self._connection.fetch(QUERIES["open_rewards"])
        return {row["partition"]: row["not_before"] for row in rows}

    async def lease_reward_intents(
        self, partition: int, *, now: datetime, until: datetime, limit: int
    ) -> list[RewardIntent]:
        """Takes up to so many rewards to go on with; nobody else gets them before `until`."""
        rows = await self._connection.fetch(QUERIES["lease_reward_intents"], partition, now, until, limit)
        return [_intent(row) for row in rows]

    async def insert_reward_reversal(self, reversal: RewardReversal) -> bool:
        """Keeps that a reward is taken back; False where it is already."""
        kept = await self._connection.fetchval(
            QUERIES["insert_reward_reversal"],
            reversal.partition,
            reversal.member_id,
            reversal.request_id,
            reversal.principal,
            reversal.begun_time,
            reversal.state.value,
            reversal.not_before,
        )
        return kept is not None

    async def find_reward_reversal(self, intent: RewardIntent) -> RewardReversal | None:
        """The taking back of a reward."""
        key = (intent.partition, intent.member_id, intent.request_id)
        row = await self._connection.fetchrow(QUERIES["find_reward_reversal"], *key)
        return None if row is None else _reversal(row)

    async def end_reward_reversal(self, reversal: RewardReversal, state: ReversalState) -> bool:
        """Keeps what came of the taking back of a reward; False where that was kept before."""
        key = (reversal.partition, reversal.member_id, reversal.request_id)
        return await self._connection.fetchval(QUERIES["end_reward_reversal"], *key, state.value) is not None

    async def lease_reward_reversals(
        self, partition: int, *, now: datetime, until: datetime, limit: int
    ) -> list[RewardReversal]:
        """Takes up to so many rewards to go on taking back; nobody else gets them before `until`."""
        rows = await self._connection.fetch(QUERIES["lease_reward_reversals"], partition, now, until, limit)
        return [_reversal(row) for row in rows]

    async def take_reward(self, key: CountKey, limit: int | None) -> bool:
        """Counts one more of a reward; False where as many as the limit were taken."""
        return await self._connection.fetchval(QUERIES["take_reward"], *key, limit) is not None

    async def give_reward_back(self, key: CountKey) -> None:
        """Counts one less."""
        await self._connection.execute(QUERIES["give_reward_back"], *key)

    async def find_reward_counts(self, keys: Sequence[CountKey]) -> dict[tuple[str, str], int]:
        """How many were taken, by member (empty for the stock) and reward."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self._connection.fetch(QUERIES["find_reward_counts"], *columns)
        return {(row["member_id"], row["reward_id"]): row["taken"] for row in rows}

    async def check_reward_limits(self) -> list[tuple[int, str, str, int, int]]:
        """Where what is counted of a reward for a member is not what was given: partition, member, reward, how many
        were given, how many are counted."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_reward_limits"])]

    async def check_reward_stock(self) -> list[tuple[str, int | None, int, int | None]]:
        """Each reward with a stock, once for every place where that is counted: reward, partition, how many were given
        in all, how many are counted there; no partition and count where it is counted nowhere."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_reward_stock"])]

    async def check_reward_intents(self, partition: int, members: Collection[str] | None = None) -> list[CheckedReward]:
        """The rewards of a partition that were asked for, by all or some of its members."""
        rows = map(dict, await self._connection.fetch(QUERIES["check_reward_intents"], partition, members))
        return [
            CheckedReward(coupon=row.pop("coupon"), reversal=row.pop("reversal"), intent=_intent(row)) for row in rows
        ]


def _written(refusal: Refusal | None) -> str | None:
    if refusal is None:
        return None
    return json.dumps({"reason": refusal.reason, "sentence": refusal.sentence, "facts": dict(refusal.facts)})


def _reversal(row: Mapping[str, Any]) -> RewardReversal:
    return RewardReversal(**{**row, "state": ReversalState(row["state"])})


def _intent(row: Mapping[str, Any]) -> RewardIntent:
    kept = dict(row)
    refusal = kept.pop("refusal")
    return RewardIntent(
        **{
            **kept,
            "state": IntentState(kept["state"]),
            "refusal": None if refusal is None else Refusal(**json.loads(refusal)),
        }
    )
