"""The log as a channel: that a message would have gone out, and nothing of whom to. For trying campaigns out."""

from __future__ import annotations

from typing import Final

import structlog

from services.notifier.channels.adapter import Addressee
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Outcome, Verdict

log = structlog.get_logger()

_LEASED: Final = 200


class LogChannel:
    """Writes a line for each message."""

    leased = _LEASED
    senders = 1

    def address(self, contact: Contact) -> str:
        """It reaches nobody."""
        return ""

    async def deliver(self, due: DueDelivery, to: Addressee) -> Outcome:
        """Writes the line."""
        message = due.message
        log.info(
            "message_logged", delivery_id=due.delivery_id, campaign_id=message.campaign_id, topic=message.topic
        )  # fmt: skip
        return Outcome(verdict=Verdict.TAKEN)
