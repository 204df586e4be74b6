"""The tables of tiers. Every function takes the connection; transactions are opened in `service`.

Lock doctrine: whoever writes locks the cursors' rows of its partitions first, ascending, and holds them until the end.
So batches and due runs of one partition never overlap, changes are numbered without gaps, and a reader that has seen
a cursor finds every change up to it. The outbox is emptied without that lock: its rows are only ever deleted by the
one sender.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.runtime.database import Connection, load_queries
from services.tiers.domain import (
    BEGINNING,
    Change,
    Cursor,
    MemberKey,
    MemberState,
    Movement,
    RollOffs,
    TakenIn,
    TierChange,
)

_QUERIES = load_queries(Path(__file__).with_name("sql") / "queries.sql")

_MOVEMENT = ("partition", "member_id", "ledger_offset", "amount", "occurred_time", "end_time", "applied_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNotice:
    """An earning class that the ledger is to set; made once, with its request id, and sent until it is answered."""

    partition: int
    change_offset: int
    member_id: str
    sequence: int
    earning_class: str
    effective_time: datetime
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """A change as it stands in the log, with the version of the programme that decided it."""

    tier_change: TierChange
    programme_version: str

    @property
    def partition(self) -> int:
        """The partition of the log that it stands in."""
        return self.tier_change.partition

    @property
    def offset(self) -> int:
        """Its number there."""
        return self.tier_change.offset


# --- cursors --------------------------------------------------------------------------------------------------------


async def create_cursors(connection: Connection, partitions: Sequence[int], clock_mode: str) -> None:
    """Makes the cursors that are not there yet."""
    await connection.execute(_QUERIES["create_cursors"], list(partitions), BEGINNING, clock_mode)


async def read_cursors(connection: Connection) -> tuple[dict[int, Cursor], str]:
    """All cursors by partition, and the mode of the clock ("" where there are none)."""
    rows = await connection.fetch(_QUERIES["read_cursors"])
    return {row["partition"]: _cursor(row) for row in rows}, rows[0]["clock_mode"] if rows else ""


async def lock_cursors(connection: Connection, partitions: Collection[int]) -> dict[int, Cursor]:
    """Locks the cursors of these partitions until the end of the transaction."""
    rows = await connection.fetch(_QUERIES["lock_cursors"], sorted(partitions))
    return {row["partition"]: _cursor(row) for row in rows}


async def update_cursors(connection: Connection, cursors: Mapping[int, Cursor]) -> None:
    """Moves locked cursors."""
    moved = cursors.values()
    await connection.execute(
        _QUERIES["update_cursors"],
        [c.partition for c in moved],
        [c.ledger_offset for c in moved],
        [c.business_time for c in moved],
        [c.due_time for c in moved],
        [c.change_offset for c in moved],
    )


def _cursor(row: Any) -> Cursor:
    return Cursor(
        partition=row["partition"],
        ledger_offset=row["ledger_offset"],
        business_time=row["business_time"],
        due_time=row["due_time"],
        change_offset=row["change_offset"],
    )


# --- standings and movements ----------------------------------------------------------------------------------------


async def read_states(connection: Connection, keys: Collection[MemberKey]) -> dict[MemberKey, MemberState]:
    """The states of those of these members who have joined."""
    rows = await connection.fetch(_QUERIES["read_states"], [p for p, _ in keys], [m for _, m in keys])
    return _states(rows)


async def read_due_states(
    connection: Connection, partitions: Collection[int], until: datetime, limit: int
) -> dict[MemberKey, MemberState]:
    """Up to `limit` members of these partitions of whom something falls due by then, earliest first."""
    return _states(await connection.fetch(_QUERIES["read_due_states"], list(partitions), until, limit))


async def read_next_due(connection: Connection, partitions: Collection[int]) -> datetime | None:
    """When something falls due next."""
    due: datetime | None = await connection.fetchval(_QUERIES["read_next_due"], list(partitions))
    return due


async def read_roll_offs(
    connection: Connection, horizons: Sequence[tuple[MemberKey, MemberState, datetime]]
) -> dict[MemberKey, RollOffs]:
    """What leaves the window of each member after its state's instant and up to the one named."""
    rows = await connection.fetch(
        _QUERIES["read_roll_offs"],
        [key[0] for key, _, _ in horizons],
        [key[1] for key, _, _ in horizons],
        [state.joined_time for _, state, _ in horizons],
        [state.as_of for _, state, _ in horizons],
        [until for _, _, until in horizons],
    )
    known: dict[MemberKey, list[tuple[datetime, int]]] = {}
    beyond: dict[MemberKey, datetime | None] = {}
    for row in rows:
        key = (row["partition"], row["member_id"])
        beyond[key] = row["beyond"]
        leaving = known.setdefault(key, [])
        if row["end_time"] is not None:
            leaving.append((row["end_time"], row["amount"]))
    return {key: RollOffs(leaving, beyond=beyond[key]) for key, leaving in known.items()}


async def upsert_states(connection: Connection, states: Mapping[MemberKey, MemberState]) -> None:
    """Writes the states of members."""
    values = states.values()
    await connection.execute(
        _QUERIES["upsert_states"],
        [p for p, _ in states],
        [m for _, m in states],
        [s.joined_time for s in values],
        [s.as_of for s in values],
        [s.balance for s in values],
        [s.tier_number for s in values],
        [s.since_time for s in values],
        [s.next_roll_off for s in values],
        [s.sequence for s in values],
    )


async def insert_movements(connection: Connection, movements: Sequence[TakenIn]) -> None:
    """Appends movements."""
    # What is only ever added goes by COPY: it encodes faster than arrays do.
    await connection.copy_records_to_table(
        "movements",
        schema_name="tiers",
        columns=_MOVEMENT,
        records=[
            (
                taken.partition,
                taken.member_id,
                taken.movement.ledger_offset,
                taken.movement.amount,
                taken.movement.occurred_time,
                taken.movement.end_time,
                taken.applied_time,
            )
            for taken in movements
        ],
    )


async def find_state(
    connection: Connection, partitions: Collection[int], member_id: str
) -> tuple[int, MemberState] | None:
    """A member's partition and state; None where there is no such member."""
    row = await connection.fetchrow(_QUERIES["find_state"], list(partitions), member_id)
    return None if row is None else (row["partition"], _state(row))


async def read_member_movements(
    connection: Connection, partition: int, member_id: str, until: datetime, limit: int
) -> list[Movement]:
    """A member's movements that occurred up to an instant; of more than `limit` those that end last."""
    rows = await connection.fetch(_QUERIES["read_member_movements"], partition, member_id, until, limit)
    return [_movement(row) for row in rows]


async def count_states(connection: Connection) -> tuple[dict[int, int], datetime | None, datetime | None]:
    """Members by tier number, the latest instant of their states, and when something leaves the window next; None
    where there is none."""
    rows = await connection.fetch(_QUERIES["count_states"])
    latest = max((row["as_of"] for row in rows), default=None)
    due = min((row["next_roll_off"] for row in rows if row["next_roll_off"] is not None), default=None)
    return {row["tier_number"]: row["members"] for row in rows}, latest, due


async def count_standings(connection: Connection, at_time: datetime, thresholds: Sequence[int]) -> dict[int, int]:
    """Members by tier number at an instant; tiers without members are left out."""
    rows = await connection.fetch(_QUERIES["count_standings"], at_time, list(thresholds))
    return {row["tier_number"]: row["members"] for row in rows}


async def list_states(
    connection: Connection, at_time: datetime, after: str, limit: int
) -> dict[MemberKey, MemberState]:
    """Up to `limit` members who had joined by an instant, those after an id, by id, bytewise."""
    return _states(await connection.fetch(_QUERIES["list_states"], at_time, after, limit))


async def read_balances(
    connection: Connection, at_time: datetime, states: Mapping[MemberKey, MemberState]
) -> dict[MemberKey, int]:
    """What counts of these members at an instant, from their movements; one of whom nothing counts is left out."""
    rows = await connection.fetch(
        _QUERIES["read_balances"],
        at_time,
        [p for p, _ in states],
        [m for _, m in states],
        [s.joined_time for s in states.values()],
    )
    return {(row["partition"], row["member_id"]): row["balance"] for row in rows}


def _states(rows: Iterable[Any]) -> dict[MemberKey, MemberState]:
    return {(row["partition"], row["member_id"]): _state(row) for row in rows}


def _state(row: Any) -> MemberState:
    return MemberState(
        joined_time=row["joined_time"],
        as_of=row["as_of"],
        balance=row["balance"],
        tier_number=row["tier_number"],
        since_time=row["since_time"],
        next_roll_off=row["next_roll_off"],
        sequence=row["sequence"],
    )


def _movement(row: Any) -> Movement:
    return Movement(
        ledger_offset=row["ledger_offset"],
        amount=row["amount"],
        occurred_time=row["occurred_time"],
        end_time=row["end_time"],
    )


# --- changes --------------------------------------------------------------------------------------------------------


async def insert_changes(connection: Connection, changes: Sequence[TierChange], programme_version: str) -> None:
    """Appends changes."""
    await connection.execute(
        _QUERIES["insert_changes"],
        [c.partition for c in changes],
        [c.offset for c in changes],
        [c.member_id for c in changes],
        [c.change.sequence for c in changes],
        [c.change.from_tier_number for c in changes],
        [c.change.to_tier_number for c in changes],
        [c.change.balance for c in changes],
        [c.change.changed_time for c in changes],
        [c.change.cause_offset for c in changes],
        [c.ledger_offset_processed for c in changes],
        programme_version,
    )


async def read_changes(
    connection: Connection, wanted: Sequence[tuple[int, int, int]], limit: int
) -> list[StoredChange]:
    """Up to `limit` changes of (partition, after, until), by partition and offset."""
    rows = await connection.fetch(
        _QUERIES["read_changes"],
        [partition for partition, _, _ in wanted],
        [after for _, after, _ in wanted],
        [until for _, _, until in wanted],
        limit,
    )
    return [_change(row) for row in rows]


def _change(row: Any) -> StoredChange:
    return StoredChange(
        tier_change=TierChange(
            partition=row["partition"],
            offset=row["change_offset"],
            member_id=row["member_id"],
            change=Change(
                sequence=row["sequence"],
                from_tier_number=row["from_tier_number"],
                to_tier_number=row["to_tier_number"],
                balance=row["balance"],
                changed_time=row["changed_time"],
                cause_offset=row["cause_offset"],
            ),
            ledger_offset_processed=row["ledger_offset_processed"],
        ),
        programme_version=row["programme_version"],
    )


# --- the outbox of earning classes ----------------------------------------------------------------------------------


async def insert_outbox(connection: Connection, notices: Sequence[ClassNotice]) -> None:
    """Puts earning classes into the outbox."""
    await connection.execute(
        _QUERIES["insert_outbox"],
        [n.partition for n in notices],
        [n.change_offset for n in notices],
        [n.member_id for n in notices],
        [n.sequence for n in notices],
        [n.earning_class for n in notices],
        [n.effective_time for n in notices],
        [n.request_id for n in notices],
    )


async def read_outbox(
    connection: Connection, partitions: Collection[int], until: datetime | None, limit: int
) -> list[ClassNotice]:
    """Those in force from `until` or before (None: all), the earliest first, a member's in their order."""
    rows = await connection.fetch(_QUERIES["read_outbox"], list(partitions), until, limit)
    return [_notice(row) for row in rows]


async def delete_outbox(connection: Connection, notices: Sequence[ClassNotice]) -> None:
    """Takes out what was answered."""
    await connection.execute(
        _QUERIES["delete_outbox"], [n.partition for n in notices], [n.change_offset for n in notices]
    )


async def outbox_waits(connection: Connection, change_offsets: Mapping[int, int], until: datetime | None) -> bool:
    """Whether one waits that is in force from `until` or before (None: any), of a change up to these offsets."""
    waits: bool = await connection.fetchval(
        _QUERIES["outbox_waits"], list(change_offsets), list(change_offsets.values()), until
    )
    return waits


def _notice(row: Any) -> ClassNotice:
    return ClassNotice(
        partition=row["partition"],
        change_offset=row["change_offset"],
        member_id=row["member_id"],
        sequence=row["sequence"],
        earning_class=row["earning_class"],
        effective_time=row["effective_time"],
        request_id=row["request_id"],
    )


# --- the whole, for the check ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is stored, as of one instant."""

    cursors: Mapping[int, Cursor]
    clock_mode: str
    states: Mapping[MemberKey, MemberState]
    movements: Sequence[TakenIn]
    changes: Sequence[StoredChange]
    notices: Sequence[ClassNotice]


async def read_snapshot(connection: Connection) -> Snapshot:
    """All that is stored. For a consistent one: within a REPEATABLE READ transaction."""
    cursors, clock_mode = await read_cursors(connection)
    return Snapshot(
        cursors=cursors,
        clock_mode=clock_mode,
        states=_states(await connection.fetch(_QUERIES["all_states"])),
        movements=[
            TakenIn(
                partition=row["partition"],
                member_id=row["member_id"],
                movement=_movement(row),
                applied_time=row["applied_time"],
            )
            for row in await connection.fetch(_QUERIES["all_movements"])
        ],
        changes=[_change(row) for row in await connection.fetch(_QUERIES["all_changes"])],
        notices=[_notice(row) for row in await connection.fetch(_QUERIES["all_outbox"])],
    )
