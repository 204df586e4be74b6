-- name: insert_deliveries
-- Messages, each in its state; those that are queued are due at once: $15 = now. Says which were not there before.
INSERT INTO notifier.deliveries (
    partition, delivery_id, campaign_id, member_id, trigger, variant, channel, route, topic, urgent, coupon_code, facts,
    created_time, state, not_before)
SELECT new.*, $15::timestamptz
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::boolean[], $11::text[], $12::jsonb[], $13::timestamptz[], $14::text[]) AS new
ON CONFLICT DO NOTHING
RETURNING delivery_id, state;

-- name: due_deliveries
-- For each partition and campaign with messages to send these ways ($1): when the first is due. Those of campaigns that
-- are paused ($2) wait. From one campaign the next is looked for, so that it does not matter how much waits of each.
WITH RECURSIVE due AS (
    SELECT cursor.partition, way.route, first.campaign_id, first.not_before
    FROM notifier.cursors AS cursor
    CROSS JOIN unnest($1::text[]) AS way (route)
    CROSS JOIN LATERAL (
        SELECT campaign_id, not_before FROM notifier.deliveries AS delivery
        WHERE delivery.partition = cursor.partition AND delivery.route = way.route AND delivery.state = 'queued'
        ORDER BY campaign_id, not_before
        LIMIT 1
    ) AS first
    UNION ALL
    SELECT due.partition, due.route, next.campaign_id, next.not_before
    FROM due
    CROSS JOIN LATERAL (
        SELECT campaign_id, not_before FROM notifier.deliveries AS delivery
        WHERE delivery.partition = due.partition AND delivery.route = due.route AND delivery.state = 'queued'
            AND delivery.campaign_id > due.campaign_id
        ORDER BY campaign_id, not_before
        LIMIT 1
    ) AS next
)
SELECT partition, route, campaign_id, not_before FROM due WHERE campaign_id <> ALL($2::text[]) ORDER BY not_before;

-- name: lease_deliveries
-- Takes messages of a campaign that are due: $1 = partition, $2 = route, $3 = campaign, $4 = now, $5 = end of the lease,
-- $6 = at most.
WITH due AS (
    SELECT partition, delivery_id
    FROM notifier.deliveries
    WHERE partition = $1 AND route = $2 AND campaign_id = $3 AND state = 'queued' AND not_before <= $4
    ORDER BY not_before
    LIMIT $6
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.deliveries AS delivery
SET not_before = $5
FROM due
WHERE delivery.partition = $1 AND delivery.partition = due.partition AND delivery.delivery_id = due.delivery_id
RETURNING delivery.*;

-- name: find_carried_coupons
-- Coupons by their codes.
SELECT coupon.* FROM notifier.coupons AS coupon WHERE coupon.partition = $1 AND coupon.code = ANY($2::text[]);

-- name: find_had
-- When members got messages that may count for the caps, since $3; those of $4 are not meant.
SELECT member_id, channel, topic, urgent, sent_time
FROM notifier.deliveries
WHERE partition = $1 AND member_id = ANY($2::text[]) AND sent_time > $3 AND state IN ('queued', 'delivered')
    AND NOT delivery_id = ANY($4::text[]);

-- name: send_on_way
-- Says of leased messages that they are being sent, and where: $2 = business now, $4 = hashes of the addresses.
UPDATE notifier.deliveries AS delivery
SET sent_time = $2, address_hash = sent.address_hash
FROM unnest($3::text[], $4::bytea[]) AS sent (delivery_id, address_hash)
WHERE delivery.partition = $1 AND delivery.delivery_id = sent.delivery_id;

-- name: sent_elsewhere
-- Says of messages that they went to other addresses; not where the member was erased meanwhile.
UPDATE notifier.deliveries AS delivery
SET address_hash = sent.address_hash
FROM unnest($2::text[], $3::bytea[]) AS sent (delivery_id, address_hash)
WHERE delivery.partition = $1 AND delivery.delivery_id = sent.delivery_id AND delivery.address_hash IS NOT NULL;

-- name: find_address_hash
-- What is kept of the address that a message was sent to.
SELECT address_hash FROM notifier.deliveries WHERE partition = $1 AND delivery_id = $2;

-- name: put_aside
-- What becomes of leased messages that are not sent: $2 = end of the lease.
UPDATE notifier.deliveries AS delivery
SET state = aside.state, not_before = aside.not_before, held_until = aside.held_until,
    last_error = coalesce(aside.last_error, delivery.last_error)
FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[])
    AS aside (delivery_id, state, not_before, held_until, last_error)
WHERE delivery.partition = $1 AND delivery.delivery_id = aside.delivery_id
    AND delivery.state = 'queued' AND delivery.not_before = $2;

-- name: release_held
-- Queues what was held until now: $1 = partition, $2 = business now, $3 = now, $4 = at most.
WITH due AS (
    SELECT partition, delivery_id
    FROM notifier.deliveries
    WHERE partition = $1 AND state = 'held' AND held_until <= $2
    ORDER BY held_until
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.deliveries AS delivery
SET state = 'queued', not_before = $3, held_until = NULL
FROM due
WHERE delivery.partition = $1 AND delivery.partition = due.partition AND delivery.delivery_id = due.delivery_id
RETURNING delivery.delivery_id;

-- name: next_held
-- For each partition: until when the next one is held.
SELECT cursor.partition, first.held_until
FROM notifier.cursors AS cursor
CROSS JOIN LATERAL (
    SELECT held_until FROM notifier.deliveries AS delivery
    WHERE delivery.partition = cursor.partition AND delivery.state = 'held'
    ORDER BY held_until
    LIMIT 1
) AS first;

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

-- name: queue_again
-- Queues a member's messages that found no contact: those whose coupons are still valid, and of those without one what
-- was made at $4 or later: $3 = business now, $5 = now.
UPDATE notifier.deliveries AS delivery
SET state = 'queued', not_before = $5
WHERE delivery.partition = $1 AND delivery.member_id = $2 AND delivery.state = 'no_contact'
    AND (delivery.coupon_code IS NOT NULL OR delivery.created_time >= $4)
    AND NOT EXISTS (
        SELECT FROM notifier.coupons AS coupon
        WHERE coupon.partition = $1 AND coupon.code = delivery.coupon_code AND coupon.valid_until_time <= $3)
RETURNING delivery.delivery_id;

-- name: find_delivery
-- One message.
SELECT delivery.* FROM notifier.deliveries AS delivery WHERE delivery.partition = $1 AND delivery.delivery_id = $2;

-- name: retry_delivery
-- Queues a message anew that was given up, as if it had never been tried; not where its coupon was taken back: $3 = now.
UPDATE notifier.deliveries AS delivery
SET state = 'queued', attempts = 0, not_before = $3, held_until = NULL
WHERE delivery.partition = $1 AND delivery.delivery_id = $2 AND delivery.state IN ('dead', 'withheld')
    AND NOT EXISTS (
        SELECT FROM notifier.coupons AS coupon
        WHERE coupon.partition = $1 AND coupon.code = delivery.coupon_code AND coupon.voided_time IS NOT NULL)
RETURNING delivery.*;

-- name: drop_deliveries_of_way
-- What waits for a way that is closed for good is dead: $2 = why.
UPDATE notifier.deliveries SET state = 'dead', last_error = $2
WHERE route = $1 AND state = 'queued';

-- name: list_deliveries
-- A page of all messages, newest first, after ($1, $2).
SELECT delivery.*
FROM notifier.deliveries AS delivery
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text)
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries
-- All messages, counted up to $1.
SELECT count(*) FROM (SELECT FROM notifier.deliveries LIMIT $1) AS counted;

-- name: list_deliveries_in_state
-- A page of the messages in the state $4, newest first, after ($1, $2).
SELECT delivery.*
FROM notifier.deliveries AS delivery
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text) AND delivery.state = $4
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries_in_state
-- The messages in the state $2, counted up to $1.
SELECT count(*) FROM (SELECT FROM notifier.deliveries WHERE state = $2 LIMIT $1) AS counted;

-- name: list_deliveries_of_member
-- A page of the messages to one member ($5 = partition, $6 = member) in one of the states $4, newest first.
SELECT delivery.*
FROM notifier.deliveries AS delivery
WHERE (delivery.created_time, delivery.delivery_id) < ($1::timestamptz, $2::text) AND delivery.state = ANY($4::text[])
    AND delivery.partition = $5 AND delivery.member_id = $6
ORDER BY delivery.created_time DESC, delivery.delivery_id DESC
LIMIT $3;

-- name: count_deliveries_of_member
-- The messages to one member ($3 = partition, $4 = member) in one of the states $2, counted up to $1.
SELECT count(*)
FROM (
    SELECT FROM notifier.deliveries WHERE partition = $3 AND member_id = $4 AND state = ANY($2::text[]) LIMIT $1
) AS counted;
