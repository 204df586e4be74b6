-- name: create_installation
-- Fixes the number of partitions and the clock, the first time only.
INSERT INTO ledger.installation (partitions, clock_mode) VALUES ($1::integer, $2::text)
ON CONFLICT DO NOTHING;

-- name: create_partitions
-- One row per partition, the first time only.
INSERT INTO ledger.partitions (partition)
SELECT generate_series(0, $1::integer - 1)
ON CONFLICT DO NOTHING;

-- name: read_installation
-- How this ledger was created.
SELECT partitions, clock_mode FROM ledger.installation;

-- name: lock_partitions
-- The heads of some partitions, locked in ascending order until the batch is committed.
SELECT partition, last_offset, head_hash, recorded_time, business_time, members
FROM ledger.partitions
WHERE partition = ANY($1::integer[])
ORDER BY partition
FOR UPDATE;

-- name: read_partitions
-- The heads of all partitions.
SELECT partition, last_offset, head_hash, recorded_time, business_time, members
FROM ledger.partitions
ORDER BY partition;

-- name: read_members
-- The members that a batch names.
SELECT m.partition, m.member_id, m.joined_time, m.channel, m.available, m.debt, m.earned
FROM unnest($1::integer[], $2::text[]) AS named (partition, member_id)
JOIN ledger.members m USING (partition, member_id);

-- name: read_earning_classes
-- The earning classes of some members, ascending by sequence.
SELECT c.member_id, c.sequence, c.name, c.effective_time
FROM unnest($1::integer[], $2::text[]) AS named (partition, member_id)
JOIN ledger.earning_classes c USING (partition, member_id)
ORDER BY c.member_id, c.sequence;

-- name: read_requests
-- The requests of a batch that were made before, with the entries that answer them.
SELECT r.partition AS home, r.member_id AS asked_for, r.request_id AS asked_as, r.request, r.last_offset, e.*
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (partition, member_id, request_id)
JOIN ledger.requests r USING (partition, member_id, request_id)
LEFT JOIN ledger.entries e ON e.partition = r.partition AND e.entry_offset = r.entry_offset;

-- name: read_purchases
-- The purchases that a batch names.
SELECT p.member_id, p.purchase_id, p.amount, p.goods_paid, p.rules, p.returned, p.returned_goods,
       p.returned_points, p.waiting
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (partition, member_id, purchase_id)
JOIN ledger.purchases p USING (partition, member_id, purchase_id);

-- name: upsert_members
-- Writes the members as they stand after a batch.
INSERT INTO ledger.members (partition, member_id, joined_time, channel, available, debt, earned)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
ON CONFLICT (partition, member_id) DO UPDATE
SET available = excluded.available, debt = excluded.debt, earned = excluded.earned;

-- name: insert_earning_classes
-- Adds earning classes.
INSERT INTO ledger.earning_classes (partition, member_id, sequence, name, effective_time)
SELECT * FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[]);

-- name: update_purchases
-- Writes purchases that were known before as they stand after a batch.
UPDATE ledger.purchases p
SET amount = n.amount, goods_paid = n.goods_paid, rules = n.rules, returned = n.returned,
    returned_goods = n.returned_goods, returned_points = n.returned_points, waiting = n.waiting
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::json[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::json[])
    AS n (partition, member_id, purchase_id, amount, goods_paid, rules, returned, returned_goods, returned_points,
          waiting)
WHERE p.partition = n.partition AND p.member_id = n.member_id AND p.purchase_id = n.purchase_id;

-- name: advance_partitions
-- Moves the heads of the partitions on to the end of a batch.
UPDATE ledger.partitions p
SET last_offset = n.last_offset, head_hash = n.head_hash, recorded_time = n.recorded_time,
    business_time = n.business_time, members = n.members
FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
    AS n (partition, last_offset, head_hash, recorded_time, business_time, members)
WHERE p.partition = n.partition;

-- name: read_feed
-- The entries after each cursor, in order within their partition, at most $3 of each partition and $4 in all.
SELECT e.*
FROM unnest($1::integer[], $2::bigint[]) WITH ORDINALITY AS after (partition, entry_offset, place)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.entries
    WHERE partition = after.partition AND entry_offset > after.entry_offset
    ORDER BY entry_offset
    LIMIT $3::integer
) e
ORDER BY after.place, e.entry_offset
LIMIT $4::integer;

-- name: list_entries
-- A member's entries before an offset, newest first.
SELECT * FROM ledger.entries
WHERE partition = $1::integer AND member_id = $2::text AND entry_offset < $3::bigint
ORDER BY entry_offset DESC
LIMIT $4::integer;

-- name: read_entries_for_check
-- Entries of one partition with their details, in order.
SELECT e.*, d.salt, d.detail
FROM ledger.entries e
LEFT JOIN ledger.entry_details d USING (partition, entry_offset)
WHERE e.partition = $1::integer AND e.entry_offset > $2::bigint
ORDER BY e.entry_offset
LIMIT $3::integer;

-- name: read_requests_for_check
-- Requests of one partition, with whether the entry that answers them fits.
SELECT member_id, request_id, request, salt, entry_offset, last_offset
FROM ledger.requests WHERE partition = $1::integer;

-- name: read_members_for_check
-- All members of one partition.
SELECT partition, member_id, joined_time, channel, available, debt, earned
FROM ledger.members WHERE partition = $1::integer;

-- name: read_earning_classes_for_check
-- All earning classes of one partition.
SELECT member_id, sequence, name, effective_time
FROM ledger.earning_classes WHERE partition = $1::integer
ORDER BY member_id, sequence;

-- name: read_purchases_for_check
-- All purchases of one partition.
SELECT member_id, purchase_id, amount, goods_paid, rules, returned, returned_goods, returned_points, waiting
FROM ledger.purchases WHERE partition = $1::integer;
