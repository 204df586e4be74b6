-- Points of a paused campaign cost nothing while they wait to be asked for, as its messages do.
--
-- What it locks: awards, while the index is built over what is queued (about 1 s for a million rows). An older release
-- that still runs finds what is due by the new index, too, but sorts what is queued of a partition.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX awards_due ON notifier.awards (partition, campaign_id, not_before) WHERE state = 'queued';
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX notifier.awards_queued;
