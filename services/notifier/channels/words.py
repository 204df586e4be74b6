"""The words of a message: its campaign's templates, in the member's language, filled in."""

from __future__ import annotations

from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import VersionsAwaitedError
from services.programme import VARIABLES, Metric, Programme, describe_offer, render
from services.programme.messages import Message, MessageAction


class Words:
    """Writes the messages of a programme."""

    def __init__(self, programmes: Programmes) -> None:
        self._programmes = programmes

    def write(self, due: DueDelivery, contact: Contact, *, unsubscribe_url: str = "") -> Message:
        """A message in the words of its campaign as they were when it was made.

        Raises LookupError where no campaign has it, and VersionsAwaitedError where none that is known so far has.
        """
        message = due.message
        programme = self._programmes.at(message.created_time)
        campaign = programme.campaign(message.campaign_id)
        action = None if campaign is None else campaign.variant(message.variant).actions.message
        if action is None:
            raise LookupError if self._programmes.asked else VersionsAwaitedError
        return fill(programme, action, due, contact, unsubscribe_url=unsubscribe_url)


def fill(
    programme: Programme, action: MessageAction, due: DueDelivery, contact: Contact, *, unsubscribe_url: str = ""
) -> Message:
    """A message as the member reads it."""
    values = dict.fromkeys(VARIABLES, "")
    values |= {name: str(value) for name, value in due.message.facts.items() if name in values}
    if (balance := due.message.facts.get("balance")) is not None:
        values["balance"] = _balance(programme, int(balance))
    if due.coupon is not None:
        values |= {
            "code": due.coupon.code,
            "discount": describe_offer(programme, due.coupon.offer),
            "valid_until": programme.last_whole_day(due.coupon.valid_until_time).isoformat(),
        }
    values |= {
        "member_id": due.message.member_id,
        "name": contact.name,
        "currency": programme.currency,
        "programme": programme.name,
        "unsubscribe_url": unsubscribe_url,
    }
    return render(programme.messages.words(action, contact.language), values)


def _balance(programme: Programme, balance: int) -> str:
    """`1234.00 USD`, or `1,234` where the metric is no money."""
    return programme.format_money(balance) if programme.tiers.metric is Metric.NET_SPEND else f"{balance:,}"
