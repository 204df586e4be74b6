-- Coupons come from more than changes of tier, and are good for more than a discount.
--
-- What it locks: coupons and deliveries, while both are written anew. A notifier of the release before cannot go on beside
-- it: it is stopped first, and what it would have done waits in the feeds.

-- squawk-ignore ban-drop-constraint
ALTER TABLE notifier.deliveries DROP CONSTRAINT deliveries_partition_campaign_id_member_id_change_offset_fkey;

-- What a coupon or a message is there for, once per campaign and member: `change:17` is the 17th change of tier of the
-- partition.
-- squawk-ignore renaming-column
ALTER TABLE notifier.coupons RENAME COLUMN change_offset TO trigger;
-- squawk-ignore changing-column-type
ALTER TABLE notifier.coupons ALTER COLUMN trigger TYPE text COLLATE "C" USING 'change:' || trigger;
-- squawk-ignore renaming-column
ALTER TABLE notifier.deliveries RENAME COLUMN change_offset TO trigger;
-- squawk-ignore changing-column-type
ALTER TABLE notifier.deliveries ALTER COLUMN trigger TYPE text COLLATE "C" USING 'change:' || trigger;

-- offer: what it is worth; terms: on what terms it can be used; both as services/notifier/store/coupons.py writes them.
ALTER TABLE notifier.coupons
    ADD COLUMN offer jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}';
UPDATE notifier.coupons
SET offer = CASE
    WHEN discount_bp IS NOT NULL THEN jsonb_build_object('kind', 'discount_percent', 'percent_bp', discount_bp)
    ELSE jsonb_build_object('kind', 'discount_amount', 'amount', discount_minor_units)
END;
ALTER TABLE notifier.coupons
    -- squawk-ignore ban-drop-default
    ALTER COLUMN offer DROP DEFAULT,
    -- squawk-ignore ban-drop-column
    DROP COLUMN discount_bp,
    -- squawk-ignore ban-drop-column
    DROP COLUMN discount_minor_units;

-- facts: what the words of a message need beside its coupon and the contact; no personal data.
ALTER TABLE notifier.deliveries ADD COLUMN facts jsonb NOT NULL DEFAULT '{}';
UPDATE notifier.deliveries
SET facts = jsonb_build_object('tier', tier, 'previous_tier', previous_tier, 'balance', balance_minor_units);
ALTER TABLE notifier.deliveries
    -- squawk-ignore ban-drop-default
    ALTER COLUMN facts DROP DEFAULT,
    -- squawk-ignore ban-drop-column
    DROP COLUMN tier,
    -- squawk-ignore ban-drop-column
    DROP COLUMN previous_tier,
    -- squawk-ignore ban-drop-column
    DROP COLUMN balance_minor_units;
