-- name: lock_coupons
-- Coupons of one partition by their codes, locked until the end of the transaction; not those that are being made.
SELECT * FROM notifier.coupons WHERE partition = $1 AND code = ANY($2::text[]) AND NOT preparing
ORDER BY code
FOR UPDATE;

-- name: find_uses
-- Uses of the coupons $2 of a partition: those that are reserved at $3 (machine time), the named ones ($4, $5), and
-- those of members ($6, $7).
SELECT * FROM notifier.coupon_uses
WHERE partition = $1 AND code = ANY($2::text[]) AND state = 'reserved' AND reserved_until > $3
UNION
SELECT use.*
FROM unnest($4::text[], $5::text[]) AS named (code, use_id)
JOIN notifier.coupon_uses AS use ON use.partition = $1 AND use.code = named.code AND use.use_id = named.use_id
UNION
SELECT use.*
FROM unnest($6::text[], $7::text[]) AS whose (code, member_id)
JOIN notifier.coupon_uses AS use
    ON use.partition = $1 AND use.code = whose.code AND use.member_id = whose.member_id AND use.state <> 'released';

-- name: list_redeemed_uses
-- The uses of a coupon that were redeemed, the last first: $3 = at most.
SELECT * FROM notifier.coupon_uses
WHERE partition = $1 AND code = $2 AND state = 'redeemed'
ORDER BY redeemed_time DESC, use_id
LIMIT $3;

-- name: sum_overdrawn_uses
-- Uses that were given offline although something spoke against them, from $1 until $2 (null: without an end), by store
-- and reason; and what the amounts of their coupons come to.
SELECT use.store_id, use.overdrawn AS reason, count(*) AS uses,
    coalesce(sum((coupon.offer ->> 'amount')::bigint), 0)::bigint AS minor_units
FROM notifier.coupon_uses AS use
JOIN notifier.coupons AS coupon USING (partition, code)
WHERE use.overdrawn <> ''
    AND ($1::timestamptz IS NULL OR use.redeemed_time >= $1)
    AND ($2::timestamptz IS NULL OR use.redeemed_time < $2)
GROUP BY use.store_id, use.overdrawn
ORDER BY use.store_id, use.overdrawn;

-- name: put_uses
-- Keeps uses of coupons of a partition, whole.
INSERT INTO notifier.coupon_uses (
    partition, code, use_id, member_id, state, reserved_until, redeemed_time, store_id, channel, purchase_id,
    overdrawn)
SELECT $1::integer, new.*
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[],
    $10::text[], $11::text[]) AS new
ON CONFLICT (partition, code, use_id) DO UPDATE
SET member_id = excluded.member_id, state = excluded.state, reserved_until = excluded.reserved_until,
    redeemed_time = excluded.redeemed_time, store_id = excluded.store_id, channel = excluded.channel,
    purchase_id = excluded.purchase_id, overdrawn = excluded.overdrawn;

-- name: count_redeemed
-- How often coupons of a partition were redeemed, as it is now.
UPDATE notifier.coupons AS coupon
SET redeemed = new.redeemed
FROM unnest($2::text[], $3::integer[]) AS new (code, redeemed)
WHERE coupon.partition = $1 AND coupon.code = new.code;

-- name: find_coupon_requests
-- Which of these requests of a partition were answered, and how.
SELECT kept.subject, kept.request_id, kept.content_digest, kept.answer
FROM unnest($2::text[], $3::text[]) AS asked (subject, request_id)
JOIN notifier.coupon_requests AS kept
    ON kept.partition = $1 AND kept.subject = asked.subject AND kept.request_id = asked.request_id;

-- name: insert_coupon_requests
-- Keeps requests of a partition with their answers; $6 = now. Says how many it kept: one that was there is left out.
WITH kept AS (
    INSERT INTO notifier.coupon_requests (partition, subject, request_id, content_digest, answer, recorded_time)
    SELECT $1::integer, new.*, $6::timestamptz
    FROM unnest($2::text[], $3::text[], $4::bytea[], $5::jsonb[]) AS new
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT count(*) FROM kept;

-- name: check_uses
-- Coupons whose count of redeemed uses is not that of their uses, for the check.
SELECT coupon.partition, coupon.code, coupon.redeemed, coalesce(counted.uses, 0) AS uses
FROM notifier.coupons AS coupon
LEFT JOIN (
    SELECT partition, code, count(*) AS uses
    FROM notifier.coupon_uses
    WHERE state = 'redeemed'
    GROUP BY partition, code
) AS counted USING (partition, code)
WHERE coupon.redeemed <> coalesce(counted.uses, 0);
