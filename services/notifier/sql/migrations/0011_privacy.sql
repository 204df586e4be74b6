-- Members who were erased, and goodwill of those who help them.
--
-- What it locks: uses of coupons, for a moment: there are none yet.

-- Who was erased. Times are machine time; erased_time: when the ledger had forgotten, too, null until then.
CREATE TABLE notifier.erasures (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    principal text NOT NULL,
    asked_time timestamptz NOT NULL,
    erased_time timestamptz,
    PRIMARY KEY (partition, member_id)
);
CREATE INDEX erasures_unfinished ON notifier.erasures (partition, asked_time) WHERE erased_time IS NULL;

-- Points that staff gave, with who did. awarded_time: when the ledger had them (machine time), null until then or where
-- it refused them.
CREATE TABLE notifier.goodwill (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    month date NOT NULL,
    points bigint NOT NULL CHECK (points > 0),
    reason text NOT NULL,
    principal text NOT NULL,
    granted_time timestamptz NOT NULL,
    awarded_time timestamptz,
    refused text NOT NULL DEFAULT '',
    causal_token text NOT NULL DEFAULT '',
    PRIMARY KEY (partition, member_id, request_id)
);
CREATE INDEX goodwill_unfinished ON notifier.goodwill (partition, granted_time)
    WHERE awarded_time IS NULL AND refused = '';

-- What was given to a member in a local month, refused grants aside: the row that two at once wait for.
CREATE TABLE notifier.goodwill_months (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    month date NOT NULL,
    points bigint NOT NULL CHECK (points >= 0),
    PRIMARY KEY (partition, member_id, month)
);

-- Uses lie where their codes do: a member's are found by this.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX coupon_uses_by_member ON notifier.coupon_uses (member_id) WHERE member_id <> '';

GRANT SELECT, INSERT, UPDATE (erased_time) ON notifier.erasures TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (awarded_time, refused, causal_token) ON notifier.goodwill TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (points) ON notifier.goodwill_months TO loyalty_notifier;
GRANT DELETE ON notifier.member_keys, notifier.contact_requests, notifier.consents, notifier.profiles,
    notifier.lapsing_points, notifier.segments, notifier.badges TO loyalty_notifier;
GRANT UPDATE (facts) ON notifier.deliveries TO loyalty_notifier;
