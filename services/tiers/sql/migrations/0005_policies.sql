-- What any policy of tiers can be weighed from: facts, as they happened, beside movements, which are how the policy in
-- force weighs them. What staff and members decide here; versions of the programme; what a standing carries along.

-- Everything that happened to a member, as tiers need it. Never changed, never removed.
CREATE TABLE tiers.facts (
    partition integer NOT NULL,
    member_id text NOT NULL,
    occurred_time timestamptz NOT NULL,
    -- The entry of the ledger; 0 for what was decided here.
    ledger_offset bigint NOT NULL,
    -- The decision; 0 for what the ledger says.
    number bigint NOT NULL,
    kind smallint NOT NULL,
    recorded_time timestamptz NOT NULL,
    -- Up to when all had been processed when it was taken in, or when it occurred where that is later.
    applied_time timestamptz NOT NULL,
    -- Minor units of the member's market.
    total bigint NOT NULL,
    goods_paid bigint NOT NULL,
    points bigint NOT NULL,
    -- Points by other rules than the base rule, as JSON.
    bonuses text,
    purchase_id text NOT NULL,
    purchase_time timestamptz,
    name text NOT NULL,
    start_time timestamptz,
    until_time timestamptz,
    scope text,
    reason text NOT NULL,
    principal text NOT NULL,
    PRIMARY KEY (partition, member_id, occurred_time, ledger_offset, number)
);

-- Members of whom more is known than movements.
CREATE INDEX facts_beyond_movements ON tiers.facts (partition, member_id) WHERE kind >= 7;

CREATE TRIGGER facts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tiers.facts
    FOR EACH STATEMENT EXECUTE FUNCTION tiers.refuse_change();

-- What was asked of this service, so that the same request is carried out once. The fact beside it has its number.
CREATE TABLE tiers.decisions (
    partition integer NOT NULL,
    member_id text NOT NULL,
    request_id text NOT NULL,
    number bigint NOT NULL CHECK (number >= 1),
    request bytea NOT NULL,
    on_behalf_of text NOT NULL,
    -- How far the partition had been taken in.
    ledger_offset bigint NOT NULL,
    PRIMARY KEY (partition, member_id, request_id)
);

CREATE TRIGGER decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tiers.decisions
    FOR EACH STATEMENT EXECUTE FUNCTION tiers.refuse_change();

-- Versions of the programme as the ledger told them, so that standings can be told while it is away. Number 0 is the
-- first.
CREATE TABLE tiers.programme_versions (
    number smallint PRIMARY KEY,
    version text NOT NULL,
    document text NOT NULL,
    from_time timestamptz NOT NULL,
    recorded_time timestamptz NOT NULL
);

-- Facts of entries up to facts_missing are read again from the ledger, as far as facts_read: an older release kept none.
ALTER TABLE tiers.cursors
    ADD COLUMN decision_number bigint NOT NULL DEFAULT 0,
    ADD COLUMN facts_missing bigint NOT NULL DEFAULT 0,
    ADD COLUMN facts_read bigint NOT NULL DEFAULT 0;
UPDATE tiers.cursors SET facts_missing = ledger_offset;

-- next_due: when anything is due, not only a movement that leaves. An older release wrote next_roll_off; what it wrote
-- is taken over when this one starts. carried: as JSON, NULL where a policy needs no more than the balance.
ALTER TABLE tiers.standings
    ADD COLUMN benefits_number smallint,
    ADD COLUMN next_due timestamptz,
    ADD COLUMN version smallint NOT NULL DEFAULT 0,
    ADD COLUMN carried text;

-- Nothing is in it yet.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX standings_next_due ON tiers.standings (partition, next_due) WHERE next_due IS NOT NULL;

-- Instants at which movements count towards what a cool-off holds back; when it was seen says the fact.
ALTER TABLE tiers.movements ADD COLUMN matures_time timestamptz;
-- squawk-ignore ban-drop-not-null
ALTER TABLE tiers.movements ALTER COLUMN applied_time DROP NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX movements_maturing ON tiers.movements (partition, member_id, matures_time) WHERE matures_time IS NOT NULL;
-- What returns add to a balance when they leave: of a member with very many movements that bounds what those can do.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX movements_back ON tiers.movements (partition, member_id, end_time) INCLUDE (amount) WHERE amount < 0;

-- Benefits may change without the tier. What an older release wrote has none of these.
ALTER TABLE tiers.tier_changes
    ADD COLUMN reason text,
    ADD COLUMN from_benefits_number smallint,
    ADD COLUMN to_benefits_number smallint,
    ADD COLUMN cause_number bigint,
    ADD COLUMN corrects bigint NOT NULL DEFAULT 0;
-- squawk-ignore ban-drop-constraint
ALTER TABLE tiers.tier_changes DROP CONSTRAINT tier_changes_check;

GRANT SELECT, INSERT ON tiers.facts, tiers.decisions, tiers.programme_versions TO loyalty_tiers;
-- Movements follow from facts, and are written anew where a policy weighs them in another way.
GRANT DELETE ON tiers.movements TO loyalty_tiers;
