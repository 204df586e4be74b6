"""What a load left behind, member by member, without what differs from load to load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.notifier.v1 import coupon_pb2
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers

from services.cli.remote import Services
from services.runtime.causality import format_token

# Where it stands among others of its partition, when it was written down, and what is computed from that.
OF_THE_ENTRY = ("offset", "recorded_time", "hash", "detail_commitment")
_OF_THE_CHANGE = ("offset", "ledger_offset", "ledger_offset_processed")
_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """By member, in their order: entries, changes of tier, coupons as they are now, and by which campaigns and when
    there were messages without one.

    A change comes with the request that caused it, empty where time did. Of a coupon's code the prefix is left: codes
    are made with the installation's own key. The moves of the clock stand under the name of each partition.
    """

    entries: Mapping[str, Sequence[Any]]
    changes: Mapping[str, Sequence[tuple[str, Any]]]
    coupons: Mapping[str, Sequence[Any]]
    messages: Mapping[str, Sequence[tuple[int, str]]]


async def outcome_of(rewards: Any, services: Services) -> Outcome:
    """Reads all of it, once the notifier has handled everything; `rewards` is a stub of RewardService."""
    requests: dict[tuple[int, int], str] = {}
    heads: dict[int, int] = {}
    entries: dict[str, list[Any]] = defaultdict(list)
    async for response in services.ledger.StreamEntries(ledger.StreamEntriesRequest(), timeout=_SECONDS):
        for entry in response.entries:
            requests[entry.partition, entry.offset] = entry.request_id
            heads[entry.partition] = entry.offset
            for name in OF_THE_ENTRY:
                entry.ClearField(name)
            entries[entry.member_id or f"the clock of partition {entry.partition}"].append(entry)
    changes: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    async for response in services.tiers.StreamTierChanges(tiers.StreamTierChangesRequest(), timeout=_SECONDS):
        for change in response.changes:
            cause = requests[change.partition, change.ledger_offset] if change.HasField("ledger_offset") else ""
            for name in _OF_THE_CHANGE:
                change.ClearField(name)
            changes[change.member_id].append((cause, change))
    coupons: dict[str, list[Any]] = defaultdict(list)
    messages: dict[str, list[tuple[int, str]]] = defaultdict(list)
    request = notifier.ListDeliveriesRequest(page_size=1000, causal_token=format_token(heads))
    while True:
        page = await services.notifier.ListDeliveries(request, timeout=_SECONDS)
        for delivery in page.deliveries:
            if not delivery.coupon_code:
                messages[delivery.member_id].append((delivery.created_time.ToNanoseconds(), delivery.campaign_id))
                continue
            asked = coupon_pb2.GetCouponRequest(code=delivery.coupon_code)
            coupon = (await rewards.GetCoupon(asked, timeout=_SECONDS)).coupon
            assert (coupon.member_id, coupon.campaign_id) == (delivery.member_id, delivery.campaign_id)
            coupon.code = coupon.code.partition("-")[0]
            coupons[coupon.member_id].append(coupon)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    for given in coupons.values():
        given.sort(key=lambda coupon: (coupon.issued_time.ToNanoseconds(), coupon.campaign_id))
    for sent in messages.values():
        sent.sort()
    return Outcome(entries=entries, changes=changes, coupons=coupons, messages=messages)


def assert_same(found: Outcome, expected: Outcome) -> None:
    """The same for every member, and says of the first one who is not."""
    for name in ("entries", "changes", "coupons", "messages"):
        of_found, of_expected = getattr(found, name), getattr(expected, name)
        assert of_found.keys() == of_expected.keys()
        for member_id in of_expected:
            assert of_found[member_id] == of_expected[member_id], f"{name} of {member_id}"
