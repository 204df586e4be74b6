"""What campaigns know of members, and what they gave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from services.notifier.domain.assignments import Assignment, Claim, Spent
from services.notifier.domain.awards import Award, AwardSettlement, AwardState, DueAward
from services.notifier.domain.coupons import GiftKey, MemberKey
from services.notifier.domain.feeds import Cursor
from services.notifier.domain.profiles import LapsingMove, Profile
from services.notifier.store.table import QUERIES, Table

# What is counted apart: partition, campaign, variant, control group.
_CountKey = tuple[int, str, str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignCursor(Cursor):
    """How far the profiles of a partition go in both feeds, and the last local day that was begun."""

    begun_day: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignState:
    """Whether a campaign is paused, and whether it ever was. Machine time."""

    paused_time: datetime | None
    was_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DueAwards:
    """Where there are points to be asked for: those of a campaign, in a partition. `not_before`: when the first of them
    are due, in machine time."""

    partition: int
    campaign_id: str
    not_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignCount:
    """What one variant of a campaign, or its control group, came to."""

    campaign_id: str
    variant: str
    in_control: bool
    given: int
    points: int
    minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A member whom a day may give something, and what makes the day its own: a day, a code; points that lapse."""

    profile: Profile
    lapsing_points: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndingCoupon:
    """A coupon that was not used, and ends soon."""

    code: str
    member_id: str
    campaign_id: str
    valid_until_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBadge:
    """A badge that a member has, by which campaign and since when."""

    badge_id: str
    campaign_id: str
    given_time: datetime


class Campaigns(Table):
    """Profiles, assignments, and what they are to bring."""

    # Profiles

    async def read_campaign_cursors(self, partitions: Iterable[int]) -> dict[int, CampaignCursor]:
        """How far the profiles of these partitions go; each has a place from now on."""
        await self._connection.execute(QUERIES["insert_campaign_cursors"], list(partitions))
        rows = await self._connection.fetch(QUERIES["read_campaign_cursors"])
        return {
            row["partition"]: CampaignCursor(
                ledger_offset=row["ledger_offset"], change_offset=row["change_offset"], begun_day=row["begun_day"]
            )
            for row in rows
        }

    async def move_campaign_cursors(self, cursors: Mapping[int, Cursor]) -> None:
        """The profiles of these partitions go so far as the cursors."""
        await self._connection.execute(
            QUERIES["move_campaign_cursors"],
            list(cursors),
            [cursor.ledger_offset for cursor in cursors.values()],
            [cursor.change_offset for cursor in cursors.values()],
        )

    async def begin_day(self, partition: int, before: date | None, day: date) -> bool:
        """Writes down that a day of a partition is done; False where another was quicker."""
        return await self._connection.fetchval(QUERIES["begin_day"], partition, before, day) is not None

    async def find_profiles(self, keys: Collection[MemberKey]) -> dict[MemberKey, Profile]:
        """What is known of these members."""
        if not keys:
            return {}
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self._connection.fetch(QUERIES["find_profiles"], *columns)
        return {(row["partition"], row["member_id"]): _profile(row) for row in rows}

    async def put_profiles(self, profiles: Sequence[tuple[Profile, int | None, date | None]]) -> None:
        """Keeps profiles, each with the month and day of joining and the day on which the member was there last."""
        kept = [profile for profile, _, _ in profiles]
        await self._connection.execute(
            QUERIES["put_profiles"],
            [profile.partition for profile in kept],
            [profile.member_id for profile in kept],
            [profile.joined_time for profile in kept],
            [joined for _, joined, _ in profiles],
            [profile.market for profile in kept],
            [profile.tier for profile in kept],
            [profile.suspended for profile in kept],
            [profile.left for profile in kept],
            [profile.purchases for profile in kept],
            [profile.last_time for profile in kept],
            [last for _, _, last in profiles],
            [profile.available for profile in kept],
        )

    async def add_lapsing_points(self, moves: Sequence[LapsingMove]) -> None:
        """Adds these moves, which name each member and day once."""
        await self._connection.execute(
            QUERIES["add_lapsing_points"],
            [move.partition for move in moves],
            [move.member_id for move in moves],
            [move.day for move in moves],
            [move.points for move in moves],
        )

    async def forget_lapsed_points(self, partition: int, before: date) -> None:
        """Forgets what lapsed before a day."""
        await self._connection.execute(QUERIES["forget_lapsed_points"], partition, before)

    # Who is meant

    async def find_segments(self, keys: Collection[MemberKey]) -> dict[MemberKey, set[str]]:
        """In which segments these members are."""
        found: dict[MemberKey, set[str]] = defaultdict(set)
        if keys:
            columns = [list(column) for column in zip(*keys, strict=True)]
            for row in await self._connection.fetch(QUERIES["find_segments"], *columns):
                found[row["partition"], row["member_id"]].add(row["segment"])
        return found

    async def find_known(self, partition: int, member_ids: Sequence[str]) -> set[str]:
        """Which of these are members of a partition, and were not erased."""
        rows = await self._connection.fetch(QUERIES["find_known"], partition, list(member_ids))
        return {row["member_id"] for row in rows}

    async def enter_segment(self, partition: int, segment: str, member_ids: Sequence[str], now: datetime) -> list[str]:
        """Puts those of these who are members of a partition, and were not erased, into a segment; says who was not in
        it."""
        rows = await self._connection.fetch(QUERIES["enter_segment"], partition, segment, list(member_ids), now)
        return [row["member_id"] for row in rows]

    async def leave_segment(self, partition: int, segment: str, member_ids: Sequence[str]) -> None:
        """Takes members of a partition out of a segment."""
        await self._connection.execute(QUERIES["leave_segment"], partition, segment, list(member_ids))

    async def page_profiles(self, partition: int, after: str, limit: int) -> list[Candidate]:
        """Members of a partition, by id, of whom something is known."""
        return await self._page("page_profiles", partition, after, limit)

    async def page_members(self, partition: int, after: str, limit: int) -> list[Candidate]:
        """All members of a partition, by id."""
        return await self._page("page_members", partition, after, limit)

    async def page_joined_on(
        self, partition: int, after: str, limit: int, *, day: int, before: datetime
    ) -> list[Candidate]:
        """Members who joined on a day of the year (1231), before an instant."""
        return await self._page("page_joined_on", partition, after, limit, day, before)

    async def page_last_seen_on(
        self, partition: int, after: str, limit: int, *, days: Sequence[date]
    ) -> list[Candidate]:
        """Members who were there last on one of these days."""
        return await self._page("page_last_seen_on", partition, after, limit, list(days))

    async def page_lapsing_on(self, partition: int, after: str, limit: int, *, day: date) -> list[Candidate]:
        """Members with points that lapse at the end of a day."""
        return await self._page("page_lapsing_on", partition, after, limit, day)

    async def page_coupons_ending(
        self, partition: int, after: str, limit: int, *, start: datetime, end: datetime
    ) -> list[EndingCoupon]:
        """Coupons of members, by code, that were not used and end from one instant on and before another."""
        rows = await self._connection.fetch(QUERIES["page_coupons_ending"], partition, after, limit, start, end)
        return [EndingCoupon(**row) for row in rows]

    async def _page(self, query: str, partition: int, after: str, limit: int, *more: object) -> list[Candidate]:
        rows = await self._connection.fetch(QUERIES[query], partition, after, limit, *more)
        return [Candidate(profile=_profile(row), lapsing_points=row.get("lapsing_points") or 0) for row in rows]

    # Announcements

    async def insert_announcements(self, announcements: Sequence[tuple[int, str, datetime]]) -> None:
        """Keeps that versions were announced, by partition, to be told to its members."""
        await self._connection.execute(
            QUERIES["insert_announcements"], *(list(column) for column in zip(*announcements, strict=True))
        )

    async def list_announcements(self, partition: int) -> list[tuple[str, datetime]]:
        """The versions that a partition's members are still to be told of."""
        rows = await self._connection.fetch(QUERIES["list_announcements"], partition)
        return [(row["version"], row["announced_time"]) for row in rows]

    async def delete_announcement(self, partition: int, version: str) -> None:
        """All members of the partition were told."""
        await self._connection.execute(QUERIES["delete_announcement"], partition, version)

    # Assignments

    async def find_assignments(self, keys: Sequence[GiftKey]) -> set[GiftKey]:
        """Which of these were assigned before."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_assignments"], *columns)}

    async def count_assignments_within(
        self, claims: Sequence[tuple[Claim, tuple[datetime, datetime]]]
    ) -> dict[GiftKey, int]:
        """For each claim: how often the member had its campaign from one time on and before another."""
        rows = await self._connection.fetch(
            QUERIES["count_assignments_within"],
            [claim.partition for claim, _ in claims],
            [claim.campaign.id for claim, _ in claims],
            [claim.member_id for claim, _ in claims],
            [claim.trigger for claim, _ in claims],
            [since for _, (since, _) in claims],
            [until for _, (_, until) in claims],
        )
        return {(row["partition"], row["campaign_id"], row["member_id"], row["trigger"]): row["given"] for row in rows}

    async def insert_assignments(self, assignments: Sequence[Assignment]) -> None:
        """Keeps assignments that are not there yet, and adds them to what their campaigns gave."""
        claims = [assignment.claim for assignment in assignments]
        await self._connection.execute(
            QUERIES["insert_assignments"],
            [claim.partition for claim in claims],
            [claim.campaign.id for claim in claims],
            [claim.member_id for claim in claims],
            [claim.trigger for claim in claims],
            [assignment.variant for assignment in assignments],
            [assignment.in_control for assignment in assignments],
            [claim.time for claim in claims],
            [assignment.cost.points for assignment in assignments],
            [assignment.cost.minor_units for assignment in assignments],
        )
        sums: dict[_CountKey, Spent] = defaultdict(Spent)
        for one in assignments:
            sums[one.claim.partition, one.claim.campaign.id, one.variant, one.in_control].add(one.cost)
        await self._add_counts(sums)

    async def _add_counts(self, sums: Mapping[_CountKey, Spent]) -> None:
        # In one order, whoever adds: two that wait for each other's rows would never end.
        ordered = sorted(sums.items())
        await self._connection.execute(
            QUERIES["add_campaign_counts"],
            *([key[column] for key, _ in ordered] for column in range(4)),
            [spent.count for _, spent in ordered],
            [spent.points for _, spent in ordered],
            [spent.minor_units for _, spent in ordered],
        )

    async def list_badges(self, partition: int, member_id: str) -> list[GivenBadge]:
        """A member's badges, the oldest first."""
        rows = await self._connection.fetch(QUERIES["list_badges"], partition, member_id)
        return [GivenBadge(**row) for row in rows]

    # Campaigns

    async def campaign_states(self) -> dict[str, CampaignState]:
        """The campaigns that are or were paused; and others that have a budget."""
        rows = await self._connection.fetch(QUERIES["read_campaign_states"])
        return {
            row["campaign_id"]: CampaignState(paused_time=row["paused_time"], was_paused=row["was_paused"])
            for row in rows
        }

    async def paused_campaigns(self) -> set[str]:
        """The campaigns that are paused: nothing of theirs is to be given or sent."""
        states = await self.campaign_states()
        return {campaign_id for campaign_id, state in states.items() if state.paused_time is not None}

    async def campaign_counts(self) -> list[CampaignCount]:
        """What each campaign came to, by variant and control group."""
        rows = await self._connection.fetch(QUERIES["sum_campaign_counts"])
        return [CampaignCount(**row) for row in rows]

    async def pause_campaign(self, campaign_id: str, now: datetime) -> None:
        """Stops a campaign; one that is paused stays so."""
        await self._connection.execute(QUERIES["insert_campaign_states"], [campaign_id])
        await self._connection.execute(QUERIES["pause_campaign"], campaign_id, now)

    async def resume_campaign(self, campaign_id: str) -> None:
        """Lets a campaign go on."""
        await self._connection.execute(QUERIES["resume_campaign"], campaign_id)

    async def lock_budgets(self, campaign_ids: Iterable[str]) -> dict[str, Spent]:
        """What these campaigns have given; nobody else gives from their budgets until the end of the transaction."""
        wanted = sorted(campaign_ids)
        await self._connection.execute(QUERIES["insert_campaign_states"], wanted)
        await self._connection.execute(QUERIES["lock_budgets"], wanted)
        spent = {campaign_id: Spent() for campaign_id in wanted}
        for row in await self._connection.fetch(QUERIES["find_spent"], wanted):
            spent[row["campaign_id"]] = Spent(count=row["given"], points=row["points"], minor_units=row["minor_units"])
        return spent

    async def spend_budgets(self, spent: Mapping[str, Spent]) -> None:
        """Keeps what campaigns whose budgets are locked have given by now."""
        await self._connection.execute(
            QUERIES["spend_budgets"],
            list(spent),
            [one.count for one in spent.values()],
            [one.points for one in spent.values()],
            [one.minor_units for one in spent.values()],
        )

    # What assignments bring

    async def insert_awards(self, awards: Sequence[Award], now: datetime) -> None:
        """Keeps points that the ledger is to be asked for."""
        await self._connection.execute(
            QUERIES["insert_awards"],
            [award.partition for award in awards],
            [award.campaign_id for award in awards],
            [award.member_id for award in awards],
            [award.trigger for award in awards],
            [award.points for award in awards],
            [award.minor_units for award in awards],
            [award.alone for award in awards],
            [award.purchase_id for award in awards],
            [award.lasting for award in awards],
            now,
        )

    async def due_awards(self, paused: Collection[str]) -> list[DueAwards]:
        """Where there are points to be asked for, the first that is due first. Those of campaigns that are paused
        wait."""
        rows = await self._connection.fetch(QUERIES["due_awards"], list(paused))
        return [DueAwards(**row) for row in rows]

    async def lease_awards(
        self, partition: int, campaign_id: str, *, now: datetime, until: datetime, limit: int
    ) -> list[DueAward]:
        """Takes up to `limit` of a campaign that are due; nobody else gets them before `until`."""
        rows = await self._connection.fetch(QUERIES["lease_awards"], partition, campaign_id, now, until, limit)
        return [
            DueAward(
                award=Award(
                    partition=row["partition"],
                    campaign_id=row["campaign_id"],
                    member_id=row["member_id"],
                    trigger=row["trigger"],
                    points=row["points"],
                    minor_units=row["minor_units"],
                    alone=row["alone"],
                    purchase_id=row["purchase_id"],
                    lasting=row["lasting"],
                ),
                attempts=row["attempts"],
            )
            for row in rows
        ]

    async def settle_awards(self, settlements: Sequence[AwardSettlement]) -> None:
        """Writes down what came of them. What the ledger refused goes back to the budgets, once."""
        refusing = {one.award.campaign_id for one in settlements if one.state is AwardState.REFUSED}
        # Before all else: as whoever gives from a budget does.
        spent = await self.lock_budgets(refusing) if refusing else {}
        rows = await self._connection.fetch(
            QUERIES["settle_awards"],
            [one.award.partition for one in settlements],
            [one.award.campaign_id for one in settlements],
            [one.award.member_id for one in settlements],
            [one.award.trigger for one in settlements],
            [one.state.value for one in settlements],
            [one.attempts for one in settlements],
            [one.not_before for one in settlements],
            [one.last_error for one in settlements],
        )
        refused = [tuple(row)[:4] for row in rows if row["state"] == AwardState.REFUSED]
        if refused:
            await self._take_back(refused, spent)

    async def _take_back(self, refused: Sequence[tuple[Any, ...]], spent: Mapping[str, Spent]) -> None:
        columns = [list(column) for column in zip(*refused, strict=True)]
        back: dict[_CountKey, Spent] = defaultdict(Spent)
        for row in await self._connection.fetch(QUERIES["take_back_awards"], *columns):
            key = row["partition"], row["campaign_id"], row["variant"], False
            for one in (back[key], spent[row["campaign_id"]]):
                one.count -= row["alone"]
                one.points -= row["points"]
                one.minor_units -= row["minor_units"]
        await self._add_counts(back)
        await self.spend_budgets(spent)

    async def insert_badges(self, badges: Sequence[tuple[Assignment, str]]) -> None:
        """Gives badges; who has one keeps it as it is."""
        claims = [assignment.claim for assignment, _ in badges]
        await self._connection.execute(
            QUERIES["insert_badges"],
            [claim.partition for claim in claims],
            [claim.member_id for claim in claims],
            [badge for _, badge in badges],
            [claim.campaign.id for claim in claims],
            [claim.time for claim in claims],
        )

    # For the check

    async def check_campaigns(self) -> list[tuple[int, str, str, bool, int | None, int | None]]:
        """Where what is counted of a campaign is not what was assigned: partition, campaign, variant, control group,
        how much was assigned, how much is counted."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_campaigns"])]

    async def check_budgets(self) -> list[tuple[str, int, int]]:
        """Campaigns that had given more from their budget than is counted: how often, as counted, and as kept with the
        budget."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_budgets"])]

    async def check_coupons_of_campaigns(self) -> list[GiftKey]:
        """Coupons of campaigns that nothing was assigned for."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_coupons_of_campaigns"])]


def _profile(row: Mapping[str, Any]) -> Profile:
    return Profile(
        partition=row["partition"],
        member_id=row["member_id"],
        joined_time=row["joined_time"],
        market=row["market"],
        tier=row["tier"],
        suspended=row["suspended"],
        left=row["has_left"],
        purchases=row["purchases"],
        last_time=row["last_time"],
        available=row["available"],
    )
