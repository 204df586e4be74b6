"""Who is sent what is due: asked when a message is taken up, and again before it goes out.

Between the two a member may have opted out, an address may have turned out dead, a contact may be gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from services.notifier.channels.adapter import Channel
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import TAKEN_BACK, DeliveryState, DueDelivery
from services.notifier.domain.preferences import GO, SUPPRESSED, WEEK, Decision, Word, counts, decide
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import AddressHashes, AddressKey
from services.notifier.errors import SealError
from services.notifier.store import Transaction
from services.notifier.vault import Vault
from services.programme.messages import MessagePolicy, Topic

log = structlog.get_logger()

_SEALED: Final = "the contact cannot be opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What becomes of a message that is due. `state` is QUEUED where it goes out, to `contact` where it goes to a
    member; else what it is from now on, `until` when (business time) where it is held, and why."""

    state: DeliveryState
    contact: Contact | None = None
    address: AddressKey | None = None
    until: datetime | None = None
    reason: str | None = None

    @property
    def goes(self) -> bool:
        """Whether it goes out."""
        return self.state is DeliveryState.QUEUED


class Gate:
    """Asks contacts, preferences, suppressions, caps and quiet hours."""

    def __init__(
        self,
        *,
        vault: Vault,
        programmes: Programmes,
        addresses: AddressHashes,
        business_now: Callable[[], datetime],
    ) -> None:
        self._vault = vault
        self._programmes = programmes
        self._addresses = addresses
        self._business_now = business_now

    async def rule(
        self, transaction: Transaction, channel: Channel, batch: Sequence[DueDelivery], *, again: bool = False
    ) -> dict[str, Ruling]:
        """The rulings over messages of one partition and way, by delivery id; those that go out count from now on.

        `again`: they have been let through before, and neither hour nor caps are asked any more.
        """
        now = self._business_now()
        policy = self._programmes.at(now).messages
        rulings = {due.delivery_id: _TAKEN_BACK for due in batch if _is_void(due)}
        left = [due for due in batch if due.delivery_id not in rulings]
        impersonal = [due for due in left if not due.message.personal]
        rulings |= {due.delivery_id: Ruling(state=DeliveryState.QUEUED) for due in impersonal}
        personal = [due for due in left if due.message.personal]
        if personal:
            rulings |= await self._rule_over_members(transaction, channel, personal, policy, now, again=again)
        addresses = [(due.delivery_id, rulings[due.delivery_id].address) for due in personal]
        sent = {delivery_id: address[1] for delivery_id, address in addresses if address is not None}
        if sent and not again:
            await transaction.send_on_way(batch[0].message.partition, sent, now)
        return rulings

    async def _rule_over_members(
        self,
        transaction: Transaction,
        channel: Channel,
        batch: Sequence[DueDelivery],
        policy: MessagePolicy,
        now: datetime,
        *,
        again: bool,
    ) -> dict[str, Ruling]:
        partition = batch[0].message.partition
        members = sorted({due.message.member_id for due in batch})
        capped = not again and (policy.per_day is not None or policy.per_week is not None)
        if capped:
            # Two workers that have messages of one member would each see none of the other's.
            await transaction.lock_contacts(partition, members)
        contacts: dict[str, Contact] = {}
        unopened: set[str] = set()
        for member_id, sealed in (await transaction.find_contacts(partition, members)).items():
            try:
                contacts[member_id] = self._vault.open_contact(sealed)
            except SealError:
                unopened.add(member_id)
        found = {member_id: channel.address(contact) for member_id, contact in contacts.items()}
        keys = {member_id: self._addresses.key(address) for member_id, address in found.items() if address}
        suppressed = await transaction.find_suppressed(set(keys.values())) if keys else {}
        choices = await transaction.find_consents(partition, members)
        had = await self._had(transaction, batch, policy, now) if capped else defaultdict(list)
        rulings = {}
        for due in batch:
            member_id = due.message.member_id
            if member_id in unopened:
                rulings[due.delivery_id] = Ruling(state=DeliveryState.DEAD, reason=_SEALED)
                continue
            if member_id not in keys:
                rulings[due.delivery_id] = Ruling(state=DeliveryState.NO_CONTACT)
                continue
            if keys[member_id] in suppressed:
                reason = f"{SUPPRESSED}: {suppressed[keys[member_id]]}"
                rulings[due.delivery_id] = Ruling(state=DeliveryState.WITHHELD, reason=reason)
                continue
            contact, topic = contacts[member_id], policy.topic(due.message.topic)
            decision = decide(
                policy=policy,
                channel=due.message.channel,
                topic=topic,
                urgent=due.message.urgent or again,
                choices=choices.get(member_id, ()),
                had=had[member_id],
                zone=self._zone(contact, now),
                now=now,
            )
            if decision == GO and counts(urgent=due.message.urgent, topic=topic):
                had[member_id].append(now)
            rulings[due.delivery_id] = _ruling(decision, contact, keys[member_id])
        return rulings

    async def _had(
        self, transaction: Transaction, batch: Sequence[DueDelivery], policy: MessagePolicy, now: datetime
    ) -> defaultdict[str, list[datetime]]:
        """When members got what counts for the caps."""
        had: defaultdict[str, list[datetime]] = defaultdict(list)
        found = await transaction.find_had(
            batch[0].message.partition,
            {due.message.member_id for due in batch},
            now - WEEK,
            but=[due.delivery_id for due in batch],
        )
        topics: Mapping[str, Topic] = {one.topic: policy.topic(one.topic) for one in found}
        for one in found:
            if counts(urgent=one.urgent, topic=topics[one.topic]):
                had[one.member_id].append(one.sent_time)
        return had

    def _zone(self, contact: Contact, now: datetime) -> ZoneInfo:
        try:
            return ZoneInfo(contact.time_zone) if contact.time_zone else self._programmes.at(now).zone
        # It was one when it was told.
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return self._programmes.at(now).zone


_TAKEN_BACK: Final = Ruling(state=DeliveryState.DEAD, reason=TAKEN_BACK)


def _is_void(due: DueDelivery) -> bool:
    return due.message.personal and due.coupon is not None and due.coupon.voided_time is not None


def _ruling(decision: Decision, contact: Contact, address: AddressKey) -> Ruling:
    match decision.word:
        case Word.GO:
            return Ruling(state=DeliveryState.QUEUED, contact=contact, address=address)
        case Word.LATER:
            return Ruling(state=DeliveryState.HELD, until=decision.until, reason=decision.reason)
        case Word.NEVER:
            return Ruling(state=DeliveryState.WITHHELD, reason=decision.reason)
