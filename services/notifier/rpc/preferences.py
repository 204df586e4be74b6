"""What members want to hear: the contract's messages in and out."""

from __future__ import annotations

from datetime import UTC

from loyalty.notifier.v1 import message_pb2, notifier_service_pb2

from services.notifier.domain.contacts import Contact
from services.notifier.domain.preferences import Choice
from services.notifier.domain.suppressions import Bounce
from services.notifier.rpc.calls import Context, Methods, acting_principal, stamp
from services.notifier.service.preferences import Hearing
from services.runtime.identity import current_caller

_GET_CONTACT = "/loyalty.notifier.v1.NotifierService/GetContact"
_GET_PREFERENCES = "/loyalty.notifier.v1.NotifierService/GetPreferences"

_BOUNCES = {
    message_pb2.BOUNCE_KIND_PERMANENT: Bounce.PERMANENT,
    message_pb2.BOUNCE_KIND_TRANSIENT: Bounce.TRANSIENT,
    message_pb2.BOUNCE_KIND_COMPLAINT: Bounce.COMPLAINT,
    message_pb2.BOUNCE_KIND_RESOLVED: Bounce.RESOLVED,
}


class PreferenceMethods(Methods):
    """What NotifierService does with preferences, and with addresses."""

    async def GetContact(  # the contract's name
        self, request: notifier_service_pb2.GetContactRequest, context: Context
    ) -> notifier_service_pb2.GetContactResponse:
        """Reads a contact."""
        contact, reason = await self._do.preferences.get_contact(request.member_id)
        await self._audit.read(current_caller.get(), _GET_CONTACT, {request.member_id})
        return notifier_service_pb2.GetContactResponse(contact=contact_message(contact), suppressed_reason=reason)

    async def SetPreferences(  # the contract's name
        self, request: message_pb2.SetPreferencesRequest, context: Context
    ) -> message_pb2.SetPreferencesResponse:
        """Keeps what a member said."""
        replayed = await self._do.preferences.set_preferences(
            request_id=request.request_id,
            member_id=request.member_id,
            hearings=[
                Hearing(channel=one.channel, topic=one.topic, allowed=one.allowed) for one in request.preferences
            ],
            source=request.source,
            consent_time=request.consent_time.ToDatetime(tzinfo=UTC) if request.HasField("consent_time") else None,
            principal=acting_principal(),
        )
        return message_pb2.SetPreferencesResponse(replayed=replayed)

    async def GetPreferences(  # the contract's name
        self, request: message_pb2.GetPreferencesRequest, context: Context
    ) -> message_pb2.GetPreferencesResponse:
        """Reads what a member hears."""
        standing = await self._do.preferences.get_preferences(request.member_id)
        await self._audit.read(current_caller.get(), _GET_PREFERENCES, {request.member_id})
        return message_pb2.GetPreferencesResponse(
            preferences=[_preference(hearing) for hearing in standing.hearings],
            consents=[consent_message(choice) for choice in standing.choices],
        )

    async def Unsubscribe(  # the contract's name
        self, request: message_pb2.UnsubscribeRequest, context: Context
    ) -> message_pb2.UnsubscribeResponse:
        """Refuses what a link refuses."""
        hearing = await self._do.preferences.unsubscribe(
            request_id=request.request_id, token=request.token, principal=acting_principal()
        )
        return message_pb2.UnsubscribeResponse(channel=hearing.channel, topic=hearing.topic)

    async def RecordBounce(  # the contract's name
        self, request: message_pb2.RecordBounceRequest, context: Context
    ) -> message_pb2.RecordBounceResponse:
        """Takes note of what became of a message."""
        suppressed, replayed = await self._do.preferences.record_bounce(
            request_id=request.request_id,
            principal=acting_principal(),
            address=request.address,
            delivery_id=request.delivery_id,
            bounce=_BOUNCES[request.kind],
        )
        return message_pb2.RecordBounceResponse(suppressed=suppressed, replayed=replayed)


def contact_message(contact: Contact) -> notifier_service_pb2.Contact:
    """A contact as it is shown."""
    return notifier_service_pb2.Contact(
        name=contact.name,
        email=contact.email,
        phone=contact.phone,
        language=contact.language,
        time_zone=contact.time_zone,
        birth_date="" if contact.birth_date is None else contact.birth_date.isoformat(),
        demographics=dict(contact.demographics),
    )


def consent_message(choice: Choice) -> message_pb2.ConsentRecord:
    """What a member said, as it is shown."""
    return message_pb2.ConsentRecord(
        preference=_preference(Hearing(channel=choice.channel, topic=choice.topic, allowed=choice.allowed)),
        source=choice.source,
        consent_time=stamp(choice.chosen_time),
    )


def _preference(hearing: Hearing) -> message_pb2.Preference:
    return message_pb2.Preference(channel=hearing.channel, topic=hearing.topic, allowed=hearing.allowed)
