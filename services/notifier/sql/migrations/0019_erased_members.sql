-- Why staff gave an erased member points is forgotten, too; and what the feeds told late of members who were erased
-- before, and was kept of them, goes. What is given offline although something speaks against it is found by index.
--
-- What it locks: rows of erased members, and coupon_uses while the index is built (about 1 s for a million uses). An
-- older release that still runs may keep more of an erased member: stop it first.
GRANT UPDATE (reason) ON notifier.goodwill TO loyalty_notifier;

UPDATE notifier.goodwill AS kept SET reason = ''
FROM notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

DELETE FROM notifier.profiles AS kept USING notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

DELETE FROM notifier.lapsing_points AS kept USING notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

DELETE FROM notifier.contacts AS kept USING notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

DELETE FROM notifier.member_keys AS kept USING notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

UPDATE notifier.deliveries AS kept
SET facts = '{}', address_hash = NULL,
    state = CASE WHEN state IN ('queued', 'held', 'no_contact') THEN 'dead' ELSE state END,
    last_error = CASE WHEN state IN ('queued', 'held', 'no_contact') THEN 'the member was erased' ELSE last_error END
FROM notifier.erasures AS erasure
WHERE kept.partition = erasure.partition AND kept.member_id = erasure.member_id;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX coupon_uses_overdrawn ON notifier.coupon_uses (redeemed_time) WHERE overdrawn <> '';
