#!/bin/bash
# Makes roles, database and schemas in a new cluster; the image of PostgreSQL runs it once, over its socket.
# The subshell keeps the passwords from the server that is started afterwards.
(
    set -euo pipefail
    sql=${LOYALTY_SQL:-/loyalty/sql}
    passwords=${LOYALTY_PASSWORDS:-/secrets}
    for role in owner ledger tiers notifier; do
        export "LOYALTY_${role^^}_PASSWORD=$(< "$passwords/loyalty_$role")"
    done
    run() {
        psql -X -q -v ON_ERROR_STOP=1 -U postgres --no-password "$@"
    }
    run -d postgres -f "$sql/roles.sql"
    run -d postgres -v name=loyalty -v template=template0 -f "$sql/create_database.sql"
    run -d loyalty -f "$sql/schemas.sql"
)
