-- Queries of tiers. Each is loaded by its name (services/runtime/database.py).

-- name: create_cursors
-- A cursor for each partition of the ledger that has none yet.
INSERT INTO tiers.cursors (partition, ledger_offset, business_time, change_offset, clock_mode)
SELECT partition, 0, $2::timestamptz, 0, $3::text
FROM unnest($1::integer[]) AS p(partition)
ON CONFLICT (partition) DO NOTHING;

-- name: read_cursors
-- Where all partitions stand.
SELECT partition, ledger_offset, business_time, due_time, change_offset, clock_mode
FROM tiers.cursors
ORDER BY partition;

-- name: lock_cursors
-- The partitions to write into, locked in ascending order until the end of the transaction.
SELECT partition, ledger_offset, business_time, due_time, change_offset
FROM tiers.cursors
WHERE partition = ANY($1::integer[])
ORDER BY partition
FOR UPDATE;

-- name: update_cursors
-- Where the locked partitions stand afterwards.
UPDATE tiers.cursors AS c
SET ledger_offset = u.ledger_offset, business_time = u.business_time, due_time = u.due_time,
    change_offset = u.change_offset
FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
    AS u(partition, ledger_offset, business_time, due_time, change_offset)
WHERE c.partition = u.partition;

-- name: read_states
-- The states of the members named; one that is not there has not joined.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.since_time, s.next_roll_off,
    s.sequence
FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
JOIN tiers.standings AS s ON s.partition = w.partition AND s.member_id = w.member_id;

-- name: read_due_states
-- Up to $3 members of the partitions of whom something falls due up to $2, earliest first.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.since_time, s.next_roll_off,
    s.sequence
FROM unnest($1::integer[]) AS w(partition)
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.standings AS d
    WHERE d.partition = w.partition AND d.next_roll_off <= $2::timestamptz
    ORDER BY d.next_roll_off
    LIMIT $3::bigint
) AS s
ORDER BY s.next_roll_off, s.partition, s.member_id
LIMIT $3::bigint;

-- name: read_next_due
-- The earliest instant at which something falls due in the partitions; NULL where nothing ever does.
SELECT min(s.next_roll_off)
FROM unnest($1::integer[]) AS w(partition)
CROSS JOIN LATERAL (
    SELECT d.next_roll_off
    FROM tiers.standings AS d
    WHERE d.partition = w.partition AND d.next_roll_off IS NOT NULL
    ORDER BY d.next_roll_off
    LIMIT 1
) AS s;

-- name: read_roll_offs
-- What leaves the window after as_of and up to until, by instant, and the first instant after it; a row at least for
-- each member.
SELECT w.partition, w.member_id, r.end_time, r.amount, b.beyond
FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    AS w(partition, member_id, joined_time, as_of, until)
LEFT JOIN LATERAL (
    SELECT m.end_time, sum(m.amount)::bigint AS amount
    FROM tiers.movements AS m
    WHERE m.partition = w.partition AND m.member_id = w.member_id
        AND m.end_time > w.as_of AND m.end_time <= w.until AND m.occurred_time > w.joined_time
    GROUP BY m.end_time
) AS r ON true
LEFT JOIN LATERAL (
    SELECT m.end_time AS beyond
    FROM tiers.movements AS m
    WHERE m.partition = w.partition AND m.member_id = w.member_id
        AND m.end_time > w.until AND m.occurred_time > w.joined_time
    ORDER BY m.end_time
    LIMIT 1
) AS b ON true;

-- name: upsert_states
-- The states of members after a batch.
INSERT INTO tiers.standings AS s
    (partition, member_id, joined_time, as_of, balance, tier_number, since_time, next_roll_off, sequence)
SELECT *
FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::smallint[],
    $7::timestamptz[], $8::timestamptz[], $9::bigint[])
ON CONFLICT (partition, member_id) DO UPDATE
SET as_of = excluded.as_of, balance = excluded.balance, tier_number = excluded.tier_number,
    since_time = excluded.since_time, next_roll_off = excluded.next_roll_off, sequence = excluded.sequence;

-- name: insert_changes
-- The changes of a batch.
INSERT INTO tiers.tier_changes (partition, change_offset, member_id, sequence, from_tier_number, to_tier_number,
    balance, changed_time, cause_offset, ledger_offset_processed, programme_version)
SELECT u.*, $11::text
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bigint[],
    $8::timestamptz[], $9::bigint[], $10::bigint[]) AS u;

-- name: insert_outbox
-- The earning classes that follow from the changes of a batch.
INSERT INTO tiers.class_outbox
    (partition, change_offset, member_id, sequence, earning_class, effective_time, request_id)
SELECT *
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::text[]);

-- name: read_outbox
-- Up to $3 of the earning classes that wait and are in force from $2 or before (NULL: all), the earliest first. Of a
-- member's, a later one is never in force earlier.
SELECT o.partition, o.change_offset, o.member_id, o.sequence, o.earning_class, o.effective_time, o.request_id
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

-- name: find_state
-- A member's state, from whichever partition holds it.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.since_time, s.next_roll_off,
    s.sequence
FROM tiers.standings AS s
WHERE s.partition = ANY($1::integer[]) AND s.member_id = $2::text;

-- name: read_member_movements
-- A member's movements up to $3, at most $4 of them: those that end last.
SELECT ledger_offset, amount, occurred_time, end_time
FROM tiers.movements
WHERE partition = $1::integer AND member_id = $2::text AND occurred_time <= $3::timestamptz
ORDER BY end_time DESC, ledger_offset DESC
LIMIT $4::bigint;

-- name: count_states
-- Members by the number of the tier that their states name, with the latest of these and the first that will change.
SELECT tier_number, count(*) AS members, max(as_of) AS as_of, min(next_roll_off) AS next_roll_off
FROM tiers.standings
GROUP BY tier_number;

-- name: count_standings
-- Members by the number of their tier at $1; $2 are the thresholds of all tiers but the first, ascending. Where a
-- member's state stands over that instant it says so itself; for the others the movements are added up.
SELECT h.tier_number, count(*) AS members
FROM (
    SELECT s.tier_number::integer
    FROM tiers.standings AS s
    WHERE s.as_of <= $1::timestamptz AND (s.next_roll_off > $1::timestamptz OR s.next_roll_off IS NULL)
    UNION ALL
    SELECT width_bucket(coalesce(sum(m.amount), 0)::bigint, $2::bigint[]) + 1
    FROM tiers.standings AS s
    LEFT JOIN tiers.movements AS m
        ON m.partition = s.partition AND m.member_id = s.member_id COLLATE "default"
        AND m.occurred_time > s.joined_time AND m.occurred_time <= $1::timestamptz AND m.end_time > $1::timestamptz
    WHERE s.joined_time <= $1::timestamptz
        AND (s.as_of > $1::timestamptz OR s.next_roll_off <= $1::timestamptz)
    GROUP BY s.partition, s.member_id
) AS h
GROUP BY h.tier_number;

-- name: list_states
-- Up to $3 members who had joined by $1, those after the id $2, bytewise. Per partition the primary key gives the next
-- ones in order; the cursors name the partitions.
SELECT s.partition, s.member_id, s.joined_time, s.as_of, s.balance, s.tier_number, s.since_time, s.next_roll_off,
    s.sequence
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
FROM unnest($2::integer[], $3::text[], $4::timestamptz[]) AS w(partition, member_id, joined_time)
JOIN tiers.movements AS m
    ON m.partition = w.partition AND m.member_id = w.member_id
    AND m.occurred_time > w.joined_time AND m.occurred_time <= $1::timestamptz AND m.end_time > $1::timestamptz
GROUP BY m.partition, m.member_id;

-- name: read_changes
-- Up to $4 changes after and up to these offsets, each partition's in order.
SELECT c.partition, c.change_offset, c.member_id, c.sequence, c.from_tier_number, c.to_tier_number, c.balance,
    c.changed_time, c.cause_offset, c.ledger_offset_processed, c.programme_version
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS w(partition, after, until)
CROSS JOIN LATERAL (
    SELECT *
    FROM tiers.tier_changes AS t
    WHERE t.partition = w.partition AND t.change_offset > w.after AND t.change_offset <= w.until
    ORDER BY t.change_offset
    LIMIT $4::bigint
) AS c
ORDER BY c.partition, c.change_offset
LIMIT $4::bigint;

-- name: all_states
-- For the check: all states.
SELECT partition, member_id, joined_time, as_of, balance, tier_number, since_time, next_roll_off, sequence
FROM tiers.standings;

-- name: all_movements
-- For the check: all movements.
SELECT partition, member_id, ledger_offset, amount, occurred_time, end_time, applied_time
FROM tiers.movements;

-- name: all_changes
-- For the check: all changes, each partition's in order.
SELECT partition, change_offset, member_id, sequence, from_tier_number, to_tier_number, balance, changed_time,
    cause_offset, ledger_offset_processed, programme_version
FROM tiers.tier_changes
ORDER BY partition, change_offset;

-- name: all_outbox
-- For the check: all earning classes that wait.
SELECT partition, change_offset, member_id, sequence, earning_class, effective_time, request_id
FROM tiers.class_outbox;
