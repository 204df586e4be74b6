-- What members write beside their answers to surveys, and their answers by time.
--
-- What it locks: answers, while one index is built over them (less than a second for a million rows).

-- Sealed with the member's key; null where nothing was written, or the member was erased.
ALTER TABLE notifier.feedback ADD COLUMN comment bytea;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX feedback_by_time ON notifier.feedback (survey_id, answered_time);

-- An erasure empties what tells of the person, and what stands for a request with it.
GRANT UPDATE (comment, content_digest) ON notifier.feedback TO loyalty_notifier;
