"""Whom a day may give a campaign to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol

from services.notifier.domain.assignments import Claim
from services.notifier.domain.contacts import birthday_digest, partition_of
from services.notifier.domain.profiles import Losing, Profile
from services.notifier.store import Store, Transaction
from services.notifier.store.campaigns import Candidate, EndingCoupon
from services.programme.campaigns import Campaign, TriggerKind
from services.programme.model import ExpiryPolicy, Programme

PAGE: Final = 500
_ONE_DAY: Final = timedelta(days=1)


class Tiers(Protocol):
    """What days ask of tiers."""

    def losing(self, tier_numbers: Sequence[int], within_days: int) -> AsyncIterator[Sequence[Losing]]:
        """Who loses one of these levels within so many days if nothing more happens. Raises PeerError,
        PeerRefusedError."""


class Candidates:
    """Whom a day may give a campaign to, by pages."""

    def __init__(self, *, store: Store, tiers: Tiers, birthday_key: bytes, partitions: int) -> None:
        self._store = store
        self._tiers = tiers
        self._birthday_key = birthday_key
        self._partitions = partitions

    async def of(
        self, programme: Programme, campaign: Campaign, partition: int, day: date
    ) -> AsyncIterator[list[Claim]]:
        """The claims of a partition's members that a local day brings a campaign, by pages."""
        start = programme.start_of_local_day(day)

        def claim(member_id: str, trigger: str, **facts: str | int) -> Claim:
            return Claim(
                programme=programme,
                campaign=campaign,
                partition=partition,
                member_id=member_id,
                trigger=trigger,
                time=start,
                facts=facts,
            )

        days = campaign.trigger.days
        match campaign.trigger.kind:
            case TriggerKind.DATE:
                if campaign.trigger.day == day:
                    async for page in self._paged(partition, Transaction.page_profiles):
                        yield [claim(one.profile.member_id, f"date:{day}") for one in page]
            case TriggerKind.BIRTHDAY:
                for ids in await self._birthdays(partition, day, start):
                    yield [claim(member_id, f"birthday:{day.year}") for member_id in ids]
            case TriggerKind.ANNIVERSARY:
                joined = day.month * 100 + day.day
                async for page in self._paged(partition, Transaction.page_joined_on, day=joined, before=start):
                    yield [
                        claim(
                            one.profile.member_id, f"anniversary:{day.year}", years=_years(one.profile, day, programme)
                        )
                        for one in page
                    ]
            case TriggerKind.INACTIVITY:
                last = day - timedelta(days=days)
                async for page in self._paged(partition, Transaction.page_last_seen_on, days=[last]):
                    yield [claim(one.profile.member_id, f"inactive:{last}", days=days) for one in page]
            case TriggerKind.POINTS_EXPIRING:
                async for page in self._lapsing(programme, partition, day + timedelta(days=days)):
                    lapse = f"{day + timedelta(days=days)}"
                    yield [
                        claim(
                            one.profile.member_id,
                            f"expiring:{lapse}",
                            points=one.lapsing_points or one.profile.available,
                            day=lapse,
                        )
                        for one in page
                    ]
            case TriggerKind.COUPON_EXPIRING:
                async for coupons in self._ending(programme, campaign, partition, day + timedelta(days=days)):
                    yield [
                        claim(
                            one.member_id,
                            f"coupon:{one.code}",
                            code=one.code,
                            day=f"{programme.last_whole_day(one.valid_until_time)}",
                        )
                        for one in coupons
                    ]
            case _:
                return

    async def losing(self, programme: Programme, campaign: Campaign, day: date) -> AsyncIterator[list[Claim]]:
        """The claims of members of all partitions who lose one of the campaign's levels so many days after a day."""
        levels = {level.number: level for level in programme.tiers.levels if level.key in campaign.trigger.tiers}
        lost = day + timedelta(days=campaign.trigger.days)
        async for page in self._tiers.losing(sorted(levels), campaign.trigger.days + 1):
            yield [
                Claim(
                    programme=programme,
                    campaign=campaign,
                    partition=partition_of(one.member_id, self._partitions),
                    member_id=one.member_id,
                    trigger=f"risk:{levels[one.tier_number].key}:{lost}",
                    time=programme.start_of_local_day(day),
                    facts={"tier": levels[one.tier_number].name, "day": f"{lost}"},
                )
                for one in page
                if one.tier_number in levels and programme.local_day(one.losing_time) == lost
            ]

    def everybody(self, partition: int) -> AsyncIterator[list[Candidate]]:
        """All members of a partition, by pages."""
        return self._paged(partition, Transaction.page_profiles)

    async def _paged(
        self, partition: int, read: Callable[..., Awaitable[list[Candidate]]], **asked: object
    ) -> AsyncIterator[list[Candidate]]:
        after = ""
        while True:

            async def page(transaction: Transaction, after: str = after) -> list[Candidate]:
                return await read(transaction, partition, after, PAGE, **asked)

            found = await self._store.read(page)
            if found:
                yield found
                after = found[-1].profile.member_id
            if len(found) < PAGE:
                return

    async def _birthdays(self, partition: int, day: date, start: datetime) -> Sequence[Sequence[str]]:
        digest = birthday_digest(self._birthday_key, day)

        async def read(transaction: Transaction) -> list[str]:
            return await transaction.find_birthdays(partition, digest, start)

        ids = await self._store.read(read)
        return [ids[first : first + PAGE] for first in range(0, len(ids), PAGE)]

    async def _lapsing(self, programme: Programme, partition: int, day: date) -> AsyncIterator[list[Candidate]]:
        """Members some of whose points can be redeemed through a day, and no longer."""
        expiry = programme.expiry
        if expiry.policy is ExpiryPolicy.INACTIVITY and expiry.period is not None:
            period = expiry.period
            lasts = sorted({day - timedelta(days=length) for length in set(period.lengths())})
            seen = [last for last in lasts if period.last_day(last) == day]
            async for page in self._paged(partition, Transaction.page_last_seen_on, days=seen):
                yield [one for one in page if one.profile.available > 0]
        else:
            async for page in self._paged(partition, Transaction.page_lapsing_on, day=day):
                yield page

    async def _ending(
        self, programme: Programme, campaign: Campaign, partition: int, day: date
    ) -> AsyncIterator[list[EndingCoupon]]:
        start, end = programme.start_of_local_day(day), programme.start_of_local_day(day + _ONE_DAY)
        after = ""
        while True:

            async def page(transaction: Transaction, after: str = after) -> list[EndingCoupon]:
                return await transaction.page_coupons_ending(partition, after, PAGE, start=start, end=end)

            found = await self._store.read(page)
            if found:
                after = found[-1].code
                # What it gives itself is no reason to give more.
                yield [one for one in found if one.campaign_id != campaign.id]
            if len(found) < PAGE:
                return


def _years(profile: Profile, day: date, programme: Programme) -> int:
    return 0 if profile.joined_time is None else day.year - programme.local_day(profile.joined_time).year
