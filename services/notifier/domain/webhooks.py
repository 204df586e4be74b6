"""Webhooks: who is told of what, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import SplitResult, urlsplit

from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.messages import Outgoing
from services.notifier.errors import WebhookUrlError

DISABLED_AFTER: Final = timedelta(days=5)
"""An endpoint at which nothing has succeeded for so long is told nothing more."""
SECRETS_OVERLAP: Final = timedelta(days=1)
"""For so long after a change of its secret events are signed with both."""
MAX_ENDPOINTS: Final = 100
FIELDS: Final = (
    "badge", "balance", "campaign_id", "coupon_code", "day", "days", "member_id", "points", "points_balance",
    "previous_tier", "survey", "tier", "trigger", "variant", "version",
)  # fmt: skip
"""What an event may tell: no name, no address, nothing that was typed in by anybody."""
FAILING: Final = "nothing succeeded for 5 days"
GONE: Final = "it answered 410 Gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events are sent. `event_types` and `fields`: which of them; empty for all."""

    endpoint_id: str
    url: str
    description: str = ""
    event_types: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    sealed_secret: bytes = b""
    previous_secret: bytes | None = None
    """Sealed: the one before, with which events are signed, too, until `previous_until` (machine time)."""
    previous_until: datetime | None = None
    created_time: datetime
    failing_since: datetime | None = None
    disabled_time: datetime | None = None
    disabled_reason: str = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.endpoint_id})"

    def takes(self, event_type: str) -> bool:
        """Whether it is told of such events."""
        return self.disabled_time is None and (not self.event_types or event_type in self.event_types)

    def secrets(self, now: datetime) -> tuple[bytes, ...]:
        """With what events are signed, sealed, the newest first."""
        if self.previous_secret is None or self.previous_until is None or now >= self.previous_until:
            return (self.sealed_secret,)
        return (self.sealed_secret, self.previous_secret)

    @property
    def host(self) -> str:
        """The host that it is at."""
        return urlsplit(self.url).hostname or ""


def check_url(url: str, *, plain_allowed: bool) -> SplitResult:
    """The parts of an address that events can be sent to; raises WebhookUrlError."""
    try:
        parts = urlsplit(url)
        port_reads = parts.port is None or parts.port > 0
    except ValueError:
        raise WebhookUrlError("this is no address; write one as https://example.com/events") from None
    if parts.scheme != "https" and not (plain_allowed and parts.scheme == "http"):
        raise WebhookUrlError("events go over https alone")
    if not parts.hostname or not port_reads or parts.username is not None or parts.password is not None:
        raise WebhookUrlError("an address has a host, and neither name nor password: https://example.com/events")
    if not url.isascii() or not url.isprintable() or " " in url or parts.fragment:
        raise WebhookUrlError("an address is ASCII, without spaces and without a fragment")
    return parts


def body(message: Outgoing, endpoint: Endpoint) -> str:
    """The event as it is sent: JSON, the same at every try."""
    told: dict[str, str | int] = {
        **message.facts,
        "member_id": message.member_id,
        "campaign_id": message.campaign_id,
        "trigger": message.trigger,
        "variant": message.variant,
        "coupon_code": message.coupon_code,
    }
    wanted = endpoint.fields or frozenset(FIELDS)
    data = {name: told[name] for name in FIELDS if name in wanted and told.get(name) not in (None, "")}
    event = {"type": message.topic, "timestamp": message.created_time.isoformat(), "data": data}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def endpoint_id(key: bytes, request_id: str) -> str:
    """The id of the endpoint that a request makes."""
    return f"we_{keyed_digest(key, 'endpoint', request_id)[:12].hex()}"


def unknown_fields(fields: Iterable[str]) -> list[str]:
    """Those that no event may tell."""
    return sorted(set(fields) - set(FIELDS))
