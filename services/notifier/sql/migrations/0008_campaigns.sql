-- Campaigns of all kinds: what they know of members, what they gave to whom, and what they still owe.
--
-- What it locks: coupons, while one index is built over them (about 2 s for a million rows); what campaigns gave so far is
-- written down anew.

-- How far the profiles of a partition go in both feeds, and the last local day that was begun. Profiles are kept only
-- while some campaign asks for them; then they are read from here on.
CREATE TABLE notifier.campaign_cursors (
    partition integer PRIMARY KEY,
    ledger_offset bigint NOT NULL DEFAULT 0,
    change_offset bigint NOT NULL DEFAULT 0,
    begun_day date
);

-- What campaigns know of a member, as of the last entry; all times are business time. joined_day: month and day (1231) of
-- joining by the programme's calendar, 29 February as the 28th; last_day: of the last purchase, redemption or activity.
CREATE TABLE notifier.profiles (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    joined_time timestamptz,
    joined_day smallint,
    market text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    suspended boolean NOT NULL,
    has_left boolean NOT NULL,
    purchases integer NOT NULL,
    last_time timestamptz,
    last_day date,
    available bigint NOT NULL,
    PRIMARY KEY (partition, member_id)
);
CREATE INDEX profiles_joined ON notifier.profiles (partition, joined_day, member_id);
CREATE INDEX profiles_last ON notifier.profiles (partition, last_day, member_id);

-- Points that can be redeemed, by the last local day on which they can.
CREATE TABLE notifier.lapsing_points (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    lapse_day date NOT NULL,
    points bigint NOT NULL,
    PRIMARY KEY (partition, member_id, lapse_day)
);
CREATE INDEX lapsing_points_day ON notifier.lapsing_points (partition, lapse_day, member_id) WHERE points > 0;

-- What a campaign came to for a member, once for each occasion: a variant, or a place in the control group.
CREATE TABLE notifier.assignments (
    partition integer NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    trigger text COLLATE "C" NOT NULL,
    variant text COLLATE "C" NOT NULL,
    in_control boolean NOT NULL,
    assigned_time timestamptz NOT NULL,
    points bigint NOT NULL,
    minor_units bigint NOT NULL,
    PRIMARY KEY (partition, campaign_id, member_id, trigger)
);
CREATE INDEX assignments_of_member ON notifier.assignments (partition, member_id, assigned_time);

-- The sums of a partition's assignments, kept with them.
CREATE TABLE notifier.campaign_counts (
    partition integer NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    variant text COLLATE "C" NOT NULL,
    in_control boolean NOT NULL,
    given bigint NOT NULL,
    points bigint NOT NULL,
    minor_units bigint NOT NULL,
    PRIMARY KEY (partition, campaign_id, variant, in_control)
);

-- One row for each campaign that was paused or has a budget, all in partition 0. Whoever gives from a budget locks its
-- row. paused_time: machine time; null while it runs. was_paused: whether it ever was.
CREATE TABLE notifier.campaign_states (
    partition integer NOT NULL CHECK (partition = 0),
    campaign_id text COLLATE "C" NOT NULL,
    paused_time timestamptz,
    was_paused boolean NOT NULL DEFAULT false,
    given bigint NOT NULL DEFAULT 0,
    points bigint NOT NULL DEFAULT 0,
    minor_units bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, campaign_id)
);

-- Points that the ledger is asked for, each under a request id made of its key, until it has answered.
CREATE TABLE notifier.awards (
    partition integer NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    trigger text COLLATE "C" NOT NULL,
    points bigint NOT NULL CHECK (points > 0),
    -- The purchase with which the points go; empty: none.
    purchase_id text NOT NULL,
    -- How long they last, P90D; empty: as the programme says.
    lasting text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'given', 'refused')),
    attempts smallint NOT NULL DEFAULT 0,
    -- Machine time, as for deliveries.
    not_before timestamptz NOT NULL,
    last_error text NOT NULL DEFAULT '',
    PRIMARY KEY (partition, campaign_id, member_id, trigger)
);
CREATE INDEX awards_queued ON notifier.awards (partition, not_before) WHERE state = 'queued';

CREATE TABLE notifier.badges (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    badge_id text COLLATE "C" NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    given_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, badge_id)
);

-- Named lists of members.
CREATE TABLE notifier.segments (
    partition integer NOT NULL,
    segment text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    entered_time timestamptz NOT NULL,
    PRIMARY KEY (partition, segment, member_id)
);
CREATE INDEX segments_of_member ON notifier.segments (partition, member_id);

-- What all members of a partition are still to be offered: versions of the programme that were announced.
CREATE TABLE notifier.announcements (
    partition integer NOT NULL,
    version text COLLATE "C" NOT NULL,
    announced_time timestamptz NOT NULL,
    PRIMARY KEY (partition, version)
);

-- Answers to surveys, each as it was given. answered_time is business time.
CREATE TABLE notifier.feedback (
    partition integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    content_digest bytea NOT NULL,
    survey_id text COLLATE "C" NOT NULL,
    score smallint,
    choice text NOT NULL,
    source text COLLATE "C" NOT NULL,
    answered_time timestamptz NOT NULL,
    recorded_time timestamptz NOT NULL,
    PRIMARY KEY (partition, member_id, request_id)
);

-- Those that will end soon.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX coupons_ending ON notifier.coupons (partition, valid_until_time, code);

-- Coupons were all that campaigns gave.
INSERT INTO notifier.assignments (
    partition, campaign_id, member_id, trigger, variant, in_control, assigned_time, points, minor_units)
SELECT partition, campaign_id, member_id, trigger, '', false, issued_time,
    0, CASE WHEN offer ->> 'kind' = 'discount_amount' THEN (offer ->> 'amount')::bigint ELSE 0 END
FROM notifier.coupons
WHERE campaign_id <> '';
INSERT INTO notifier.campaign_counts (partition, campaign_id, variant, in_control, given, points, minor_units)
SELECT partition, campaign_id, '', false, count(*), 0, sum(minor_units)
FROM notifier.assignments
GROUP BY partition, campaign_id;

GRANT SELECT, INSERT, UPDATE ON notifier.campaign_cursors TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.profiles TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.lapsing_points TO loyalty_notifier;
GRANT SELECT, INSERT ON notifier.assignments TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE ON notifier.campaign_counts TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE ON notifier.campaign_states TO loyalty_notifier;
GRANT SELECT, INSERT, UPDATE (state, attempts, not_before, last_error) ON notifier.awards TO loyalty_notifier;
GRANT SELECT, INSERT, DELETE ON notifier.badges TO loyalty_notifier;
GRANT SELECT, INSERT, DELETE ON notifier.segments TO loyalty_notifier;
GRANT SELECT, INSERT, DELETE ON notifier.announcements TO loyalty_notifier;
GRANT SELECT, INSERT, DELETE ON notifier.feedback TO loyalty_notifier;
