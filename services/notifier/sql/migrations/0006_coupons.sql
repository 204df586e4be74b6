-- Coupons are reserved and redeemed, come from pools of codes, and are given for points.
--
-- What it locks: coupons, while one index is built over them (about 2 s for a million rows).

-- uses: how often it can be used; redeemed: how often it was. preparing: it is being made, and is nobody's yet.
-- reward_id: the reward that it was given for; reason, issued_by: why and by whom, where that was by hand.
-- void_reason: why it was taken back by hand.
ALTER TABLE notifier.coupons
    ADD COLUMN uses integer NOT NULL DEFAULT 1,
    ADD COLUMN once_per_member boolean NOT NULL DEFAULT false,
    ADD COLUMN reward_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN issued_by text NOT NULL DEFAULT '',
    ADD COLUMN preparing boolean NOT NULL DEFAULT false,
    ADD COLUMN redeemed integer NOT NULL DEFAULT 0,
    ADD COLUMN void_reason text NOT NULL DEFAULT '';

-- A member's coupons, those issued last first.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX coupons_newest_of_member ON notifier.coupons (partition, member_id, issued_time DESC, code DESC);

-- What each use of a coupon is. The coupon's row is locked by whoever changes one.
CREATE TABLE notifier.coupon_uses (
    partition integer NOT NULL,
    code text COLLATE "C" NOT NULL,
    use_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('reserved', 'redeemed', 'released')),
    -- Machine time: from then on it is reserved no more.
    reserved_until timestamptz,
    -- Business time.
    redeemed_time timestamptz,
    store_id text NOT NULL,
    channel text NOT NULL,
    purchase_id text NOT NULL,
    -- What would have spoken against a use that was given offline: a loss.
    overdrawn text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (partition, code, use_id),
    CHECK ((state = 'reserved') = (reserved_until IS NOT NULL)),
    CHECK ((state = 'redeemed') = (redeemed_time IS NOT NULL))
);
CREATE INDEX coupon_uses_reserved ON notifier.coupon_uses (partition, code, reserved_until) WHERE state = 'reserved';
CREATE INDEX coupon_uses_of_member ON notifier.coupon_uses (partition, code, member_id) WHERE state <> 'released';

-- Requests answered, with a keyed digest in place of what they said. subject: the code they were about, or what else.
CREATE TABLE notifier.coupon_requests (
    partition integer NOT NULL,
    subject text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    content_digest bytea NOT NULL,
    answer jsonb NOT NULL,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, subject, request_id)
);

-- Codes that were made elsewhere, in the partition of what they are known by: folded, so that no two look alike.
CREATE TABLE notifier.pool_codes (
    partition integer NOT NULL,
    folded text COLLATE "C" NOT NULL,
    pool text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    -- The import and the line of it that brought the code.
    import_id text COLLATE "C" NOT NULL,
    line bigint NOT NULL,
    -- Where the coupon is that was given by it; null: it is free.
    coupon_partition integer,
    PRIMARY KEY (partition, folded)
);
CREATE INDEX pool_codes_free ON notifier.pool_codes (partition, pool, folded) WHERE coupon_partition IS NULL;

-- Rewards that were asked for: each goes on from here, whoever dies, until it is issued or refused.
CREATE TABLE notifier.reward_intents (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    content_digest bytea NOT NULL,
    reward_id text COLLATE "C" NOT NULL,
    principal text COLLATE "C" NOT NULL,
    -- Business time: the version of the programme that holds then says what the reward is.
    begun_time timestamptz NOT NULL,
    points bigint NOT NULL,
    money_minor_units bigint NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('begun', 'prepared', 'issued', 'refused')),
    -- Whether one of a limited stock was taken for it.
    from_stock boolean NOT NULL,
    code text COLLATE "C" NOT NULL DEFAULT '',
    -- Why it was refused: reason, sentence, facts.
    refusal jsonb,
    -- Machine time: nobody goes on with it before, but whoever began it.
    not_before timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, member_id, request_id),
    CHECK ((state = 'refused') = (refusal IS NOT NULL))
);
CREATE INDEX reward_intents_open ON notifier.reward_intents (partition, not_before)
    WHERE state IN ('begun', 'prepared');

-- How many of a reward were taken: by a member, in its partition; of a limited stock, in that of the reward's id, with
-- no member.
CREATE TABLE notifier.reward_counts (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    reward_id text COLLATE "C" NOT NULL,
    taken bigint NOT NULL CHECK (taken >= 0),
    PRIMARY KEY (partition, member_id, reward_id)
);

GRANT UPDATE (preparing, redeemed, void_reason) ON notifier.coupons TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE ON notifier.coupon_uses TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.coupon_requests TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (coupon_partition) ON notifier.pool_codes TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (state, code, refusal, not_before, attempts) ON notifier.reward_intents TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (taken) ON notifier.reward_counts TO loyalty_notifier;
