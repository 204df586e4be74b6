-- A database for the services: variables `name` and `template`. Rights on a database are not copied from its template.
CREATE DATABASE :"name" TEMPLATE :"template";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"name" TO loyalty_owner, loyalty_ledger, loyalty_tiers, loyalty_notifier;
