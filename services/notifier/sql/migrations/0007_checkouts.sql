-- Checkouts that were committed, and the answers to the requests that committed or cancelled them.
--
-- Every key begins with the partition of the member. started_time, lease_until and recorded_time are machine time.

CREATE TABLE notifier.checkouts (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    checkout_id text COLLATE "C" NOT NULL,
    -- The request that committed it last, or that cancelled it before any did.
    request_id text COLLATE "C" NOT NULL,
    sale_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (
        state IN ('started', 'recording', 'releasing', 'cancelling', 'done', 'refused', 'cancelled')),
    -- What it takes to go on, as services/notifier/domain/kept.py writes it; null once it is over.
    content jsonb,
    started_time timestamptz NOT NULL,
    -- Nobody else carries it on before.
    lease_until timestamptz NOT NULL,
    -- The last entry by which something of it came back, until it was looked whether all did; 0: none.
    undone_offset bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, member_id, checkout_id),
    CHECK (content IS NOT NULL OR state IN ('done', 'refused', 'cancelled'))
);

-- What is left to be carried on.
CREATE INDEX checkouts_unfinished ON notifier.checkouts (lease_until)
    WHERE state IN ('started', 'recording', 'releasing', 'cancelling');

-- What has come back, and has not been looked at.
CREATE INDEX checkouts_undone ON notifier.checkouts (undone_offset) WHERE undone_offset > 0 AND state = 'done';

CREATE TABLE notifier.checkout_requests (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    -- A keyed digest in place of what it said.
    content_digest bytea NOT NULL,
    checkout_id text COLLATE "C" NOT NULL,
    -- Null until it is decided.
    answer jsonb,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, request_id)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.checkouts TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.checkout_requests TO loyalty_notifier;
