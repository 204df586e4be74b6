-- Cursors, standings with the movements behind them, the log of changes, and what the ledger has still to hear.
-- Every key begins with the partition, so that the same tables can be distributed by it.

-- How far each partition of the ledger has been taken in. Its row is locked by whoever writes into the partition.
CREATE TABLE tiers.cursors (
    partition integer PRIMARY KEY CHECK (partition >= 0),
    ledger_offset bigint NOT NULL CHECK (ledger_offset >= 0),
    -- As the entries told it; in a real-time installation it stays where it began.
    business_time timestamptz NOT NULL,
    -- All changes due up to this instant have been made.
    due_time timestamptz,
    change_offset bigint NOT NULL CHECK (change_offset >= 0),
    -- What moves the business time of the installation; kept, so that reads need no ledger.
    clock_mode text NOT NULL CHECK (clock_mode IN ('real', 'simulated'))
);

-- Where each member stands as of the instant up to which all has been processed. Updates stay on their page.
CREATE TABLE tiers.standings (
    partition integer NOT NULL,
    member_id text NOT NULL,
    joined_time timestamptz NOT NULL,
    as_of timestamptz NOT NULL,
    balance bigint NOT NULL,
    tier_number smallint NOT NULL CHECK (tier_number >= 1),
    since_time timestamptz NOT NULL,
    next_roll_off timestamptz,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    PRIMARY KEY (partition, member_id),
    CHECK (as_of >= joined_time),
    CHECK (next_roll_off > as_of)
) WITH (fillfactor = 70);

CREATE INDEX standings_due ON tiers.standings (partition, next_roll_off) WHERE next_roll_off IS NOT NULL;

-- Purchases (+) and returns (-), minor units; each counts from its time up to, not including, its end.
CREATE TABLE tiers.movements (
    partition integer NOT NULL,
    member_id text NOT NULL,
    ledger_offset bigint NOT NULL,
    amount bigint NOT NULL,
    occurred_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    -- From which instant it was seen: later than it occurred where it came late.
    applied_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, end_time, ledger_offset),
    CHECK (end_time > occurred_time),
    CHECK (applied_time >= occurred_time)
);

-- Every change of a tier, numbered per partition without gaps; never changed, never removed.
CREATE TABLE tiers.tier_changes (
    partition integer NOT NULL,
    change_offset bigint NOT NULL CHECK (change_offset >= 1),
    member_id text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    from_tier_number smallint NOT NULL,
    to_tier_number smallint NOT NULL,
    balance bigint NOT NULL,
    changed_time timestamptz NOT NULL,
    -- The entry that caused it; NULL where time alone did, at changed_time.
    cause_offset bigint,
    ledger_offset_processed bigint NOT NULL,
    programme_version text NOT NULL,
    PRIMARY KEY (partition, change_offset),
    UNIQUE (partition, member_id, sequence),
    CHECK (from_tier_number <> to_tier_number)
);

CREATE FUNCTION tiers.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER tier_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tiers.tier_changes
    FOR EACH STATEMENT EXECUTE FUNCTION tiers.refuse_change();

-- Earning classes that the ledger has not answered yet: written with the change, deleted with the answer.
CREATE TABLE tiers.class_outbox (
    partition integer NOT NULL,
    change_offset bigint NOT NULL,
    member_id text NOT NULL,
    sequence bigint NOT NULL,
    earning_class text NOT NULL,
    effective_time timestamptz NOT NULL,
    request_id text NOT NULL,
    PRIMARY KEY (partition, change_offset)
);

GRANT SELECT, INSERT, UPDATE ON tiers.cursors, tiers.standings TO loyalty_tiers;
GRANT SELECT, INSERT ON tiers.movements, tiers.tier_changes TO loyalty_tiers;
GRANT SELECT, INSERT, DELETE ON tiers.class_outbox TO loyalty_tiers;
