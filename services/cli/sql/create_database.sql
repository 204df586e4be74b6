-- A database for the services: variables `name` and `template`. Rights on a database are not copied from its template.
-- A template that is full is copied faster as files than page by page through the log.
CREATE DATABASE :"name" TEMPLATE :"template" STRATEGY file_copy;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"name" TO loyalty_owner, loyalty_ledger, loyalty_tiers, loyalty_notifier;
