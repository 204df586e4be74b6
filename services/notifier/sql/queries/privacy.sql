-- name: find_erasure
-- When a member was erased, and whether all services have forgotten it.
SELECT request_id, reason, principal, asked_time, erased_time FROM notifier.erasures
WHERE partition = $1 AND member_id = $2;

-- name: find_erased
-- Which of these members were erased.
SELECT partition, member_id
FROM unnest($1::integer[], $2::text[]) AS asked (partition, member_id)
JOIN notifier.erasures USING (partition, member_id);

-- name: insert_erasure
-- Keeps that a member is to be erased; says nothing where it is already.
INSERT INTO notifier.erasures (partition, member_id, request_id, reason, principal, asked_time)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: finish_erasure
-- Keeps that all services have forgotten a member; says nothing while a checkout of the member is left.
UPDATE notifier.erasures SET erased_time = $3
WHERE partition = $1 AND member_id = $2 AND erased_time IS NULL
    AND NOT EXISTS (SELECT FROM notifier.checkouts WHERE partition = $1 AND member_id = $2)
RETURNING true;

-- name: unfinished_erasures
-- Members who are not forgotten everywhere, after ($1, $2): $3 = at most.
SELECT partition, member_id, request_id, reason, principal, asked_time, erased_time
FROM notifier.erasures WHERE erased_time IS NULL AND (asked_time, member_id) > ($1, $2)
ORDER BY asked_time, member_id LIMIT $3;

-- name: check_erased
-- Everybody who was erased, for the check.
SELECT partition, member_id FROM notifier.erasures;

-- name: erase_deliveries
-- Messages are sent no more, and say nothing any more. Before contacts: who sends locks them in this order.
UPDATE notifier.deliveries
SET facts = '{}', address_hash = NULL, state = CASE WHEN state IN ('queued', 'held', 'no_contact') THEN 'dead' ELSE state END,
    last_error = CASE WHEN state IN ('queued', 'held', 'no_contact') THEN 'the member was erased' ELSE last_error END
WHERE partition = $1 AND member_id = $2;

-- name: erase_contacts
-- What is known of a person.
DELETE FROM notifier.contacts WHERE partition = $1 AND member_id = $2;

-- name: erase_member_keys
-- The key that opens all that was sealed for a person.
DELETE FROM notifier.member_keys WHERE partition = $1 AND member_id = $2;

-- name: erase_contact_requests
-- What stands for the contacts that were sent.
DELETE FROM notifier.contact_requests WHERE partition = $1 AND member_id = $2;

-- name: export_members
-- What the feeds told of a member.
SELECT to_jsonb(kept)::text AS record, ARRAY[member_id] AS place FROM notifier.members AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[member_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_coupons
-- The coupons of a member.
SELECT to_jsonb(kept)::text AS record, ARRAY[code] AS place FROM notifier.coupons AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[code] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_deliveries
-- The messages to a member; what stands for its address tells nothing.
SELECT (to_jsonb(kept) - 'address_hash')::text AS record, ARRAY[delivery_id] AS place FROM notifier.deliveries AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[delivery_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_contact_requests
-- When a contact was sent; what stands for its content tells nothing.
SELECT (to_jsonb(kept) - 'content_digest')::text AS record, ARRAY[request_id] AS place FROM notifier.contact_requests AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_goodwill
-- What staff gave a member.
SELECT (to_jsonb(kept) - 'causal_token')::text AS record, ARRAY[request_id] AS place FROM notifier.goodwill AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_erasures
-- That a member was erased.
SELECT to_jsonb(kept)::text AS record, ARRAY[member_id] AS place FROM notifier.erasures AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[member_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: find_goodwill
-- What staff were asked to give by a request, and what came of it.
SELECT request_id, month, points, reason, principal, granted_time, awarded_time, refused, causal_token
FROM notifier.goodwill WHERE partition = $1 AND member_id = $2 AND request_id = $3;

-- name: insert_goodwill
-- Keeps what is to be given; says nothing where the request is known.
INSERT INTO notifier.goodwill (partition, member_id, request_id, month, points, reason, principal, granted_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: take_goodwill
-- Counts $4 points towards a month, up to $5 in all; says how many it are then, nothing where it would be more.
INSERT INTO notifier.goodwill_months AS kept (partition, member_id, month, points)
SELECT $1, $2, $3, $4::bigint WHERE $4::bigint <= $5::bigint
ON CONFLICT (partition, member_id, month)
DO UPDATE SET points = kept.points + excluded.points WHERE kept.points + excluded.points <= $5::bigint
RETURNING points;

-- name: find_goodwill_month
-- What was given to a member in a month.
SELECT points FROM notifier.goodwill_months WHERE partition = $1 AND member_id = $2 AND month = $3;

-- name: return_goodwill
-- Takes $4 points off a month again: they were refused.
UPDATE notifier.goodwill_months SET points = points - $4 WHERE partition = $1 AND member_id = $2 AND month = $3;

-- name: settle_goodwill
-- Keeps what came of it: $4 = when the ledger had it, or null, $5 = why it refused, $6 = the causal token.
UPDATE notifier.goodwill SET awarded_time = $4, refused = $5, causal_token = $6
WHERE partition = $1 AND member_id = $2 AND request_id = $3 AND awarded_time IS NULL AND refused = ''
RETURNING true;

-- name: unfinished_goodwill
-- What the ledger has yet to be told, from before $1: $2 = at most.
SELECT partition, member_id, request_id, month, points, reason, principal, granted_time, awarded_time, refused,
    causal_token
FROM notifier.goodwill WHERE awarded_time IS NULL AND refused = '' AND granted_time < $1
ORDER BY granted_time LIMIT $2;

-- name: erase_consents
-- What the member agreed to.
DELETE FROM notifier.consents WHERE partition = $1 AND member_id = $2;

-- name: erase_profiles
-- What campaigns knew of a member.
DELETE FROM notifier.profiles WHERE partition = $1 AND member_id = $2;

-- name: erase_lapsing_points
-- When points would have lapsed.
DELETE FROM notifier.lapsing_points WHERE partition = $1 AND member_id = $2;

-- name: erase_segments
-- The lists that the member was in.
DELETE FROM notifier.segments WHERE partition = $1 AND member_id = $2;

-- name: erase_badges
-- What the member wore.
DELETE FROM notifier.badges WHERE partition = $1 AND member_id = $2;

-- name: erase_feedback
-- What the member wrote beside answers, and what stands for it.
UPDATE notifier.feedback SET comment = NULL, content_digest = '' WHERE partition = $1 AND member_id = $2;

-- name: erase_checkouts
-- What the member had in baskets; a sale that is under way is needed until it is over.
DELETE FROM notifier.checkouts
WHERE partition = $1 AND member_id = $2 AND state IN ('done', 'refused', 'cancelled');

-- name: erase_checkout_requests
-- What tills were answered about those that are gone.
DELETE FROM notifier.checkout_requests AS request
WHERE partition = $1 AND member_id = $2 AND NOT EXISTS (
    SELECT FROM notifier.checkouts AS checkout
    WHERE checkout.partition = request.partition AND checkout.member_id = request.member_id
        AND checkout.checkout_id = request.checkout_id);

-- name: erase_goodwill
-- Why staff gave the member points.
UPDATE notifier.goodwill SET reason = '' WHERE partition = $1 AND member_id = $2;

-- name: export_consents
-- What the member said it wants to hear of.
SELECT to_jsonb(kept)::text AS record, ARRAY[lpad(number::text, 10, '0')] AS place FROM notifier.consents AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[lpad(number::text, 10, '0')] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_profiles
-- What campaigns know of a member.
SELECT to_jsonb(kept)::text AS record, ARRAY[member_id] AS place FROM notifier.profiles AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[member_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_lapsing_points
-- When points lapse.
SELECT to_jsonb(kept)::text AS record, ARRAY[lapse_day::text] AS place FROM notifier.lapsing_points AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[lapse_day::text] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_segments
-- The lists that the member is in.
SELECT to_jsonb(kept)::text AS record, ARRAY[segment] AS place FROM notifier.segments AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[segment] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_badges
-- What the member wears.
SELECT to_jsonb(kept)::text AS record, ARRAY[badge_id] AS place FROM notifier.badges AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[badge_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_assignments
-- The campaigns that came to a member.
SELECT to_jsonb(kept)::text AS record, ARRAY[campaign_id, trigger] AS place FROM notifier.assignments AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[campaign_id, trigger] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_awards
-- The points that campaigns gave.
SELECT to_jsonb(kept)::text AS record, ARRAY[campaign_id, trigger] AS place FROM notifier.awards AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[campaign_id, trigger] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_coupon_uses
-- Where a member used coupons, also those of nobody in particular, which lie elsewhere.
SELECT to_jsonb(kept)::text AS record, ARRAY[partition::text, code, use_id] AS place FROM notifier.coupon_uses AS kept
WHERE member_id = $2 AND $1::integer >= 0 AND ARRAY[partition::text, code, use_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_reward_intents
-- Rewards that a member asked for.
SELECT (to_jsonb(kept) - 'content_digest')::text AS record, ARRAY[request_id] AS place FROM notifier.reward_intents AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_reward_reversals
-- Rewards of a member that were taken back.
SELECT to_jsonb(kept)::text AS record, ARRAY[request_id] AS place FROM notifier.reward_reversals AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_reward_counts
-- How many of each reward a member had.
SELECT to_jsonb(kept)::text AS record, ARRAY[reward_id] AS place FROM notifier.reward_counts AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[reward_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_checkouts
-- Checkouts of a member.
SELECT to_jsonb(kept)::text AS record, ARRAY[checkout_id] AS place FROM notifier.checkouts AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[checkout_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_checkout_requests
-- What tills were answered about them.
SELECT (to_jsonb(kept) - 'content_digest')::text AS record, ARRAY[request_id] AS place FROM notifier.checkout_requests AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_feedback
-- What a member answered.
SELECT (to_jsonb(kept) - 'content_digest')::text AS record, ARRAY[request_id] AS place FROM notifier.feedback AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[request_id] > $3::text[]
ORDER BY place LIMIT $4;

-- name: export_goodwill_months
-- What goodwill came to.
SELECT to_jsonb(kept)::text AS record, ARRAY[month::text] AS place FROM notifier.goodwill_months AS kept
WHERE partition = $1 AND member_id = $2 AND ARRAY[month::text] > $3::text[]
ORDER BY place LIMIT $4;
