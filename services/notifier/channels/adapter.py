"""What a channel is, and how one is added that the platform does not have.

An adapter is an object of the retailer's own with the methods of `Adapter`, made by a function without arguments that
the setting LOYALTY_CHANNEL_ADAPTERS names: `sms=shop.sms:make`. It is given words and an address, and says what came of
it; consent, quiet hours, caps, retries and dead letters are the platform's business.
"""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass
from typing import Final, Protocol

from services.notifier.channels.words import Words
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Outcome, Verdict
from services.notifier.domain.webhooks import Endpoint
from services.notifier.errors import FieldError, InstallationError
from services.programme.messages import EMAIL, LOG, WEBHOOK, Message

_OWN: Final = frozenset({EMAIL, LOG, WEBHOOK})
_LEASED: Final = 100
_SENDERS: Final = 8
_SEND_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """To whom a message goes: a member, or an endpoint."""

    contact: Contact | None = None
    endpoint: Endpoint | None = None


class Channel(Protocol):
    """Carries messages. `leased`: how many a worker takes of a way at once; `senders`: how many it sends at once."""

    leased: int
    senders: int

    def address(self, contact: Contact) -> str:
        """Where the member is reached; empty where nowhere."""

    async def deliver(self, due: DueDelivery, to: Addressee) -> Outcome:
        """Sends one message and says what came of it, within the worker's time for one.

        Raises ChannelClosedError, before anything was sent, where nothing can be sent now; FieldError; LookupError
        where the programme has no such message any more; VersionsAwaitedError.
        """


class Adapter(Protocol):
    """A channel of the retailer's own."""

    def address(self, contact: Contact) -> str:
        """Where the member is reached, `contact.phone` say; empty where nowhere."""

    async def send(self, delivery_id: str, address: str, message: Message) -> Outcome:
        """Sends one message, within 30 seconds; the id is the same at every try. Raises ChannelClosedError as above."""


class AdaptedChannel:
    """Messages over an adapter."""

    leased = _LEASED
    senders = _SENDERS

    def __init__(self, adapter: Adapter, words: Words) -> None:
        self._adapter = adapter
        self._words = words

    def address(self, contact: Contact) -> str:
        """Where the adapter reaches the member."""
        return self._adapter.address(contact)

    async def deliver(self, due: DueDelivery, to: Addressee) -> Outcome:
        """Writes the message and has it sent."""
        assert to.contact is not None
        address = self._adapter.address(to.contact)
        if not address:
            raise FieldError("contact", "the contact has no address for this channel")
        words = self._words.write(due, to.contact)
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                return await self._adapter.send(due.delivery_id, address, words)
        except TimeoutError:
            return Outcome(verdict=Verdict.DEFERRED, error="the channel did not answer in time")


def load_adapters(setting: str) -> dict[str, Adapter]:
    """The adapters of a setting, `NAME=MODULE:FUNCTION` and commas between them. Raises InstallationError."""
    adapters: dict[str, Adapter] = {}
    for part in filter(None, (one.strip() for one in setting.split(","))):
        name, _, place = part.partition("=")
        module, _, function = place.partition(":")
        if not name or not module or not function or name in _OWN:
            raise InstallationError(f"{part!r} names no adapter; write one as sms=shop.sms:make")
        try:
            adapters[name] = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise InstallationError(f"the adapter {part} cannot be loaded: {error}") from None
    return adapters
