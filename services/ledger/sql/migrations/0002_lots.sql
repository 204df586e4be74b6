-- Points lie in lots, can be pending and held, and are redeemed; purchases know their time, their entry and what each
-- rule gave.
--
-- What it locks: members and purchases, whole, while the states of before are brought over from the log; about a
-- minute for every five million purchases. The older release cannot write meanwhile or afterwards: stop it first.

ALTER TABLE ledger.members
    ADD COLUMN pending bigint NOT NULL DEFAULT 0 CHECK (pending >= 0),
    ADD COLUMN held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    ADD COLUMN redeemed bigint NOT NULL DEFAULT 0,
    ADD COLUMN purchases bigint NOT NULL DEFAULT 0,
    ADD COLUMN activity_time timestamptz NOT NULL DEFAULT 'epoch',
    -- Points by lot, in the order they are drawn: `points@activation day/expiry day`, undated ones `points`.
    ADD COLUMN pending_lots text NOT NULL DEFAULT '',
    ADD COLUMN lots text NOT NULL DEFAULT '',
    -- [hold id, microseconds at which it runs out, lots].
    ADD COLUMN holds json NOT NULL DEFAULT '[]',
    ADD COLUMN adjusted_day date,
    ADD COLUMN adjusted bigint NOT NULL DEFAULT 0,
    -- Adjustments that await approval: [adjustment id, points, who asked].
    ADD COLUMN awaited json NOT NULL DEFAULT '[]',
    -- Earning classes, ascending: [sequence, name, microseconds from which it holds].
    ADD COLUMN classes json NOT NULL DEFAULT '[]',
    -- When time next does something to the points by itself.
    ADD COLUMN due_time timestamptz;

UPDATE ledger.members m
SET lots = CASE WHEN m.available > 0 THEN m.available::text ELSE '' END,
    purchases = coalesce(b.purchases, 0),
    activity_time = greatest(m.joined_time, b.latest),
    classes = coalesce(c.classes, '[]')
FROM ledger.members o
LEFT JOIN (
    SELECT partition, member_id,
        json_agg(json_build_array(sequence, name, (extract(epoch FROM effective_time) * 1000000)::bigint)
                 ORDER BY sequence) AS classes
    FROM ledger.earning_classes
    GROUP BY partition, member_id
) c USING (partition, member_id)
LEFT JOIN (
    SELECT partition, member_id, count(*) AS purchases, max(occurred_time) AS latest
    FROM ledger.entries WHERE kind = 'PURCHASE_RECORDED'
    GROUP BY partition, member_id
) b USING (partition, member_id)
WHERE m.partition = o.partition AND m.member_id = o.member_id;

-- squawk-ignore ban-drop-table
DROP TABLE ledger.earning_classes;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX members_due ON ledger.members (partition, due_time) WHERE due_time IS NOT NULL;

ALTER TABLE ledger.purchases
    ADD COLUMN occurred_time timestamptz,
    ADD COLUMN entry_offset bigint NOT NULL DEFAULT 0,
    -- What each rule gave: [rule, activation day, expiry day, base that came back, points taken back,
    -- what of the purchase had come back before].
    ADD COLUMN grants json NOT NULL DEFAULT '[]',
    -- What came back by line: [number, quantity, amount].
    ADD COLUMN returned_lines json NOT NULL DEFAULT '[]',
    ADD COLUMN voided boolean NOT NULL DEFAULT false;

-- Until now one rule gave the points of a purchase.
UPDATE ledger.purchases p
SET occurred_time = e.occurred_time,
    entry_offset = e.entry_offset,
    grants = json_build_array(json_build_array(p.rules -> 0, '', '', 0, p.returned_points, 0))
FROM ledger.entries e
WHERE e.partition = p.partition AND e.member_id = p.member_id AND e.purchase_id = p.purchase_id
    AND e.kind = 'PURCHASE_RECORDED';

-- Who asked for a return that waits is kept with it.
UPDATE ledger.purchases p
SET waiting = (
    SELECT json_agg(
        json_build_array(
            w.one -> 0, w.one -> 1, w.one -> 2, w.one -> 3, w.one -> 4, w.one -> 5,
            '[]'::json, '', e.principal, e.on_behalf_of)
        ORDER BY w.place)
    FROM json_array_elements(p.waiting) WITH ORDINALITY AS w (one, place)
    JOIN ledger.entries e
        ON e.partition = p.partition AND e.member_id = p.member_id AND e.purchase_id = p.purchase_id
        AND e.kind = 'RETURN_WAITING' AND e.request_id = w.one ->> 0
)
WHERE json_array_length(p.waiting) > 0;

-- squawk-ignore ban-drop-column
ALTER TABLE ledger.purchases DROP COLUMN rules, DROP COLUMN returned_points;

-- Redemptions, to be given back: the parts they were drawn from, in order, what became debt, how much was given back.
CREATE TABLE ledger.redemptions (
    partition integer NOT NULL,
    member_id text NOT NULL,
    redemption_id text NOT NULL,
    parts text NOT NULL,
    debt bigint NOT NULL,
    reversed bigint NOT NULL,
    PRIMARY KEY (partition, member_id, redemption_id)
);

-- Lots that lapsed, less what was set against returns since; the days are texts, empty where there is none.
CREATE TABLE ledger.lapsed_lots (
    partition integer NOT NULL,
    member_id text NOT NULL,
    activates text NOT NULL,
    expires text NOT NULL,
    points bigint NOT NULL CHECK (points >= 0),
    PRIMARY KEY (partition, member_id, activates, expires)
);

GRANT SELECT, INSERT, UPDATE ON ledger.redemptions, ledger.lapsed_lots TO loyalty_ledger;
