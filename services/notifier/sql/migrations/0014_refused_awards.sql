-- What the ledger refuses to give goes back to the budget of its campaign. What was asked for before gives its points
-- back, and not their value.

-- refused: its points were all that it brought, and the ledger refused them: it counts no more.
ALTER TABLE notifier.assignments ADD COLUMN refused boolean NOT NULL DEFAULT false;

-- minor_units: the value of the points, as their campaign counts it. alone: neither coupon nor badge comes beside them.
ALTER TABLE notifier.awards
    ADD COLUMN minor_units bigint NOT NULL DEFAULT 0,
    ADD COLUMN alone boolean NOT NULL DEFAULT false;

GRANT UPDATE (points, minor_units, refused) ON notifier.assignments TO loyalty_notifier;
