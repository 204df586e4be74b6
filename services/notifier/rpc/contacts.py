"""Contacts: messages in and out."""

from __future__ import annotations

from datetime import date
from types import MappingProxyType

from loyalty.notifier.v1 import notifier_service_pb2

from services.notifier.domain.contacts import Contact
from services.notifier.errors import FieldError
from services.notifier.rpc.calls import Context, Methods


class ContactMethods(Methods):
    """What NotifierService does with contacts."""

    async def SetContact(  # the contract's name
        self, request: notifier_service_pb2.SetContactRequest, context: Context
    ) -> notifier_service_pb2.SetContactResponse:
        """Sets a member's contact."""
        replayed = await self._do.contacts.set_contact(
            request_id=request.request_id,
            member_id=request.member_id,
            contact=contact_of(request.contact),
        )
        return notifier_service_pb2.SetContactResponse(replayed=replayed)


def contact_of(message: notifier_service_pb2.Contact) -> Contact:
    """A contact as it was sent; raises FieldError for a day that does not exist."""
    born = message.birth_date
    try:
        birth_date = date.fromisoformat(born) if born else None
    except ValueError:
        raise FieldError("contact.birth_date", "there is no such day") from None
    return Contact(
        name=message.name,
        email=message.email,
        phone=message.phone,
        language=message.language,
        time_zone=message.time_zone,
        birth_date=birth_date,
        demographics=MappingProxyType(dict(message.demographics)),
    )
