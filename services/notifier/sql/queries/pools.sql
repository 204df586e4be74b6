-- name: insert_pool_codes
-- Codes of a pool ($5) that an import ($6) brought; says which it kept: one that was there is left out.
INSERT INTO notifier.pool_codes (partition, folded, code, line, pool, import_id)
SELECT new.*, $5::text, $6::text FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS new
ON CONFLICT DO NOTHING
RETURNING folded;

-- name: find_pool_codes
-- Codes of pools by what they are known by.
SELECT kept.folded, kept.code, kept.import_id, kept.line
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, folded)
JOIN notifier.pool_codes AS kept USING (partition, folded);

-- name: take_pool_codes
-- Takes free codes of a pool from one partition: $1 = partition, $2 = pool, $3 = partition of the coupons, $4 = at most.
WITH free AS (
    SELECT partition, folded
    FROM notifier.pool_codes
    WHERE partition = $1 AND pool = $2 AND coupon_partition IS NULL
    ORDER BY folded
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.pool_codes AS taken
SET coupon_partition = $3
FROM free
WHERE taken.partition = $1 AND taken.partition = free.partition AND taken.folded = free.folded
RETURNING taken.code;

-- name: find_pools_with_codes
-- Which of these pools have a free code, one that others are about to take included. Of each partition the first free
-- code of a pool or the next one is looked at, so that no others are read, however many there are.
SELECT asked.pool
FROM unnest($1::text[]) AS asked (pool)
WHERE EXISTS (
    SELECT FROM notifier.cursors AS cursor
    CROSS JOIN LATERAL (
        SELECT pool FROM notifier.pool_codes AS code
        WHERE code.partition = cursor.partition AND code.pool >= asked.pool AND code.coupon_partition IS NULL
        ORDER BY pool
        LIMIT 1
    ) AS first
    WHERE first.pool = asked.pool
);

-- name: locate_pool_code
-- Where the coupon is that was given by a code: $1 = partition of the code, $2 = what it is known by.
SELECT coupon_partition, code
FROM notifier.pool_codes
WHERE partition = $1 AND folded = $2 AND coupon_partition IS NOT NULL;
