-- name: insert_coupons
-- Coupons, once per campaign, member and change; says which it wrote. One that is left out was there, or its code was.
INSERT INTO notifier.coupons (
    partition, campaign_id, member_id, trigger, code, variant, offer, terms, issued_time,
    valid_until_time)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::jsonb[], $8::jsonb[],
    $9::timestamptz[], $10::timestamptz[])
ON CONFLICT DO NOTHING
RETURNING partition, campaign_id, member_id, trigger;

-- name: find_coupon_keys
-- Which of these rewards have their coupon.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger
FROM notifier.coupons AS coupon
JOIN unnest($1::integer[], $2::text[], $3::text[], $4::text[])
    AS wanted (partition, campaign_id, member_id, trigger)
    USING (partition, campaign_id, member_id, trigger);

-- name: find_rewards
-- What members hold: their coupons that were not taken back, with the messages.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, coupon.variant,
    coupon.offer, coupon.terms, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.facts
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, member_id)
JOIN notifier.deliveries AS delivery USING (partition, member_id)
JOIN notifier.coupons AS coupon USING (partition, campaign_id, member_id, trigger)
WHERE coupon.voided_time IS NULL;

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
    AND delivery.state IN ('queued', 'no_contact');

-- name: find_coupon
-- A coupon by its code.
SELECT partition, campaign_id, member_id, trigger, code, variant, offer, terms, issued_time,
    valid_until_time, voided_time, voided_by
FROM notifier.coupons
WHERE partition = $1 AND code = $2;

-- name: check_rewards
-- Every coupon with its message, and either without the other, for the check.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, coupon.variant,
    coupon.offer, coupon.terms, coupon.issued_time, coupon.valid_until_time, coupon.voided_time,
    coupon.voided_by, delivery.delivery_id, delivery.facts,
    delivery.created_time
FROM notifier.coupons AS coupon
LEFT JOIN notifier.deliveries AS delivery USING (partition, campaign_id, member_id, trigger);
