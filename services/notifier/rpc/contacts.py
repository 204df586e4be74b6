"""Contacts: messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import notifier_service_pb2

from services.notifier.domain.contacts import Contact
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
            contact=Contact(name=request.contact.name, email=request.contact.email),
        )
        return notifier_service_pb2.SetContactResponse(replayed=replayed)
