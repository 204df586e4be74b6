-- One schema per service, in the database at hand. The owner makes the tables and grants what a service may do.
REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA ledger AUTHORIZATION loyalty_owner;
CREATE SCHEMA tiers AUTHORIZATION loyalty_owner;
CREATE SCHEMA notifier AUTHORIZATION loyalty_owner;

GRANT USAGE ON SCHEMA ledger TO loyalty_ledger;
GRANT USAGE ON SCHEMA tiers TO loyalty_tiers;
GRANT USAGE ON SCHEMA notifier TO loyalty_notifier;
