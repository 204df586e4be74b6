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

-- name: insert_members
-- Members who joined.
INSERT INTO notifier.members (partition, member_id, joined_time)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
ON CONFLICT DO NOTHING;

-- name: insert_coupons
-- Coupons, once per campaign, member and change; says which it wrote. One that is left out was there, or its code was.
INSERT INTO notifier.coupons (
    partition, campaign_id, member_id, change_offset, code, variant, discount_bp, discount_minor_units, issued_time,
    valid_until_time)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::smallint[], $7::integer[], $8::bigint[],
    $9::timestamptz[], $10::timestamptz[])
ON CONFLICT DO NOTHING
RETURNING partition, campaign_id, member_id, change_offset;

-- name: find_coupon_keys
-- Which of these rewards have their coupon.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.change_offset
FROM notifier.coupons AS coupon
JOIN unnest($1::integer[], $2::text[], $3::text[], $4::bigint[])
    AS wanted (partition, campaign_id, member_id, change_offset)
    USING (partition, campaign_id, member_id, change_offset);

-- name: find_addressed
-- Which of these members have an address, and the key that opens it.
SELECT partition, member_id
FROM notifier.contacts
JOIN notifier.member_keys USING (partition, member_id)
JOIN unnest($1::integer[], $2::text[]) AS wanted (partition, member_id) USING (partition, member_id)
WHERE email IS NOT NULL;

-- name: insert_deliveries
-- The messages that carry coupons, each in its state; those that are queued are due at once: $11 = now.
INSERT INTO notifier.deliveries (
    partition, campaign_id, member_id, change_offset, delivery_id, tier, previous_tier, balance_minor_units,
    created_time, state, not_before)
SELECT new.*, $11::timestamptz
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[],
    $9::timestamptz[], $10::text[]) AS new
ON CONFLICT DO NOTHING;

-- name: find_rewards
-- What members hold: their coupons that were not taken back, with the messages.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.change_offset, coupon.code, coupon.variant,
    coupon.discount_bp, coupon.discount_minor_units, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.tier, delivery.previous_tier, delivery.balance_minor_units
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, member_id)
JOIN notifier.deliveries AS delivery USING (partition, member_id)
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, change_offset)
WHERE coupon.voided_time IS NULL;

-- name: void_coupons
-- Keeps of coupons that they were taken back; their messages that wait are sent no more: $7 = why.
WITH taken AS (
    UPDATE notifier.coupons AS coupon
    SET voided_time = void.voided_time, voided_by = void.voided_by
    FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bigint[])
        AS void (partition, campaign_id, member_id, change_offset, voided_time, voided_by)
    WHERE coupon.partition = void.partition AND coupon.campaign_id = void.campaign_id
        AND coupon.member_id = void.member_id AND coupon.change_offset = void.change_offset
        AND coupon.voided_time IS NULL
    RETURNING coupon.partition, coupon.campaign_id, coupon.member_id, coupon.change_offset
)
UPDATE notifier.deliveries AS delivery
SET state = 'dead', last_error = $7
FROM taken
WHERE delivery.partition = taken.partition AND delivery.campaign_id = taken.campaign_id
    AND delivery.member_id = taken.member_id AND delivery.change_offset = taken.change_offset
    AND delivery.state IN ('queued', 'no_contact');

-- name: find_coupon
-- A coupon by its code.
SELECT partition, campaign_id, member_id, change_offset, code, variant, discount_bp, discount_minor_units, issued_time,
    valid_until_time, voided_time, voided_by
FROM notifier.coupons
WHERE partition = $1 AND code = $2;

-- name: due_partitions
-- For each partition with messages to send: when the first is due.
SELECT partition, min(not_before) AS not_before
FROM notifier.deliveries
WHERE state = 'queued'
GROUP BY partition
ORDER BY partition;

-- name: lease_deliveries
-- Takes messages that are due: $1 = partition, $2 = now, $3 = end of the lease, $4 = at most.
WITH due AS (
    SELECT partition, delivery_id
    FROM notifier.deliveries
    WHERE partition = $1 AND state = 'queued' AND not_before <= $2
    ORDER BY not_before
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.deliveries AS delivery
SET not_before = $3
FROM due, notifier.coupons AS coupon
WHERE delivery.partition = $1 AND delivery.partition = due.partition AND delivery.delivery_id = due.delivery_id
    AND coupon.partition = delivery.partition AND coupon.campaign_id = delivery.campaign_id
    AND coupon.member_id = delivery.member_id AND coupon.change_offset = delivery.change_offset
RETURNING coupon.partition, coupon.campaign_id, coupon.member_id, coupon.change_offset, coupon.code, coupon.variant,
    coupon.discount_bp, coupon.discount_minor_units, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.tier, delivery.previous_tier, delivery.balance_minor_units,
    delivery.attempts, delivery.not_before;

-- name: settle_deliveries
-- Writes down what came of messages: $1 = partition, $2 = end of the lease. A message that was delivered is delivered,
-- whoever holds it now, and even where its coupon was taken back on the way; for all else the lease must still be ours.
UPDATE notifier.deliveries AS delivery
SET state = settled.state, attempts = settled.attempts, not_before = settled.not_before,
    delivered_time = settled.delivered_time, last_error = coalesce(settled.last_error, delivery.last_error)
FROM unnest($3::text[], $4::text[], $5::smallint[], $6::timestamptz[], $7::timestamptz[], $8::text[])
    AS settled (delivery_id, state, attempts, not_before, delivered_time, last_error)
WHERE delivery.partition = $1 AND delivery.delivery_id = settled.delivery_id
    AND CASE settled.state
        WHEN 'delivered' THEN delivery.state IN ('queued', 'dead')
        ELSE delivery.state = 'queued' AND delivery.not_before = $2
    END;

-- name: settle_without_contact
-- Puts messages aside whose members have no address, if that is still so: $1 = partition, $2 = end of the lease.
UPDATE notifier.deliveries AS delivery
SET state = 'no_contact', not_before = $4
WHERE delivery.partition = $1 AND delivery.delivery_id = ANY($3::text[])
    AND delivery.state = 'queued' AND delivery.not_before = $2
    AND NOT EXISTS (
        SELECT FROM notifier.contacts AS contact JOIN notifier.member_keys USING (partition, member_id)
        WHERE contact.partition = delivery.partition AND contact.member_id = delivery.member_id
            AND contact.email IS NOT NULL);

-- name: release_deliveries
-- Gives leased messages back at once: $1 = partition, $2 = end of the lease, $4 = now.
UPDATE notifier.deliveries
SET not_before = $4
WHERE partition = $1 AND delivery_id = ANY($3::text[]) AND state = 'queued' AND not_before = $2;

-- name: find_contacts
-- The contacts of members of one partition, sealed, with their wrapped keys.
SELECT member_id, wrapped_key, name, email
FROM notifier.contacts JOIN notifier.member_keys USING (partition, member_id)
WHERE partition = $1 AND member_id = ANY($2::text[]);

-- name: find_contact_request
-- Whether a member is known, its key, and what stands for the content of a request answered before.
SELECT
    EXISTS (SELECT FROM notifier.members WHERE partition = $1 AND member_id = $2) AS known,
    (SELECT wrapped_key FROM notifier.member_keys WHERE partition = $1 AND member_id = $2) AS wrapped_key,
    (
        SELECT content_digest FROM notifier.contact_requests
        WHERE partition = $1 AND member_id = $2 AND request_id = $3
    ) AS content_digest;

-- name: insert_contact_request
-- Keeps a request; says nothing where it was answered before.
INSERT INTO notifier.contact_requests (partition, member_id, request_id, content_digest, recorded_time)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: insert_member_key
-- Keeps a member's key; says nothing where there is one.
INSERT INTO notifier.member_keys (partition, member_id, wrapped_key) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_member_key
-- A member's key, wrapped.
SELECT wrapped_key FROM notifier.member_keys WHERE partition = $1 AND member_id = $2;

-- name: find_keys_of_older
-- Members' keys after ($1, $2) that are not wrapped by the master key $3; a wrapped key begins with the id of that one.
SELECT partition, member_id, wrapped_key
FROM notifier.member_keys
WHERE (partition, member_id) > ($1, $2) AND substring(wrapped_key FOR 16) <> $3
ORDER BY partition, member_id
LIMIT $4;

-- name: count_keys_of_older
-- How many keys need another master key than $1, the derived ones among them.
SELECT
    (SELECT count(*) FROM notifier.member_keys WHERE substring(wrapped_key FOR 16) <> $1)
    + (SELECT count(*) FROM notifier.installation WHERE coalesce(substring(sealed_keys FOR 16), key_fingerprint) <> $1);

-- name: rewrap_keys
-- Members' keys wrapped anew, where they are as they were.
UPDATE notifier.member_keys AS kept
SET wrapped_key = new.after
FROM unnest($1::integer[], $2::text[], $3::bytea[], $4::bytea[]) AS new (partition, member_id, before, after)
WHERE kept.partition = new.partition AND kept.member_id = new.member_id AND kept.wrapped_key = new.before;

-- name: put_contact
-- Sets a member's contact, whole.
INSERT INTO notifier.contacts (partition, member_id, name, email, set_time) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (partition, member_id)
DO UPDATE SET name = excluded.name, email = excluded.email, set_time = excluded.set_time;

-- name: delete_contact
-- Removes a member's contact.
DELETE FROM notifier.contacts WHERE partition = $1 AND member_id = $2;

-- name: queue_again
-- Queues a member's messages that found no contact, where their coupons are still valid: $3 = business now, $4 = now.
UPDATE notifier.deliveries AS delivery
SET state = 'queued', not_before = $4
FROM notifier.coupons AS coupon
WHERE delivery.partition = $1 AND delivery.member_id = $2 AND delivery.state = 'no_contact'
    AND coupon.partition = delivery.partition AND coupon.campaign_id = delivery.campaign_id
    AND coupon.member_id = delivery.member_id AND coupon.change_offset = delivery.change_offset
    AND coupon.valid_until_time > $3
RETURNING delivery.delivery_id;

-- name: list_deliveries
-- A page of all messages, newest first, after ($1, $2).
SELECT delivery.delivery_id, delivery.member_id, delivery.campaign_id, coupon.code, delivery.state, delivery.attempts,
    delivery.created_time, delivery.delivered_time, delivery.last_error
FROM notifier.deliveries AS delivery
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, change_offset)
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text)
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries
-- All messages.
SELECT count(*) FROM notifier.deliveries;

-- name: list_deliveries_in_state
-- A page of the messages in the state $4, newest first, after ($1, $2).
SELECT delivery.delivery_id, delivery.member_id, delivery.campaign_id, coupon.code, delivery.state, delivery.attempts,
    delivery.created_time, delivery.delivered_time, delivery.last_error
FROM notifier.deliveries AS delivery
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, change_offset)
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text) AND delivery.state = $4
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries_in_state
-- All messages in a state.
SELECT count(*) FROM notifier.deliveries WHERE state = $1;

-- name: list_deliveries_of_member
-- A page of the messages to one member ($5 = partition, $6 = member) in one of the states $4, newest first.
SELECT delivery.delivery_id, delivery.member_id, delivery.campaign_id, coupon.code, delivery.state, delivery.attempts,
    delivery.created_time, delivery.delivered_time, delivery.last_error
FROM notifier.deliveries AS delivery
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, change_offset)
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text) AND delivery.state = ANY($4::text[])
    AND delivery.partition = $5 AND delivery.member_id = $6
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries_of_member
-- The messages to one member in one of these states.
SELECT count(*) FROM notifier.deliveries WHERE partition = $1 AND member_id = $2 AND state = ANY($3::text[]);

-- name: check_members
-- Every member, for the check.
SELECT partition, member_id, joined_time FROM notifier.members;

-- name: check_rewards
-- Every coupon with its message, and either without the other, for the check.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.change_offset, coupon.code, coupon.variant,
    coupon.discount_bp, coupon.discount_minor_units, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.tier, delivery.previous_tier, delivery.balance_minor_units,
    delivery.created_time
FROM notifier.coupons AS coupon
LEFT JOIN notifier.deliveries AS delivery USING (partition, campaign_id, member_id, change_offset);

-- name: check_contacts
-- Every contact, sealed, with its wrapped key where it has one, for the check.
SELECT partition, member_id, wrapped_key, name, email
FROM notifier.contacts LEFT JOIN notifier.member_keys USING (partition, member_id);
