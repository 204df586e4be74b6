-- The roles of an installation; run once, by the superuser of an own database cluster.
-- Passwords come by the environment, so that they stand in no command line.
\getenv owner_password LOYALTY_OWNER_PASSWORD
\getenv ledger_password LOYALTY_LEDGER_PASSWORD
\getenv tiers_password LOYALTY_TIERS_PASSWORD
\getenv notifier_password LOYALTY_NOTIFIER_PASSWORD

-- A statement that fails is not to be logged with its password.
SET log_min_error_statement = 'panic';

CREATE ROLE loyalty_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE loyalty_ledger LOGIN PASSWORD :'ledger_password';
CREATE ROLE loyalty_tiers LOGIN PASSWORD :'tiers_password';
CREATE ROLE loyalty_notifier LOGIN PASSWORD :'notifier_password';

REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
