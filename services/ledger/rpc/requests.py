"""Requests to commands, after the field rules of the contract have passed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import member_pb2

from services.ledger.domain import commands
from services.ledger.domain.events import LineReturn, PointsPayment
from services.ledger.domain.keys import Keys
from services.ledger.rpc.times import read_span, read_time
from services.programme.calendar import Window
from services.programme.model import SUSPENDED
from services.runtime import messages
from services.runtime.identity import Caller
from services.runtime.status import InvalidFieldError

# A hold that names no time.
HOLD_TTL: Final = timedelta(minutes=15)

_LINE_KINDS = {
    pb.LINE_KIND_UNSPECIFIED: commands.LineKind.GOODS,
    pb.LINE_KIND_GOODS: commands.LineKind.GOODS,
    pb.LINE_KIND_SHIPPING: commands.LineKind.SHIPPING,
    pb.LINE_KIND_GIFT_CARD: commands.LineKind.GIFT_CARD,
}


def canonical(name: bytes, request: Message) -> bytes:
    """A request as it was sent, comparable to the letter; the method's name keeps kinds apart."""
    return name + b"\0" + request.SerializeToString(deterministic=True)


def first_difference(kept: bytes, sent: bytes) -> str:
    """The first field in which two canonical requests differ, by the order of the contract."""
    kept_name, _, kept_content = kept.partition(b"\0")
    sent_name, _, sent_content = sent.partition(b"\0")
    if kept_name != sent_name:
        return "the method"
    request_class = getattr(pb, f"{sent_name.decode()}Request")
    return messages.first_difference(request_class.FromString(kept_content), request_class.FromString(sent_content))


def _common(name: bytes, request: Any, caller: Caller) -> dict[str, Any]:
    return {
        "member_id": request.member_id,
        "request_id": request.request_id,
        "principal": caller.principal,
        "on_behalf_of": caller.on_behalf_of,
        "request": canonical(name, request),
    }


def _event(name: bytes, request: Any, caller: Caller) -> dict[str, Any]:
    return _common(name, request, caller) | {"occurred_time": read_time(request, "occurred_time")}


def _enroll_member(request: pb.EnrollMemberRequest, caller: Caller) -> commands.EnrollMember:
    event = _event(b"EnrollMember", request, caller)
    event["member_id"] = request.member_id or commands.derived_member_id(caller.principal, request.request_id)
    return commands.EnrollMember(**event, channel=request.channel, market=request.market)


def _resign_member(request: pb.ResignMemberRequest, caller: Caller) -> commands.ResignMember:
    return commands.ResignMember(**_event(b"ResignMember", request, caller), reason=request.reason)


def _rejoin_member(request: pb.RejoinMemberRequest, caller: Caller) -> commands.RejoinMember:
    return commands.RejoinMember(**_event(b"RejoinMember", request, caller), channel=request.channel)


def _lines(request: Any) -> tuple[commands.Line, ...]:
    return tuple(
        [
            commands.Line(
                line.sku,
                line.name,
                line.department,
                line.category,
                line.quantity or 1,
                line.amount_minor_units,
                _LINE_KINDS[line.kind],
            )
            for line in request.lines
        ]
    )


def _movement(name: bytes, request: Any, caller: Caller) -> dict[str, Any]:
    return _event(name, request, caller) | {
        "currency": request.amount.currency_code,
        "amount": request.amount.minor_units,
        "lines": _lines(request),
        "store_id": request.store_id,
        "receipt_number": request.receipt_number,
        "channel": request.channel,
        "exchange_id": request.exchange_id,
    }


def _record_purchase(request: pb.RecordPurchaseRequest, caller: Caller) -> commands.RecordPurchase:
    return commands.RecordPurchase(
        **_movement(b"RecordPurchase", request, caller),
        purchase_id=request.purchase_id or request.request_id,
        points_payment=_points_payment(request, quoted=False),
    )


def _points_payment(request: Any, *, quoted: bool) -> PointsPayment | None:
    """What points pay of a purchase; InvalidFieldError where something is missing. A quote names no redemption."""
    if not request.HasField("points_payment"):
        return None
    payment = request.points_payment
    if not quoted and not payment.redemption_id:
        raise InvalidFieldError(
            "points_payment.redemption_id", "must say whose points paid: redeem or capture them first"
        )
    if not payment.points:
        raise InvalidFieldError("points_payment.points", "must be more than zero")
    if payment.amount.minor_units <= 0:
        raise InvalidFieldError("points_payment.amount.minor_units", "must be more than zero")
    if payment.amount.currency_code != request.amount.currency_code:
        raise InvalidFieldError("points_payment.amount.currency_code", "must be that of the amount")
    return PointsPayment("" if quoted else payment.redemption_id, payment.points, payment.amount.minor_units)


def quoted_purchase(request: pb.QuotePurchaseRequest, caller: Caller) -> commands.RecordPurchase:
    """The purchase that a QuotePurchase request asks about. It has no id, and its request none of a caller's."""
    return commands.RecordPurchase(
        member_id=request.member_id,
        request_id="~quote",
        principal=caller.principal,
        on_behalf_of=caller.on_behalf_of,
        occurred_time=read_time(request, "occurred_time"),
        request=b"",
        purchase_id="",
        currency=request.amount.currency_code,
        amount=request.amount.minor_units,
        lines=_lines(request),
        store_id=request.store_id,
        receipt_number="",
        channel=request.channel,
        points_payment=_points_payment(request, quoted=True),
    )


def _void_purchase(request: pb.VoidPurchaseRequest, caller: Caller) -> commands.VoidPurchase:
    return commands.VoidPurchase(
        **_event(b"VoidPurchase", request, caller),
        purchase_id=request.purchase_id,
        store_id=request.store_id,
        reason=request.reason,
    )


def _record_return(request: pb.RecordReturnRequest, caller: Caller) -> commands.RecordReturn:
    _check_return(request)
    return commands.RecordReturn(
        **_movement(b"RecordReturn", request, caller),
        purchase_id=request.purchase_id,
        reason=request.reason,
        returned_lines=tuple(
            [LineReturn(line.line_number, line.quantity, line.amount_minor_units) for line in request.returned_lines]
        ),
    )


def _check_return(request: pb.RecordReturnRequest) -> None:
    """What the contract says in words of the fields that name what comes back."""
    if not request.returned_lines:
        if not request.HasField("amount"):
            raise InvalidFieldError("amount", "must be there where no returned_lines say what comes back")
        return
    if not request.purchase_id:
        raise InvalidFieldError("purchase_id", "must say of which purchase the returned_lines are")
    if request.HasField("amount") and not request.amount.minor_units:
        raise InvalidFieldError("amount.minor_units", "must be more than zero, or the amount be left out")
    if request.lines and not request.HasField("amount"):
        raise InvalidFieldError("amount", "must be there where there are lines, which add up to it")
    seen: set[int] = set()
    for index, line in enumerate(request.returned_lines):
        if line.line_number in seen:
            raise InvalidFieldError(
                f"returned_lines[{index}].line_number", f"line {line.line_number} stands in the list twice"
            )
        seen.add(line.line_number)


def _record_activity(request: pb.RecordActivityRequest, caller: Caller) -> commands.RecordActivity:
    return commands.RecordActivity(
        **_event(b"RecordActivity", request, caller),
        activity=request.activity,
        reference=request.reference,
        channel=request.channel,
    )


def _record_membership_fee(request: pb.RecordMembershipFeeRequest, caller: Caller) -> commands.RecordMembershipFee:
    end_time = read_time(request, "end_time")
    assert end_time is not None, "the contract requires it"
    return commands.RecordMembershipFee(
        **_event(b"RecordMembershipFee", request, caller),
        plan=request.plan,
        currency=request.amount.currency_code,
        amount=request.amount.minor_units,
        start_time=read_time(request, "start_time"),
        end_time=end_time,
    )


def _award_points(request: pb.AwardPointsRequest, caller: Caller) -> commands.AwardPoints:
    lasting = Window.read(request.lasting) if request.lasting else None
    if request.lasting and lasting is None:
        raise InvalidFieldError("lasting", "must be at most 100 years")
    return commands.AwardPoints(
        **_event(b"AwardPoints", request, caller),
        points=request.points,
        reason=request.reason,
        note=request.note,
        purchase_id=request.purchase_id,
        lasting=lasting,
    )


def _adjust_points(request: pb.AdjustPointsRequest, caller: Caller) -> commands.AdjustPoints:
    if request.approves and request.declines:
        raise InvalidFieldError("declines", "must be left out where approves is there: it is the one or the other")
    if request.restores_expired and request.points < 0:
        raise InvalidFieldError("points", "must be more than zero where restores_expired gives points back")
    return commands.AdjustPoints(
        **_event(b"AdjustPoints", request, caller),
        points=request.points,
        reason=request.reason,
        note=request.note,
        approves=request.approves,
        declines=request.declines,
        restores_expired=request.restores_expired,
    )


def _redeem_points(request: pb.RedeemPointsRequest, caller: Caller) -> commands.RedeemPoints:
    return commands.RedeemPoints(
        **_event(b"RedeemPoints", request, caller),
        points=request.points,
        reason=request.reason,
        note=request.note,
        purchase_id=request.purchase_id,
        store_id=request.store_id,
        channel=request.channel,
        offline=request.offline,
    )


def _reverse_redemption(request: pb.ReverseRedemptionRequest, caller: Caller) -> commands.ReverseRedemption:
    return commands.ReverseRedemption(
        **_event(b"ReverseRedemption", request, caller),
        redemption_id=request.redemption_id,
        points=request.points,
        reason=request.reason,
        note=request.note,
    )


def _hold_points(request: pb.HoldPointsRequest, caller: Caller) -> commands.HoldPoints:
    return commands.HoldPoints(
        **_event(b"HoldPoints", request, caller),
        points=request.points,
        ttl=read_span(request, "ttl", HOLD_TTL),
        reason=request.reason,
        purchase_id=request.purchase_id,
    )


def _capture_hold(request: pb.CaptureHoldRequest, caller: Caller) -> commands.CaptureHold:
    return commands.CaptureHold(
        **_event(b"CaptureHold", request, caller),
        hold_id=request.hold_id,
        points=request.points,
        reason=request.reason,
        purchase_id=request.purchase_id,
    )


def _release_hold(request: pb.ReleaseHoldRequest, caller: Caller) -> commands.ReleaseHold:
    return commands.ReleaseHold(
        **_event(b"ReleaseHold", request, caller), hold_id=request.hold_id, points=request.points
    )


def _extend_hold(request: pb.ExtendHoldRequest, caller: Caller) -> commands.ExtendHold:
    return commands.ExtendHold(
        **_event(b"ExtendHold", request, caller), hold_id=request.hold_id, ttl=read_span(request, "ttl", HOLD_TTL)
    )


def _set_earning_class(request: pb.SetEarningClassRequest, caller: Caller) -> commands.SetEarningClass:
    effective_time = read_time(request, "effective_time")
    assert effective_time is not None, "the contract requires it"
    if request.earning_class == SUSPENDED and caller.scopes is not None:
        # Set here alone it would freeze the points, while tiers, and so coupons and tills, know nothing of it.
        raise InvalidFieldError("earning_class", "is set by tiers alone where it is suspended, by tiers.validity")
    return commands.SetEarningClass(
        **_common(b"SetEarningClass", request, caller),
        occurred_time=None,
        earning_class=request.earning_class,
        effective_time=effective_time,
        sequence=request.sequence,
    )


_IDENTIFIER_KINDS = {
    member_pb2.IDENTIFIER_KIND_CARD: "card",
    member_pb2.IDENTIFIER_KIND_PHONE: "phone",
    member_pb2.IDENTIFIER_KIND_EXTERNAL: "external",
}
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


def digest_of(identifier: member_pb2.Identifier, keys: Keys) -> bytes:
    """All that the ledger is to know of an identifier; its value goes no further."""
    kind = _IDENTIFIER_KINDS[identifier.kind]
    if kind == "phone" and not _PHONE.fullmatch(identifier.value):
        raise InvalidFieldError("identifier.value", "a phone number is written as +48600100200: +, country, number")
    return keys.identifier(kind, identifier.value)


def link_identifier(request: pb.LinkIdentifierRequest, caller: Caller, keys: Keys) -> commands.LinkIdentifier:
    """The command of a LinkIdentifier request."""
    digest = digest_of(request.identifier, keys)
    return commands.LinkIdentifier(
        **_common(b"LinkIdentifier", _without_value(request, digest), caller),
        occurred_time=None,
        kind=_IDENTIFIER_KINDS[request.identifier.kind],
        digest=digest,
    )


def unlink_identifier(request: pb.UnlinkIdentifierRequest, caller: Caller, keys: Keys) -> commands.UnlinkIdentifier:
    """The command of an UnlinkIdentifier request."""
    if request.HasField("identifier") == bool(request.identifier_id):
        raise InvalidFieldError("identifier", "must be there, or identifier_id in its place")
    if request.identifier_id:
        digest = bytes.fromhex(request.identifier_id)
    else:
        digest = digest_of(request.identifier, keys)
        request = _without_value(request, digest)
    return commands.UnlinkIdentifier(
        **_common(b"UnlinkIdentifier", request, caller),
        occurred_time=None,
        digest=digest,
        reason=pb.UnlinkReason.Name(request.reason).removeprefix("UNLINK_REASON_").lower(),
    )


def _without_value(request: Any, digest: bytes) -> Any:
    """The request as it is kept: its identifier stands there by its digest."""
    kept = type(request)()
    kept.CopyFrom(request)
    kept.identifier.value = digest.hex()
    return kept


def erase_member(request: pb.EraseMemberRequest, caller: Caller) -> commands.EraseMember:
    """The command of an EraseMember request."""
    return commands.EraseMember(**_common(b"EraseMember", request, caller), occurred_time=None, reason=request.reason)


# Each write, by its name in a batch: how its request becomes a command. InvalidFieldError where a field breaks a rule
# that the contract states in words.
WRITES: Final[dict[str, Callable[[Any, Caller], commands.MemberCommand]]] = {
    "enroll_member": _enroll_member,
    "record_purchase": _record_purchase,
    "record_return": _record_return,
    "award_points": _award_points,
    "set_earning_class": _set_earning_class,
    "redeem_points": _redeem_points,
    "reverse_redemption": _reverse_redemption,
    "hold_points": _hold_points,
    "capture_hold": _capture_hold,
    "release_hold": _release_hold,
    "extend_hold": _extend_hold,
    "adjust_points": _adjust_points,
    "void_purchase": _void_purchase,
    "resign_member": _resign_member,
    "rejoin_member": _rejoin_member,
    "record_activity": _record_activity,
    "record_membership_fee": _record_membership_fee,
}
