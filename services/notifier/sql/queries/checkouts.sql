-- name: find_checkout_request
-- What stands for a request's content, the checkout it is about, and its answer where it is decided.
SELECT content_digest, checkout_id, answer
FROM notifier.checkout_requests
WHERE partition = $1 AND member_id = $2 AND request_id = $3;

-- name: find_checkout_member
-- Whose checkout a request is about, by what stands for its content, the request's id among it.
SELECT member_id
FROM notifier.checkout_requests
WHERE content_digest = $1
LIMIT 1;

-- name: insert_checkout_request
-- Keeps a request; says nothing where it came before.
INSERT INTO notifier.checkout_requests
    (partition, member_id, request_id, content_digest, checkout_id, answer, recorded_time)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: answer_checkout_request
-- Keeps the answer to a request, once.
UPDATE notifier.checkout_requests
SET answer = $4
WHERE partition = $1 AND member_id = $2 AND request_id = $3 AND answer IS NULL;

-- name: find_checkout
-- A checkout.
SELECT partition, member_id, checkout_id, request_id, sale_id, state, content, started_time, lease_until
FROM notifier.checkouts
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3;

-- name: insert_checkout
-- Keeps a checkout; in place of one that was refused, and says nothing where there is another.
INSERT INTO notifier.checkouts AS kept
    (partition, member_id, checkout_id, request_id, sale_id, state, content, started_time, lease_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (partition, member_id, checkout_id)
DO UPDATE SET request_id = excluded.request_id, sale_id = excluded.sale_id, state = excluded.state,
    content = excluded.content, started_time = excluded.started_time, lease_until = excluded.lease_until
WHERE kept.state = 'refused'
RETURNING true;

-- name: move_checkout
-- Moves a sale on, where it is still in the state $5 under the lease that ends at $6. What is over needs no content.
UPDATE notifier.checkouts
SET state = $7, lease_until = $8,
    content = CASE WHEN $7 IN ('done', 'refused', 'cancelled') THEN NULL ELSE content END
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND sale_id = $4 AND state = $5 AND lease_until = $6
RETURNING true;

-- name: cancel_checkout
-- Lets go what is not decided yet, whoever carries it on: that one sees it, or the next.
UPDATE notifier.checkouts
SET state = CASE WHEN state = 'refused' THEN 'cancelled' ELSE 'cancelling' END
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND state IN ('started', 'releasing', 'refused')
RETURNING partition, member_id, checkout_id, request_id, sale_id, state, content, started_time, lease_until;

-- name: cancel_done_checkout
-- Lets a complete sale go: anybody may give back at once, from $5 = now on, what it used; $4 says what that is.
UPDATE notifier.checkouts
SET state = 'cancelling', content = $4, lease_until = $5
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND state = 'done'
RETURNING true;

-- name: take_checkout
-- Takes a sale that nobody carries on: $4 = now, $5 = end of the lease.
UPDATE notifier.checkouts
SET lease_until = $5
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND lease_until <= $4
    AND state IN ('started', 'recording', 'releasing', 'cancelling')
RETURNING partition, member_id, checkout_id, request_id, sale_id, state, content, started_time, lease_until;

-- name: postpone_checkout
-- Gives a lease that ends at $4 back: somebody may go on at $5.
UPDATE notifier.checkouts
SET lease_until = $5
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND lease_until = $4;

-- name: find_unfinished_checkouts
-- Sales that nobody carries on, those that wait longest first: $1 = now, $2 = at most.
SELECT partition, member_id, checkout_id
FROM notifier.checkouts
WHERE state IN ('started', 'recording', 'releasing', 'cancelling') AND lease_until <= $1
ORDER BY lease_until
LIMIT $2;

-- name: mark_checkouts_undone
-- Keeps of checkouts that something of them came back, whether they are told as complete already or not.
UPDATE notifier.checkouts AS kept
SET undone_offset = back.undone_offset
FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS back (partition, member_id, checkout_id, undone_offset)
WHERE kept.partition = back.partition AND kept.member_id = back.member_id AND kept.checkout_id = back.checkout_id
    AND kept.undone_offset < back.undone_offset;

-- name: find_undone_checkouts
-- Complete checkouts of which something came back, with what was sold: $1 = at most.
SELECT checkout.partition, checkout.member_id, checkout.checkout_id, checkout.sale_id, checkout.undone_offset,
    request.answer
FROM notifier.checkouts AS checkout
JOIN notifier.checkout_requests AS request USING (partition, member_id, request_id)
WHERE checkout.undone_offset > 0 AND checkout.state = 'done'
ORDER BY checkout.undone_offset
LIMIT $1;

-- name: settle_undone_checkout
-- It was looked at as it stood with the entry $4: what came back since is still to be looked at.
UPDATE notifier.checkouts
SET undone_offset = 0
WHERE partition = $1 AND member_id = $2 AND checkout_id = $3 AND undone_offset = $4;

-- name: check_checkouts
-- The requests of a partition with their checkouts, and checkouts whose request is gone, for the check; of what was sold
-- the price as it was answered. Of the members $2 alone where they are given.
SELECT member_id, request_id, checkout_id, checkout.state,
    request.answer IS NOT NULL AS answered,
    request.answer #>> '{sold,quote,currency,code}' AS currency,
    (SELECT sum(line::bigint)::bigint
    FROM jsonb_array_elements_text(request.answer #> '{sold,quote,price,line_amounts}') AS line) AS amount,
    (request.answer #>> '{sold,quote,price,points}')::bigint AS points,
    (request.answer #>> '{sold,quote,price,points_amount}')::bigint AS points_amount
FROM (
    SELECT * FROM notifier.checkout_requests WHERE partition = $1 AND ($2::text[] IS NULL OR member_id = ANY($2))
) AS request
FULL JOIN (
    SELECT * FROM notifier.checkouts WHERE partition = $1 AND ($2::text[] IS NULL OR member_id = ANY($2))
) AS checkout USING (member_id, checkout_id, request_id);
