"""What callers ask of campaigns: what they gave, what they would give, whether they run; and segments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from services.notifier.domain.assignments import Claim, Person, Spent, assign, belongs
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import MemberKey
from services.notifier.domain.profiles import Occasion, Profile, placed
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import CampaignUnknownError
from services.notifier.progress import Progress
from services.notifier.service.campaign_engine import CampaignEngine, Given
from services.notifier.service.candidates import PAGE, Candidates
from services.notifier.store import Store, Transaction
from services.notifier.store.campaigns import CampaignCount, CampaignState, Candidate
from services.programme.campaigns import DAILY, Campaign, TriggerKind
from services.programme.model import Programme
from services.runtime.clock import MachineClock

DEFAULT_SAMPLE: Final = 50
# Members that a preview looks at, at most.
MOST_PREVIEWED: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignView:
    """A campaign with what it came to so far, and since when it is paused (None: it runs)."""

    campaign: Campaign
    paused_time: datetime | None
    counts: Sequence[CampaignCount]

    @property
    def given(self) -> Spent:
        """What it gave in all, its control group aside."""
        counts = [count for count in self.counts if not count.in_control]
        return Spent(
            count=sum(count.given for count in counts),
            points=sum(count.points for count in counts),
            minor_units=sum(count.minor_units for count in counts),
        )

    @property
    def left(self) -> Spent:
        """What its budget leaves; 0 for what it does not limit."""
        budget, given = self.campaign.budget, self.given

        def rest(limit: int | None, spent: int) -> int:
            return 0 if limit is None else max(0, limit - spent)

        return Spent(
            count=rest(budget.count, given.count),
            points=rest(budget.points, given.points),
            minor_units=rest(budget.minor_units, given.minor_units),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """One member of a sample."""

    member_id: str
    tier: str
    variant: str
    in_control: bool


@dataclass(slots=True, kw_only=True)
class Preview:
    """Who would get what. `groups`: by variant, control group and tier. `complete`: all members were looked at."""

    groups: dict[tuple[str, bool, str], Spent] = field(default_factory=lambda: defaultdict(Spent))
    sample: list[Previewed] = field(default_factory=list)
    looked_at: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """How many members came into a segment, and which of those to come were none, or were erased."""

    added: int
    unknown: Sequence[str] = ()


class CampaignService:
    """Shows campaigns, stops them and lets them go on; keeps segments."""

    def __init__(
        self,
        *,
        store: Store,
        engine: CampaignEngine,
        candidates: Candidates,
        programmes: Programmes,
        progress: Progress,
        partitions: int,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
        resumed: Callable[[], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._candidates = candidates
        self._programmes = programmes
        self._progress = progress
        self._partitions = partitions
        self._machine_now = machine_now
        self._business_now = business_now
        self._resumed = resumed

    @property
    def programme(self) -> Programme:
        """The one that holds now."""
        return self._programmes.at(self._business_now())

    @property
    def today(self) -> date:
        """The local day of the programme."""
        now = self._business_now()
        return self._programmes.at(now).local_day(now)

    async def list_campaigns(self) -> list[CampaignView]:
        """The campaigns of the programme that holds now, in its order."""

        async def read(transaction: Transaction) -> tuple[Mapping[str, CampaignState], list[CampaignCount]]:
            return await transaction.campaign_states(), await transaction.campaign_counts()

        states, counts = await self._store.read(read)
        return [self._view(campaign, states, counts) for campaign in self.programme.campaigns]

    async def pause(self, campaign_id: str) -> CampaignView:
        """Stops a campaign at once: nothing more is given, and what waits to be sent waits on.

        Raises CampaignUnknownError.
        """
        self._campaign(campaign_id)

        async def work(transaction: Transaction) -> None:
            await transaction.pause_campaign(campaign_id, self._machine_now())

        await self._store.transact(work)
        return await self._shown(campaign_id)

    async def resume(self, campaign_id: str) -> CampaignView:
        """Lets a campaign go on; what happened while it was paused is not made up for. Raises CampaignUnknownError."""
        self._campaign(campaign_id)

        async def work(transaction: Transaction) -> None:
            await transaction.resume_campaign(campaign_id)

        await self._store.transact(work)
        self._resumed()
        return await self._shown(campaign_id)

    async def preview(self, campaign_id: str, *, day: date | None, sample: int) -> Preview:
        """Who would get what of a campaign, and what it would cost, from what is known of members now.

        Of a campaign that a day brings: on that local day (None: today). Of any other: if it happened to every member
        of the audience. What was given before, pauses and caps are not asked about; a budget is. Raises
        CampaignUnknownError, PeerError, PeerRefusedError.
        """
        campaign, programme = self._campaign(campaign_id), self.programme
        size, seen = sample or DEFAULT_SAMPLE, Preview()
        spent = {} if campaign.budget.unlimited else {campaign.id: (await self._shown(campaign_id)).given}
        async for claims in self._claims(programme, campaign, day or programme.local_day(self._business_now())):
            seen.looked_at += len(claims)
            profiles = await self._meant(programme, campaign, claims)
            wanted = [claim for claim in claims if claim.member_key in profiles]
            for one in assign(wanted, given=(), spent=spent, had={}):
                tier = profiles[one.claim.member_key].tier
                seen.groups[one.variant, one.in_control, tier].add(one.cost)
                if len(seen.sample) < size:
                    shown = Previewed(
                        member_id=one.claim.member_id, tier=tier, variant=one.variant, in_control=one.in_control
                    )
                    seen.sample.append(shown)
            if seen.looked_at >= MOST_PREVIEWED:
                seen.complete = False
                break
        return seen

    async def update_segment(
        self, segment: str, *, add: Iterable[str], remove: Iterable[str], after: Mapping[int, int], wait_seconds: float
    ) -> Entered:
        """Takes members out of a segment, then puts others into it, when all up to `after` is handled.

        Raises CausalTokenAheadError, NotCaughtUpError: then nothing was done.
        """
        await self._progress.reach(after, within_seconds=wait_seconds)
        await self.leave_segment(segment, remove)
        return await self.enter_segment(segment, add)

    async def enter_segment(self, segment: str, member_ids: Iterable[str]) -> Entered:
        """Puts members into a segment, and gives what that sets off. Who is no member as far as the feed has told is
        not put into it: what entering sets off would be lost."""
        now, added, unknown = self._business_now(), 0, list[str]()
        for partition, ids in self._by_partition(member_ids).items():

            async def work(
                transaction: Transaction, partition: int = partition, ids: Sequence[str] = ids
            ) -> tuple[Entered, Given]:
                await transaction.lock_partition(partition)
                known = await transaction.find_known(partition, ids)
                new = await transaction.enter_segment(partition, segment, ids, now)
                programme = self._programmes.at(now)
                occasions = [_entered(partition, member_id, segment, now, programme) for member_id in new]
                claims = [
                    claim for claim in self._engine.claims(occasions) if claim.campaign.trigger.segment == segment
                ]
                entered = Entered(added=len(new), unknown=[one for one in ids if one not in known])
                return entered, await self._engine.give(transaction, claims)

            entered, given = await self._store.transact(work)
            self._engine.told(given)
            added += entered.added
            unknown += entered.unknown
        return Entered(added=added, unknown=sorted(unknown))

    async def leave_segment(self, segment: str, member_ids: Iterable[str]) -> None:
        """Takes members out of a segment."""
        for partition, ids in self._by_partition(member_ids).items():

            async def work(transaction: Transaction, partition: int = partition, ids: Sequence[str] = ids) -> None:
                await transaction.leave_segment(partition, segment, ids)

            await self._store.transact(work)

    def _by_partition(self, member_ids: Iterable[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = defaultdict(list)
        for member_id in sorted(set(member_ids)):
            found[partition_of(member_id, self._partitions)].append(member_id)
        return found

    def _campaign(self, campaign_id: str) -> Campaign:
        campaign = self.programme.campaign(campaign_id)
        if campaign is None:
            raise CampaignUnknownError
        return campaign

    async def _shown(self, campaign_id: str) -> CampaignView:
        return next(view for view in await self.list_campaigns() if view.campaign.id == campaign_id)

    def _view(
        self, campaign: Campaign, states: Mapping[str, CampaignState], counts: Iterable[CampaignCount]
    ) -> CampaignView:
        state = states.get(campaign.id)
        return CampaignView(
            campaign=campaign,
            paused_time=None if state is None else state.paused_time,
            counts=[count for count in counts if count.campaign_id == campaign.id],
        )

    async def _claims(self, programme: Programme, campaign: Campaign, day: date) -> AsyncIterator[list[Claim]]:
        if campaign.trigger.kind is TriggerKind.TIER_AT_RISK:
            async for claims in self._candidates.losing(programme, campaign, day):
                yield claims
            return
        for partition in range(self._partitions):
            if campaign.trigger.kind in DAILY:
                async for claims in self._candidates.of(programme, campaign, partition, day):
                    yield claims
            else:
                async for page in self._all_members(partition):
                    yield [_supposed(programme, campaign, one.profile, day) for one in page]

    async def _all_members(self, partition: int) -> AsyncIterator[list[Candidate]]:
        after = ""
        while True:

            async def read(transaction: Transaction, after: str = after) -> list[Candidate]:
                return await transaction.page_members(partition, after, PAGE)

            page = await self._store.read(read)
            if page:
                yield page
                after = page[-1].profile.member_id
            if len(page) < PAGE:
                return

    async def _meant(
        self, programme: Programme, campaign: Campaign, claims: Sequence[Claim]
    ) -> dict[MemberKey, Profile]:
        """The members of the audience among these, as they are known; nobody who was erased."""
        keys = {claim.member_key for claim in claims}

        async def read(
            transaction: Transaction,
        ) -> tuple[set[MemberKey], dict[MemberKey, Profile], dict[MemberKey, Person]]:
            erased = await transaction.find_erased(keys)
            profiles = await transaction.find_profiles(keys)
            return erased, profiles, await self._engine.persons(transaction, [campaign], keys)

        erased, profiles, persons = await self._store.read(read)
        unknown = {key: Profile(partition=key[0], member_id=key[1]) for key in keys - profiles.keys()}
        found = {key: placed(profile, programme) for key, profile in {**unknown, **profiles}.items()}
        nobody = Person()
        return {
            key: profile
            for key, profile in found.items()
            if key not in erased
            and profile.takes_part
            and belongs(campaign.audience, profile, persons.get(key, nobody))
        }


def _supposed(programme: Programme, campaign: Campaign, profile: Profile, day: date) -> Claim:
    return Claim(
        programme=programme,
        campaign=campaign,
        partition=profile.partition,
        member_id=profile.member_id,
        trigger="preview",
        time=programme.start_of_local_day(day),
    )


def _entered(partition: int, member_id: str, segment: str, now: datetime, programme: Programme) -> Occasion:
    return Occasion(
        kinds=frozenset({TriggerKind.SEGMENT_ENTERED}),
        partition=partition,
        member_id=member_id,
        time=now,
        key=f"segment:{segment}:{programme.local_day(now)}",
        facts={"segment": segment},
    )
