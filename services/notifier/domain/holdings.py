"""What is kept about people, why, for how long, and who receives it (R86, R87).

Every table that names a member has a line here, and says what becomes of its rows when the member is erased: a test
holds this list against the database.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Erasure(enum.Enum):
    """What becomes of a table's rows when their member is erased."""

    DELETED = enum.auto()
    EMPTIED = enum.auto()
    """The rows stay for what they count; what tells of the person is gone from them."""
    KEPT = enum.auto()
    """They tell nothing of the person beside the opaque id, and the accounts need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One kind of data. `tables`: those of the notifier that hold it, none where another service does."""

    category: str
    description: str
    purpose: str
    retention: str
    recipients: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    erasure: Erasure = Erasure.DELETED


_MEMBERSHIP: Final = "as long as the membership lasts, and until the member is erased"
_ACCOUNTS: Final = "as long as the accounts are kept; after erasure it names an id that leads to nobody"

HOLDINGS: Final = (
    Holding(
        category="contact",
        description="name, e-mail address, telephone number, language, time zone, date of birth, what else was told",
        purpose="to reach the member, and to greet on birthdays",
        retention=_MEMBERSHIP,
        recipients=("the mail server that carries messages",),
        tables=("contacts",),
    ),
    Holding(
        category="contact_requests",
        description="when a contact was sent, and by which request",
        purpose="to take the same request once",
        retention=_MEMBERSHIP,
        tables=("contact_requests",),
    ),
    Holding(
        category="consents",
        description="what the member agreed to hear of, over which channel, when and where it was said",
        purpose="to send what is wanted, and nothing else",
        retention=_MEMBERSHIP,
        tables=("consents",),
    ),
    Holding(
        category="membership",
        description="when the membership began, ended and began again, where, its market and its points",
        purpose="to run the programme",
        retention=_ACCOUNTS,
    ),
    Holding(
        category="entries",
        description="every line of the points account",
        purpose="to account for points, and to prove that nobody changed them",
        retention=_ACCOUNTS,
    ),
    Holding(
        category="purchases",
        description="what was bought and returned, where and when",
        purpose="to reckon points and tiers, and to take returns",
        retention="its detail until the member is erased, its amounts as long as the accounts are kept",
    ),
    Holding(
        category="standing",
        description="the tier, and every line behind it",
        purpose="to grant the benefits of the tier",
        retention=_ACCOUNTS,
    ),
    Holding(
        category="joining",
        description="when the membership began, as campaigns know it",
        purpose="to know who is a member while the ledger is away",
        retention=_ACCOUNTS,
        tables=("members",),
        erasure=Erasure.KEPT,
    ),
    Holding(
        category="profile",
        description="how often and when last something was bought, the tier, points and the days on which they lapse",
        purpose="to find whom a campaign is for",
        retention=_MEMBERSHIP,
        tables=("profiles", "lapsing_points", "segments", "badges"),
    ),
    Holding(
        category="campaigns",
        description="which campaigns came to the member, in which variant, and the points they gave",
        purpose="to give once what is given once, and to see what campaigns do",
        retention=_ACCOUNTS,
        tables=("assignments", "awards"),
        erasure=Erasure.KEPT,
    ),
    Holding(
        category="coupons",
        description="coupons, and where and when they were used",
        purpose="to take them at the till, once",
        retention=_ACCOUNTS,
        tables=("coupons", "coupon_uses"),
        erasure=Erasure.KEPT,
    ),
    Holding(
        category="rewards",
        description="rewards that were had for points, and those taken back",
        purpose="to hand them out, within their limits",
        retention=_ACCOUNTS,
        tables=("reward_intents", "reward_reversals", "reward_counts"),
        erasure=Erasure.KEPT,
    ),
    Holding(
        category="checkouts",
        description="baskets that were paid for, with what was taken off",
        purpose="to give a till that asks again the answer it was given",
        retention=_MEMBERSHIP,
        tables=("checkouts", "checkout_requests"),
    ),
    Holding(
        category="messages",
        description="messages to the member, and what became of them",
        purpose="to send each once, and to answer questions about them",
        retention="their facts until the member is erased, that there was one as long as the accounts are kept",
        recipients=("the mail server that carries messages", "the receivers of webhooks that the retailer has set up"),
        tables=("deliveries",),
        erasure=Erasure.EMPTIED,
    ),
    Holding(
        category="feedback",
        description="answers to surveys, and what was written beside them",
        purpose="to learn what members think of the programme",
        retention="what was written until the member is erased, the answers as long as the accounts are kept",
        tables=("feedback",),
        erasure=Erasure.EMPTIED,
    ),
    Holding(
        category="goodwill",
        description="points that staff gave, and why",
        purpose="to give them once, and to see who gave what",
        retention="why until the member is erased, the points as long as the accounts are kept",
        tables=("goodwill",),
        erasure=Erasure.EMPTIED,
    ),
    Holding(
        category="goodwill_months",
        description="how many points staff gave in each month",
        purpose="to keep within the limit of what may be given",
        retention=_ACCOUNTS,
        tables=("goodwill_months",),
        erasure=Erasure.KEPT,
    ),
    Holding(
        category="erasure",
        description="that the member was erased, when, and who asked for it",
        purpose="to erase the member again where a backup is restored",
        retention="for ever",
        tables=("erasures",),
        erasure=Erasure.KEPT,
    ),
)
