-- The journal: what the entries move, by day, account, expiry month and market. The ledger folds it from its own log.

-- Points that were booked on a day; debit and credit by sign. `recorded_day` tells what was known when.
CREATE TABLE ledger.journal (
    partition integer NOT NULL,
    posting_day date NOT NULL,
    recorded_day date NOT NULL,
    account text NOT NULL,
    expiry_month text NOT NULL,
    market text NOT NULL,
    points bigint NOT NULL,
    PRIMARY KEY (partition, posting_day, recorded_day, account, expiry_month, market)
) WITH (fillfactor = 80);

-- How far each partition is folded, and the simulated clock there.
CREATE TABLE ledger.journal_cursors (
    partition integer PRIMARY KEY,
    entry_offset bigint NOT NULL DEFAULT 0,
    business_time timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 50);

-- What time did by itself, which is known at its own instant, may be written down later. There is none of it yet.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX entries_of_time ON ledger.entries (partition, entry_offset, occurred_time)
WHERE kind IN ('POINTS_ACTIVATED', 'POINTS_EXPIRED', 'HOLD_EXPIRED');

GRANT SELECT, INSERT, UPDATE ON ledger.journal, ledger.journal_cursors TO loyalty_ledger;
