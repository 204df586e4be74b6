-- Messages go over several channels, with or without a coupon, and only to who wants them.
--
-- What it locks: deliveries, while it is written anew and its indexes are built (about 10 s for a million rows).

-- channel, topic, urgent: as the campaign says. route: the channel, or one of its ways where it has several
-- (webhook:ENDPOINT); a worker has a loop of its own for each. variant: whose words are sent. coupon_code: of the coupon
-- that is carried. sent_time: when it was last sent on its way, in business time: so many count for the caps.
-- held_until: business time, of what is held.
ALTER TABLE notifier.deliveries
    ADD COLUMN channel text COLLATE "C" NOT NULL DEFAULT 'email',
    ADD COLUMN route text COLLATE "C" NOT NULL DEFAULT 'email',
    ADD COLUMN topic text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN urgent boolean NOT NULL DEFAULT false,
    ADD COLUMN variant text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN coupon_code text COLLATE "C",
    ADD COLUMN sent_time timestamptz,
    ADD COLUMN held_until timestamptz;
UPDATE notifier.deliveries AS delivery
SET coupon_code = coupon.code
FROM notifier.coupons AS coupon
WHERE coupon.partition = delivery.partition AND coupon.campaign_id = delivery.campaign_id
    AND coupon.member_id = delivery.member_id AND coupon.trigger = delivery.trigger;

-- One cause may send several messages; each has an id of its own, made of the cause and the way.
-- squawk-ignore ban-drop-constraint
ALTER TABLE notifier.deliveries DROP CONSTRAINT deliveries_pkey;
-- squawk-ignore ban-drop-constraint
ALTER TABLE notifier.deliveries DROP CONSTRAINT deliveries_partition_delivery_id_key;
-- squawk-ignore constraint-missing-not-valid, adding-serial-primary-key-field
ALTER TABLE notifier.deliveries ADD PRIMARY KEY (partition, delivery_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX deliveries_by_cause ON notifier.deliveries (partition, campaign_id, member_id, trigger);

-- squawk-ignore ban-drop-constraint
ALTER TABLE notifier.deliveries DROP CONSTRAINT deliveries_state_check;
ALTER TABLE notifier.deliveries
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT deliveries_state_check
    CHECK (state IN ('queued', 'held', 'delivered', 'no_contact', 'withheld', 'dead')),
    -- squawk-ignore constraint-missing-not-valid
    ADD CONSTRAINT deliveries_held_check CHECK (state <> 'held' OR held_until IS NOT NULL);

-- What is due, and when the next will be, of each way.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX notifier.deliveries_queued;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX deliveries_queued ON notifier.deliveries (partition, route, not_before) WHERE state = 'queued';
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX deliveries_held ON notifier.deliveries (partition, held_until) WHERE state = 'held';
-- What members had lately.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX deliveries_sent ON notifier.deliveries (partition, member_id, sent_time) WHERE sent_time IS NOT NULL;

-- What members said of what they want to hear, each a line that is never changed; number counts a member's own. An empty
-- channel or topic stands for all. source: how it is known; principal: who told us. consent_time is business time.
CREATE TABLE notifier.consents (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    channel text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    allowed boolean NOT NULL,
    source text NOT NULL,
    principal text NOT NULL,
    consent_time timestamptz NOT NULL,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, number)
);

-- Addresses that are not written to, as keyed hashes; the partition is that of the hash.
CREATE TABLE notifier.suppressions (
    partition integer NOT NULL,
    address_hash bytea NOT NULL,
    reason text NOT NULL,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, address_hash)
);

-- Where events go. Small, and without a partition: it stays whole where others are distributed. secret: sealed.
-- event_types, fields: empty for all. failing_since: when a try failed and none has succeeded since.
CREATE TABLE notifier.webhook_endpoints (
    endpoint_id text COLLATE "C" PRIMARY KEY,
    url text NOT NULL,
    description text NOT NULL,
    event_types text [] NOT NULL,
    fields text [] NOT NULL,
    secret bytea NOT NULL,
    content_digest bytea NOT NULL,
    created_time timestamptz NOT NULL,
    failing_since timestamptz,
    disabled_time timestamptz,
    disabled_reason text NOT NULL DEFAULT '',
    deleted_time timestamptz
);

GRANT UPDATE (sent_time, held_until) ON notifier.deliveries TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.consents TO loyalty_notifier;
GRANT SELECT, INSERT, DELETE ON notifier.suppressions TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (failing_since, disabled_time, disabled_reason, deleted_time)
    ON notifier.webhook_endpoints TO loyalty_notifier;
