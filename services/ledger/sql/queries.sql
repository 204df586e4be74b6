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
SELECT partition, last_offset, head_hash, recorded_time, business_time, members, versions
FROM ledger.partitions
WHERE partition = ANY($1::integer[])
ORDER BY partition
FOR UPDATE;

-- name: read_partitions
-- The heads of all partitions.
SELECT partition, last_offset, head_hash, recorded_time, business_time, members, versions
FROM ledger.partitions
ORDER BY partition;

-- name: read_partition
-- The head of one partition.
SELECT partition, last_offset, head_hash, recorded_time, business_time, members, versions
FROM ledger.partitions WHERE partition = $1::integer;

-- name: read_members
-- Some members.
SELECT m.partition, m.member_id, m.joined_time, m.channel, m.debt, m.earned, m.redeemed, m.purchases,
       m.activity_time, m.pending_lots, m.lots, m.holds, m.adjusted_day, m.adjusted, m.awaited, m.classes, m.version,
       m.market, m.absences, m.erased_time, m.pending, m.available
FROM unnest($1::integer[], $2::text[]) AS named (partition, member_id)
JOIN ledger.members m USING (partition, member_id);

-- name: read_batch
-- What the commands of a batch are about, a row for each: its member, its request where it was made before, with the
-- entry that answers it, and the purchase it names. One statement: the way there and back costs more than what it reads.
SELECT m.partition IS NOT NULL AS member_known, m.joined_time, m.channel, m.debt, m.earned, m.redeemed, m.purchases,
       m.activity_time, m.pending_lots, m.lots, m.holds, m.adjusted_day, m.adjusted, m.awaited, m.classes, m.version,
       m.market, m.absences, m.erased_time, m.pending, m.available,
       r.request, length(r.salt) = 0 AS request_forgotten, r.last_offset, l.body AS last_body,
       e.partition, e.entry_offset, e.kind, e.member_id, e.request_id, e.principal, e.on_behalf_of, e.occurred_time,
       e.recorded_time, e.programme_version, e.purchase_id, e.body, e.detail_commitment, e.request_hash, e.hash,
       p.purchase_id AS bought_id, p.occurred_time AS bought_time, p.currency, p.amount, p.goods_paid, p.grants,
       p.returned, p.returned_goods, p.returned_lines, p.voided, p.waiting, p.points_payment,
       p.entry_offset AS bought_offset
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS named (partition, member_id, request_id, purchase_id, place)
LEFT JOIN ledger.members m ON m.partition = named.partition AND m.member_id = named.member_id
LEFT JOIN ledger.requests r
    ON r.partition = named.partition AND r.member_id = named.member_id AND r.request_id = named.request_id
LEFT JOIN ledger.entries e ON e.partition = r.partition AND e.entry_offset = r.entry_offset
LEFT JOIN ledger.entries l ON l.partition = r.partition AND l.entry_offset = r.last_offset
LEFT JOIN ledger.purchases p
    ON p.partition = named.partition AND p.member_id = named.member_id AND p.purchase_id = named.purchase_id
ORDER BY named.place;

-- name: read_details
-- What can be forgotten of some purchases, and whether there ever was any.
SELECT p.member_id, p.purchase_id, d.detail, e.detail_commitment
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (partition, member_id, purchase_id)
JOIN ledger.purchases p USING (partition, member_id, purchase_id)
JOIN ledger.entries e ON e.partition = p.partition AND e.entry_offset = p.entry_offset
LEFT JOIN ledger.entry_details d ON d.partition = p.partition AND d.entry_offset = p.entry_offset;

-- name: read_redemptions
-- The redemptions that a batch names, each with the principal that its entry is by.
SELECT r.member_id, r.redemption_id, r.parts, r.debt, r.reversed, r.paid, coalesce(e.principal, '') AS principal
FROM unnest($1::integer[], $2::text[], $3::text[]) AS named (partition, member_id, redemption_id)
JOIN ledger.redemptions r USING (partition, member_id, redemption_id)
LEFT JOIN ledger.requests q
    ON q.partition = r.partition AND q.member_id = r.member_id AND q.request_id = r.redemption_id
LEFT JOIN ledger.entries e ON e.partition = q.partition AND e.entry_offset = q.entry_offset;

-- name: read_lapsed_lots
-- The lots of some members that lapsed, less what was set against returns or restored since.
SELECT l.partition, l.member_id, l.activates, l.expires, l.points
FROM unnest($1::integer[], $2::text[]) AS named (partition, member_id)
JOIN ledger.lapsed_lots l USING (partition, member_id);

-- name: upsert_members
-- Writes the members as they stand after a batch.
INSERT INTO ledger.members (
    partition, member_id, joined_time, channel, pending, available, held, debt, earned, redeemed, purchases,
    activity_time, pending_lots, lots, holds, adjusted_day, adjusted, awaited, classes, due_time,
    version, market, absences, erased_time)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::text[], $14::text[], $15::json[],
    $16::date[], $17::bigint[], $18::json[], $19::json[], $20::timestamptz[], $21::integer[],
    $22::text[], $23::json[], $24::timestamptz[])
ON CONFLICT (partition, member_id) DO UPDATE
SET pending = excluded.pending, available = excluded.available, held = excluded.held, debt = excluded.debt,
    earned = excluded.earned, redeemed = excluded.redeemed, purchases = excluded.purchases,
    activity_time = excluded.activity_time, pending_lots = excluded.pending_lots, lots = excluded.lots,
    holds = excluded.holds, adjusted_day = excluded.adjusted_day, adjusted = excluded.adjusted,
    awaited = excluded.awaited, classes = excluded.classes, due_time = excluded.due_time,
    version = excluded.version, absences = excluded.absences, erased_time = excluded.erased_time;

-- name: update_purchases
-- Writes purchases that were known before as they stand after a batch.
UPDATE ledger.purchases p
SET occurred_time = n.occurred_time, amount = n.amount, goods_paid = n.goods_paid, grants = n.grants,
    returned = n.returned, returned_goods = n.returned_goods, returned_lines = n.returned_lines,
    voided = n.voided, waiting = n.waiting, entry_offset = n.entry_offset, currency = n.currency,
    points_payment = n.points_payment
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::json[], $8::bigint[],
    $9::bigint[], $10::json[], $11::boolean[], $12::json[], $13::bigint[], $14::text[], $15::json[])
    AS n (partition, member_id, purchase_id, occurred_time, amount, goods_paid, grants, returned, returned_goods,
          returned_lines, voided, waiting, entry_offset, currency, points_payment)
WHERE p.partition = n.partition AND p.member_id = n.member_id AND p.purchase_id = n.purchase_id;

-- name: upsert_redemptions
-- Writes redemptions as they stand after a batch.
INSERT INTO ledger.redemptions (partition, member_id, redemption_id, parts, debt, reversed, paid)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
ON CONFLICT (partition, member_id, redemption_id) DO UPDATE SET reversed = excluded.reversed, paid = excluded.paid;

-- name: upsert_lapsed_lots
-- Adds what lapsed in a batch, or was set against returns (negative), to what lapsed before. An upsert would have the
-- table's CHECK look at what is added, not at the sum.
WITH new (partition, member_id, activates, expires, points) AS (
    SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[])
), known AS (
    UPDATE ledger.lapsed_lots l
    SET points = l.points + n.points
    FROM new n
    WHERE l.partition = n.partition AND l.member_id = n.member_id
        AND l.activates = n.activates AND l.expires = n.expires
    RETURNING l.partition, l.member_id, l.activates, l.expires
)
INSERT INTO ledger.lapsed_lots (partition, member_id, activates, expires, points)
SELECT n.partition, n.member_id, n.activates, n.expires, n.points
FROM new n
LEFT JOIN known k USING (partition, member_id, activates, expires)
WHERE k.partition IS NULL;

-- name: advance_partitions
-- Moves the heads of the partitions on to the end of a batch.
UPDATE ledger.partitions p
SET last_offset = n.last_offset, head_hash = n.head_hash, recorded_time = n.recorded_time,
    business_time = n.business_time, members = n.members, versions = n.versions
FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::integer[])
    AS n (partition, last_offset, head_hash, recorded_time, business_time, members, versions)
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
-- A member's entries before an offset, newest first; of some kinds (empty: all), of a time, of a purchase (empty: any).
-- With what can be forgotten of them, but for the lines; it is looked up for the entries of the page alone.
SELECT e.*, d.detail
FROM (
    SELECT * FROM ledger.entries
    WHERE partition = $1::integer AND member_id = $2::text AND entry_offset < $3::bigint
        AND (cardinality($5::text[]) = 0 OR kind = ANY($5::text[]))
        AND ($6::timestamptz IS NULL OR occurred_time >= $6::timestamptz)
        AND ($7::timestamptz IS NULL OR occurred_time < $7::timestamptz)
        AND ($8::text = '' OR purchase_id = $8::text)
    ORDER BY entry_offset DESC
    LIMIT $4::integer
) e
LEFT JOIN LATERAL (
    SELECT detail::jsonb - 'lines' AS detail FROM ledger.entry_details
    WHERE partition = e.partition AND entry_offset = e.entry_offset
    LIMIT 1
) d ON true
ORDER BY e.entry_offset DESC;

-- name: read_history
-- A member's entries in order, recorded up to a time, after an offset.
SELECT * FROM ledger.entries
WHERE partition = $1::integer AND member_id = $2::text AND entry_offset > $3::bigint
    AND ($4::timestamptz IS NULL OR recorded_time <= $4::timestamptz)
ORDER BY entry_offset
LIMIT $5::integer;

-- name: list_purchases
-- A member's purchases before an offset, newest first; of a receipt number (empty: any). By way of the log: an index of
-- purchases by offset would be taken for finding one by its id, too, and read all of a member's.
SELECT p.*, d.detail, e.body
FROM ledger.entries e
CROSS JOIN LATERAL (
    SELECT * FROM ledger.purchases
    WHERE partition = e.partition AND member_id = e.member_id AND purchase_id = e.purchase_id
    LIMIT 1
) p
LEFT JOIN LATERAL (
    SELECT detail FROM ledger.entry_details
    WHERE partition = e.partition AND entry_offset = e.entry_offset
    LIMIT 1
) d ON true
WHERE e.partition = $1::integer AND e.member_id = $2::text
    AND e.entry_offset < $3::bigint AND e.kind = 'PURCHASE_RECORDED'
    AND ($4::text = '' OR d.detail ->> 'receipt_number' = $4::text)
ORDER BY e.entry_offset DESC
LIMIT $5::integer;

-- name: read_purchase
-- One purchase of a member.
SELECT p.*, d.detail, e.body
FROM ledger.purchases p
JOIN ledger.entries e ON e.partition = p.partition AND e.entry_offset = p.entry_offset
LEFT JOIN ledger.entry_details d ON d.partition = e.partition AND d.entry_offset = e.entry_offset
WHERE p.partition = $1::integer AND p.member_id = $2::text AND p.purchase_id = $3::text;

-- name: read_due_members
-- Members to whose points time has done something by the instant of their partition, at most $3 of each.
SELECT due.partition, due.member_id
FROM unnest($1::integer[], $2::timestamptz[]) AS until (partition, time)
CROSS JOIN LATERAL (
    SELECT m.partition, m.member_id FROM ledger.members m
    WHERE m.partition = until.partition AND m.due_time <= until.time
    ORDER BY m.due_time
    LIMIT $3::integer
) due;

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
SELECT m.partition, m.member_id, m.joined_time, m.channel, m.debt, m.earned, m.redeemed, m.purchases,
       m.activity_time, m.pending_lots, m.lots, m.holds, m.adjusted_day, m.adjusted, m.awaited, m.classes, m.version,
       m.market, m.absences, m.erased_time, m.pending, m.available, m.held, m.due_time
FROM ledger.members m WHERE m.partition = $1::integer;

-- name: read_purchases_for_check
-- All purchases of one partition.
SELECT member_id, purchase_id, occurred_time, currency, amount, goods_paid, grants, returned, returned_goods,
       returned_lines, voided, waiting, points_payment, entry_offset
FROM ledger.purchases WHERE partition = $1::integer;

-- name: read_redemptions_for_check
-- All redemptions of one partition. Who made them the entries alone say.
SELECT member_id, redemption_id, parts, debt, reversed, paid, '' AS principal FROM ledger.redemptions WHERE partition = $1::integer;

-- name: read_lapsed_lots_for_check
-- All lapsed lots of one partition.
SELECT partition, member_id, activates, expires, points
FROM ledger.lapsed_lots WHERE partition = $1::integer;

-- name: create_journal_cursors
-- One row per partition, the first time only.
INSERT INTO ledger.journal_cursors (partition)
SELECT generate_series(0, $1::integer - 1)
ON CONFLICT DO NOTHING;

-- name: await_batch
-- The end of a partition when the batch that is being committed, if any, is done.
SELECT last_offset FROM ledger.partitions WHERE partition = $1::integer FOR SHARE;

-- name: read_unfolded
-- The partitions with entries that are not in the journal.
SELECT p.partition
FROM ledger.partitions p
JOIN ledger.journal_cursors c USING (partition)
WHERE p.last_offset > c.entry_offset
ORDER BY p.partition;

-- name: read_journal_cursors
-- How far the journal of each partition is folded.
SELECT partition, entry_offset, business_time FROM ledger.journal_cursors ORDER BY partition;

-- name: lock_journal_cursor
-- How far the journal of a partition is folded, locked until more of it is.
SELECT entry_offset, business_time FROM ledger.journal_cursors WHERE partition = $1::integer FOR UPDATE;

-- name: read_booked
-- What the journal needs of the entries of a partition, in order, after one offset and up to another.
SELECT entry_offset, kind, occurred_time, recorded_time, body -> 'postings' AS postings
FROM ledger.entries
WHERE partition = $1::integer AND entry_offset > $2::bigint AND entry_offset <= $3::bigint
ORDER BY entry_offset
LIMIT $4::integer;

-- name: read_booked_by_time
-- What time did by an instant ($3) to what was known at an offset ($2) and was written down later: before anything
-- else was written of the same member.
SELECT e.kind, e.occurred_time, e.recorded_time, e.body -> 'postings' AS postings
FROM ledger.entries e
WHERE e.partition = $1::integer AND e.entry_offset > $2::bigint AND e.occurred_time <= $3::timestamptz
    AND e.kind IN ('POINTS_ACTIVATED', 'POINTS_EXPIRED', 'HOLD_EXPIRED')
    AND NOT EXISTS (
        SELECT FROM ledger.entries o
        WHERE o.partition = e.partition AND o.member_id = e.member_id
            AND o.entry_offset > $2::bigint AND o.entry_offset < e.entry_offset
            AND o.kind NOT IN ('POINTS_ACTIVATED', 'POINTS_EXPIRED', 'HOLD_EXPIRED')
    );

-- name: upsert_journal
-- Adds what some entries moved.
INSERT INTO ledger.journal AS j (partition, posting_day, recorded_day, account, expiry_month, market, points)
SELECT * FROM unnest($1::integer[], $2::date[], $3::date[], $4::text[], $5::text[], $6::text[], $7::bigint[])
ON CONFLICT (partition, posting_day, recorded_day, account, expiry_month, market) DO UPDATE
SET points = j.points + excluded.points;

-- name: advance_journal_cursor
-- Moves the end of what is folded on.
UPDATE ledger.journal_cursors SET entry_offset = $2::bigint, business_time = $3::timestamptz
WHERE partition = $1::integer;

-- name: sum_journal
-- The journal up to a day ($2) by day, all before another ($1) as one; only what was recorded on days before $3 (null:
-- all).
SELECT greatest(posting_day, $1::date - 1) AS posting_day, account, expiry_month, market, sum(points)::bigint AS points
FROM ledger.journal
WHERE posting_day <= $2::date AND ($3::date IS NULL OR recorded_day < $3::date)
GROUP BY 1, 2, 3, 4;

-- name: find_recorded
-- The last entry of a partition that was recorded before an instant; 0 where there is none. Halves what is left each
-- time: recorded times never fall.
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, last_offset FROM ledger.partitions WHERE partition = $1::integer
    UNION ALL
    SELECT CASE WHEN e.recorded_time < $2::timestamptz THEN e.entry_offset ELSE s.low END,
           CASE WHEN e.recorded_time < $2::timestamptz THEN s.high ELSE e.entry_offset - 1 END
    FROM search s
    JOIN ledger.entries e ON e.partition = $1::integer AND e.entry_offset = (s.low + s.high + 1) / 2
    WHERE s.low < s.high
)
SELECT low FROM search WHERE low = high;

-- name: read_clock
-- The simulated clock of a partition at an offset.
SELECT occurred_time FROM ledger.entries
WHERE partition = $1::integer AND member_id = '' AND entry_offset <= $2::bigint AND kind = 'CLOCK_ADVANCED'
ORDER BY entry_offset DESC
LIMIT 1;

-- name: list_due_members
-- Members of a partition to whose points time has done something by an instant, in its order, after one of them.
SELECT due_time, member_id FROM ledger.members
WHERE partition = $1::integer AND due_time <= $2::timestamptz AND (due_time, member_id) > ($3::timestamptz, $4::text)
ORDER BY due_time, member_id
LIMIT $5::integer;

-- name: read_journal_for_check
-- The journal of one partition.
SELECT posting_day, recorded_day, account, expiry_month, market, points
FROM ledger.journal WHERE partition = $1::integer;

-- name: lock_versions
-- Holds back whoever else would apply a version of the programme, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('ledger.programme_versions', 0));

-- name: read_versions
-- The versions of the programme after so many, in order.
SELECT number, version, document, from_time, recorded_time, request_id, principal, on_behalf_of, request
FROM ledger.programme_versions WHERE number > $1::integer ORDER BY number;

-- name: insert_version
-- Adds a version of the programme.
INSERT INTO ledger.programme_versions (
    number, version, document, from_time, recorded_time, request_id, principal, on_behalf_of, request)
VALUES ($1::integer, $2::text, $3::text, $4::timestamptz, $5::timestamptz, $6::text, $7::text, $8::text, $9::bytea);

-- name: read_last_version_used
-- The version that decided the last entry of some partition; nothing where there is none.
SELECT e.programme_version
FROM ledger.partitions p
JOIN ledger.entries e ON e.partition = p.partition AND e.entry_offset = p.last_offset
ORDER BY e.recorded_time DESC
LIMIT 1;

-- name: read_unreckoned
-- The partitions whose members' due times were reckoned without their last versions.
SELECT partition FROM ledger.partitions WHERE due_versions < versions ORDER BY partition;

-- name: read_reckoned
-- With how many versions all due times of a partition are reckoned.
SELECT due_versions FROM ledger.partitions WHERE partition = $1::integer;

-- name: lock_reckoning
-- How far the due times of a partition are reckoned anew; locked, with its log, until the transaction ends.
SELECT versions, due_versions, reckoned_versions, reckoned_member_id
FROM ledger.partitions WHERE partition = $1::integer FOR UPDATE;

-- name: list_member_ids
-- Members of a partition after one, in order.
SELECT member_id FROM ledger.members
WHERE partition = $1::integer AND member_id > $2::text
ORDER BY member_id
LIMIT $3::integer;

-- name: update_due_times
-- Writes the due times of some members of a partition where they are others.
UPDATE ledger.members m
SET due_time = n.due_time
FROM unnest($2::text[], $3::timestamptz[]) AS n (member_id, due_time)
WHERE m.partition = $1::integer AND m.member_id = n.member_id AND m.due_time IS DISTINCT FROM n.due_time;

-- name: advance_reckoning
-- Moves on how far the due times of a partition are reckoned.
UPDATE ledger.partitions SET due_versions = $2::integer, reckoned_versions = $3::integer, reckoned_member_id = $4::text
WHERE partition = $1::integer;

-- name: create_identifier_key
-- Notes which key identifiers are kept by, the first time only.
INSERT INTO ledger.identifier_key (fingerprint) VALUES ($1::bytea)
ON CONFLICT DO NOTHING;

-- name: read_identifier_key
-- Which key identifiers are kept by.
SELECT fingerprint FROM ledger.identifier_key;

-- name: read_identifier
-- One identifier.
SELECT digest, kind, member_id, blocked FROM ledger.identifiers
WHERE partition = $1::integer AND digest = $2::bytea;

-- name: read_member_identifiers
-- The identifiers of one member.
SELECT digest, kind, member_id, blocked FROM ledger.member_identifiers
WHERE partition = $1::integer AND member_id = $2::text;

-- name: upsert_identifiers
-- Writes identifiers as they are now.
INSERT INTO ledger.identifiers (partition, digest, kind, member_id, blocked)
SELECT * FROM unnest($1::integer[], $2::bytea[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (partition, digest) DO UPDATE SET blocked = excluded.blocked;

-- name: delete_identifiers
-- Forgets identifiers.
DELETE FROM ledger.identifiers i
USING unnest($1::integer[], $2::bytea[]) AS gone (partition, digest)
WHERE i.partition = gone.partition AND i.digest = gone.digest;

-- name: upsert_member_identifiers
-- Writes identifiers of members as they are now.
INSERT INTO ledger.member_identifiers (partition, member_id, digest, kind, blocked)
SELECT * FROM unnest($1::integer[], $2::text[], $3::bytea[], $4::text[], $5::text[])
ON CONFLICT (partition, member_id, digest) DO UPDATE SET blocked = excluded.blocked;

-- name: delete_member_identifiers
-- Forgets identifiers of members.
DELETE FROM ledger.member_identifiers i
USING unnest($1::integer[], $2::text[], $3::bytea[]) AS gone (partition, member_id, digest)
WHERE i.partition = gone.partition AND i.member_id = gone.member_id AND i.digest = gone.digest;

-- name: erase_details
-- Forgets what can be forgotten of a member's entries.
DELETE FROM ledger.entry_details d
USING ledger.entries e
WHERE e.partition = $1::integer AND e.member_id = $2::text
    AND d.partition = $1::integer AND d.entry_offset = e.entry_offset;

-- name: list_requests
-- Some requests of a member that are not forgotten.
SELECT request_id, request FROM ledger.requests
WHERE partition = $1::integer AND member_id = $2::text AND length(salt) > 0
LIMIT $3::integer;

-- name: forget_requests
-- Puts a digest into the place of some requests of a member.
UPDATE ledger.requests r
SET request = n.digest, salt = ''
FROM unnest($3::text[], $4::bytea[]) AS n (request_id, digest)
WHERE r.partition = $1::integer AND r.member_id = $2::text AND r.request_id = n.request_id;

-- name: read_identifiers_for_check
-- All identifiers.
SELECT partition, digest, kind, member_id, blocked FROM ledger.identifiers;

-- name: read_member_identifiers_for_check
-- The identifiers of all members of one partition.
SELECT member_id, digest, kind, blocked FROM ledger.member_identifiers WHERE partition = $1::integer;
