-- name: insert_feedback
-- Keeps an answer; says nothing where this request was kept before.
INSERT INTO notifier.feedback (
    partition, member_id, request_id, content_digest, survey_id, score, choice, source, answered_time, recorded_time,
    comment)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: find_feedback_request
-- What stands for the content of an answer; an erasure leaves nothing of it.
SELECT content_digest FROM notifier.feedback
WHERE partition = $1 AND member_id = $2 AND request_id = $3 AND content_digest <> '';

-- name: list_feedback
-- A member's answers, the newest first.
SELECT request_id, survey_id, score, choice, source, answered_time, comment FROM notifier.feedback
WHERE partition = $1 AND member_id = $2
ORDER BY answered_time DESC, request_id
LIMIT $3;

-- name: count_answers
-- How many members gave each answer to a survey, by the place (from 1) of the last of the instants $2 before it, until
-- $3; of who answered twice in between the last answer counts.
SELECT span, score, choice, count(*) AS members
FROM (
    SELECT DISTINCT ON (span, member_id) span, score, choice
    FROM (
        SELECT width_bucket(answered_time, $2::timestamptz[]) AS span, member_id, request_id, score, choice,
            answered_time
        FROM notifier.feedback
        WHERE survey_id = $1 AND answered_time >= ($2::timestamptz[])[1]
            AND answered_time < coalesce($3::timestamptz, 'infinity')
    ) AS given
    ORDER BY span, member_id, answered_time DESC, request_id DESC
) AS last_given
GROUP BY span, score, choice;
