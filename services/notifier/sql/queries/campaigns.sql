-- name: insert_campaign_cursors
-- A place for each partition that has none.
INSERT INTO notifier.campaign_cursors (partition) SELECT unnest($1::integer[]) ON CONFLICT DO NOTHING;

-- name: read_campaign_cursors
-- How far the profiles go, and which day was begun.
SELECT partition, ledger_offset, change_offset, begun_day FROM notifier.campaign_cursors;

-- name: move_campaign_cursors
-- The profiles go so far now; never back.
UPDATE notifier.campaign_cursors AS stored
SET ledger_offset = greatest(stored.ledger_offset, moved.ledger_offset),
    change_offset = greatest(stored.change_offset, moved.change_offset)
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS moved (partition, ledger_offset, change_offset)
WHERE stored.partition = moved.partition;

-- name: begin_day
-- A day of a partition is done: $2 = the one before, $3 = the day.
UPDATE notifier.campaign_cursors SET begun_day = $3
WHERE partition = $1 AND begun_day IS NOT DISTINCT FROM $2
RETURNING true;

-- name: find_profiles
-- What is known of these members.
SELECT partition, member_id, joined_time, market, tier, suspended, has_left, purchases, last_time, available
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, member_id)
JOIN notifier.profiles USING (partition, member_id);

-- name: put_profiles
-- What is known of members, whole.
INSERT INTO notifier.profiles (
    partition, member_id, joined_time, joined_day, market, tier, suspended, has_left, purchases, last_time, last_day,
    available)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::timestamptz[], $4::smallint[], $5::text[], $6::text[], $7::boolean[], $8::boolean[],
    $9::integer[], $10::timestamptz[], $11::date[], $12::bigint[])
ON CONFLICT (partition, member_id) DO UPDATE
SET joined_time = excluded.joined_time, joined_day = excluded.joined_day, market = excluded.market,
    tier = excluded.tier, suspended = excluded.suspended, has_left = excluded.has_left,
    purchases = excluded.purchases, last_time = excluded.last_time, last_day = excluded.last_day,
    available = excluded.available;

-- name: add_lapsing_points
-- More or fewer points that lapse on a day.
INSERT INTO notifier.lapsing_points AS kept (partition, member_id, lapse_day, points)
SELECT * FROM unnest($1::integer[], $2::text[], $3::date[], $4::bigint[])
ON CONFLICT (partition, member_id, lapse_day) DO UPDATE SET points = kept.points + excluded.points;

-- name: forget_lapsed_points
-- What lapsed before a day.
DELETE FROM notifier.lapsing_points WHERE partition = $1 AND lapse_day < $2;

-- name: find_assignments
-- Which of these were assigned before.
SELECT partition, campaign_id, member_id, trigger
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) AS wanted (partition, campaign_id, member_id, trigger)
JOIN notifier.assignments USING (partition, campaign_id, member_id, trigger);

-- name: count_assignments_within
-- How often members had a campaign in a span of time: $4 = triggers that the answers are known by.
SELECT wanted.partition, wanted.campaign_id, wanted.member_id, wanted.trigger, count(*) AS given
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS wanted (partition, campaign_id, member_id, trigger, since, until)
JOIN notifier.assignments AS assignment
    ON assignment.partition = wanted.partition AND assignment.campaign_id = wanted.campaign_id
    AND assignment.member_id = wanted.member_id
    AND assignment.assigned_time >= wanted.since AND assignment.assigned_time < wanted.until
    AND NOT assignment.refused
GROUP BY 1, 2, 3, 4;

-- name: insert_assignments
-- What campaigns came to.
INSERT INTO notifier.assignments (
    partition, campaign_id, member_id, trigger, variant, in_control, assigned_time, points, minor_units)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::timestamptz[], $8::bigint[],
    $9::bigint[]);

-- name: add_campaign_counts
-- More of what a partition's campaigns gave.
INSERT INTO notifier.campaign_counts AS kept (partition, campaign_id, variant, in_control, given, points, minor_units)
SELECT * FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bigint[])
ON CONFLICT (partition, campaign_id, variant, in_control) DO UPDATE
SET given = kept.given + excluded.given, points = kept.points + excluded.points,
    minor_units = kept.minor_units + excluded.minor_units;

-- name: sum_campaign_counts
-- What each campaign gave in all.
SELECT campaign_id, variant, in_control, sum(given)::bigint AS given, sum(points)::bigint AS points,
    sum(minor_units)::bigint AS minor_units
FROM notifier.campaign_counts
GROUP BY 1, 2, 3;

-- name: read_campaign_states
-- Which campaigns are paused, and since when; which ever were.
SELECT campaign_id, paused_time, was_paused FROM notifier.campaign_states WHERE partition = 0;

-- name: insert_campaign_states
-- A row for each campaign that has none.
INSERT INTO notifier.campaign_states (partition, campaign_id) SELECT 0, unnest($1::text[]) ON CONFLICT DO NOTHING;

-- name: lock_budgets
-- Nobody else gives from the budgets of these campaigns until the end of the transaction.
SELECT campaign_id
FROM notifier.campaign_states
WHERE partition = 0 AND campaign_id = ANY($1::text[])
ORDER BY campaign_id
FOR UPDATE;

-- name: find_spent
-- What campaigns have given, their control groups aside: a statement of its own, after the lock, to see what whoever
-- had it before has given.
SELECT campaign_id, sum(given)::bigint AS given, sum(points)::bigint AS points, sum(minor_units)::bigint AS minor_units
FROM notifier.campaign_counts
WHERE campaign_id = ANY($1::text[]) AND NOT in_control
GROUP BY campaign_id;

-- name: spend_budgets
-- What campaigns with a budget had given when something was given from it last, for the check.
UPDATE notifier.campaign_states AS kept
SET given = spent.given, points = spent.points, minor_units = spent.minor_units
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS spent (campaign_id, given, points, minor_units)
WHERE kept.partition = 0 AND kept.campaign_id = spent.campaign_id;

-- name: pause_campaign
-- Stops a campaign ($2 = now), where it runs.
UPDATE notifier.campaign_states SET paused_time = coalesce(paused_time, $2), was_paused = true
WHERE partition = 0 AND campaign_id = $1;

-- name: resume_campaign
-- Lets a campaign go on.
UPDATE notifier.campaign_states SET paused_time = NULL WHERE partition = 0 AND campaign_id = $1;

-- name: insert_awards
-- Points that the ledger is to be asked for: $10 = now.
INSERT INTO notifier.awards (
    partition, campaign_id, member_id, trigger, points, minor_units, alone, purchase_id, lasting, not_before)
SELECT new.*, $10::timestamptz
FROM unnest(
    $1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], $8::text[], $9::text[])
    AS new
ON CONFLICT DO NOTHING;

-- name: due_awards
-- For each partition and campaign with points to be asked for: when the first is due. Those of campaigns that are paused
-- ($1) wait. From one campaign the next is looked for, so that it does not matter how much waits of each.
WITH RECURSIVE due AS (
    SELECT cursor.partition, first.campaign_id, first.not_before
    FROM notifier.cursors AS cursor
    CROSS JOIN LATERAL (
        SELECT campaign_id, not_before FROM notifier.awards AS award
        WHERE award.partition = cursor.partition AND award.state = 'queued'
        ORDER BY campaign_id, not_before
        LIMIT 1
    ) AS first
    UNION ALL
    SELECT due.partition, next.campaign_id, next.not_before
    FROM due
    CROSS JOIN LATERAL (
        SELECT campaign_id, not_before FROM notifier.awards AS award
        WHERE award.partition = due.partition AND award.state = 'queued' AND award.campaign_id > due.campaign_id
        ORDER BY campaign_id, not_before
        LIMIT 1
    ) AS next
)
SELECT partition, campaign_id, not_before FROM due WHERE campaign_id <> ALL($1::text[]) ORDER BY not_before;

-- name: lease_awards
-- Takes points of a campaign to be asked for: $1 = partition, $2 = campaign, $3 = now, $4 = end of the lease,
-- $5 = at most.
WITH due AS (
    SELECT partition, campaign_id, member_id, trigger
    FROM notifier.awards
    WHERE partition = $1 AND campaign_id = $2 AND state = 'queued' AND not_before <= $3
    ORDER BY not_before
    LIMIT $5
    FOR UPDATE SKIP LOCKED
)
UPDATE notifier.awards AS award
SET not_before = $4
FROM due
WHERE award.partition = $1 AND award.partition = due.partition AND award.campaign_id = due.campaign_id
    AND award.member_id = due.member_id AND award.trigger = due.trigger
RETURNING award.partition, award.campaign_id, award.member_id, award.trigger, award.points, award.minor_units,
    award.alone, award.purchase_id, award.lasting, award.attempts;

-- name: settle_awards
-- What came of points that were asked for, and for whom nobody had said so before. Asked for twice they are given once:
-- so whoever knows of it may say so.
UPDATE notifier.awards AS award
SET state = settled.state, attempts = settled.attempts, not_before = settled.not_before,
    last_error = settled.last_error
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::text[])
    AS settled (partition, campaign_id, member_id, trigger, state, attempts, not_before, last_error)
WHERE award.partition = settled.partition AND award.campaign_id = settled.campaign_id
    AND award.member_id = settled.member_id AND award.trigger = settled.trigger AND award.state = 'queued'
RETURNING award.partition, award.campaign_id, award.member_id, award.trigger, award.state;

-- name: take_back_awards
-- Points that the ledger refused go back, and with them the whole where they were all of it. Says what goes back.
UPDATE notifier.assignments AS assignment
SET points = assignment.points - award.points, minor_units = assignment.minor_units - award.minor_units,
    refused = award.alone
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) AS refused (partition, campaign_id, member_id, trigger)
JOIN notifier.awards AS award USING (partition, campaign_id, member_id, trigger)
WHERE assignment.partition = award.partition AND assignment.campaign_id = award.campaign_id
    AND assignment.member_id = award.member_id AND assignment.trigger = award.trigger
RETURNING assignment.partition, assignment.campaign_id, assignment.variant, award.alone, award.points, award.minor_units;

-- name: insert_badges
-- Badges, each once.
INSERT INTO notifier.badges (partition, member_id, badge_id, campaign_id, given_time)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT DO NOTHING;

-- name: list_badges
-- A member's badges, the oldest first.
SELECT badge_id, campaign_id, given_time FROM notifier.badges
WHERE partition = $1 AND member_id = $2
ORDER BY given_time, badge_id;

-- name: find_segments
-- In which segments these members are.
SELECT partition, member_id, segment
FROM unnest($1::integer[], $2::text[]) AS wanted (partition, member_id)
JOIN notifier.segments USING (partition, member_id);

-- name: find_known
-- Which of these are members of a partition, and were not erased.
SELECT member_id FROM notifier.members AS member
WHERE partition = $1 AND member_id = ANY($2::text[]) AND NOT EXISTS (
    SELECT FROM notifier.erasures AS erasure
    WHERE erasure.partition = member.partition AND erasure.member_id = member.member_id);

-- name: enter_segment
-- Puts members into a segment, and says who was not in it; who is no member, or was erased, is passed over.
INSERT INTO notifier.segments (partition, segment, member_id, entered_time)
SELECT $1, $2, member_id, $4
FROM notifier.members AS member
WHERE partition = $1 AND member_id = ANY($3::text[]) AND NOT EXISTS (
    SELECT FROM notifier.erasures AS erasure
    WHERE erasure.partition = member.partition AND erasure.member_id = member.member_id)
ON CONFLICT DO NOTHING
RETURNING member_id;

-- name: leave_segment
-- Takes members out of a segment.
DELETE FROM notifier.segments WHERE partition = $1 AND segment = $2 AND member_id = ANY($3::text[]);

-- name: insert_announcements
-- Versions of the programme that members are to hear of.
INSERT INTO notifier.announcements (partition, version, announced_time)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
ON CONFLICT DO NOTHING;

-- name: list_announcements
-- What a partition's members are still to hear of.
SELECT version, announced_time FROM notifier.announcements WHERE partition = $1 ORDER BY announced_time;

-- name: delete_announcement
-- All members of the partition were offered it.
DELETE FROM notifier.announcements WHERE partition = $1 AND version = $2;

-- name: page_profiles
-- Members of a partition after one, by id.
SELECT partition, member_id, joined_time, market, tier, suspended, has_left, purchases, last_time, available
FROM notifier.profiles
WHERE partition = $1 AND member_id > $2
ORDER BY member_id
LIMIT $3;

-- name: page_members
-- Members of a partition after one, by id, with what is known of them.
SELECT member.partition, member.member_id, member.joined_time, coalesce(market, '') AS market,
    coalesce(tier, '') AS tier, coalesce(suspended, false) AS suspended, coalesce(has_left, false) AS has_left,
    coalesce(purchases, 0) AS purchases, last_time, coalesce(available, 0) AS available
FROM notifier.members AS member LEFT JOIN notifier.profiles USING (partition, member_id)
WHERE member.partition = $1 AND member.member_id > $2
ORDER BY member.member_id
LIMIT $3;

-- name: page_joined_on
-- Members who joined on a day of the year ($4 = month and day), before $5.
SELECT partition, member_id, joined_time, market, tier, suspended, has_left, purchases, last_time, available
FROM notifier.profiles
WHERE partition = $1 AND joined_day = $4 AND member_id > $2 AND joined_time < $5
ORDER BY member_id
LIMIT $3;

-- name: page_last_seen_on
-- Members who were there last on one of these days.
SELECT partition, member_id, joined_time, market, tier, suspended, has_left, purchases, last_time, available
FROM notifier.profiles
WHERE partition = $1 AND last_day = ANY($4::date[]) AND member_id > $2
ORDER BY member_id
LIMIT $3;

-- name: page_lapsing_on
-- Members with points that lapse at the end of a day, and how many.
SELECT lapsing.points AS lapsing_points, profile.*
FROM notifier.lapsing_points AS lapsing
JOIN notifier.profiles AS profile USING (partition, member_id)
WHERE lapsing.partition = $1 AND lapsing.lapse_day = $4 AND lapsing.points > 0 AND lapsing.member_id > $2
ORDER BY lapsing.member_id
LIMIT $3;

-- name: page_coupons_ending
-- Coupons of members that end from $4 on and before $5, and were neither used up nor taken back.
SELECT code, member_id, campaign_id, valid_until_time
FROM notifier.coupons
WHERE partition = $1 AND valid_until_time >= $4 AND valid_until_time < $5 AND code > $2
    AND member_id <> '' AND voided_time IS NULL AND NOT preparing AND redeemed < uses
ORDER BY code
LIMIT $3;

-- name: check_campaigns
-- Where what is counted of a campaign is not what was assigned, for the check.
SELECT partition, campaign_id, variant, in_control, assigned.given AS expected, kept.given AS found
FROM (
    SELECT partition, campaign_id, variant, in_control, count(*) FILTER (WHERE NOT refused) AS given,
        sum(points) AS points, sum(minor_units) AS minor_units
    FROM notifier.assignments GROUP BY 1, 2, 3, 4
) AS assigned
FULL JOIN notifier.campaign_counts AS kept USING (partition, campaign_id, variant, in_control)
WHERE (assigned.given, assigned.points, assigned.minor_units) IS DISTINCT FROM
    (kept.given, kept.points, kept.minor_units)
ORDER BY 1, 2, 3, 4;

-- name: check_budgets
-- Campaigns that had given more of their budget, when they gave from it last, than is counted, for the check.
SELECT state.campaign_id, coalesce(sum(kept.given), 0)::bigint AS expected, state.given AS found
FROM notifier.campaign_states AS state
LEFT JOIN notifier.campaign_counts AS kept ON kept.campaign_id = state.campaign_id AND NOT kept.in_control
WHERE state.partition = 0
GROUP BY state.campaign_id, state.given, state.points, state.minor_units
HAVING state.given > coalesce(sum(kept.given), 0) OR state.points > coalesce(sum(kept.points), 0)
    OR state.minor_units > coalesce(sum(kept.minor_units), 0)
ORDER BY 1;

-- name: check_coupons_of_campaigns
-- Coupons of campaigns that nothing was assigned for, for the check.
SELECT coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger
FROM notifier.coupons AS coupon
LEFT JOIN notifier.assignments AS assignment USING (partition, campaign_id, member_id, trigger)
WHERE coupon.campaign_id <> '' AND (assignment.in_control IS NULL OR assignment.in_control)
ORDER BY 1, 2, 3, 4;
