-- Versions of the programme: which holds from when. The first is stored when the ledger next starts.
--
-- What it locks: members and partitions, for a moment; nothing is rewritten.

-- Each with the request that applied it, and by whom: so whoever finds it can write the entries that say so. The table
-- is small and has no partition: it stays whole where others are distributed.
CREATE TABLE ledger.programme_versions (
    number integer PRIMARY KEY CHECK (number >= 1),
    version text NOT NULL,
    document text NOT NULL,
    from_time timestamptz NOT NULL,
    recorded_time timestamptz NOT NULL,
    request_id text NOT NULL,
    principal text NOT NULL,
    on_behalf_of text NOT NULL,
    request bytea NOT NULL
);

-- The service may add versions and never change one; the trigger refuses everyone else.
CREATE FUNCTION ledger.refuse_version_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'versions of the programme are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER programme_versions_append_only BEFORE UPDATE OR DELETE ON ledger.programme_versions
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_version_change();
CREATE TRIGGER programme_versions_keep BEFORE TRUNCATE ON ledger.programme_versions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_version_change();

ALTER TABLE ledger.partitions
    -- How many versions the partition knows: the first, and one for each PROGRAMME_APPLIED in its log.
    ADD COLUMN versions integer NOT NULL DEFAULT 1,
    -- With how many of them the due times of its members were reckoned; while it reckons them anew, with how many, and
    -- up to which member.
    ADD COLUMN due_versions integer NOT NULL DEFAULT 1,
    ADD COLUMN reckoned_versions integer NOT NULL DEFAULT 1,
    ADD COLUMN reckoned_member_id text NOT NULL DEFAULT '';

-- The place, from 0, of the version up to which all that time did to the points is written down.
ALTER TABLE ledger.members ADD COLUMN version integer NOT NULL DEFAULT 0;

GRANT SELECT, INSERT ON ledger.programme_versions TO loyalty_ledger;
