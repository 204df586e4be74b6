-- The master key may change: a wrapped key of a member begins with the id of the master key that wrapped it, and may be
-- wrapped anew. One without (60 bytes) is wrapped by the key of key_fingerprint.

-- What codes and ids are made with, sealed, the id of the master key before it; null: it is derived from the master key
-- of key_fingerprint.
ALTER TABLE notifier.installation ADD COLUMN sealed_keys bytea;

GRANT UPDATE (sealed_keys) ON notifier.installation TO loyalty_notifier;
GRANT UPDATE (wrapped_key) ON notifier.member_keys TO loyalty_notifier;
