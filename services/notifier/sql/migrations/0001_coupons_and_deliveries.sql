-- Coupons, the messages that carry them, and contacts.
--
-- Every key begins with the partition, and no key or index must be unique across partitions, so that the same tables
-- can be distributed by `partition`. Times of members' lives (issued, valid until, created) are business time;
-- not_before, delivered_time, set_time and recorded_time are machine time.

-- To which installation the rows belong: the fingerprint of the master key, and what the ledger was created with.
-- They decide codes, places and times, so none may change.
CREATE TABLE notifier.installation (
    partition integer PRIMARY KEY CHECK (partition = 0),
    key_fingerprint bytea NOT NULL,
    partitions integer NOT NULL CHECK (partitions > 0),
    simulated boolean NOT NULL
);

-- What has been handled of both feeds, moved in the same transaction as what came of it.
CREATE TABLE notifier.cursors (
    partition integer PRIMARY KEY,
    ledger_offset bigint NOT NULL CHECK (ledger_offset >= 0),
    change_offset bigint NOT NULL CHECK (change_offset >= 0),
    -- Where CLOCK_ADVANCED has brought the partition; null before the first, and for ever in real time.
    business_time timestamptz,
    -- Up to when all changes of tier that time alone caused have been handled; null before the first.
    due_time timestamptz
);

-- Who is a member, from MEMBER_JOINED.
CREATE TABLE notifier.members (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    joined_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id)
);

-- A reward is given once per campaign, member and change of tier.
CREATE TABLE notifier.coupons (
    partition integer NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    change_offset bigint NOT NULL,
    code text COLLATE "C" NOT NULL,
    variant smallint NOT NULL CHECK (variant >= 0),
    discount_bp integer CHECK (discount_bp > 0),
    discount_minor_units bigint CHECK (discount_minor_units > 0),
    issued_time timestamptz NOT NULL,
    valid_until_time timestamptz NOT NULL CHECK (valid_until_time > issued_time),
    PRIMARY KEY (partition, campaign_id, member_id, change_offset),
    -- A code tells its partition.
    UNIQUE (partition, code),
    CHECK (num_nonnulls(discount_bp, discount_minor_units) = 1)
);

CREATE TABLE notifier.deliveries (
    partition integer NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    change_offset bigint NOT NULL,
    -- Begins with the partition in four hex digits.
    delivery_id text COLLATE "C" NOT NULL,
    tier text NOT NULL,
    previous_tier text NOT NULL,
    balance_minor_units bigint NOT NULL,
    created_time timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivered', 'no_contact', 'dead')),
    attempts smallint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- No worker takes it before. A worker that takes it puts the end of its lease here.
    not_before timestamptz NOT NULL,
    delivered_time timestamptz,
    last_error text NOT NULL DEFAULT '',
    PRIMARY KEY (partition, campaign_id, member_id, change_offset),
    UNIQUE (partition, delivery_id),
    FOREIGN KEY (partition, campaign_id, member_id, change_offset) REFERENCES notifier.coupons,
    CHECK ((state = 'delivered') = (delivered_time IS NOT NULL))
);

-- What is due, and when the next will be.
CREATE INDEX deliveries_queued ON notifier.deliveries (partition, not_before) WHERE state = 'queued';
-- Lists, newest first: all, in one state, of one member.
CREATE INDEX deliveries_newest ON notifier.deliveries (created_time DESC, delivery_id DESC);
CREATE INDEX deliveries_newest_in_state ON notifier.deliveries (state, created_time DESC, delivery_id DESC);
CREATE INDEX deliveries_newest_of_member
    ON notifier.deliveries (partition, member_id, created_time DESC, delivery_id DESC);

-- The key of each member, wrapped by the master key. Destroying it forgets whatever was sealed with it.
CREATE TABLE notifier.member_keys (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    wrapped_key bytea NOT NULL,
    PRIMARY KEY (partition, member_id)
);

-- Sealed with the member's key; null where the member gave none.
CREATE TABLE notifier.contacts (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    name bytea,
    email bytea,
    set_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id)
);

-- Requests answered, with a keyed digest in place of what they said.
CREATE TABLE notifier.contact_requests (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    content_digest bytea NOT NULL,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, request_id)
);

GRANT SELECT, INSERT ON notifier.installation TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE ON notifier.cursors TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.members TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.coupons TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (state, attempts, not_before, delivered_time, last_error)
    ON notifier.deliveries TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.member_keys TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.contacts TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.contact_requests TO loyalty_notifier;
