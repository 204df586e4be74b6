-- name: claim_installation
-- Writes down to whom the database belongs, at the first start.
INSERT INTO notifier.installation (partition, key_fingerprint, partitions, simulated) VALUES (0, $1, $2, $3)
ON CONFLICT DO NOTHING;

-- name: read_installation
-- To whom the database belongs.
SELECT key_fingerprint, partitions, simulated, sealed_keys FROM notifier.installation;

-- name: replace_sealed_keys
-- Keeps the derived keys as they are sealed now ($1), where they are as they were ($2).
UPDATE notifier.installation SET sealed_keys = $1 WHERE sealed_keys IS NOT DISTINCT FROM $2
RETURNING true;

-- name: insert_cursors
-- A cursor for each partition that has none: $1 = partitions.
INSERT INTO notifier.cursors (partition, ledger_offset, change_offset)
SELECT partition, 0, 0 FROM unnest($1::integer[]) AS partition
ON CONFLICT DO NOTHING;

-- name: read_cursors
-- What has been handled, by partition.
SELECT partition, ledger_offset, change_offset, business_time, due_time FROM notifier.cursors;

-- name: move_cursors
-- Moves cursors that stand where the consumer believes, and says which did. The rows stay locked: who moves a
-- partition's cursor is alone with the partition until it commits.
UPDATE notifier.cursors AS stored
SET ledger_offset = moved.ledger_offset, change_offset = moved.change_offset, business_time = moved.business_time,
    due_time = moved.due_time
FROM unnest(
        $1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
    AS moved (partition, ledger_before, change_before, ledger_offset, change_offset, business_time, due_time)
WHERE stored.partition = moved.partition
    AND stored.ledger_offset = moved.ledger_before AND stored.change_offset = moved.change_before
RETURNING stored.partition;

-- name: share_partition
-- Keeps the consumer out of a partition until the end of the transaction; others who share it may come.
SELECT 1 FROM notifier.cursors WHERE partition = $1 FOR SHARE;

-- name: lock_partition
-- Keeps everyone who locks or shares the partition out until the end of the transaction.
SELECT 1 FROM notifier.cursors WHERE partition = $1 FOR UPDATE;
