-- A message that comes back is known by its id: the address that it was sent to is found by what was kept of it.
-- address_hash: keyed, as in suppressions; of the last try. NULL where it is not known, or the member was erased.
ALTER TABLE notifier.deliveries ADD COLUMN address_hash bytea;

GRANT UPDATE (address_hash) ON notifier.deliveries TO loyalty_notifier;
