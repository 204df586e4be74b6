-- name: insert_reward_intent
-- Keeps that a reward was asked for; says nothing where it was asked for before.
INSERT INTO notifier.reward_intents (
    partition, member_id, request_id, content_digest, reward_id, principal, begun_time, points, money_minor_units,
    state, from_stock, refusal, not_before)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_reward_intent
-- A reward that was asked for.
SELECT * FROM notifier.reward_intents WHERE partition = $1 AND member_id = $2 AND request_id = $3;

-- name: lock_reward_intent
-- The same, locked until the end of the transaction.
SELECT * FROM notifier.reward_intents WHERE partition = $1 AND member_id = $2 AND request_id = $3 FOR UPDATE;

-- name: find_reward_intents
-- All rewards that a member asked for.
SELECT * FROM notifier.reward_intents WHERE partition = $1 AND member_id = $2;

-- name: move_reward_intent
-- What became of a reward that was asked for: $4 = state, $5 = the code of its coupon, $6 = why it was refused.
UPDATE notifier.reward_intents
SET state = $4, code = $5, refusal = $6
WHERE partition = $1 AND member_id = $2 AND request_id = $3;

-- name: open_rewards
-- For each partition with rewards that are neither issued nor refused, or are being taken back: when the first may be
-- gone on with.
SELECT partition, min(not_before) AS not_before
FROM (
    SELECT partition, not_before FROM notifier.reward_intents WHERE state IN ('begun', 'prepared')
    UNION ALL
    SELECT partition, not_before FROM notifier.reward_reversals WHERE state = 'begun'
) AS waiting
GROUP BY partition;

-- name: lease_reward_intents
-- Takes rewards to go on with: $1 = partition, $2 = now, $3 = end of the lease, $4 = at most.
WITH due AS (
    SELECT partition, member_id, request_id
    FROM notifier.reward_intents
    WHERE partition = $1 AND state IN ('begun', 'prepared') AND not_before <= $2
    ORDER BY not_before
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.reward_intents AS intent
SET not_before = $3, attempts = least(intent.attempts + 1, 32767)
FROM due
WHERE intent.partition = $1 AND intent.partition = due.partition AND intent.member_id = due.member_id
    AND intent.request_id = due.request_id
RETURNING intent.*;

-- name: insert_reward_reversal
-- Keeps that a reward is taken back; says nothing where it is already.
INSERT INTO notifier.reward_reversals (partition, member_id, request_id, principal, begun_time, state, not_before)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_reward_reversal
-- The taking back of a reward.
SELECT * FROM notifier.reward_reversals WHERE partition = $1 AND member_id = $2 AND request_id = $3;

-- name: end_reward_reversal
-- The taking back of a reward is over: $4 = how; says nothing where it was before.
UPDATE notifier.reward_reversals
SET state = $4
WHERE partition = $1 AND member_id = $2 AND request_id = $3 AND state = 'begun'
RETURNING true;

-- name: lease_reward_reversals
-- Takes rewards to go on taking back: $1 = partition, $2 = now, $3 = end of the lease, $4 = at most.
WITH due AS (
    SELECT partition, member_id, request_id
    FROM notifier.reward_reversals
    WHERE partition = $1 AND state = 'begun' AND not_before <= $2
    ORDER BY not_before
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.reward_reversals AS reversal
SET not_before = $3, attempts = least(reversal.attempts + 1, 32767)
FROM due
WHERE reversal.partition = $1 AND reversal.partition = due.partition AND reversal.member_id = due.member_id
    AND reversal.request_id = due.request_id
RETURNING reversal.*;

-- name: take_reward
-- Counts one more of a reward, unless $4 (null: no limit) were taken; says nothing then.
INSERT INTO notifier.reward_counts AS count (partition, member_id, reward_id, taken)
VALUES ($1, $2, $3, 1)
ON CONFLICT (partition, member_id, reward_id) DO UPDATE
SET taken = count.taken + 1
WHERE $4::bigint IS NULL OR count.taken < $4
RETURNING true;

-- name: give_reward_back
-- Counts one less.
UPDATE notifier.reward_counts SET taken = taken - 1 WHERE partition = $1 AND member_id = $2 AND reward_id = $3;

-- name: find_reward_counts
-- How many were taken, by place: partition and member, or, with no member, of the stock.
SELECT count.member_id, count.reward_id, count.taken
FROM unnest($1::integer[], $2::text[], $3::text[]) AS wanted (partition, member_id, reward_id)
JOIN notifier.reward_counts AS count USING (partition, member_id, reward_id);

-- name: check_reward_limits
-- Where what is counted of a reward for a member is not what was given, for the check. What the ledger would not give
-- the points back of is free like what was taken back: the coupon is void.
SELECT partition, member_id, reward_id, coalesce(had.taken, 0) AS expected, coalesce(kept.taken, 0) AS found
FROM (
    SELECT intent.partition, intent.member_id, intent.reward_id, count(*) AS taken
    FROM notifier.reward_intents AS intent
    LEFT JOIN notifier.reward_reversals AS reversal USING (partition, member_id, request_id)
    WHERE intent.state <> 'refused' AND coalesce(reversal.state, 'begun') = 'begun'
    GROUP BY 1, 2, 3
) AS had
FULL JOIN (SELECT * FROM notifier.reward_counts WHERE member_id <> '') AS kept USING (partition, member_id, reward_id)
WHERE coalesce(had.taken, 0) <> coalesce(kept.taken, 0)
ORDER BY 1, 2, 3;

-- name: check_reward_stock
-- How much was given of each stock, beside every place where that is counted, for the check.
SELECT reward_id, kept.partition, coalesce(had.taken, 0) AS expected, kept.taken AS found
FROM (
    SELECT intent.reward_id, count(*) AS taken
    FROM notifier.reward_intents AS intent
    LEFT JOIN notifier.reward_reversals AS reversal USING (partition, member_id, request_id)
    WHERE intent.from_stock AND intent.state <> 'refused' AND coalesce(reversal.state, 'begun') = 'begun'
    GROUP BY 1
) AS had
FULL JOIN (SELECT * FROM notifier.reward_counts WHERE member_id = '') AS kept USING (reward_id)
ORDER BY 1, 2;

-- name: check_reward_intents
-- The rewards of a partition that were asked for, for the check, each with what became of its coupon, and how far its
-- taking back is, where it is taken back; of the members $2 alone where they are given.
SELECT intent.*, reversal.state AS reversal, CASE
    WHEN coupon.code IS NULL THEN ''
    WHEN coupon.voided_time IS NOT NULL THEN 'void'
    WHEN coupon.preparing THEN 'preparing'
    ELSE 'issued'
END AS coupon
FROM notifier.reward_intents AS intent
LEFT JOIN notifier.coupons AS coupon ON coupon.partition = intent.partition AND coupon.code = intent.code
LEFT JOIN notifier.reward_reversals AS reversal
    ON reversal.partition = intent.partition AND reversal.member_id = intent.member_id
        AND reversal.request_id = intent.request_id
WHERE intent.partition = $1 AND ($2::text[] IS NULL OR intent.member_id = ANY($2));
