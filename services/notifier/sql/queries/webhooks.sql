-- name: insert_endpoint
-- An endpoint; says nothing where the request made it before.
INSERT INTO notifier.webhook_endpoints (
    endpoint_id, url, description, event_types, fields, secret, content_digest, created_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_endpoint
-- An endpoint, also one that is deleted.
SELECT * FROM notifier.webhook_endpoints WHERE endpoint_id = $1;

-- name: list_endpoints
-- All endpoints, the newest first.
SELECT * FROM notifier.webhook_endpoints WHERE deleted_time IS NULL ORDER BY created_time DESC, endpoint_id;

-- name: lock_endpoints
-- Keeps others from making endpoints until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('loyalty.webhook_endpoints', 0));

-- name: delete_endpoint
-- Deletes an endpoint; says nothing where there is none.
UPDATE notifier.webhook_endpoints SET deleted_time = $2
WHERE endpoint_id = $1 AND deleted_time IS NULL
RETURNING true;

-- name: endpoint_failed
-- A try at an endpoint failed: $2 = now. It is disabled where it is gone ($3), or where none has succeeded since $4 or
-- longer, for the reasons $5 and $6; says whether it is now.
UPDATE notifier.webhook_endpoints
SET failing_since = coalesce(failing_since, $2),
    disabled_time = CASE WHEN $3::boolean OR failing_since <= $4 THEN $2 END,
    disabled_reason = CASE WHEN $3::boolean THEN $5::text WHEN failing_since <= $4 THEN $6::text ELSE '' END
WHERE endpoint_id = $1 AND disabled_time IS NULL
RETURNING disabled_time IS NOT NULL;

-- name: endpoint_succeeded
-- A try at an endpoint succeeded.
UPDATE notifier.webhook_endpoints SET failing_since = NULL
WHERE endpoint_id = $1 AND failing_since IS NOT NULL AND disabled_time IS NULL;

-- name: enable_endpoint
-- An endpoint is sent events again.
UPDATE notifier.webhook_endpoints SET failing_since = NULL, disabled_time = NULL, disabled_reason = ''
WHERE endpoint_id = $1 AND disabled_time IS NOT NULL;

-- name: change_secret
-- Events to an endpoint are signed with another secret ($2), and until $3 with the one before, too.
UPDATE notifier.webhook_endpoints SET secret = $2, previous_secret = secret, previous_until = $3
WHERE endpoint_id = $1;
