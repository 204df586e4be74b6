-- In a simulated installation a version of the programme is known from the clock at which its entry stands in the feed.
-- That entry is read later than the version, which may hold for what stands before it.
--
-- What it locks: nothing; no row is rewritten.

GRANT UPDATE (recorded_time) ON tiers.programme_versions TO loyalty_tiers;
