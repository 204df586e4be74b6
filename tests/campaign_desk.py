"""Campaigns over a real database: what the feeds tell is handed over by hand, and so is time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.notifier.awarding import Awarding
from services.notifier.consumer import Consumer
from services.notifier.days import Days
from services.notifier.domain.campaigns import Gifts
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.feeds import (
    Batch,
    ClockAdvanced,
    Cursor,
    Fact,
    Happening,
    LedgerEntry,
    LedgerLayout,
    MemberEvent,
    MemberJoined,
    ProgrammeApplied,
    TierChange,
    TierNews,
    TierProgress,
)
from services.notifier.domain.profiles import Losing
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import PeerError, PeerRefusedError
from services.notifier.progress import Progress
from services.notifier.service import ContactService
from services.notifier.service.campaign_engine import CampaignEngine
from services.notifier.service.campaigns import CampaignService
from services.notifier.service.candidates import Candidates
from services.notifier.service.surveys import SurveyService
from services.notifier.store import Installation, Store, Transaction
from services.notifier.vault import MasterKey, Vault
from services.programme import Programme, parse
from services.programme.versions import Version, Versions
from services.runtime.database import create_pool
from tests.conftest import Database

PARTITIONS = 4
MASTER_KEY = MasterKey(b"m" * 32)
INSTALLATION = Installation(key_fingerprint=MASTER_KEY.key_id, partitions=PARTITIONS, simulated=True)
VAULT = Vault([MASTER_KEY], INSTALLATION)
START = datetime(2026, 1, 5, 9, tzinfo=UTC)

HEAD = """\
programme: shop
currency: EUR
time_zone: Europe/Vienna
earning: {base: goods_paid, points: 1, per: "1.00"}
expiry: {policy: after, period: P1Y}
liability:
  values:
    - {from: "2020-01-01", points: 100, worth: "1.00"}
tiers:
  base: total
  window: P365D
  levels:
    - name: Guest
    - {name: Regular, from: "300.00"}
    - {name: Star, from: "900.00"}
surveys:
  - {id: nps, kind: nps, questions: {en: "Would you recommend us?"}, link: "https://shop.example/nps"}
  - {id: which, kind: choice, questions: {en: "Which?"}, choices: [tea, coffee]}
badges:
  - {id: explorer, texts: {en: {name: Explorer}}}
campaigns:
"""


def shop(*campaigns: str) -> Programme:
    """A programme with these campaigns, each as the lines below its id: `first: trigger: ...`."""
    return parse(HEAD + "".join(f"  - {campaign}\n" for campaign in campaigns), "shop.yaml")


@dataclass
class Points:
    """What the ledger would be asked for."""

    given: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    away: bool = False
    asked: int = 0

    async def award(
        self,
        *,
        request_id: str,
        member_id: str,
        points: int,
        on_behalf_of: str,
        reason: str,
        purchase_id: str,
        lasting: str,
    ) -> None:
        self.asked += 1
        if self.away:
            raise PeerError("the ledger does not answer")
        if member_id in self.refuses:
            raise PeerRefusedError("FAILED_PRECONDITION", "MEMBER_ERASED", "the member was erased")
        assert self.given.setdefault(request_id, (member_id, points, purchase_id)) == (member_id, points, purchase_id)


@dataclass
class LosingTiers:
    """Who tiers says will lose a level."""

    losing_soon: list[Losing] = field(default_factory=list)
    away: bool = False
    refuses: bool = False

    async def losing(self, tier_numbers: Sequence[int], within_days: int) -> AsyncIterator[Sequence[Losing]]:
        if self.away:
            raise PeerError("tiers does not answer")
        if self.refuses:
            raise PeerRefusedError("INVALID_ARGUMENT", "TIER_UNKNOWN", "the programme has no tier of this number")
        yield [one for one in self.losing_soon if one.tier_number in tier_numbers]


@dataclass
class Feeds:
    """The logs of the ledger and of tiers, which takes in at once what the ledger records; and their live streams, of
    which each may be silent for a while."""

    programme: Programme
    simulated: bool
    lines: list[LedgerEntry] = field(default_factory=list)
    told: list[TierNews] = field(default_factory=list)
    silent_ledger: bool = False
    silent_tiers: bool = False
    away: bool = False

    def __post_init__(self) -> None:
        self.known = Versions.only(self.programme)

    def head(self, partition: int) -> int:
        """The offset of a partition's last entry."""
        return sum(line.partition == partition for line in self.lines)

    def record(self, *facts: MemberJoined | MemberEvent) -> None:
        """These happen to members."""
        for fact in facts:
            self.line(partition_of(fact.member_id, PARTITIONS), fact)

    def advance(self, to_time: datetime) -> None:
        """The clock moves on, and tiers makes what falls due."""
        for partition in range(PARTITIONS):
            self.line(partition, ClockAdvanced(to_time=to_time))
        progress = [
            TierProgress(partition=partition, ledger_offset=self.head(partition), due_time=to_time)
            for partition in range(PARTITIONS)
        ]
        self.told.append(TierNews(changes=(), progress=tuple(progress)))

    def change(self, change: TierChange) -> None:
        """Tiers makes a change."""
        self.told.append(TierNews(changes=(change,), progress=()))

    def line(self, partition: int, fact: Fact) -> None:
        """The ledger records an entry."""
        offset = self.head(partition) + 1
        self.lines.append(LedgerEntry(partition=partition, offset=offset, fact=fact))
        progress = TierProgress(partition=partition, ledger_offset=offset, due_time=None)
        self.told.append(TierNews(changes=(), progress=(progress,)))

    async def layout(self) -> LedgerLayout:
        if self.away:
            raise PeerError("the ledger does not answer")
        return LedgerLayout(heads={p: self.head(p) for p in range(PARTITIONS)}, simulated=self.simulated)

    async def versions(self) -> Versions:
        return self.known

    async def purchase_detail(self, member_id: str, purchase_id: str) -> tuple[str, frozenset[str]]:
        return "", frozenset()

    async def entries(
        self, after: Mapping[int, int], *, follow: bool = True, members: bool = False
    ) -> AsyncIterator[Sequence[LedgerEntry]]:
        sent = 0
        while True:
            if not self.silent_ledger or not follow:
                lines, sent = self.lines[sent:], len(self.lines)
                if new := [line for line in lines if line.offset > after.get(line.partition, 0)]:
                    yield new
            if not follow:
                return
            await asyncio.sleep(0.002)

    async def news(self, after: Mapping[int, int], *, follow: bool = True) -> AsyncIterator[TierNews]:
        sent = 0
        while True:
            if not self.silent_tiers or not follow:
                told, sent = self.told[sent:], len(self.told)
                for one in told:
                    changes = tuple(change for change in one.changes if change.offset > after.get(change.partition, 0))
                    yield TierNews(changes=changes, progress=one.progress)
            if not follow:
                return
            await asyncio.sleep(0.002)


@dataclass
class Desk:
    """The notifier's campaigns. What the feeds tell is handed over with `tell`; or it is in `feeds`, and `running`."""

    store: Store
    programme: Programme
    simulated: bool = True
    points: Points = field(default_factory=Points)
    losing: LosingTiers = field(default_factory=LosingTiers)
    business_now: datetime = START
    machine_now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    cursors: dict[int, Cursor] = field(default_factory=lambda: {p: Cursor() for p in range(PARTITIONS)})
    members: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.begin(self.programme)

    def begin(self, programme: Programme) -> None:
        """Starts anew, by this programme."""
        self.programme = programme
        self.programmes = Programmes(programme)
        self.programmes.learn(Versions.only(programme))
        self.feeds = Feeds(programme=programme, simulated=self.simulated)
        self.progress = Progress(self.cursors)
        gifts = Gifts(
            programmes=self.programmes,
            codes=CouponCodes(key=VAULT.coupon_key, partitions=PARTITIONS),
            delivery_key=VAULT.delivery_key,
        )
        self.engine = CampaignEngine(
            gifts=gifts,
            programmes=self.programmes,
            vault=VAULT,
            partitions=PARTITIONS,
            simulated=self.simulated,
            machine_now=lambda: self.machine_now,
            messages_queued=lambda: None,
            points_owed=lambda: None,
        )
        candidates = Candidates(
            store=self.store, tiers=self.losing, birthday_key=VAULT.request_key, partitions=PARTITIONS
        )
        self.days = Days(
            ledger=self.feeds,
            tiers=self.feeds,
            store=self.store,
            engine=self.engine,
            candidates=candidates,
            programmes=self.programmes,
            progress=self.progress,
            partitions=PARTITIONS,
            simulated=self.simulated,
            machine_now=lambda: self.machine_now,
        )
        self.consumer = Consumer(
            ledger=self.feeds,
            tiers=self.feeds,
            store=self.store,
            gifts=gifts,
            engine=self.engine,
            programmes=self.programmes,
            partitions=PARTITIONS,
            simulated=self.simulated,
            progress=self.progress,
            channels=("email", "log", "webhook"),
            time_passed=self.days.wake,
        )
        self.consumer._asks = self.engine.asks
        self.awarding = Awarding(
            store=self.store, points=self.points, machine_now=lambda: self.machine_now, random=lambda: 0.0
        )
        self.campaigns = CampaignService(
            store=self.store,
            engine=self.engine,
            candidates=candidates,
            programmes=self.programmes,
            progress=self.progress,
            partitions=PARTITIONS,
            machine_now=lambda: self.machine_now,
            business_now=lambda: self.business_now,
            resumed=lambda: None,
        )
        self.surveys = SurveyService(
            store=self.store,
            vault=VAULT,
            programmes=self.programmes,
            partitions=PARTITIONS,
            simulated=self.simulated,
            member_exists=self._exists,
            machine_now=lambda: self.machine_now,
            business_now=lambda: self.business_now,
        )
        self.contacts = ContactService(
            store=self.store,
            vault=VAULT,
            partitions=PARTITIONS,
            member_exists=self._exists,
            messages_queued=lambda: None,
            machine_now=lambda: self.machine_now,
            business_now=lambda: self.business_now,
        )

    async def _exists(self, member_id: str) -> bool:
        return member_id in self.members

    @contextlib.asynccontextmanager
    async def running(self, *, days: bool = True) -> AsyncIterator[None]:
        """The feeds are followed meanwhile, and days begin by themselves."""
        works = [self.consumer.run(), *([self.days.run()] if days else [])]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            async with asyncio.timeout(20):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def caught_up(self) -> None:
        """All that the ledger has recorded is handled, and all that days bring."""
        heads = {partition: self.feeds.head(partition) for partition in range(PARTITIONS)}
        await self.progress.reach(heads, within_seconds=10)

    def bought(self, member_id: str, time: datetime, **more: Any) -> MemberEvent:
        """A purchase, as the ledger tells it."""
        values = {"happening": Happening.PURCHASE, "available": 0, "purchase_id": f"{member_id}:{time}", **more}
        return MemberEvent(member_id=member_id, occurred_time=time, **values)

    async def tell(self, partition: int, *facts: Fact | TierChange) -> Batch:
        """Hands entries and changes of one partition over, in one batch."""
        before = self.cursors[partition]
        changes = [fact for fact in facts if isinstance(fact, TierChange)]
        told = [fact for fact in facts if not isinstance(fact, TierChange)]
        entries = [
            LedgerEntry(partition=partition, offset=before.ledger_offset + number, fact=fact)
            for number, fact in enumerate(told, 1)
        ]
        times = [fact.to_time for fact in told if isinstance(fact, ClockAdvanced)]
        after = replace(
            before,
            ledger_offset=before.ledger_offset + len(entries),
            change_offset=before.change_offset + len(changes),
            business_time=times[-1] if times else before.business_time,
            due_time=times[-1] if times else before.due_time,
        )
        batch = Batch(
            changes=tuple(changes), entries=tuple(entries), before={partition: before}, after={partition: after}
        )
        await self.consumer.handle(batch)
        self.cursors[partition] = after
        return batch

    async def join(self, *member_ids: str, time: datetime = START, **more: Any) -> None:
        """These become members."""
        for member_id in member_ids:
            self.members.add(member_id)
            fact = MemberJoined(member_id=member_id, joined_time=time, **more)
            await self.tell(partition_of(member_id, PARTITIONS), fact)

    async def buy(self, member_id: str, goods: int = 5000, **more: Any) -> Batch:
        """A purchase now."""
        more.setdefault("purchase_id", f"p-{self.cursors[partition_of(member_id, PARTITIONS)].ledger_offset}")
        return await self.happen(
            member_id, Happening.PURCHASE, goods_minor_units=goods, currency="EUR", channel="pos", **more
        )

    async def happen(self, member_id: str, happening: Happening, *, available: int = 0, **more: Any) -> Batch:
        """Something happens to a member now."""
        values = {"occurred_time": self.business_now, **more}
        event = MemberEvent(member_id=member_id, happening=happening, available=available, **values)
        return await self.tell(partition_of(member_id, PARTITIONS), event)

    async def change(self, member_id: str, from_tier: int, to_tier: int, **more: Any) -> Batch:
        """A change of tier now."""
        partition = partition_of(member_id, PARTITIONS)
        return await self.tell(partition, self.tier_change(member_id, from_tier, to_tier, **more))

    def tier_change(self, member_id: str, from_tier: int, to_tier: int, **more: Any) -> TierChange:
        """The next change of tier of a member's partition."""
        partition = partition_of(member_id, PARTITIONS)
        names = ["", *(level.name for level in self.programme.tiers.levels)]
        return TierChange(
            partition=partition,
            offset=self.cursors[partition].change_offset + 1,
            member_id=member_id,
            from_tier_number=from_tier,
            from_tier=names[from_tier],
            to_tier_number=to_tier,
            to_tier=names[to_tier],
            balance=30500,
            changed_time=self.business_now,
            cause_offset=1,
            **more,
        )

    async def announce(self, programme: Programme, from_time: datetime) -> None:
        """A version of the programme is announced now."""
        self.programmes.learn(Versions([*self.programmes.all, Version(programme=programme, from_time=from_time)]))
        fact = ProgrammeApplied(version=programme.version, from_time=from_time, announced_time=self.business_now)
        for partition in range(PARTITIONS):
            await self.tell(partition, fact)
        await self.days.catch_up()

    async def advance(self, to_time: datetime) -> None:
        """Time passes, and all that it brings is given."""
        for partition in range(PARTITIONS):
            await self.tell(partition, ClockAdvanced(to_time=to_time))
        self.business_now = to_time
        await self.days.catch_up()

    async def pass_days(self, days: int) -> None:
        """So many days pass, one by one."""
        for _ in range(days):
            await self.advance(self.business_now + timedelta(days=1))

    async def born(self, member_id: str, day: date, request_id: str = "born") -> None:
        """A member says when the birthday is."""
        contact = Contact(name="Ann", email="ann@example.com", birth_date=day)
        await self.contacts.set_contact(request_id=request_id, member_id=member_id, contact=contact)

    async def rows(self, table: str, columns: str, order: str = "1, 2") -> list[tuple[Any, ...]]:
        """What a table holds."""

        async def read(transaction: Transaction) -> list[tuple[Any, ...]]:
            query = f"SELECT {columns} FROM notifier.{table} ORDER BY {order}"  # words of a test
            return [tuple(row) for row in await transaction._connection.fetch(query)]

        return await self.store.read(read)

    async def given(self) -> list[tuple[str, str, str]]:
        """What was assigned and given: campaign, member, trigger."""
        rows = await self.rows("assignments", "campaign_id, member_id, trigger, in_control", "1, 2, 3")
        return [row[:3] for row in rows if not row[3]]


@contextlib.asynccontextmanager
async def campaign_desk(database: Database, campaigns: Iterable[str], *, simulated: bool = True) -> AsyncIterator[Desk]:
    """A desk over an empty database, by a programme with these campaigns."""
    async with contextlib.AsyncExitStack() as stack:
        pool = await create_pool(database.dsn("loyalty_notifier"), service="test", size=6)
        stack.push_async_callback(pool.close)
        store = Store(pool)

        async def claim(transaction: Transaction) -> None:
            await transaction.claim_installation(INSTALLATION)
            await transaction.insert_cursors(range(PARTITIONS))
            await transaction.read_campaign_cursors(range(PARTITIONS))

        await store.transact(claim)
        yield Desk(store=store, programme=shop(*campaigns), simulated=simulated)
