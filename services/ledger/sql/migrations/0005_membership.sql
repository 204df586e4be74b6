-- Members leave and come back, and have a home market; purchases know their currency.
--
-- What it locks: members and purchases, whole, while the currency of each purchase is brought over from the log; about
-- half a minute for every five million purchases. The older release cannot write afterwards: stop it first.

ALTER TABLE ledger.members
    ADD COLUMN market text NOT NULL DEFAULT '',
    -- When the member was away, in order: [microseconds when it left, and when it came back, or null].
    ADD COLUMN absences json NOT NULL DEFAULT '[]';

ALTER TABLE ledger.purchases ADD COLUMN currency text NOT NULL DEFAULT '';

UPDATE ledger.purchases p
SET currency = e.body ->> 'currency'
FROM ledger.entries e
WHERE e.partition = p.partition AND e.entry_offset = p.entry_offset;

-- Returns that wait are kept with their currency, too.
UPDATE ledger.purchases p
SET waiting = (
    SELECT json_agg(
        json_build_array(
            w.one -> 0, w.one -> 1, w.one -> 2, w.one -> 3, w.one -> 4, w.one -> 5, w.one -> 6, w.one -> 7,
            w.one -> 8, w.one -> 9, e.body ->> 'currency')
        ORDER BY w.place)
    FROM json_array_elements(p.waiting) WITH ORDINALITY AS w (one, place)
    JOIN ledger.entries e
        ON e.partition = p.partition AND e.member_id = p.member_id AND e.purchase_id = p.purchase_id
        AND e.kind = 'RETURN_WAITING' AND e.request_id = w.one ->> 0
)
WHERE json_array_length(p.waiting) > 0;
