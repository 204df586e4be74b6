-- Queries of tiers. Each is loaded by its name (services/runtime/database.py).

-- name: create_cursors
-- A cursor for each partition of the ledger that has none yet.
INSERT INTO tiers.cursors (partition, ledger_offset, business_time, change_offset, clock_mode)
SELECT partition, 0, $2::timestamptz, 0, $3::text
FROM unnest($1::integer[]) AS p(partition)
ON CONFLICT (partition) DO NOTHING;

-- name: read_cursors
-- Where all partitions stand.
SELECT partition, ledger_offset, business_time, due_time, change_offset, decision_number, facts_missing, facts_read,
    clock_mode
FROM tiers.cursors
ORDER BY partition;

-- name: lock_cursors
-- The partitions to write into, locked in ascending order until the end of the transaction.
SELECT partition, ledger_offset, business_time, due_time, change_offset, decision_number, facts_missing, facts_read
FROM tiers.cursors
WHERE partition = ANY($1::integer[])
ORDER BY partition
FOR UPDATE;

-- name: update_cursors
-- Where the locked partitions stand afterwards.
UPDATE tiers.cursors AS c
SET ledger_offset = u.ledger_offset, business_time = u.business_time, due_time = u.due_time,
    change_offset = u.change_offset, decision_number = u.decision_number
FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[])
    AS u(partition, ledger_offset, business_time, due_time, change_offset, decision_number)
WHERE c.partition = u.partition;

-- name: read_states
-- The states of the members named; one that is not there has not joined.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.standings AS s ON s.partition = w.partition AND s.member_id = w.member_id;

-- name: read_due_states
-- Up to $3 members of the partitions of whom something falls due up to $2, earliest first.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM unnest($1::integer[]) AS w(partition)
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.standings AS d
    WHERE d.partition = w.partition AND d.next_due <= $2::timestamptz
    ORDER BY d.next_due
    LIMIT $3::bigint
) AS s
ORDER BY s.next_due, s.partition, s.member_id
LIMIT $3::bigint;

-- name: read_next_due
-- The earliest instant at which something falls due in the partitions; NULL where nothing ever does.
SELECT min(s.next_due)
FROM unnest($1::integer[]) AS w(partition)
CROSS JOIN LATERAL (
    SELECT d.next_due
    FROM tiers.standings AS d
    WHERE d.partition = w.partition AND d.next_due IS NOT NULL
    ORDER BY d.next_due
    LIMIT 1
) AS s;

-- name: read_agendas
-- What movements do to a member after as_of and up to until: those that leave the window (with their amount, and whether
-- it had matured), those that mature, and the first instant beyond of either; a row for each member, in their order.
SELECT
    ARRAY(
        SELECT m.end_time
        FROM tiers.movements AS m
        WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.end_time > w.as_of AND m.end_time <= w.until
        ORDER BY m.end_time, m.ledger_offset
    ) AS ends,
    ARRAY(
        SELECT m.amount
        FROM tiers.movements AS m
        WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.end_time > w.as_of AND m.end_time <= w.until
        ORDER BY m.end_time, m.ledger_offset
    ) AS amounts,
    ARRAY(
        SELECT m.matures_time IS NULL OR m.matures_time < m.end_time
        FROM tiers.movements AS m
        WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.end_time > w.as_of AND m.end_time <= w.until
        ORDER BY m.end_time, m.ledger_offset
    ) AS matured,
    ARRAY(
        SELECT m.matures_time
        FROM tiers.movements AS m
        WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.matures_time > w.as_of
            AND m.matures_time <= w.until AND m.matures_time < m.end_time
        ORDER BY m.matures_time, m.ledger_offset
    ) AS maturing,
    ARRAY(
        SELECT m.amount
        FROM tiers.movements AS m
        WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.matures_time > w.as_of
            AND m.matures_time <= w.until AND m.matures_time < m.end_time
        ORDER BY m.matures_time, m.ledger_offset
    ) AS maturing_amounts,
    least(
        (
            SELECT m.end_time
            FROM tiers.movements AS m
            WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.end_time > w.until
                AND m.end_time < '9999-01-01T00:00:00Z'
            ORDER BY m.end_time
            LIMIT 1
        ),
        (
            SELECT m.matures_time
            FROM tiers.movements AS m
            WHERE m.partition = w.partition AND m.member_id = w.member_id AND m.matures_time > w.until
                AND m.matures_time < m.end_time
            ORDER BY m.matures_time
            LIMIT 1
        )
    ) AS beyond
FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[])
    WITH ORDINALITY AS w(partition, member_id, as_of, until, place)
ORDER BY w.place;

-- name: find_standings
-- The states of members, from whichever partitions hold them, with where the partition's cursor stands, and up to $3 of
-- the movements that leave the window later, the last to leave first.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried, c.ledger_offset,
    c.business_time, c.due_time, c.change_offset, c.decision_number, c.facts_missing, c.facts_read, m.ends, m.amounts,
    m.maturing
FROM unnest($1::integer[]) AS p(partition)
CROSS JOIN unnest($2::text[]) AS w(member_id)
JOIN tiers.standings AS s ON s.partition = p.partition AND s.member_id = w.member_id
JOIN tiers.cursors AS c ON c.partition = p.partition
CROSS JOIN LATERAL (
    SELECT array_agg(l.end_time) AS ends, array_agg(l.amount) AS amounts, array_agg(l.matures_time) AS maturing
    FROM (
        SELECT d.end_time, d.amount, d.matures_time
        FROM tiers.movements AS d
        WHERE d.partition = p.partition AND d.member_id = w.member_id AND d.end_time > s.as_of
            AND d.end_time < '9999-01-01T00:00:00Z'
        ORDER BY d.end_time DESC
        LIMIT $3::bigint
    ) AS l
) AS m;

-- name: read_ahead
-- Up to $4 of the movements of a member that leave the window after $3, the first to leave first.
SELECT end_time, amount, matures_time
FROM tiers.movements
WHERE partition = $1::integer AND member_id = $2::text AND end_time > $3::timestamptz
ORDER BY end_time
LIMIT $4::bigint;

-- name: read_last
-- Up to $4 of the movements of a member that leave the window after $3, the last to leave first.
SELECT end_time, amount, matures_time
FROM tiers.movements
WHERE partition = $1::integer AND member_id = $2::text AND end_time > $3::timestamptz
    AND end_time < '9999-01-01T00:00:00Z'
ORDER BY end_time DESC
LIMIT $4::bigint;

-- name: sum_back
-- What returns of a member that leave the window after $3 and up to $4 add to the balance then, as a negative number.
SELECT coalesce(sum(amount), 0)::bigint
FROM tiers.movements
WHERE partition = $1::integer AND member_id = $2::text AND end_time > $3::timestamptz AND end_time <= $4::timestamptz
    AND amount < 0;

-- name: take_over_due
-- What an older release said is due next, in a partition.
UPDATE tiers.standings
SET next_due = next_roll_off, next_roll_off = NULL
WHERE partition = $1::integer AND next_roll_off IS NOT NULL;

-- name: forget_uncounted
-- Movements that never counted, which an older release kept.
DELETE FROM tiers.movements AS m
USING tiers.standings AS s
WHERE m.partition = $1::integer AND s.partition = m.partition AND s.member_id = m.member_id COLLATE "default"
    AND m.occurred_time <= s.joined_time AND m.applied_time IS NOT NULL;

-- name: delete_movements
-- The movements of members that are written anew.
DELETE FROM tiers.movements AS m
USING unnest($1::integer[], $2::text[]) AS w(partition, member_id)
WHERE m.partition = w.partition AND m.member_id = w.member_id;

-- name: add_facts_again
-- Facts that an older release did not keep; when they were seen, its movements say.
INSERT INTO tiers.facts (partition, member_id, occurred_time, ledger_offset, number, kind, recorded_time, applied_time,
    total, goods_paid, points, bonuses, purchase_id, purchase_time, name, start_time, until_time, scope, reason,
    principal, exchange_id)
SELECT f.partition, f.member_id, f.occurred_time, f.ledger_offset, f.number, f.kind, f.recorded_time,
    coalesce(m.applied_time, f.applied_time), f.total, f.goods_paid, f.points, f.bonuses, f.purchase_id,
    f.purchase_time, f.name, f.start_time, f.until_time, f.scope, f.reason, f.principal, f.exchange_id
FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::smallint[],
    $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[],
    $14::timestamptz[], $15::text[], $16::timestamptz[], $17::timestamptz[], $18::text[], $19::text[], $20::text[],
    $21::text[])
    AS f(partition, member_id, occurred_time, ledger_offset, number, kind, recorded_time, applied_time, total,
        goods_paid, points, bonuses, purchase_id, purchase_time, name, start_time, until_time, scope, reason, principal,
        exchange_id)
LEFT JOIN tiers.movements AS m
    ON m.partition = f.partition AND m.member_id = f.member_id AND m.ledger_offset = f.ledger_offset
ON CONFLICT (partition, member_id, occurred_time, ledger_offset, number) DO NOTHING;

-- name: facts_read
-- How far the missing facts of partitions have been read again.
UPDATE tiers.cursors AS c
SET facts_read = u.facts_read
FROM unnest($1::integer[], $2::bigint[]) AS u(partition, facts_read)
WHERE c.partition = u.partition;

-- name: facts_complete
-- No facts of a partition are missing any more.
UPDATE tiers.cursors
SET facts_missing = 0
WHERE partition = $1::integer;

-- name: read_facts
-- All facts of members, each one's in their order. When they were taken in is left out: reading it takes as long as
-- four numbers.
SELECT f.partition, f.member_id, f.occurred_time, f.ledger_offset, f.number, f.kind, f.recorded_time, f.total,
    f.goods_paid, f.points, f.bonuses, f.purchase_id, f.purchase_time, f.name, f.start_time, f.until_time, f.scope,
    f.reason, f.principal, f.exchange_id
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.facts AS f ON f.partition = w.partition AND f.member_id = w.member_id
ORDER BY f.partition, f.member_id, f.occurred_time, f.number > 0, f.ledger_offset, f.number;

-- name: count_facts
-- How many facts of a member there are, counted up to $3.
SELECT count(*)
FROM (
    SELECT FROM tiers.facts AS f
    WHERE f.partition = $1::integer AND f.member_id = $2::text
    LIMIT $3::bigint
) AS counted;

-- name: read_taken
-- All facts of members, with when each was taken in.
SELECT f.*
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.facts AS f ON f.partition = w.partition AND f.member_id = w.member_id;

-- name: read_eventful
-- Those of the members of whom more is known than movements that count from when they occurred.
SELECT f.partition, f.member_id
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.facts AS f ON f.partition = w.partition AND f.member_id = w.member_id AND f.kind >= 7
UNION
SELECT f.partition, f.member_id
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.facts AS f ON f.partition = w.partition AND f.member_id = w.member_id AND f.exchange_id IS NOT NULL;

-- name: read_purchase_times
-- When the purchases named were.
SELECT f.partition, f.member_id, f.purchase_id, f.occurred_time
FROM unnest($1::integer[], $2::text[], $3::text[]) AS w(partition, member_id, purchase_id)
JOIN tiers.facts AS f
    ON f.partition = w.partition AND f.member_id = w.member_id AND f.purchase_id = w.purchase_id AND f.kind = 2
        AND f.purchase_id <> '';

-- name: find_decision
-- What was decided for a request, where it was.
SELECT number, request
FROM tiers.decisions
WHERE partition = $1::integer AND member_id = $2::text AND request_id = $3::text;

-- name: insert_decision
-- A decision, with the request that asked for it.
INSERT INTO tiers.decisions (partition, member_id, request_id, number, request, on_behalf_of, ledger_offset)
VALUES ($1::integer, $2::text, $3::text, $4::bigint, $5::bytea, $6::text, $7::bigint);

-- name: read_states_behind
-- Up to $4 members of a partition after the id $2 whose standing goes by an older version than $3, by id.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM tiers.standings AS s
WHERE s.partition = $1::integer AND s.member_id > $2::text AND s.version < $3::smallint
ORDER BY s.member_id
LIMIT $4::bigint;

-- name: read_versions
-- The versions of the programme.
SELECT number, version, document, from_time, recorded_time
FROM tiers.programme_versions
ORDER BY number;

-- name: insert_version
-- A version of the programme, where it is not there yet.
INSERT INTO tiers.programme_versions (number, version, document, from_time, recorded_time)
VALUES ($1::smallint, $2::text, $3::text, $4::timestamptz, $5::timestamptz)
ON CONFLICT (number) DO NOTHING;

-- name: date_versions
-- From when versions count as known, where that is earlier than it was.
UPDATE tiers.programme_versions AS v
SET recorded_time = k.known_time
FROM (
    SELECT from_time, min(known_time) AS known_time
    FROM unnest($1::timestamptz[], $2::timestamptz[]) AS told(from_time, known_time)
    GROUP BY from_time
) AS k
WHERE v.from_time = k.from_time AND v.recorded_time > k.known_time;

-- name: upsert_states
-- The states of members after a batch.
INSERT INTO tiers.standings AS s (partition, member_id, joined_time, as_of, balance, tier_number, benefits_number,
    since_time, next_due, sequence, version, carried)
SELECT *
FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::smallint[],
    $7::smallint[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::smallint[], $12::text[])
ON CONFLICT (partition, member_id) DO UPDATE
SET as_of = excluded.as_of, balance = excluded.balance, tier_number = excluded.tier_number,
    benefits_number = excluded.benefits_number, since_time = excluded.since_time, next_due = excluded.next_due,
    next_roll_off = NULL, sequence = excluded.sequence, version = excluded.version, carried = excluded.carried;

-- name: insert_changes
-- The changes of a batch.
INSERT INTO tiers.tier_changes (partition, change_offset, member_id, sequence, reason, from_tier_number, to_tier_number,
    from_benefits_number, to_benefits_number, balance, changed_time, cause_offset, cause_number, corrects,
    ledger_offset_processed, programme_version)
SELECT *
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::smallint[], $7::smallint[],
    $8::smallint[], $9::smallint[], $10::bigint[], $11::timestamptz[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::text[]);

-- name: insert_outbox
-- The earning classes that follow from the changes of a batch.
INSERT INTO tiers.class_outbox
    (partition, change_offset, member_id, sequence, earning_class, effective_time, request_id, on_behalf_of)
SELECT *
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::text[],
    $8::text[]);

-- name: read_outbox
-- Up to $3 of the earning classes that wait and are in force from $2 or before (NULL: all), the earliest first. Of a
-- member's, a later one is never in force earlier.
SELECT o.partition, o.change_offset, o.member_id, o.sequence, o.earning_class, o.effective_time, o.request_id,
    o.on_behalf_of
FROM unnest($1::integer[]) AS w(partition)
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.class_outbox AS c
    WHERE c.partition = w.partition AND c.effective_time <= coalesce($2::timestamptz, 'infinity')
    ORDER BY c.effective_time, c.change_offset
    LIMIT $3::bigint
) AS o
ORDER BY o.effective_time, o.partition, o.change_offset
LIMIT $3::bigint;

-- name: delete_outbox
-- What the ledger has answered.
DELETE FROM tiers.class_outbox AS o
USING unnest($1::integer[], $2::bigint[]) AS a(partition, change_offset)
WHERE o.partition = a.partition AND o.change_offset = a.change_offset;

-- name: outbox_waits
-- Whether an earning class of a change up to these offsets waits that is in force from $3 or before (NULL: any).
SELECT EXISTS (
    SELECT
    FROM unnest($1::integer[], $2::bigint[]) AS w(partition, change_offset)
    JOIN tiers.class_outbox AS o
        ON o.partition = w.partition AND o.effective_time <= coalesce($3::timestamptz, 'infinity')
        AND o.change_offset <= w.change_offset
);

-- name: find_states
-- The states of members, from whichever partitions hold them.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM tiers.standings AS s
WHERE s.partition = ANY($1::integer[]) AND s.member_id = ANY($2::text[]);

-- name: latest_event
-- The latest instant of any state.
SELECT max(s.as_of)
FROM tiers.standings AS s;

-- name: count_holding
-- Members by market and tier whose states say how they stand at $1, by version $2; those who have left aside.
SELECT coalesce(s.carried::jsonb ->> 'market', '') AS market, s.tier_number, count(*) AS members
FROM tiers.standings AS s
WHERE s.as_of <= $1::timestamptz AND (coalesce(s.next_due, s.next_roll_off) IS NULL
        OR coalesce(s.next_due, s.next_roll_off) > $1::timestamptz)
    AND s.version = $2::smallint AND (s.carried IS NULL OR NOT s.carried::jsonb ? 'resigned')
GROUP BY 1, 2;

-- name: list_not_holding
-- Up to $5 of the other members of a partition who had joined by $1, those after the id $4, by id.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM tiers.standings AS s
WHERE s.partition = $3::integer AND s.member_id > $4::text AND s.joined_time <= $1::timestamptz
    AND (s.as_of > $1::timestamptz OR coalesce(s.next_due, s.next_roll_off) <= $1::timestamptz
        OR s.version <> $2::smallint)
ORDER BY s.member_id
LIMIT $5::bigint;

-- name: list_states
-- Up to $3 members who had joined by $1, those after the id $2, bytewise. Per partition the primary key gives the next
-- ones in order; the cursors name the partitions.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM tiers.cursors AS c
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.standings AS d
    WHERE d.partition = c.partition AND d.member_id > $2::text AND d.joined_time <= $1::timestamptz
    ORDER BY d.member_id
    LIMIT $3::bigint
) AS s
ORDER BY s.member_id
LIMIT $3::bigint;

-- name: read_balances
-- What counts of members at $1, from their movements; one of whom nothing counts is left out.
SELECT m.partition, m.member_id, sum(m.amount)::bigint AS balance
FROM unnest($2::integer[], $3::text[]) AS w(partition, member_id)
JOIN tiers.movements AS m
    ON m.partition = w.partition AND m.member_id = w.member_id
    AND m.occurred_time <= $1::timestamptz AND m.end_time > $1::timestamptz
GROUP BY m.partition, m.member_id;

-- name: read_changes
-- Up to $4 changes after and up to these offsets, each partition's in order, with the member's market.
SELECT c.partition, c.change_offset, c.member_id, c.sequence, c.reason, c.from_tier_number, c.to_tier_number,
    c.from_benefits_number, c.to_benefits_number, c.balance, c.changed_time, c.cause_offset, c.cause_number, c.corrects,
    c.ledger_offset_processed, c.programme_version, coalesce(s.carried::jsonb ->> 'market', '') AS market
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS w(partition, after, until)
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.tier_changes AS t
    WHERE t.partition = w.partition AND t.change_offset > w.after AND t.change_offset <= w.until
    ORDER BY t.change_offset
    LIMIT $4::bigint
) AS c
LEFT JOIN tiers.standings AS s ON s.partition = c.partition AND s.member_id = c.member_id
ORDER BY c.partition, c.change_offset
LIMIT $4::bigint;

-- name: all_states
-- For the check: all states.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.benefits_number, s.since_time,
    coalesce(s.next_due, s.next_roll_off) AS next_due, s.sequence, s.version, s.carried
FROM tiers.standings AS s;

-- name: all_movements
-- For the check: all movements.
SELECT partition, member_id, ledger_offset, amount, occurred_time, end_time, matures_time
FROM tiers.movements;

-- name: all_facts
-- For the check: all facts.
SELECT partition, member_id, occurred_time, ledger_offset, number, kind, recorded_time, applied_time, total, goods_paid,
    points, bonuses, purchase_id, purchase_time, name, start_time, until_time, scope, reason, principal, exchange_id
FROM tiers.facts;

-- name: all_decisions
-- For the check: all decisions, each partition's in order.
SELECT partition, member_id, number, ledger_offset, on_behalf_of
FROM tiers.decisions
ORDER BY partition, number;

-- name: all_changes
-- For the check: all changes, each partition's in order, with the member's market.
SELECT c.partition, c.change_offset, c.member_id, c.sequence, c.reason, c.from_tier_number, c.to_tier_number,
    c.from_benefits_number, c.to_benefits_number, c.balance, c.changed_time, c.cause_offset, c.cause_number, c.corrects,
    c.ledger_offset_processed, c.programme_version, coalesce(s.carried::jsonb ->> 'market', '') AS market
FROM tiers.tier_changes AS c
LEFT JOIN tiers.standings AS s ON s.partition = c.partition AND s.member_id = c.member_id
ORDER BY c.partition, c.change_offset;

-- name: all_outbox
-- For the check: all earning classes that wait.
SELECT partition, change_offset, member_id, sequence, earning_class, effective_time, request_id, on_behalf_of
FROM tiers.class_outbox;
