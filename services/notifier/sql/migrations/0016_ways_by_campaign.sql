-- Messages of a paused campaign cost nothing while they wait; an endpoint that was disabled is enabled again, and its
-- secret changed; a bounce counts once.
--
-- What it locks: deliveries, while the index is built over what is queued (about 1 s for a million rows). An older
-- release that still runs finds what is due by the new index, too, but sorts what is queued of a way.

-- What is due of each campaign on each way: those that are paused are stepped over, however much waits.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX deliveries_due ON notifier.deliveries (partition, route, campaign_id, not_before) WHERE state = 'queued';
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX notifier.deliveries_queued;

-- previous_secret: sealed; events are signed with it, too, until previous_until, machine time.
ALTER TABLE notifier.webhook_endpoints
    ADD COLUMN previous_secret bytea,
    ADD COLUMN previous_until timestamptz;

-- Requests that belong to no member, as those that changed an endpoint or told of a bounce, by keyed digests: of who
-- asked and its id, and of what it asked for. Small, and without a partition. answer: what was said, yes or no; null
-- where the answer is how things are.
CREATE TABLE notifier.requests (
    request_digest bytea PRIMARY KEY,
    content_digest bytea NOT NULL,
    answer boolean,
    recorded_time timestamptz NOT NULL
);

GRANT SELECT, INSERT ON notifier.requests TO loyalty_notifier;
GRANT UPDATE (secret, previous_secret, previous_until) ON notifier.webhook_endpoints TO loyalty_notifier;
