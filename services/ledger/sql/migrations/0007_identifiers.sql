-- What leads to a member (cards, phone numbers), and members that are erased.
--
-- What it locks: members, for a moment; nothing is rewritten.

-- Identifiers, each in the partition of its digest: so that it leads to one member at most. A blocked one leads to
-- nobody, and says why.
CREATE TABLE ledger.identifiers (
    partition integer NOT NULL,
    digest bytea NOT NULL,
    kind text NOT NULL,
    member_id text NOT NULL,
    blocked text NOT NULL,
    PRIMARY KEY (partition, digest)
);

-- The same in the partition of the member.
CREATE TABLE ledger.member_identifiers (
    partition integer NOT NULL,
    member_id text NOT NULL,
    digest bytea NOT NULL,
    kind text NOT NULL,
    blocked text NOT NULL,
    PRIMARY KEY (partition, member_id, digest)
);

-- Which key identifiers are kept by; it tells nothing of it. One row, which stays whole where others are distributed.
CREATE TABLE ledger.identifier_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fingerprint bytea NOT NULL
);

ALTER TABLE ledger.members ADD COLUMN erased_time timestamptz;

GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.identifiers, ledger.member_identifiers TO loyalty_ledger;
GRANT SELECT, INSERT ON ledger.identifier_key TO loyalty_ledger;
GRANT DELETE ON ledger.entry_details TO loyalty_ledger;
-- Of who is erased no request is kept: a keyed digest takes its place, and the salt is empty.
GRANT UPDATE (request, salt) ON ledger.requests TO loyalty_ledger;
