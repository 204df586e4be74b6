"""What members say of what they want to hear."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.messages import partition_of_delivery
from services.notifier.domain.preferences import Choice, agreed
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import REASONS, AddressHashes, AddressKey, Bounce
from services.notifier.errors import (
    ChannelUnknownError,
    DeliveryUnknownError,
    FieldError,
    MemberErasedError,
    MemberUnknownError,
    OccurredInFutureError,
    TopicUnknownError,
)
from services.notifier.links import UnsubscribeLinks
from services.notifier.service.requests import MemberExists, lies_ahead, same_request
from services.notifier.store import KeptRequest, Store, Transaction
from services.notifier.vault import Vault
from services.programme.messages import Consent, Topic
from services.runtime.clock import MachineClock, microseconds

ONE_CLICK: Final = "one-click"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Whether messages of a topic come over a channel."""

    channel: str
    topic: str
    allowed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a member hears, and what it said last of each channel and topic, in its order."""

    hearings: Sequence[Hearing]
    choices: Sequence[Choice]


class PreferenceService:
    """Keeps and reads preferences, contacts as far as they are shown, and addresses that are not written to.

    `channels`: the names of those that lead to members.
    """

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        links: UnsubscribeLinks,
        addresses: AddressHashes,
        programmes: Programmes,
        channels: Collection[str],
        partitions: int,
        simulated: bool,
        member_exists: MemberExists,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._vault = vault
        self._links = links
        self._addresses = addresses
        self._programmes = programmes
        self._channels = sorted(channels)
        self._partitions = partitions
        self._simulated = simulated
        self._member_exists = member_exists
        self._machine_now = machine_now
        self._business_now = business_now

    async def set_preferences(
        self,
        *,
        request_id: str,
        member_id: str,
        hearings: Sequence[Hearing],
        source: str,
        consent_time: datetime | None,
        principal: str,
    ) -> bool:
        """Keeps what a member said, and says whether this request was answered before.

        Raises MemberUnknownError, MemberErasedError, RequestIdReusedError, TopicUnknownError, ChannelUnknownError,
        FieldError, OccurredInFutureError, PeerError.
        """
        digest = self._digest(hearings, source, consent_time)
        partition = partition_of(member_id, self._partitions)
        business_now = self._business_now()

        async def known(transaction: Transaction) -> tuple[bool, bool]:
            found = await transaction.find_contact_request(partition, member_id, request_id)
            return found.known, found.content_digest is not None

        known_here, answered = await self._store.read(known)
        if not answered:
            self._check(hearings)
            if consent_time is not None and lies_ahead(consent_time, business_now, simulated=self._simulated):
                raise OccurredInFutureError(consent_time, business_now, "consent_time")
        if not known_here and not answered and not await self._member_exists(member_id):
            raise MemberUnknownError
        now = self._machine_now()

        async def put(transaction: Transaction) -> bool:
            # Whoever erases the member, or says something of it, too, is before this or after it.
            await transaction.lock_partition(partition)
            if await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            if not await transaction.insert_contact_request(partition, member_id, request_id, digest, now):
                first = await transaction.find_contact_request(partition, member_id, request_id)
                return same_request(first.content_digest, digest)
            time = consent_time
            if time is None:
                # Business time may be behind what was told with a time; what is said now is said after that.
                said = (await transaction.find_consents(partition, [member_id])).get(member_id, ())
                time = max([business_now, *(one.place[0] for one in said)])
            choices = [
                Choice(
                    number=number,
                    channel=hearing.channel,
                    topic=hearing.topic,
                    allowed=hearing.allowed,
                    source=source,
                    chosen_time=time,
                    recorded_time=now,
                )
                for number, hearing in enumerate(hearings, 1)
            ]
            await transaction.insert_consents(partition, member_id, choices, principal)
            return False

        return await self._store.transact(put)

    async def get_preferences(self, member_id: str) -> Standing:
        """What a member hears. Raises MemberUnknownError, PeerError."""
        partition = partition_of(member_id, self._partitions)

        async def read(transaction: Transaction) -> Sequence[Choice]:
            return (await transaction.find_consents(partition, [member_id])).get(member_id, ())

        choices = sorted(await self._store.read(read), key=lambda choice: choice.place)
        if not choices and not await self._member_exists(member_id):
            raise MemberUnknownError
        topics = self._programmes.at(self._business_now()).messages.topics
        hearings = [
            Hearing(channel=channel, topic=topic.id, allowed=agreed(choices, channel, topic))
            for channel in self._channels
            for topic in topics
        ]
        return Standing(hearings=hearings, choices=choices)

    async def unsubscribe(self, *, request_id: str, token: str, principal: str) -> Hearing:
        """Refuses what the link of a message refuses; the same again changes nothing. Raises UnsubscribeTokenError,
        FieldError where that cannot be refused any more, MemberErasedError, RequestIdReusedError."""
        refusal = self._links.read(token)
        hearing = Hearing(channel=refusal.channel, topic=refusal.topic, allowed=False)
        topics = self._topics()
        if (topic := topics.get(refusal.topic)) is not None and topic.consent is Consent.ALWAYS:
            raise _cannot_be_refused("token", topic)
        # A topic that is gone may come back: what was said of it is kept, too.
        kept = hearing if refusal.topic in topics else replace(hearing, topic="")
        await self.set_preferences(
            request_id=request_id,
            member_id=refusal.member_id,
            hearings=[kept],
            source=ONE_CLICK,
            consent_time=None,
            principal=principal,
        )
        return hearing

    async def get_contact(self, member_id: str) -> tuple[Contact, str]:
        """A member's contact, empty where nothing is known, and why its address is not written to (empty: it is).

        Raises MemberUnknownError, SealError, PeerError.
        """
        partition = partition_of(member_id, self._partitions)

        async def read(transaction: Transaction) -> tuple[Contact | None, str]:
            sealed = (await transaction.find_contacts(partition, [member_id])).get(member_id)
            if sealed is None:
                return None, ""
            contact = self._vault.open_contact(sealed)
            if not contact.email:
                return contact, ""
            key = self._addresses.key(contact.email)
            return contact, (await transaction.find_suppressed([key])).get(key, "")

        contact, reason = await self._store.read(read)
        if contact is None and not await self._member_exists(member_id):
            raise MemberUnknownError
        return contact or Contact(), reason

    async def record_bounce(
        self, *, request_id: str, principal: str, address: str, delivery_id: str, bounce: Bounce
    ) -> tuple[bool, bool]:
        """Takes note of what became of a message to an address, or, where that is empty, to the one that a message was
        sent to; says whether nothing is sent there, and whether this was answered before. Where it was sent is not
        known of what was never tried, of what was sent before this was kept, and of a member who was erased: that
        changes nothing. Raises DeliveryUnknownError, RequestIdReusedError."""
        key = self._addresses.key(address) if address else await self._address_of(delivery_id)
        request = keyed_digest(self._vault.request_key, "bounce request", principal, request_id)
        # With the request's own digest in it, so that nobody finds all that was told of an address.
        content = keyed_digest(self._vault.request_key, "bounce", request, address, delivery_id, bounce.name)
        now = self._machine_now()

        async def put(transaction: Transaction) -> tuple[bool, bool]:
            suppressed = key is not None and (
                bounce in REASONS or (bounce is Bounce.TRANSIENT and bool(await transaction.find_suppressed([key])))
            )
            asked = KeptRequest(content_digest=content, answer=suppressed)
            kept = await transaction.keep_request(request, asked, now)
            if kept is not None:
                return bool(kept.answer), same_request(kept.content_digest, content)
            if key is not None and bounce in REASONS:
                await transaction.insert_suppressions({key: REASONS[bounce]}, now)
            elif key is not None and bounce is Bounce.RESOLVED:
                await transaction.delete_suppression(key)
            return suppressed, False

        return await self._store.transact(put)

    async def _address_of(self, delivery_id: str) -> AddressKey | None:
        """The address that a message was last sent to; None where it is not known."""
        partition = partition_of_delivery(delivery_id)

        async def read(transaction: Transaction) -> AddressKey | None:
            if await transaction.find_delivery(partition, delivery_id) is None:
                raise DeliveryUnknownError
            digest = await transaction.find_address_hash(partition, delivery_id)
            return None if digest is None else self._addresses.key_of(digest)

        return await self._store.read(read)

    def _check(self, hearings: Sequence[Hearing]) -> None:
        topics = self._topics()
        for place, hearing in enumerate(hearings):
            if hearing.topic and hearing.topic not in topics:
                raise TopicUnknownError(hearing.topic, topics)
            if hearing.topic and not hearing.allowed and topics[hearing.topic].consent is Consent.ALWAYS:
                raise _cannot_be_refused(f"preferences[{place}].allowed", topics[hearing.topic])
            if hearing.channel and hearing.channel not in self._channels:
                raise ChannelUnknownError(hearing.channel, self._channels)

    def _topics(self) -> Mapping[str, Topic]:
        return {topic.id: topic for topic in self._programmes.at(self._business_now()).messages.topics}

    def _digest(self, hearings: Sequence[Hearing], source: str, consent_time: datetime | None) -> bytes:
        said = [field for hearing in hearings for field in (hearing.channel, hearing.topic, int(hearing.allowed))]
        time = 0 if consent_time is None else microseconds(consent_time)
        return keyed_digest(self._vault.request_key, "preferences", source, time, *said)


def _cannot_be_refused(field: str, topic: Topic) -> FieldError:
    return FieldError(field, f"messages about {topic.id!r} belong to the membership and cannot be refused")
