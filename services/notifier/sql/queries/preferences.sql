-- name: insert_consent
-- What a member said, after all it said before; the partition is locked.
INSERT INTO notifier.consents (
    partition, member_id, number, channel, topic, allowed, source, principal, consent_time, recorded_time)
SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7, $8, $9
FROM notifier.consents WHERE partition = $1 AND member_id = $2;

-- name: find_consents
-- What members said last of each channel and topic. Nothing is said after it was told.
SELECT DISTINCT ON (member_id, channel, topic)
    member_id, number, channel, topic, allowed, source, consent_time, recorded_time
FROM notifier.consents
WHERE partition = $1 AND member_id = ANY($2::text[])
ORDER BY member_id, channel, topic, least(consent_time, recorded_time) DESC, number DESC;

-- name: find_suppressed
-- Which of these addresses are not written to, and why.
SELECT partition, address_hash, reason
FROM notifier.suppressions
JOIN unnest($1::integer[], $2::bytea[]) AS wanted (partition, address_hash) USING (partition, address_hash);

-- name: insert_suppressions
-- Addresses that are not written to any more.
INSERT INTO notifier.suppressions (partition, address_hash, reason, recorded_time)
SELECT new.*, $4::timestamptz FROM unnest($1::integer[], $2::bytea[], $3::text[]) AS new
ON CONFLICT DO NOTHING;

-- name: delete_suppression
-- An address that is written to again.
DELETE FROM notifier.suppressions WHERE partition = $1 AND address_hash = $2;

-- name: lock_contacts
-- Makes those wait who want to send to these members, too.
SELECT 1 FROM notifier.contacts WHERE partition = $1 AND member_id = ANY($2::text[])
ORDER BY member_id FOR NO KEY UPDATE;
