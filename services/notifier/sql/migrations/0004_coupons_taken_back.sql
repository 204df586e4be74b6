-- Coupons go with the level that brought them where that is taken back.
--
-- What it locks: coupons, for a moment; nothing is rewritten. balance_minor_units of deliveries is from now on a count
-- where the programme's metric is no money.

-- When a coupon was taken back, and by which change of tier; null where it was not.
ALTER TABLE notifier.coupons
    ADD COLUMN voided_time timestamptz,
    ADD COLUMN voided_by bigint;

GRANT UPDATE (voided_time, voided_by) ON notifier.coupons TO loyalty_notifier;
