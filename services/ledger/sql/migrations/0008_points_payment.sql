-- Purchases know what points paid of them, and redemptions how many of their points paid for purchases.
--
-- What it locks: purchases and redemptions, for an instant: until now points paid for nothing that a purchase knows of.
-- An older release cannot read an entry that tells of a payment: stop it first.

-- [redemption id, points, what they paid in minor units, and what of both came back]; empty where points paid nothing.
ALTER TABLE ledger.purchases ADD COLUMN points_payment json NOT NULL DEFAULT '[]';

ALTER TABLE ledger.redemptions ADD COLUMN paid bigint NOT NULL DEFAULT 0 CHECK (paid >= 0);
