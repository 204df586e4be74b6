-- Whose decision an earning class follows from, so that the ledger's entry names that person, too. Empty where what was
-- bought, or time, changed the tier.
--
-- What it locks: the outbox, for a moment; no row is rewritten.

ALTER TABLE tiers.class_outbox ADD COLUMN on_behalf_of text NOT NULL DEFAULT '';
