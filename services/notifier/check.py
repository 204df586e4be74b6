"""The notifier's own check: what must exist is derived anew from the two logs, and compared with what does.

Members come from the ledger's entries, coupons and messages from the changes of tier, both up to our cursors. Of other
coupons the count of uses is compared with the uses, of rewards what is counted of stock and limits with what was given.
Rewards and checkouts stand beside what the ledger has of them. Contacts are only opened: whether they are right nobody
but the member can say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from services.notifier.check_bookings import Bookings
from services.notifier.config import NotifierConfig, read_programme
from services.notifier.domain.bookings import Booked
from services.notifier.domain.campaigns import Gifts, Letter, TierGift
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import Coupon, GiftKey, MemberKey, is_change
from services.notifier.domain.feeds import ClockAdvanced, Cursor, LedgerEntry, MemberJoined, TierChange
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FeedError, FieldError, InstallationError, PeerError, SealError
from services.notifier.ledger_client import LedgerClient
from services.notifier.store import Installation, SealedContact, Store, Transaction
from services.notifier.tiers_client import TiersClient
from services.notifier.vault import Vault, read_master_keys
from services.programme.templates import POINTS_BALANCE
from services.runtime.command import CheckReport, own_identity
from services.runtime.config import ConfigurationError
from services.runtime.database import create_pool

Difference = Mapping[str, Any]

# Partitions are read in so many parts, so that what each tells of rewards and checkouts fits into memory.
_PARTS = 16


async def check(settings: NotifierConfig) -> CheckReport:
    """Derives and compares; raises ConfigurationError where the logs cannot be read."""
    try:
        return await _check(settings)
    except (PeerError, FeedError, InstallationError) as error:
        raise ConfigurationError(f"the check could not run: {error}") from None


async def _check(settings: NotifierConfig) -> CheckReport:
    programme = read_programme(settings)
    master_keys = read_master_keys(settings.master_key_file)
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.database_url, service="notifier", size=1)
        stack.push_async_callback(pool.close)
        between = own_identity(settings, "notifier")
        ledger_channel = between.open(settings.ledger_address, server="ledger")
        tiers_channel = between.open(settings.tiers_address, server="tiers")
        stack.push_async_callback(ledger_channel.close)
        stack.push_async_callback(tiers_channel.close)
        ledger, tiers = LedgerClient(ledger_channel), TiersClient(tiers_channel)
        # One state of our tables first, the logs afterwards: they only grow.
        kept = await Store(pool).snapshot(partial(_Kept.read, newest_id=master_keys[0].key_id))
        # Before the first start there is nothing that keys could open.
        nobody = Installation(key_fingerprint=master_keys[0].key_id, partitions=0, simulated=False)
        vault = Vault(master_keys, kept.installation or nobody)
        codes = CouponCodes(key=vault.coupon_key, partitions=len(kept.cursors))
        programmes = Programmes(programme)
        programmes.learn(await ledger.versions())
        if not programmes.knows(programme.version):
            raise InstallationError(f"the ledger has never gone by the programme {programme.version}")
        gifts = Gifts(programmes=programmes, codes=codes, delivery_key=vault.delivery_key)
        bookings = Bookings(store=Store(pool), ledger=ledger, programmes=programmes, request_key=vault.request_key)
        logs = _Logs(cursors=kept.cursors, gifts=gifts, bookings=bookings)
        await logs.read(ledger, tiers)
    differences = [
        *_cursor_differences(kept.cursors, logs),
        *_member_differences(kept.members, logs.members),
        *_tier_gift_differences(kept.tier_gifts, logs.gifts_due, gifts, kept.erased, kept.were_paused),
        *_campaign_differences(kept),
        *_use_differences(kept.uses),
        *_limit_differences(kept.limits),
        *_stock_differences(kept.stock, len(kept.cursors)),
        *_contact_differences(kept.contacts, vault, len(kept.cursors)),
        *bookings.differences,
    ]
    checked = {
        "cursors": len(kept.cursors),
        "members": len(logs.members),
        "changes": logs.changes,
        "coupons": len(kept.tier_gifts),
        "deliveries": sum(letter is not None for _, letter, _ in kept.tier_gifts.values()),
        **bookings.checked,
        "contacts": len(kept.contacts),
        "keys_of_older_master_keys": kept.keys_of_older,
    }
    return CheckReport(service="notifier", checked=checked, differences=tuple(differences))


class _Kept:
    """What our tables hold."""

    def __init__(self) -> None:
        self.cursors: dict[int, Cursor] = {}
        self.members: dict[MemberKey, datetime] = {}
        self.tier_gifts: dict[GiftKey, tuple[Coupon, Letter | None, datetime | None]] = {}
        self.uses: list[tuple[int, str, int, int]] = []
        self.limits: list[tuple[int, str, str, int, int]] = []
        self.stock: list[tuple[str, int | None, int, int | None]] = []
        self.contacts: list[SealedContact] = []
        self.erased: set[MemberKey] = set()
        self.were_paused: set[str] = set()
        self.miscounted: list[tuple[int, str, str, bool, int | None, int | None]] = []
        self.overspent: list[tuple[str, int, int]] = []
        self.unassigned: list[GiftKey] = []
        self.installation: Installation | None = None
        self.keys_of_older = 0

    @classmethod
    async def read(cls, transaction: Transaction, *, newest_id: bytes) -> _Kept:
        kept = cls()
        kept.installation = await transaction.read_installation()
        kept.keys_of_older = await transaction.count_keys_of_older(newest_id)
        kept.cursors = await transaction.read_cursors()
        kept.members = await transaction.check_members()
        kept.tier_gifts = await transaction.check_tier_gifts()
        states = await transaction.campaign_states()
        kept.were_paused = {campaign_id for campaign_id, state in states.items() if state.was_paused}
        kept.miscounted = await transaction.check_campaigns()
        kept.overspent = await transaction.check_budgets()
        kept.unassigned = await transaction.check_coupons_of_campaigns()
        kept.uses = await transaction.check_uses()
        kept.limits = await transaction.check_reward_limits()
        kept.stock = await transaction.check_reward_stock()
        kept.contacts = await transaction.check_contacts()
        kept.erased = await transaction.check_erased()
        return kept


class _Logs:
    """What the two logs say, up to our cursors; and where they end."""

    def __init__(self, *, cursors: Mapping[int, Cursor], gifts: Gifts, bookings: Bookings) -> None:
        self._cursors = cursors
        self._gifts = gifts
        self._bookings = bookings
        self.heads: Mapping[int, int] = {}
        self.change_heads: dict[int, int] = {}
        self.business_times: dict[int, datetime] = {}
        self.members: dict[MemberKey, datetime] = {}
        self.gifts_due: dict[GiftKey, TierGift] = {}
        self._gifts_of: dict[MemberKey, list[GiftKey]] = defaultdict(list)
        self.changes = 0

    async def read(self, ledger: LedgerClient, tiers: TiersClient) -> None:
        self.heads = (await ledger.layout()).heads
        for part in range(min(_PARTS, len(self.heads))):
            partitions = sorted(self.heads)[part::_PARTS]
            await self._bookings.begin(partitions)
            # A log is read from its start whatever our cursor says; a cursor ahead of it would be refused.
            others = {other: head for other, head in self.heads.items() if other not in partitions}
            async for entries in ledger.entries(others, follow=False, bookings=True):
                for entry in entries:
                    if entry.partition not in others:
                        self._take(entry)
            await self._bookings.compare()
        async for news in tiers.news({}, follow=False):
            for change in news.changes:
                self.change_heads[change.partition] = change.offset
                cursor = self._cursors.get(change.partition)
                if cursor is not None and change.offset <= cursor.change_offset:
                    self.changes += 1
                    self._follow(change)

    def _take(self, entry: LedgerEntry) -> None:
        if isinstance(entry.fact, Booked):
            # Whatever our cursor says: the ledger has it before we hear of it.
            self._bookings.add(entry.fact)
            return
        cursor = self._cursors.get(entry.partition)
        if cursor is None or entry.offset > cursor.ledger_offset:
            return
        match entry.fact:
            case MemberJoined(member_id=member_id, joined_time=joined_time):
                self.members[entry.partition, member_id] = joined_time
            case ClockAdvanced(to_time=to_time):
                earlier = self.business_times.get(entry.partition, to_time)
                self.business_times[entry.partition] = max(earlier, to_time)

    def _follow(self, change: TierChange) -> None:
        for gift in self._gifts.decide([change]):
            self.gifts_due[gift.coupon.key] = gift
            self._gifts_of[change.member_key].append(gift.coupon.key)
        if change.taken_back_to is not None:
            held = [self.gifts_due[key] for key in self._gifts_of[change.member_key]]
            for coupon in self._gifts.take_back([change], held):
                self.gifts_due[coupon.key] = replace(self.gifts_due[coupon.key], coupon=coupon)


def _cursor_differences(cursors: Mapping[int, Cursor], logs: _Logs) -> Iterator[Difference]:
    if cursors.keys() != logs.heads.keys():
        yield _difference("partitions", "cursors", sorted(logs.heads), sorted(cursors))
    for partition, cursor in sorted(cursors.items()):
        where = f"partition {partition}"
        head, change_head = logs.heads.get(partition, 0), logs.change_heads.get(partition, 0)
        if cursor.ledger_offset > head:
            yield _difference("ledger cursor ahead of the log", where, f"at most {head}", cursor.ledger_offset)
        if cursor.change_offset > change_head:
            yield _difference("change cursor ahead of the log", where, f"at most {change_head}", cursor.change_offset)
        business_time = logs.business_times.get(partition)
        if cursor.business_time != business_time:
            yield _difference("business time", where, business_time, cursor.business_time)


def _member_differences(kept: Mapping[MemberKey, datetime], due: Mapping[MemberKey, datetime]) -> Iterator[Difference]:
    for key in sorted(kept.keys() | due.keys()):
        if kept.get(key) != due.get(key):
            partition, member_id = key
            yield _difference(
                "joining time of a member", f"partition {partition}, member {member_id}", due.get(key), kept.get(key)
            )


def _tier_gift_differences(
    kept: Mapping[GiftKey, tuple[Coupon, Letter | None, datetime | None]],
    due: Mapping[GiftKey, TierGift],
    gifts: Gifts,
    erased: Set[MemberKey],
    were_paused: Set[str],
) -> Iterator[Difference]:
    """Of campaigns that changes of tier alone decide on; of one that was ever paused, and of a member who was erased,
    the logs do not say what was left out."""
    for key in sorted(kept.keys() | due.keys()):
        partition, campaign_id, member_id, trigger = key
        where = f"partition {partition}, {trigger}, member {member_id}, campaign {campaign_id}"
        if key not in kept:
            if campaign_id in were_paused or (partition, member_id) in erased:
                continue
            yield _difference("coupon missing", where, due[key].coupon.code, None)
            continue
        coupon, letter, created_time = kept[key]
        if not is_change(coupon.trigger):
            # Given by hand, for points, or for what the feed of changes does not tell.
            continue
        if key not in due:
            if not gifts.is_derived(coupon):
                continue
            yield _difference("coupon without cause", where, None, coupon.code)
            continue
        expected = due[key]
        if letter is not None:
            # How many points somebody had then the changes do not say.
            letter = replace(
                letter, facts={name: fact for name, fact in letter.facts.items() if name != POINTS_BALANCE}
            )
        if coupon.member_key in erased:
            # Nothing is left of what its message said.
            letter_left = None if expected.letter is None else replace(expected.letter, facts={})
            expected = replace(expected, letter=letter_left)
        code = gifts.varied(expected.coupon, coupon.variant) if coupon.variant else expected.coupon.code
        pairs = [
            ("code of the coupon", code, coupon.code),
            ("what the coupon is worth", expected.coupon.offer, coupon.offer),
            ("terms of the coupon", expected.coupon.terms, coupon.terms),
            ("issuing time of the coupon", expected.coupon.issued_time, coupon.issued_time),
            ("end of the coupon", expected.coupon.valid_until_time, coupon.valid_until_time),
            ("time at which the coupon was taken back", expected.coupon.voided_time, coupon.voided_time),
            ("change that took the coupon back", expected.coupon.voided_by, coupon.voided_by),
            ("message of the coupon", expected.letter, letter),
            ("time of the message", expected.coupon.issued_time, created_time),
        ]
        for what, wanted, found in pairs:
            if wanted != found:
                yield _difference(what, where, wanted, found)


def _use_differences(uses: Iterable[tuple[int, str, int, int]]) -> Iterator[Difference]:
    for partition, code, counted, redeemed in uses:
        yield _difference("redeemed uses of the coupon", f"partition {partition}, coupon {code}", redeemed, counted)


def _limit_differences(limits: Iterable[tuple[int, str, str, int, int]]) -> Iterator[Difference]:
    for partition, member_id, reward_id, given, counted in limits:
        where = f"partition {partition}, member {member_id}, reward {reward_id}"
        yield _difference("rewards that a member had", where, given, counted)


def _stock_differences(
    stock: Iterable[tuple[str, int | None, int, int | None]], partitions: int
) -> Iterator[Difference]:
    given: dict[tuple[int, str], int] = {}
    counted: dict[tuple[int, str], int] = {}
    for reward_id, partition, in_all, there in stock:
        given[partition_of(reward_id, partitions), reward_id] = in_all
        if partition is not None and there is not None:
            counted[partition, reward_id] = there
    for key in sorted(given.keys() | counted.keys()):
        expected, found = given.get(key, 0), counted.get(key, 0)
        if expected != found:
            where = f"partition {key[0]}, reward {key[1]}"
            yield _difference("pieces taken of a stock", where, expected, found)


def _campaign_differences(kept: _Kept) -> Iterator[Difference]:
    for partition, campaign_id, variant, in_control, assigned, counted in kept.miscounted:
        where = f"partition {partition}, campaign {campaign_id}, variant {variant!r}, control group {in_control}"
        yield _difference("what a campaign gave", where, assigned, counted)
    for campaign_id, counted, spent in kept.overspent:
        yield _difference("what a campaign gave from its budget", f"campaign {campaign_id}", counted, spent)
    for partition, campaign_id, member_id, trigger in kept.unassigned:
        where = f"partition {partition}, {trigger}, member {member_id}, campaign {campaign_id}"
        yield _difference("coupon without assignment", where, None, "a coupon")


def _contact_differences(contacts: list[SealedContact], vault: Vault, partitions: int) -> Iterator[Difference]:
    for sealed in contacts:
        where = f"partition {sealed.partition}, member {sealed.member_id}"
        home = partition_of(sealed.member_id, partitions)
        if home != sealed.partition:
            yield _difference("home of a contact", where, home, sealed.partition)
        if sealed.wrapped_key is None:
            yield _difference("key of a contact", where, "a key", None)
            continue
        try:
            contact = vault.open_contact(sealed)
            if contact.email:
                contact.address()
        except (SealError, FieldError) as error:
            yield _difference("contact", where, "one that opens, with a usable address", str(error))


def _difference(what: str, where: str, expected: object, found: object) -> Difference:
    return {"what": what, "where": where, "expected": _shown(expected), "found": _shown(found)}


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (int, list)) else str(value)
