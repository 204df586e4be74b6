-- name: insert_coupons
-- Coupons, once per campaign, member and change; says which it wrote. One that is left out was there, or its code was.
INSERT INTO notifier.coupons (
    partition, campaign_id, member_id, trigger, code, variant, offer, terms, issued_time, valid_until_time, uses,
    once_per_member, reward_id, reason, issued_by, preparing)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::jsonb[], $8::jsonb[],
    $9::timestamptz[], $10::timestamptz[], $11::integer[], $12::boolean[], $13::text[], $14::text[], $15::text[],
    $16::boolean[])
ON CONFLICT DO NOTHING
RETURNING partition, campaign_id, member_id, trigger;

-- name: find_coupon_keys
-- Which of these rewards have their coupon.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger
FROM notifier.coupons AS coupon
JOIN unnest($1::integer[], $2::text[], $3::text[], $4::text[])
    AS wanted (partition, campaign_id, member_id, trigger)
    USING (partition, campaign_id, member_id, trigger);

-- name: find_tier_gifts
-- What changes of tier gave members: their coupons that were not taken back, with the messages.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, coupon.variant,
    coupon.offer, coupon.terms, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.facts
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, member_id)
JOIN notifier.coupons AS coupon USING (partition, member_id)
LEFT JOIN notifier.deliveries AS delivery USING (partition, campaign_id, member_id, trigger)
WHERE coupon.voided_time IS NULL AND coupon.trigger LIKE 'change:%';

-- name: void_coupons
-- Keeps of coupons that they were taken back; their messages that wait are sent no more: $7 = why.
WITH taken AS (
    UPDATE notifier.coupons AS coupon
    SET voided_time = void.voided_time, voided_by = void.voided_by
    FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[])
        AS void (partition, campaign_id, member_id, trigger, voided_time, voided_by)
    WHERE coupon.partition = void.partition AND coupon.campaign_id = void.campaign_id
        AND coupon.member_id = void.member_id AND coupon.trigger = void.trigger
        AND coupon.voided_time IS NULL
    RETURNING coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger
)
UPDATE notifier.deliveries AS delivery
SET state = 'dead', last_error = $7
FROM taken
WHERE delivery.partition = taken.partition AND delivery.campaign_id = taken.campaign_id
    AND delivery.member_id = taken.member_id AND delivery.trigger = taken.trigger
    AND delivery.state IN ('queued', 'held', 'no_contact');

-- name: read_coupon
-- A coupon by its code, unless it is being made, and how many of its uses are reserved at $3 (machine time).
SELECT coupon.*, (
    SELECT count(*) FROM notifier.coupon_uses AS use
    WHERE use.partition = $1 AND use.code = coupon.code AND use.state = 'reserved' AND use.reserved_until > $3
) AS reserved
FROM notifier.coupons AS coupon
WHERE coupon.partition = $1 AND coupon.code = $2 AND NOT coupon.preparing;

-- name: find_coupon_of
-- The coupon that was given for something, also while it is being made.
SELECT * FROM notifier.coupons WHERE partition = $1 AND campaign_id = $2 AND member_id = $3 AND trigger = $4;

-- name: list_coupons
-- A page of a member's coupons, those issued last first, after ($3, $4); $5 = only those that can be used at $6
-- (business time); $7 = machine time; $8 = at most.
SELECT coupon.*, (
    SELECT count(*) FROM notifier.coupon_uses AS use
    WHERE use.partition = $1 AND use.code = coupon.code AND use.state = 'reserved' AND use.reserved_until > $7
) AS reserved
FROM notifier.coupons AS coupon
WHERE coupon.partition = $1 AND coupon.member_id = $2 AND NOT coupon.preparing
    AND (coupon.issued_time, coupon.code) < ($3::timestamptz, $4::text)
    AND (
        NOT $5::boolean
        OR (coupon.voided_time IS NULL AND coupon.redeemed < coupon.uses AND coupon.valid_until_time > $6)
    )
ORDER BY coupon.issued_time DESC, coupon.code DESC
LIMIT $8;

-- name: find_codes
-- Which of these codes coupons have.
SELECT coupon.partition, coupon.code
FROM notifier.coupons AS coupon
JOIN unnest($1::integer[], $2::text[]) AS wanted (partition, code) USING (partition, code);

-- name: publish_coupon
-- Makes a coupon the member's.
UPDATE notifier.coupons SET preparing = false WHERE partition = $1 AND code = $2;

-- name: void_coupon
-- Takes a coupon back, by its code: $3 = when, $4 = why; its message that waits is sent no more: $5 = what is said of it.
WITH taken AS (
    UPDATE notifier.coupons
    SET voided_time = $3, void_reason = $4
    WHERE partition = $1 AND code = $2 AND voided_time IS NULL
    RETURNING partition, campaign_id, member_id, trigger
)
UPDATE notifier.deliveries AS delivery
SET state = 'dead', last_error = $5
FROM taken
WHERE delivery.partition = taken.partition AND delivery.campaign_id = taken.campaign_id
    AND delivery.member_id = taken.member_id AND delivery.trigger = taken.trigger
    AND delivery.state IN ('queued', 'held', 'no_contact');

-- name: check_tier_gifts
-- Every coupon that a change of tier gave, with its message to the member, or without one, for the check.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, coupon.variant,
    coupon.offer, coupon.terms, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.facts,
    delivery.created_time
FROM notifier.coupons AS coupon
LEFT JOIN notifier.deliveries AS delivery
    ON delivery.partition = coupon.partition AND delivery.campaign_id = coupon.campaign_id
    AND delivery.member_id = coupon.member_id AND delivery.trigger = coupon.trigger AND delivery.channel <> 'webhook'
WHERE coupon.trigger LIKE 'change:%';
