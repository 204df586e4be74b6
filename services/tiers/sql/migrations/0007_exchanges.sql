-- The exchange that a purchase or a return is one side of: both are judged together. NULL where it is none; older
-- releases did not keep it, and what they took in stays as they judged it. And when a purchase was, found by its id when
-- it comes back: before, that read all that happened to the member.
--
-- What it locks: facts, while the two indexes are built, about four seconds for a million rows; no row is rewritten.
-- Meanwhile the feed is taken in later, and reads go on.

ALTER TABLE tiers.facts ADD COLUMN exchange_id text;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX facts_of_exchanges ON tiers.facts (partition, member_id) WHERE exchange_id IS NOT NULL;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX facts_purchases ON tiers.facts (partition, member_id, purchase_id) INCLUDE (occurred_time)
    WHERE kind = 2 AND purchase_id <> '';
