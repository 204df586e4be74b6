-- The ledger: a partitioned, append-only log, and the states that its entries add up to.
-- Every key begins with the partition, so that the same tables can be distributed (DESIGN §4).

-- How this ledger was created; fixed for its life.
CREATE TABLE ledger.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 65536),
    clock_mode text NOT NULL CHECK (clock_mode IN ('real', 'simulated'))
);

-- One row per partition: its lock, the end of its log, its clock.
CREATE TABLE ledger.partitions (
    partition integer PRIMARY KEY,
    last_offset bigint NOT NULL DEFAULT 0,
    head_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    recorded_time timestamptz NOT NULL DEFAULT 'epoch',
    business_time timestamptz NOT NULL DEFAULT 'epoch',
    members bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- The log. `body` is canonical JSON: its text is part of what is hashed, so it is kept to the letter.
CREATE TABLE ledger.entries (
    partition integer NOT NULL,
    entry_offset bigint NOT NULL,
    kind text NOT NULL,
    member_id text NOT NULL,
    request_id text NOT NULL,
    principal text NOT NULL,
    on_behalf_of text NOT NULL,
    occurred_time timestamptz NOT NULL,
    recorded_time timestamptz NOT NULL,
    programme_version text NOT NULL,
    purchase_id text NOT NULL,
    body json NOT NULL,
    detail_commitment bytea NOT NULL,
    request_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (partition, entry_offset)
);
CREATE INDEX entries_member ON ledger.entries (partition, member_id, entry_offset);

-- What can be forgotten of an entry: lines, store, receipt number, notes.
CREATE TABLE ledger.entry_details (
    partition integer NOT NULL,
    entry_offset bigint NOT NULL,
    salt bytea NOT NULL,
    detail json NOT NULL,
    PRIMARY KEY (partition, entry_offset)
);

-- What was asked before, and the entry that is the answer (entry_offset 0: nothing was to change), with the last
-- entry that it caused. The entry holds only a salted hash of the request, so that forgetting the request here forgets
-- it everywhere.
CREATE TABLE ledger.requests (
    partition integer NOT NULL,
    member_id text NOT NULL,
    request_id text NOT NULL,
    request bytea NOT NULL,
    salt bytea NOT NULL,
    entry_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    PRIMARY KEY (partition, member_id, request_id)
);

CREATE TABLE ledger.members (
    partition integer NOT NULL,
    member_id text NOT NULL,
    joined_time timestamptz NOT NULL,
    channel text NOT NULL,
    available bigint NOT NULL CHECK (available >= 0),
    debt bigint NOT NULL CHECK (debt >= 0),
    earned bigint NOT NULL,
    PRIMARY KEY (partition, member_id)
) WITH (fillfactor = 80);

CREATE TABLE ledger.earning_classes (
    partition integer NOT NULL,
    member_id text NOT NULL,
    sequence bigint NOT NULL,
    name text NOT NULL,
    effective_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, sequence)
);

-- Purchases and what came back of them. `rules` is how the points were made; `waiting` holds returns that came first.
CREATE TABLE ledger.purchases (
    partition integer NOT NULL,
    member_id text NOT NULL,
    purchase_id text NOT NULL,
    amount bigint NOT NULL,
    goods_paid bigint NOT NULL,
    rules json NOT NULL,
    returned bigint NOT NULL,
    returned_goods bigint NOT NULL,
    returned_points bigint NOT NULL,
    waiting json NOT NULL,
    PRIMARY KEY (partition, member_id, purchase_id),
    CHECK (returned <= amount)
);

-- The service may add to the log and never change it; the trigger refuses everyone else.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON ledger.entries
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER entries_keep BEFORE TRUNCATE ON ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

GRANT SELECT, INSERT ON ledger.installation, ledger.entries TO loyalty_ledger;
GRANT SELECT, INSERT, UPDATE ON ledger.partitions, ledger.members, ledger.purchases TO loyalty_ledger;
GRANT SELECT, INSERT ON ledger.earning_classes, ledger.entry_details, ledger.requests TO loyalty_ledger;
