"""Keeps what campaigns know of members, and gives what occasions set off: all within the caller's transaction, in a
fixed number of statements, however much there is at once.

Whoever calls holds the partitions that it gives in: so nothing is given twice, also by two notifiers at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

import structlog

from services.notifier.domain.assignments import (
    Assignment,
    Claim,
    Person,
    Spent,
    assign,
    belongs,
    cap_span,
    variant_of,
    worth_of_points,
)
from services.notifier.domain.awards import Award
from services.notifier.domain.campaigns import Gift, Gifts, plain, tells_points
from services.notifier.domain.coupons import MemberKey
from services.notifier.domain.feeds import LedgerEntry, MemberEvent, MemberJoined, ProgrammeApplied, TierChange
from services.notifier.domain.messages import STALE
from services.notifier.domain.preferences import agreed
from services.notifier.domain.profiles import LapsingMove, Occasion, Profile, changed, joined, met, placed, standing
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FeedError, SealError
from services.notifier.store import SealedContact, Transaction
from services.notifier.vault import Vault
from services.programme.campaigns import DAILY, Campaign
from services.programme.messages import EMAIL
from services.programme.model import Programme
from services.programme.templates import POINTS_BALANCE
from services.runtime.clock import MachineClock

log = structlog.get_logger()

_MAX_VARIANTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """How much was given: coupons, messages that wait to be sent, points that are to be asked for."""

    assigned: int = 0
    coupons: int = 0
    queued: int = 0
    awards: int = 0


class CampaignEngine:
    """What the consumer, the days and segments have in common. One instance for all."""

    def __init__(
        self,
        *,
        gifts: Gifts,
        programmes: Programmes,
        vault: Vault,
        partitions: int,
        simulated: bool,
        machine_now: MachineClock,
        messages_queued: Callable[[], None],
        points_owed: Callable[[], None],
    ) -> None:
        self._gifts = gifts
        self._programmes = programmes
        self._vault = vault
        self._partitions = partitions
        self._simulated = simulated
        self._machine_now = machine_now
        self._messages_queued = messages_queued
        self._points_owed = points_owed

    @property
    def asks(self) -> bool:
        """Whether some campaign of any version needs to know more of members than their changes of tier."""
        return any(not plain(campaign) or tells_points(campaign) for campaign in self.campaigns())

    @property
    def has_days(self) -> bool:
        """Whether some campaign is set off by days."""
        return any(campaign.trigger.kind in DAILY for campaign in self.campaigns())

    @property
    def asks_detail(self) -> bool:
        """Whether some campaign needs to know what lies outside the entries of purchases."""
        return any(campaign.trigger.asks_detail for campaign in self.campaigns())

    def campaigns(self) -> Iterable[Campaign]:
        """All campaigns of all versions."""
        return (campaign for version in self._programmes.all for campaign in version.programme.campaigns)

    async def take_in(
        self, transaction: Transaction, changes: Sequence[TierChange], entries: Sequence[LedgerEntry]
    ) -> tuple[list[Occasion], dict[MemberKey, Profile]]:
        """Keeps what the feeds tell of members, and says what it may set off. Of who was erased nothing is kept: the
        feeds tell of that, too, and of what was before."""
        occasions = self._gifts.occasions(changes)
        if not self.asks:
            return occasions, {}
        told = [(entry, fact) for entry in entries if isinstance(fact := entry.fact, MemberJoined | MemberEvent)]
        keys = {change.member_key for change in changes} | {(entry.partition, fact.member_id) for entry, fact in told}
        announced = [
            (entry.partition, entry.fact.version, entry.fact.announced_time)
            for entry in entries
            if isinstance(entry.fact, ProgrammeApplied) and entry.fact.announced_time is not None
        ]
        if announced:
            await transaction.insert_announcements(announced)
        if not keys:
            return occasions, {}
        keys -= await transaction.find_erased(keys)
        changes = [change for change in changes if change.member_key in keys]
        told = [(entry, fact) for entry, fact in told if (entry.partition, fact.member_id) in keys]
        profiles = await transaction.find_profiles(keys)
        for key in keys - profiles.keys():
            profiles[key] = Profile(partition=key[0], member_id=key[1])
        for change in changes:
            programme = self._programmes.at(change.changed_time)
            profiles[change.member_key] = changed(profiles[change.member_key], change, programme)
        lapsing: dict[tuple[int, str, str], int] = defaultdict(int)
        for entry, fact in told:
            key = entry.partition, fact.member_id
            if isinstance(fact, MemberJoined):
                time = fact.joined_time
                profiles[key], more = joined(profiles[key], fact, self._programmes.at(time))
            else:
                time = fact.occurred_time
                profiles[key], more = met(profiles[key], fact, entry.offset, self._programmes.at(time))
            if not self._is_stale(time):
                occasions += more
            for day, points in fact.lapsing:
                lapsing[entry.partition, fact.member_id, day] += points
        await transaction.put_profiles([self._dated(profiles[key]) for key in sorted(keys)])
        moves = [
            LapsingMove(partition=partition, member_id=member_id, day=date.fromisoformat(day), points=points)
            for (partition, member_id, day), points in sorted(lapsing.items())
            if points
        ]
        if moves:
            await transaction.add_lapsing_points(moves)
        return occasions, profiles

    async def give(
        self,
        transaction: Transaction,
        claims: Iterable[Claim],
        profiles: Mapping[MemberKey, Profile] | None = None,
    ) -> Given:
        """Gives what these claims come to. `profiles`: those that are known already, as they are now."""
        wanted = await self._meant(transaction, list(claims), profiles or {})
        assigned = await self._assign(transaction, wanted) if wanted else []
        if not assigned:
            return Given()
        gifts = await self._with_codes(transaction, [self._gifts.gift(one) for one in assigned])
        now = self._machine_now()
        awards = [_award(one) for one in assigned if not one.in_control and one.actions.points]
        if awards:
            await transaction.insert_awards(awards, now)
        badges = [(one, one.actions.badge) for one in assigned if not one.in_control and one.actions.badge]
        if badges:
            await transaction.insert_badges(badges)
        messages = [message for gift in gifts for message in gift.messages]
        queued = await transaction.insert_messages(messages, now, key=self._vault.delivery_key) if messages else 0
        coupons = sum(gift.coupon is not None for gift in gifts)
        return Given(assigned=len(assigned), coupons=coupons, queued=queued, awards=len(awards))

    def claims(self, occasions: Iterable[Occasion]) -> list[Claim]:
        """The campaigns that occasions set off."""
        return list(self._gifts.claims(occasions))

    def told(self, given: Given) -> None:
        """What was given is committed: whoever carries it out is woken."""
        if given.queued:
            self._messages_queued()
        if given.awards:
            self._points_owed()
        if given.assigned:
            log.info(
                "campaigns_given",
                assigned=given.assigned,
                coupons=given.coupons,
                messages_queued=given.queued,
                awards=given.awards,
            )

    async def _meant(
        self, transaction: Transaction, claims: list[Claim], known: Mapping[MemberKey, Profile]
    ) -> list[Claim]:
        """Those of campaigns that run, for members of their audience, with what is known of these; none for who was
        erased. Of plain campaigns changes of tier decide alone: what else came in the same batch must not."""
        if not claims:
            return []
        paused = await transaction.paused_campaigns()
        erased = await transaction.find_erased({claim.member_key for claim in claims})
        claims = [claim for claim in claims if claim.campaign.id not in paused and claim.member_key not in erased]
        if not self.asks or not claims:
            return claims
        keys = {claim.member_key for claim in claims}
        profiles = {**await transaction.find_profiles(keys - known.keys()), **known}
        persons = await self.persons(
            transaction, {claim.campaign.id: claim.campaign for claim in claims}.values(), keys
        )
        nobody, meant = Person(), []
        for claim in claims:
            profile = profiles.get(claim.member_key)
            if plain(claim.campaign):
                told = {POINTS_BALANCE: profile.available} if profile and tells_points(claim.campaign) else {}
                meant.append(replace(claim, facts={**told, **claim.facts}))
            elif (
                profile is not None
                and profile.takes_part
                and belongs(
                    claim.campaign.audience, placed(profile, claim.programme), persons.get(claim.member_key, nobody)
                )
            ):
                meant.append(replace(claim, facts={**standing(profile, claim.programme), **claim.facts}))
        return meant

    async def persons(
        self, transaction: Transaction, campaigns: Iterable[Campaign], keys: Collection[MemberKey]
    ) -> dict[MemberKey, Person]:
        """What the audiences of these campaigns ask of members beside their profiles."""
        audiences = [campaign.audience for campaign in campaigns]
        persons: dict[MemberKey, Person] = {}
        if any(audience.segments or audience.not_segments for audience in audiences):
            for key, segments in (await transaction.find_segments(keys)).items():
                persons[key] = Person(segments=segments)
        if any(audience.attributes for audience in audiences):
            for key, attributes in (await self._attributes(transaction, keys)).items():
                persons[key] = replace(persons.get(key, Person()), attributes=attributes)
        topics = {audience.consent for audience in audiences if audience.consent}
        if topics:
            for key, heard in (await self._agreed(transaction, keys, topics)).items():
                persons[key] = replace(persons.get(key, Person()), agreed=heard)
        return persons

    async def _attributes(
        self, transaction: Transaction, keys: Collection[MemberKey]
    ) -> dict[MemberKey, Mapping[str, str]]:
        found: dict[MemberKey, Mapping[str, str]] = {}
        for partition, member_ids in _by_partition(keys).items():
            for member_id, sealed in (await transaction.find_contacts(partition, member_ids)).items():
                found[partition, member_id] = self._opened(sealed)
        return found

    async def _agreed(
        self, transaction: Transaction, keys: Collection[MemberKey], topics: Collection[str]
    ) -> dict[MemberKey, set[str]]:
        """Which of these topics members hear of by e-mail."""
        policy = self._programmes.newest.messages
        found: dict[MemberKey, set[str]] = {}
        for partition, member_ids in _by_partition(keys).items():
            said = await transaction.find_consents(partition, member_ids)
            for member_id in member_ids:
                choices = said.get(member_id, ())
                found[partition, member_id] = {topic for topic in topics if agreed(choices, EMAIL, policy.topic(topic))}
        return found

    def _opened(self, sealed: SealedContact) -> Mapping[str, str]:
        try:
            return self._vault.open_contact(sealed).demographics
        except SealError:
            return {}

    async def _assign(self, transaction: Transaction, claims: Sequence[Claim]) -> list[Assignment]:
        drawn = [(claim, variant_of(claim.campaign, claim.member_id)[0]) for claim in claims]
        capped = [(claim, cap_span(claim, variant.cap)) for claim, variant in drawn if variant.cap is not None]
        had = await transaction.count_assignments_within(capped) if capped else {}
        given = await transaction.find_assignments([claim.key for claim in claims])
        budgeted = {claim.campaign.id for claim in claims if not claim.campaign.budget.unlimited}
        spent = await transaction.lock_budgets(budgeted) if budgeted else {}
        assigned = assign(claims, given=given, spent=spent, had=had)
        assigned = await self._with_pools(transaction, assigned, spent)
        if assigned:
            await transaction.insert_assignments(assigned)
        if spent:
            await transaction.spend_budgets(spent)
        return assigned

    async def _with_pools(
        self, transaction: Transaction, assigned: list[Assignment], spent: Mapping[str, Spent]
    ) -> list[Assignment]:
        """Takes codes out of pools for those that need one; who gets none comes to nothing."""
        needed: dict[tuple[int, str], list[Assignment]] = defaultdict(list)
        for one in assigned:
            if not one.in_control and one.actions.coupon is not None and one.actions.coupon.pool:
                needed[one.claim.partition, one.actions.coupon.pool].append(one)
        if not needed:
            return assigned
        codes: dict[int, str] = {}
        for (partition, pool), ones in sorted(needed.items()):
            free: list[str] = []
            for step in range(self._partitions):
                if len(free) == len(ones):
                    break
                free += await transaction.take_pool_codes(
                    (partition + step) % self._partitions,
                    pool,
                    coupon_partition=partition,
                    limit=len(ones) - len(free),
                )
            codes.update((id(one), code) for one, code in zip(ones, free, strict=False))
            if len(free) < len(ones):
                log.error("pool_empty", pool=pool, missing=len(ones) - len(free))
        kept = []
        for one in assigned:
            if id(one) in codes:
                kept.append(replace(one, code=codes[id(one)]))
            elif one.in_control or one.actions.coupon is None or not one.actions.coupon.pool:
                kept.append(one)
            elif one.claim.campaign.id in spent:
                spent[one.claim.campaign.id].take_back(one.cost)
        return kept

    async def _with_codes(self, transaction: Transaction, gifts: Sequence[Gift]) -> list[Gift]:
        """Keeps the coupons of these gifts, each under a code that is free; the messages tell of that one."""
        done = [gift for gift in gifts if gift.coupon is None]
        pending = [gift for gift in gifts if gift.coupon is not None]
        for variant in range(1, _MAX_VARIANTS + 1):
            if not pending:
                return done
            coupons = [gift.coupon for gift in pending if gift.coupon is not None]
            kept = await transaction.insert_coupons(coupons)
            done += [gift for gift in pending if gift.coupon is not None and gift.coupon.key in kept]
            left = [gift for gift in pending if gift.coupon is not None and gift.coupon.key not in kept]
            keys = [gift.coupon.key for gift in left if gift.coupon is not None]
            # A coupon of this key is there already, from before there were assignments: it is not given again.
            there = await transaction.find_coupon_keys(keys) if keys else set()
            pending = [
                self._gifts.recoded(gift, variant)
                for gift in left
                if gift.coupon is not None and gift.coupon.key not in there
            ]
        if pending:
            raise FeedError(f"no code is free for {len(pending)} coupons")
        return done

    def _is_stale(self, time: datetime) -> bool:
        """Whether it is history that was brought in, and no occasion any more. In real time alone."""
        return not self._simulated and time < self._machine_now() - STALE

    def _dated(self, profile: Profile) -> tuple[Profile, int | None, date | None]:
        programme: Programme = self._programmes.newest
        day = None if profile.joined_time is None else programme.local_day(profile.joined_time)
        last = None if profile.last_time is None else programme.local_day(profile.last_time)
        return profile, None if day is None else day_of_year(day), last


def day_of_year(day: date) -> int:
    """Month and day as a number: 1231; 29 February is celebrated on the 28th."""
    return 228 if (day.month, day.day) == (2, 29) else day.month * 100 + day.day


def _by_partition(keys: Iterable[MemberKey]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for partition, member_id in sorted(keys):
        found[partition].append(member_id)
    return found


def _award(assignment: Assignment) -> Award:
    claim, actions = assignment.claim, assignment.actions
    return Award(
        partition=claim.partition,
        campaign_id=claim.campaign.id,
        member_id=claim.member_id,
        trigger=claim.trigger,
        points=actions.points,
        minor_units=worth_of_points(claim.programme, actions.points, claim.time),
        alone=actions.coupon is None and not actions.badge,
        purchase_id=claim.purchase_id,
        lasting="" if actions.lasting is None else actions.lasting.text,
    )
