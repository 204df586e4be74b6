-- name: insert_deliveries
-- The messages that carry coupons, each in its state; those that are queued are due at once: $9 = now.
INSERT INTO notifier.deliveries (
    partition, campaign_id, member_id, trigger, delivery_id, facts, created_time, state, not_before)
SELECT new.*, $9::timestamptz
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::timestamptz[], $8::text[]) AS new
ON CONFLICT DO NOTHING;

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
    AND coupon.member_id = delivery.member_id AND coupon.trigger = delivery.trigger
RETURNING coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, coupon.variant,
    coupon.offer, coupon.terms, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.facts,
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

-- name: queue_again
-- Queues a member's messages that found no contact, where their coupons are still valid: $3 = business now, $4 = now.
UPDATE notifier.deliveries AS delivery
SET state = 'queued', not_before = $4
FROM notifier.coupons AS coupon
WHERE delivery.partition = $1 AND delivery.member_id = $2 AND delivery.state = 'no_contact'
    AND coupon.partition = delivery.partition AND coupon.campaign_id = delivery.campaign_id
    AND coupon.member_id = delivery.member_id AND coupon.trigger = delivery.trigger
    AND coupon.valid_until_time > $3
RETURNING delivery.delivery_id;

-- name: list_deliveries
-- A page of all messages, newest first, after ($1, $2).
SELECT delivery.delivery_id, delivery.member_id, delivery.campaign_id, coupon.code, delivery.state, delivery.attempts,
    delivery.created_time, delivery.delivered_time, delivery.last_error
FROM notifier.deliveries AS delivery
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, trigger)
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
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, trigger)
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
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, trigger)
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text) AND delivery.state = ANY($4::text[])
    AND delivery.partition = $5 AND delivery.member_id = $6
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries_of_member
-- The messages to one member in one of these states.
SELECT count(*) FROM notifier.deliveries WHERE partition = $1 AND member_id = $2 AND state = ANY($3::text[]);
