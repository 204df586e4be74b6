-- Why staff gave an erased member points is forgotten, too; and whoever was erased before is forgotten once more at the
-- next start: what the feeds told late had brought profiles and messages of some of them back.
--
-- What it locks: erasures, for a moment.
GRANT UPDATE (reason) ON notifier.goodwill TO loyalty_notifier;

UPDATE notifier.erasures SET erased_time = NULL;
