-- name: insert_request
-- A request that belongs to no member: $2 = what it asks for, $3 = its answer, $4 = now. Says nothing where it was made
-- before.
INSERT INTO notifier.requests (request_digest, content_digest, answer, recorded_time)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_request
-- What a request asked for, and what was answered.
SELECT content_digest, answer FROM notifier.requests WHERE request_digest = $1;
