-- name: insert_members
-- Members who joined.
INSERT INTO notifier.members (partition, member_id, joined_time)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
ON CONFLICT DO NOTHING;

-- name: knows_member
-- Whether there is such a member.
SELECT EXISTS (SELECT FROM notifier.members WHERE partition = $1 AND member_id = $2);

-- name: check_members
-- Every member, for the check.
SELECT partition, member_id, joined_time FROM notifier.members;
