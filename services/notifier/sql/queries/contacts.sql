-- name: find_addressed
-- Which of these members have an address, and the key that opens it.
SELECT partition, member_id
FROM notifier.contacts
JOIN notifier.member_keys USING (partition, member_id)
JOIN unnest($1::integer[], $2::text[]) AS wanted (partition, member_id) USING (partition, member_id)
WHERE email IS NOT NULL;

-- name: find_contacts
-- The contacts of members of one partition, sealed, with their wrapped keys.
SELECT member_id, wrapped_key, name, email, details
FROM notifier.contacts JOIN notifier.member_keys USING (partition, member_id)
WHERE partition = $1 AND member_id = ANY($2::text[]);

-- name: find_contact_request
-- Whether a member is known, or erased, and what stands for the content of a request answered before.
SELECT
    EXISTS (SELECT FROM notifier.members WHERE partition = $1 AND member_id = $2) AS known,
    EXISTS (SELECT FROM notifier.erasures WHERE partition = $1 AND member_id = $2) AS erased,
    (
        SELECT content_digest FROM notifier.contact_requests
        WHERE partition = $1 AND member_id = $2 AND request_id = $3
    ) AS content_digest;

-- name: insert_contact_request
-- Keeps a request; says nothing where it was answered before.
INSERT INTO notifier.contact_requests (partition, member_id, request_id, content_digest, recorded_time)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: insert_member_key
-- Keeps a member's key; says nothing where there is one.
INSERT INTO notifier.member_keys (partition, member_id, wrapped_key) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_member_key
-- A member's key, wrapped.
SELECT wrapped_key FROM notifier.member_keys WHERE partition = $1 AND member_id = $2;

-- name: find_keys_of_older
-- Members' keys after ($1, $2) that are not wrapped by the master key $3; a wrapped key begins with the id of that one.
SELECT partition, member_id, wrapped_key
FROM notifier.member_keys
WHERE (partition, member_id) > ($1, $2) AND substring(wrapped_key FOR 16) <> $3
ORDER BY partition, member_id
LIMIT $4;

-- name: count_keys_of_older
-- How many keys need another master key than $1, the derived ones among them.
SELECT
    (SELECT count(*) FROM notifier.member_keys WHERE substring(wrapped_key FOR 16) <> $1)
    + (SELECT count(*) FROM notifier.installation WHERE coalesce(substring(sealed_keys FOR 16), key_fingerprint) <> $1);

-- name: rewrap_keys
-- Members' keys wrapped anew, where they are as they were.
UPDATE notifier.member_keys AS kept
SET wrapped_key = new.after
FROM unnest($1::integer[], $2::text[], $3::bytea[], $4::bytea[]) AS new (partition, member_id, before, after)
WHERE kept.partition = new.partition AND kept.member_id = new.member_id AND kept.wrapped_key = new.before;

-- name: put_contact
-- Sets a member's contact, whole. Of the birthday ($7) $8 = from when the first that is told counts, $9 = from when
-- another one does: that it was not told for a while makes it no first.
INSERT INTO notifier.contacts AS kept (partition, member_id, name, email, set_time, details, birthday, birthday_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (partition, member_id)
DO UPDATE SET name = excluded.name, email = excluded.email, set_time = excluded.set_time, details = excluded.details,
    birthday = excluded.birthday,
    birthday_from = CASE
        WHEN excluded.birthday IS NULL OR excluded.birthday = kept.birthday THEN kept.birthday_from
        WHEN kept.birthday_from IS NULL THEN excluded.birthday_from
        ELSE $9
    END;

-- name: delete_empty_contact
-- Removes a contact in which nothing is left, and no birthday ever was.
DELETE FROM notifier.contacts
WHERE partition = $1 AND member_id = $2 AND name IS NULL AND email IS NULL AND details IS NULL
    AND birthday_from IS NULL;

-- name: find_birthdays
-- Who has the birthday $2, as far as it counts at $3.
SELECT member_id FROM notifier.contacts
WHERE partition = $1 AND birthday = $2 AND birthday_from <= $3
ORDER BY member_id;

-- name: check_contacts
-- Every contact, sealed, with its wrapped key where it has one, for the check.
SELECT partition, member_id, wrapped_key, name, email, details
FROM notifier.contacts LEFT JOIN notifier.member_keys USING (partition, member_id);
