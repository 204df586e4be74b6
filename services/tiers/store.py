"""The tables of tiers. Every function takes the connection; transactions are opened in `service`.

Lock doctrine: whoever writes locks the cursors' rows of its partitions first, ascending, and holds them until the end.
So batches and due runs of one partition never overlap, changes are numbered without gaps, and a reader that has seen
a cursor finds every change up to it. The outbox is emptied without that lock: its rows are only ever deleted by the
one sender.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from services.runtime.clock import microseconds, moment
from services.runtime.database import Connection, load_queries
from services.tiers.domain.facts import BEGINNING, Fact, FactKind, MemberKey, Movement, Scope
from services.tiers.domain.feed import Cursor, TakenIn, TierChange
from services.tiers.domain.track import (
    PLAIN,
    Agenda,
    Carried,
    Change,
    Cycle,
    Fee,
    MemberState,
    Override,
    Reason,
    Renewal,
)

_QUERIES = load_queries(Path(__file__).with_name("sql") / "queries.sql")

_MOVEMENT = ("partition", "member_id", "ledger_offset", "amount", "occurred_time", "end_time", "matures_time")
_FACT = (
    "partition",
    "member_id",
    "occurred_time",
    "ledger_offset",
    "number",
    "kind",
    "recorded_time",
    "applied_time",
    "total",
    "goods_paid",
    "points",
    "bonuses",
    "purchase_id",
    "purchase_time",
    "name",
    "start_time",
    "until_time",
    "scope",
    "reason",
    "principal",
    "exchange_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNotice:
    """An earning class that the ledger is to set; made once, with its request id, and sent until it is answered.

    `on_behalf_of`: who decided what it follows from; empty where it follows from what was bought, or from time.
    """

    partition: int
    change_offset: int
    member_id: str
    sequence: int
    earning_class: str
    effective_time: datetime
    request_id: str
    on_behalf_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """A change as it stands in the log, with the version of the programme that decided it."""

    tier_change: TierChange
    programme_version: str
    market: str
    """The member's: its balance is in the money of that."""
    has_reason: bool = True
    """Whether why it was made was kept; an older release did not."""

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
        [c.decision_number for c in moved],
    )


def _cursor(row: Any) -> Cursor:
    return Cursor(
        partition=row["partition"],
        ledger_offset=row["ledger_offset"],
        business_time=row["business_time"],
        due_time=row["due_time"],
        change_offset=row["change_offset"],
        decision_number=row["decision_number"],
        facts_missing=row["facts_missing"],
        facts_read=row["facts_read"],
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


async def read_agendas(
    connection: Connection, horizons: Sequence[tuple[MemberKey, MemberState, datetime]]
) -> dict[MemberKey, Agenda]:
    """What movements do to each member after its state's instant and up to the one named."""
    rows = await connection.fetch(
        _QUERIES["read_agendas"],
        [key[0] for key, _, _ in horizons],
        [key[1] for key, _, _ in horizons],
        [state.as_of for _, state, _ in horizons],
        [until for _, _, until in horizons],
    )
    agendas = {}
    for (key, _, _), (ends, amounts, matured, maturing, maturing_amounts, beyond) in zip(horizons, rows, strict=True):
        leaving = [
            (end, -amount, -amount if ripe else 0) for end, amount, ripe in zip(ends, amounts, matured, strict=True)
        ]
        ripening = [(instant, 0, amount) for instant, amount in zip(maturing, maturing_amounts, strict=True)]
        agendas[key] = Agenda([*leaving, *ripening], beyond=beyond)
    return agendas


class Leaving(NamedTuple):
    """A movement that counts, as far as its end goes."""

    end_time: datetime
    amount: int
    matures_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A member's state, with movements that leave the window later, the last to leave first, and its cursor then."""

    key: MemberKey
    state: MemberState
    cursor: Cursor
    last: Sequence[Leaving]


async def find_standings(
    connection: Connection, partitions: Collection[int], member_ids: Collection[str], limit: int
) -> dict[str, Found]:
    """Those of these members who have joined, from whichever partitions hold them; up to `limit` movements of each."""
    rows = await connection.fetch(_QUERIES["find_standings"], list(partitions), list(member_ids), limit)
    return {
        row["member_id"]: Found(
            key=(row["partition"], row["member_id"]),
            state=_state(row),
            cursor=_cursor(row),
            last=[*map(Leaving, row["ends"] or (), row["amounts"] or (), row["maturing"] or ())],
        )
        for row in rows
    }


async def read_ahead(connection: Connection, key: MemberKey, state: MemberState, limit: int) -> list[Leaving]:
    """Up to `limit` of the movements that leave the window later than a state, the first to leave first."""
    return [Leaving(*row) for row in await connection.fetch(_QUERIES["read_ahead"], *key, state.as_of, limit)]


async def read_last(connection: Connection, key: MemberKey, state: MemberState, limit: int) -> list[Leaving]:
    """The same, the last to leave first."""
    return [Leaving(*row) for row in await connection.fetch(_QUERIES["read_last"], *key, state.as_of, limit)]


async def sum_back(connection: Connection, key: MemberKey, state: MemberState, until: datetime) -> int:
    """What of the balance returns take away that leave the window later than a state, and by then; not above 0."""
    back: int = await connection.fetchval(_QUERIES["sum_back"], *key, state.as_of, until)
    return back


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
        [s.benefits_number for s in values],
        [s.since_time for s in values],
        [s.next_due for s in values],
        [s.sequence for s in values],
        [s.version for s in values],
        [None if s.carried is PLAIN else encode_carried(s.carried) for s in values],
    )


async def insert_movements(connection: Connection, movements: Mapping[MemberKey, Sequence[Movement]]) -> None:
    """Appends movements."""
    # What is only ever added goes by COPY: it encodes faster than arrays do.
    await connection.copy_records_to_table(
        "movements",
        schema_name="tiers",
        columns=_MOVEMENT,
        records=[
            (partition, member_id, m.ledger_offset, m.amount, m.occurred_time, m.end_time, m.matures_time)
            for (partition, member_id), added in movements.items()
            for m in added
        ],
    )


async def delete_movements(connection: Connection, keys: Collection[MemberKey]) -> None:
    """Takes out all movements of members, to be written anew."""
    await connection.execute(_QUERIES["delete_movements"], [p for p, _ in keys], [m for _, m in keys])


async def find_states(
    connection: Connection, partitions: Collection[int], member_ids: Sequence[str]
) -> dict[MemberKey, MemberState]:
    """The states of those of these members who have joined, from whichever partitions hold them."""
    return _states(await connection.fetch(_QUERIES["find_states"], list(partitions), list(member_ids)))


async def latest_event(connection: Connection) -> datetime | None:
    """The latest instant of any member's state; None where there is nobody."""
    latest: datetime | None = await connection.fetchval(_QUERIES["latest_event"])
    return latest


async def count_holding(connection: Connection, at_time: datetime, version: int) -> Counter[tuple[str, int]]:
    """Members by market and tier number, of those whose states say how they stand at an instant."""
    rows = await connection.fetch(_QUERIES["count_holding"], at_time, version)
    return Counter({(row["market"], row["tier_number"]): row["members"] for row in rows})


async def list_not_holding(
    connection: Connection, at_time: datetime, version: int, partition: int, after: str, limit: int
) -> dict[MemberKey, MemberState]:
    """Up to `limit` of the others who had joined by then, those after an id, by id."""
    return _states(await connection.fetch(_QUERIES["list_not_holding"], at_time, version, partition, after, limit))


async def read_states_behind(
    connection: Connection, partition: int, after: str, version: int, limit: int
) -> dict[MemberKey, MemberState]:
    """Up to `limit` members after an id whose standings go by an older version of the programme, by id."""
    return _states(await connection.fetch(_QUERIES["read_states_behind"], partition, after, version, limit))


async def list_states(
    connection: Connection, at_time: datetime, after: str, limit: int
) -> dict[MemberKey, MemberState]:
    """Up to `limit` members who had joined by an instant, those after an id, by id, bytewise."""
    return _states(await connection.fetch(_QUERIES["list_states"], at_time, after, limit))


async def read_balances(connection: Connection, at_time: datetime, keys: Collection[MemberKey]) -> dict[MemberKey, int]:
    """What counts of these members at an instant, from their movements; one of whom nothing counts is left out."""
    rows = await connection.fetch(_QUERIES["read_balances"], at_time, [p for p, _ in keys], [m for _, m in keys])
    return {(row["partition"], row["member_id"]): row["balance"] for row in rows}


def _states(rows: Iterable[Any]) -> dict[MemberKey, MemberState]:
    return {(row["partition"], row["member_id"]): _state(row) for row in rows}


def _state(row: Any) -> MemberState:
    tier, benefits, carried = row["tier_number"], row["benefits_number"], row["carried"]
    return MemberState(
        joined_time=row["joined_time"],
        as_of=row["as_of"],
        balance=row["balance"],
        tier_number=tier,
        # An older release kept the tier alone.
        benefits_number=tier if benefits is None else benefits,
        since_time=row["since_time"],
        next_due=row["next_due"],
        sequence=row["sequence"],
        version=row["version"],
        carried=PLAIN if carried is None else decode_carried(carried),
    )


def _movement(row: Any) -> Movement:
    return Movement(row["ledger_offset"], row["amount"], row["occurred_time"], row["end_time"], row["matures_time"])


def encode_carried(carried: Carried) -> str:
    """What a standing carries along, as JSON; what is as it always is, is left out."""
    fields = {name: value for name, value in carried._asdict().items() if value != Carried._field_defaults[name]}
    return json.dumps(fields, default=_encoded, separators=(",", ":"))


def _encoded(value: object) -> Any:
    if isinstance(value, datetime):
        return microseconds(value)
    raise TypeError(f"{type(value).__name__} is nothing that a standing carries")


def decode_carried(text: str) -> Carried:
    """The reverse of `encode_carried`."""
    fields = json.loads(text)
    if (counted_from := fields.get("counted_from")) is not None:
        fields["counted_from"] = moment(counted_from)
    if cycle := fields.get("cycle"):
        fields["cycle"] = Cycle(moment(cycle[0]), moment(cycle[1]), *cycle[2:])
    if fees := fields.get("fees"):
        fields["fees"] = tuple([Fee(plan, moment(start), moment(until)) for plan, start, until in fees])
    if override := fields.get("override"):
        level, scope, until, *rest = override
        fields["override"] = Override(level, Scope(scope), None if until is None else moment(until), *rest)
    if waiting := fields.get("waiting"):
        fields["waiting"] = tuple([_waiting_fact(values) for values in waiting])
    if judged := fields.get("judged"):
        fields["judged"] = tuple([(exchange, moment(at)) for exchange, at in judged])
    if validity := fields.get("validity"):
        fields["validity"] = Renewal(moment(validity[0]), *validity[1:])
    return Carried(**fields)


def _waiting_fact(values: Sequence[Any]) -> Fact:
    """A fact as `encode_carried` writes it: a purchase or a return, which use no other times."""
    fact = Fact(*values)
    return fact._replace(
        kind=_KINDS[fact.kind],
        occurred_time=moment(values[1]),
        recorded_time=moment(values[2]),
        bonuses=tuple([(rule, points) for rule, points in fact.bonuses]),
        purchase_time=None if fact.purchase_time is None else moment(values[Fact._fields.index("purchase_time")]),
    )


# --- facts ----------------------------------------------------------------------------------------------------------


async def insert_facts(connection: Connection, facts: Sequence[TakenIn]) -> None:
    """Appends facts."""
    await connection.copy_records_to_table(
        "facts", schema_name="tiers", columns=_FACT, records=[_fact_row(taken) for taken in facts]
    )


async def add_facts_again(connection: Connection, facts: Sequence[TakenIn]) -> None:
    """Appends those facts that are not there yet."""
    columns = zip(*(_fact_row(taken) for taken in facts), strict=True)
    await connection.execute(_QUERIES["add_facts_again"], *columns)


async def set_facts_read(connection: Connection, offsets: Mapping[int, int]) -> None:
    """Takes note of how far the missing facts have been read again."""
    await connection.execute(_QUERIES["facts_read"], list(offsets), list(offsets.values()))


async def set_facts_complete(connection: Connection, partition: int) -> None:
    """Takes note that no facts of a partition are missing any more."""
    await connection.execute(_QUERIES["facts_complete"], partition)


async def take_over(connection: Connection, partition: int) -> None:
    """Takes over what an older release wrote in another way."""
    await connection.execute(_QUERIES["take_over_due"], partition)
    await connection.execute(_QUERIES["forget_uncounted"], partition)


async def read_facts(connection: Connection, keys: Collection[MemberKey]) -> dict[MemberKey, list[Fact]]:
    """All facts of these members, each one's in their order."""
    found: dict[MemberKey, list[Fact]] = {key: [] for key in keys}
    for row in await connection.fetch(_QUERIES["read_facts"], [p for p, _ in keys], [m for _, m in keys]):
        found[row["partition"], row["member_id"]].append(_fact(row))
    return found


async def count_facts(connection: Connection, key: MemberKey, most: int) -> int:
    """How many facts of a member there are; of more than `most`, that number."""
    count: int = await connection.fetchval(_QUERIES["count_facts"], *key, most)
    return count


async def read_taken(connection: Connection, keys: Collection[MemberKey]) -> list[TakenIn]:
    """All facts of these members, as they were taken in."""
    rows = await connection.fetch(_QUERIES["read_taken"], [p for p, _ in keys], [m for _, m in keys])
    return [_taken(row) for row in rows]


async def read_eventful(connection: Connection, keys: Collection[MemberKey]) -> set[MemberKey]:
    """Those of these members who did more than buy and bring back: who left, paid a plan, were decided about."""
    rows = await connection.fetch(_QUERIES["read_eventful"], [p for p, _ in keys], [m for _, m in keys])
    return {(row["partition"], row["member_id"]) for row in rows}


async def read_purchase_times(
    connection: Connection, purchases: Collection[tuple[int, str, str]]
) -> dict[tuple[int, str, str], datetime]:
    """When these purchases, by partition, member and id, were; those not known are left out."""
    rows = await connection.fetch(
        _QUERIES["read_purchase_times"],
        [p for p, _, _ in purchases],
        [m for _, m, _ in purchases],
        [purchase for _, _, purchase in purchases],
    )
    return {(row["partition"], row["member_id"], row["purchase_id"]): row["occurred_time"] for row in rows}


def _fact_row(taken: TakenIn) -> tuple[Any, ...]:
    fact = taken.fact
    return (
        taken.partition,
        taken.member_id,
        fact.occurred_time,
        fact.ledger_offset,
        fact.number,
        fact.kind.value,
        fact.recorded_time,
        taken.applied_time,
        fact.total,
        fact.goods_paid,
        fact.points,
        json.dumps(fact.bonuses, separators=(",", ":")) if fact.bonuses else None,
        fact.purchase_id,
        fact.purchase_time,
        fact.name,
        fact.start_time,
        fact.until_time,
        fact.scope,
        fact.reason,
        fact.principal,
        fact.exchange_id or None,
    )


_KINDS = {kind.value: kind for kind in FactKind}


def _fact(row: Any) -> Fact:
    bonuses, scope = row["bonuses"], row["scope"]
    # By place: names take half as long again, and millions are read when a version weighs them anew.
    return Fact(
        _KINDS[row["kind"]],
        row["occurred_time"],
        row["recorded_time"],
        row["ledger_offset"],
        row["number"],
        row["total"],
        row["goods_paid"],
        row["points"],
        tuple([(rule, points) for rule, points in json.loads(bonuses)]) if bonuses else (),
        row["purchase_id"],
        row["purchase_time"],
        row["name"],
        row["start_time"],
        row["until_time"],
        None if scope is None else Scope(scope),
        row["reason"],
        row["principal"],
        row["exchange_id"] or "",
    )


def _taken(row: Any) -> TakenIn:
    return TakenIn(
        partition=row["partition"], member_id=row["member_id"], fact=_fact(row), applied_time=row["applied_time"]
    )


# --- decisions, and versions of the programme -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was asked of this service, with what the answer is found by."""

    number: int
    request_id: str
    request: bytes
    on_behalf_of: str
    ledger_offset: int


async def find_decision(connection: Connection, key: MemberKey, request_id: str) -> tuple[int, bytes] | None:
    """The number and the request of what was decided for a request id; None where nothing was."""
    row = await connection.fetchrow(_QUERIES["find_decision"], *key, request_id)
    return None if row is None else (row["number"], row["request"])


async def insert_decision(connection: Connection, key: MemberKey, decision: Decision) -> None:
    """Appends a decision."""
    await connection.execute(
        _QUERIES["insert_decision"],
        *key,
        decision.request_id,
        decision.number,
        decision.request,
        decision.on_behalf_of,
        decision.ledger_offset,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version of the programme as the ledger told it."""

    version: str
    document: str
    from_time: datetime
    recorded_time: datetime


async def read_versions(connection: Connection) -> list[StoredVersion]:
    """The versions of the programme, in their order."""
    return [
        StoredVersion(
            version=row["version"],
            document=row["document"],
            from_time=row["from_time"],
            recorded_time=row["recorded_time"],
        )
        for row in await connection.fetch(_QUERIES["read_versions"])
    ]


async def insert_versions(connection: Connection, versions: Sequence[StoredVersion]) -> None:
    """Keeps the versions that are not there yet."""
    await connection.executemany(
        _QUERIES["insert_version"],
        [(number, one.version, one.document, one.from_time, one.recorded_time) for number, one in enumerate(versions)],
    )


async def date_versions(connection: Connection, known: Sequence[tuple[datetime, datetime]]) -> None:
    """Versions, by the instants from which they hold, each with one at which it was known: it counts as known from the
    earliest on."""
    starts, times = [start for start, _ in known], [time for _, time in known]
    await connection.execute(_QUERIES["date_versions"], starts, times)


# --- changes --------------------------------------------------------------------------------------------------------


async def insert_changes(connection: Connection, changes: Sequence[StoredChange]) -> None:
    """Appends changes."""
    places = [stored.tier_change for stored in changes]
    made = [place.change for place in places]
    await connection.execute(
        _QUERIES["insert_changes"],
        [p.partition for p in places],
        [p.offset for p in places],
        [p.member_id for p in places],
        [c.sequence for c in made],
        [c.reason.value for c in made],
        [c.from_tier_number for c in made],
        [c.to_tier_number for c in made],
        [c.from_benefits_number for c in made],
        [c.to_benefits_number for c in made],
        [c.balance for c in made],
        [c.changed_time for c in made],
        [c.cause_offset for c in made],
        [c.cause_number for c in made],
        [c.corrects for c in made],
        [p.ledger_offset_processed for p in places],
        [stored.programme_version for stored in changes],
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
    reason, cause = row["reason"], row["cause_offset"]
    before, after = row["from_tier_number"], row["to_tier_number"]
    return StoredChange(
        tier_change=TierChange(
            partition=row["partition"],
            offset=row["change_offset"],
            member_id=row["member_id"],
            change=Change(
                sequence=row["sequence"],
                # An older release kept tiers alone, which movements and the window changed.
                reason=Reason(reason) if reason else Reason.WINDOW if cause is None else Reason.MOVEMENT,
                from_tier_number=before,
                to_tier_number=after,
                from_benefits_number=before if reason is None else row["from_benefits_number"],
                to_benefits_number=after if reason is None else row["to_benefits_number"],
                balance=row["balance"],
                changed_time=row["changed_time"],
                cause_offset=cause,
                cause_number=row["cause_number"],
                corrects=row["corrects"],
            ),
            ledger_offset_processed=row["ledger_offset_processed"],
        ),
        programme_version=row["programme_version"],
        market=row["market"],
        has_reason=reason is not None,
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
        [n.on_behalf_of for n in notices],
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
        on_behalf_of=row["on_behalf_of"],
    )


# --- the whole, for the check ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is stored, as of one instant."""

    cursors: Mapping[int, Cursor]
    clock_mode: str
    states: Mapping[MemberKey, MemberState]
    facts: Sequence[TakenIn]
    movements: Mapping[MemberKey, Sequence[Movement]]
    decisions: Mapping[tuple[int, int], int]
    """How far the ledger had been taken in when each was made, by partition and number."""
    decided_for: Mapping[tuple[int, int], str]
    """For whom each was asked; empty: for whoever asked."""
    changes: Sequence[StoredChange]
    notices: Sequence[ClassNotice]


async def read_snapshot(connection: Connection) -> Snapshot:
    """All that is stored. For a consistent one: within a REPEATABLE READ transaction."""
    cursors, clock_mode = await read_cursors(connection)
    decisions = await connection.fetch(_QUERIES["all_decisions"])
    movements: dict[MemberKey, list[Movement]] = {}
    for row in await connection.fetch(_QUERIES["all_movements"]):
        movements.setdefault((row["partition"], row["member_id"]), []).append(_movement(row))
    return Snapshot(
        cursors=cursors,
        clock_mode=clock_mode,
        states=_states(await connection.fetch(_QUERIES["all_states"])),
        facts=[_taken(row) for row in await connection.fetch(_QUERIES["all_facts"])],
        movements=movements,
        decisions={(row["partition"], row["number"]): row["ledger_offset"] for row in decisions},
        decided_for={(row["partition"], row["number"]): row["on_behalf_of"] for row in decisions},
        changes=[_change(row) for row in await connection.fetch(_QUERIES["all_changes"])],
        notices=[_notice(row) for row in await connection.fetch(_QUERIES["all_outbox"])],
    )
