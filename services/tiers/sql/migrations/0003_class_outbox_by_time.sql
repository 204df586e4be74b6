-- A simulated installation tells the ledger an earning class when the day begins from which it holds: what is to be told
-- now is found without reading what still waits for the clock.
--
-- What it locks: writes to the outbox while the index is built, over the rows that the ledger has not answered; a
-- moment. Meanwhile the feed is taken in a little later.

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX class_outbox_by_time ON tiers.class_outbox (partition, effective_time, change_offset);
