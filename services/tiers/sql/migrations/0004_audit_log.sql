-- The audit log: who was refused what, and who read contact data; a chain of its own, numbered without gaps
-- (docs/operations.md). Both tables are small and have no partition: they stay whole where others are distributed.

-- The end of the chain, locked by who adds to it.
CREATE TABLE tiers.audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_number bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);
INSERT INTO tiers.audit_head DEFAULT VALUES;

-- call_time is machine time. left_out: refusals of the principal before this one that have no line of their own.
CREATE TABLE tiers.audit_log (
    number bigint PRIMARY KEY,
    call_time timestamptz NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    method text NOT NULL,
    principal text NOT NULL,
    on_behalf_of text NOT NULL,
    token_id text NOT NULL,
    store text NOT NULL,
    terminal text NOT NULL,
    member_ids text NOT NULL,
    members bigint NOT NULL,
    left_out bigint NOT NULL,
    hash bytea NOT NULL
);

-- The service may add to the log and never change it; the trigger refuses everyone else.
CREATE FUNCTION tiers.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'lines of the audit log are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON tiers.audit_log
    FOR EACH ROW EXECUTE FUNCTION tiers.refuse_audit_change();
CREATE TRIGGER audit_log_keep BEFORE TRUNCATE ON tiers.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION tiers.refuse_audit_change();

GRANT SELECT, UPDATE ON tiers.audit_head TO loyalty_tiers;
GRANT SELECT, INSERT ON tiers.audit_log TO loyalty_tiers;
