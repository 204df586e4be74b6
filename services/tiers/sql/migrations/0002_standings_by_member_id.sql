-- Member ids are ASCII and are listed bytewise, whatever the collation of the database is. The primary key serves that
-- order (partition, then member_id > $1 ... ORDER BY member_id LIMIT n) once the column has the collation "C"; another
-- index would cost every write to the hottest table.
--
-- What it locks: rows stay as they are, the primary key is built anew under ACCESS EXCLUSIVE; 3 seconds for a million
-- members. Meanwhile reads of standings wait and the feed is taken in a little later. A service that runs beside it
-- fails at the first statement it had prepared before, is started again, and goes on at its cursors: nothing is lost.
--
-- Joins: against columns of the database's own collation (movements.member_id, unnest) a comparison takes "C", which
-- serves this table's key. Where the other table's key shall serve, the query says COLLATE "default".

-- squawk-ignore changing-column-type
ALTER TABLE tiers.standings ALTER COLUMN member_id TYPE text COLLATE "C";

-- The change drops what the planner knew about the column.
ANALYZE tiers.standings (member_id);
