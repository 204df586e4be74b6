-- Rewards that were issued and are taken back: each goes on from here, whoever dies, until it is done, or the ledger
-- refuses it.
CREATE TABLE notifier.reward_reversals (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    -- The request by which the reward was asked for.
    request_id text COLLATE "C" NOT NULL,
    -- Who takes it back.
    principal text COLLATE "C" NOT NULL,
    -- Business time.
    begun_time timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('begun', 'done', 'refused')),
    -- Machine time: nobody goes on with it before, but whoever began it.
    not_before timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, member_id, request_id)
);
CREATE INDEX reward_reversals_begun ON notifier.reward_reversals (partition, not_before) WHERE state = 'begun';

GRANT SELECT, INSERT, UPDATE (state, not_before, attempts) ON notifier.reward_reversals TO loyalty_notifier;
