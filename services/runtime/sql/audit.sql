-- name: read_head
-- The end of the chain.
SELECT last_number, hash FROM {schema}.audit_head;

-- name: lock_head
-- The end of the chain, locked until what follows it is committed.
SELECT last_number, hash FROM {schema}.audit_head FOR UPDATE;

-- name: move_head
-- The end of the chain after more lines.
UPDATE {schema}.audit_head SET last_number = $1, hash = $2;

-- name: insert_line
-- One line.
INSERT INTO {schema}.audit_log (
    number, call_time, outcome, reason, method, principal, on_behalf_of, token_id, store, terminal, member_ids, members,
    left_out, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: read_lines
-- All lines in their order, for the check.
SELECT number, call_time, outcome, reason, method, principal, on_behalf_of, token_id, store, terminal, member_ids,
    members, left_out, hash
FROM {schema}.audit_log
ORDER BY number;
