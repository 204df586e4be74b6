"""Entries, members, lots and purchases to messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from loyalty.ledger.v1 import entry_pb2, lot_pb2, member_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services.ledger.domain.catching_up import activation_time, expiry_time, next_expiry
from services.ledger.domain.commands import Line, LineKind
from services.ledger.domain.earning import explain
from services.ledger.domain.encoding import encode_lot
from services.ledger.domain.events import (
    UNDATED,
    Account,
    Entry,
    EntryKind,
    Event,
    Flag,
    LineReturn,
    PointsAfter,
    PointsPayment,
    RulePoints,
)
from services.ledger.domain.listing import ListedLot
from services.ledger.domain.rules import Rules
from services.ledger.domain.state import Member, evolve_member
from services.ledger.rpc.times import set_time
from services.ledger.service import Answer
from services.ledger.store import ListedEntry, ListedPurchase

_ENTRY_KINDS: dict[EntryKind, Any] = {kind: entry_pb2.EntryKind.Value(f"ENTRY_KIND_{kind.value}") for kind in EntryKind}
_ACCOUNTS: dict[Account, Any] = {account: entry_pb2.Account.Value(f"ACCOUNT_{account.name}") for account in Account}
_FLAGS: dict[Flag, Any] = {flag: entry_pb2.EntryFlag.Value(f"ENTRY_FLAG_{flag.value}") for flag in Flag}
_LOT_STATES: dict[Account, Any] = {
    account: lot_pb2.LotState.Value(f"LOT_STATE_{account.name}")
    for account in (Account.AVAILABLE, Account.PENDING, Account.HELD)
}
_LINE_KINDS: dict[LineKind, Any] = {kind: pb.LineKind.Value(f"LINE_KIND_{kind.name}") for kind in LineKind}

# What came of an adjustment that moved nothing.
_ADJUSTMENT_STATES = {
    EntryKind.ADJUSTMENT_REQUESTED: pb.ADJUSTMENT_STATE_AWAITING_APPROVAL,
    EntryKind.ADJUSTMENT_DECLINED: pb.ADJUSTMENT_STATE_DECLINED,
}

# What each account says of points given (+) or taken from a member (-).
_GIVEN = {Account.ISSUED: 1, Account.ADJUSTED: 1, Account.REDEEMED: -1}

# Each write, by its name in a batch.
RESPONSES: Final[dict[str, Any]] = {
    "enroll_member": pb.EnrollMemberResponse,
    "record_purchase": pb.RecordPurchaseResponse,
    "record_return": pb.RecordReturnResponse,
    "award_points": pb.AwardPointsResponse,
    "set_earning_class": pb.SetEarningClassResponse,
    "redeem_points": pb.RedeemPointsResponse,
    "reverse_redemption": pb.ReverseRedemptionResponse,
    "hold_points": pb.HoldPointsResponse,
    "capture_hold": pb.CaptureHoldResponse,
    "release_hold": pb.ReleaseHoldResponse,
    "extend_hold": pb.ExtendHoldResponse,
    "adjust_points": pb.AdjustPointsResponse,
    "void_purchase": pb.VoidPurchaseResponse,
    "resign_member": pb.ResignMemberResponse,
    "rejoin_member": pb.RejoinMemberResponse,
    "record_activity": pb.RecordActivityResponse,
    "record_membership_fee": pb.RecordMembershipFeeResponse,
}


def entry_kind(number: int) -> EntryKind:
    """The kind of entry of the contract's number."""
    return EntryKind(entry_pb2.EntryKind.Name(number).removeprefix("ENTRY_KIND_"))


class Messages:
    """Fills messages of the contract, in place. What a programme dates comes from the version that holds then."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def answer(self, kind: str, response: Any, answer: Answer) -> None:
        """The answer to a write, into the response of its method."""
        entry = answer.entry
        response.replayed = answer.replayed
        if entry is None:
            return
        event = entry.event
        response.causal_token = f"{entry.partition}-{answer.last_offset}"
        if kind == "set_earning_class":
            response.applied = True
            return
        self.receipt(response.receipt, event, answer.after)
        response.receipt.partition = entry.partition
        response.receipt.offset = entry.offset
        match kind:
            case "enroll_member":
                self.member(response.member, evolve_member(None, event))
            case "record_return":
                waits = event.kind is EntryKind.RETURN_WAITING
                response.state = pb.RETURN_STATE_WAITING if waits else pb.RETURN_STATE_RECORDED
                if not waits:
                    _refund(response, event)
            case "void_purchase":
                _refund(response, event)
            case "redeem_points":
                response.redemption_id = event.request_id
            case "capture_hold":
                response.redemption_id = event.request_id
                _hold(response.hold, event)
            case "hold_points" | "release_hold" | "extend_hold":
                _hold(response.hold, event)
            case "adjust_points":
                response.state = _ADJUSTMENT_STATES.get(event.kind, pb.ADJUSTMENT_STATE_APPLIED)
                response.adjustment_id = event.reference or event.request_id

    def receipt(self, receipt: pb.Receipt, event: Event, after: PointsAfter | None = None) -> None:
        """What an event does to a member's points; without its place in the log. `after` counts what it caused, too."""
        receipt.member_id = event.member_id
        receipt.purchase_id = event.purchase_id
        set_time(receipt.occurred_time, event.occurred_time)
        given = debt = 0
        for account, points, _ in event.postings:
            if account is Account.DEBT:
                debt += points
            else:
                given += points * _GIVEN.get(account, 0)
        # What a return takes of points that lapsed is told by what it un-issues.
        receipt.points = -event.posted(Account.EXPIRED) if event.kind is EntryKind.POINTS_RESTORED else given
        receipt.debt_points_change = debt
        _rules(receipt.rules, event.rules, event.currency)
        receipt.pending_points, receipt.available_points, receipt.held_points, receipt.debt_points = (
            after or event.after
        )

    def member(self, message: member_pb2.Member, member: Member) -> None:
        """A member; its earning class only the caller can tell, who knows the time."""
        message.member_id = member.member_id
        message.status = member_pb2.MEMBER_STATUS_ACTIVE
        set_time(message.joined_time, member.joined_time)
        if member.resigned_time is not None:
            message.status = member_pb2.MEMBER_STATUS_RESIGNED
            set_time(message.resigned_time, member.resigned_time)
        if member.erased_time is not None:
            message.status = member_pb2.MEMBER_STATUS_ERASED
            set_time(message.erased_time, member.erased_time)
        if member.rejoined_time is not None:
            set_time(message.rejoined_time, member.rejoined_time)
        message.channel = member.channel
        message.market = member.market
        self.balance(message.balance, member)

    def balance(self, message: member_pb2.Balance, member: Member) -> None:
        """A member's points."""
        message.available_points = member.available
        message.debt_points = member.debt
        message.earned_points = member.earned
        message.pending_points = member.pending_points
        message.held_points = member.held
        message.redeemed_points = member.redeemed
        lapses = next_expiry(self._rules.versions, member)
        if lapses is not None:
            time, message.next_expiry_points = lapses
            set_time(message.next_expiry_time, time)

    def lot(self, message: lot_pb2.Lot, member: Member, listed: ListedLot) -> None:
        """A lot of a member; pending and held points lapse no sooner than they are free."""
        key, points = listed.lot
        message.state = _LOT_STATES[listed.account]
        message.points = points
        message.activation_date, message.expiry_date = encode_lot(key)
        free = activation = None
        if key.activates is not None:
            activation = activation_time(self._rules.versions, key.activates)
            set_time(message.activation_time, activation)
        if listed.account is Account.PENDING:
            free = activation
        if listed.hold is not None:
            free = listed.hold.expires
            message.hold_id = listed.hold.hold_id
            set_time(message.hold_expire_time, free)
        lapses = expiry_time(self._rules.versions, member, key)
        if lapses is not None:
            set_time(message.expiry_time, lapses if free is None else max(lapses, free))

    def purchase(self, message: pb.Purchase, member_id: str, partition: int, listed: ListedPurchase) -> None:
        """A purchase with what has come back of it."""
        purchase = listed.purchase
        assert purchase.occurred_time is not None, "only what has arrived is listed"
        message.member_id = member_id
        message.purchase_id = purchase.purchase_id
        set_time(message.occurred_time, purchase.occurred_time)
        for money, amount in (
            (message.amount, purchase.amount),
            (message.goods_paid, purchase.goods_paid),
            (message.returned_amount, purchase.returned),
        ):
            money.currency_code = purchase.currency
            money.minor_units = amount
        if purchase.points_payment is not None:
            _points_payment(message.points_payment, purchase.points_payment, purchase.currency)
            message.payment_points_returned = purchase.payment_points_returned
            message.payment_amount_returned.currency_code = purchase.currency
            message.payment_amount_returned.minor_units = purchase.payment_amount_returned
        back = {line.number: line for line in purchase.returned_lines}
        for number, values in enumerate(listed.detail.get("lines", ()), start=1):
            line, returned = Line(*values), back.get(number, LineReturn(number, 0, 0))
            message.lines.add(
                line_number=number,
                line=pb.Line(
                    sku=line.sku,
                    name=line.name,
                    department=line.department,
                    category=line.category,
                    quantity=line.quantity,
                    amount_minor_units=line.amount,
                    kind=_LINE_KINDS[LineKind(line.kind)],
                ),
                returned_quantity=returned.quantity,
                returned_amount_minor_units=returned.amount,
            )
        _rules(message.rules, [grant.rule for grant in purchase.grants], purchase.currency)
        message.returned_points = purchase.returned_points
        message.store_id = listed.detail.get("store_id", "")
        message.receipt_number = listed.detail.get("receipt_number", "")
        message.channel = listed.body.get("channel", "")
        message.voided = purchase.voided
        message.partition = partition
        message.offset = listed.entry_offset
        message.exchange_id = listed.body.get("exchange_id", "")

    def entry(self, message: entry_pb2.Entry, entry: Entry) -> None:
        """One entry of the log."""
        event = entry.event
        message.partition = entry.partition
        message.offset = entry.offset
        message.kind = _ENTRY_KINDS[event.kind]
        message.member_id = event.member_id
        message.request_id = event.request_id
        message.principal = entry.principal
        message.on_behalf_of = entry.on_behalf_of
        set_time(message.occurred_time, event.occurred_time)
        set_time(message.recorded_time, entry.recorded_time)
        message.programme_version = entry.programme_version
        message.purchase_id = event.purchase_id
        if event.amount or event.kind is EntryKind.RETURN_RECORDED:
            # What came back may have been free.
            message.amount.currency_code = event.currency
            message.amount.minor_units = event.amount
        if event.goods_paid is not None:
            message.goods_paid.currency_code = event.currency
            message.goods_paid.minor_units = event.goods_paid
        for account, points, lot in event.postings:
            posting = message.postings.add(account=_ACCOUNTS[account], points=points)
            if lot != UNDATED:
                posting.activation_date, posting.expiry_date = encode_lot(lot)
        _rules(message.rules, event.rules, event.currency)
        message.available_points_after = event.available_after
        message.debt_points_after = event.debt_after
        message.earning_class = event.earning_class
        if event.effective_time is not None:
            set_time(message.effective_time, event.effective_time)
        message.reason = event.reason
        message.detail_commitment = entry.detail_commitment
        message.hash = entry.hash
        message.channel = event.channel
        message.pending_points_after = event.pending_after
        message.held_points_after = event.held_after
        message.reference = event.reference
        if event.expire_time is not None:
            set_time(message.expire_time, event.expire_time)
        message.flags.extend([_FLAGS[flag] for flag in event.flags])
        message.exchange_id = event.exchange_id
        message.requested_points = event.requested_points
        message.market = event.market
        if event.points_payment is not None:
            _points_payment(message.points_payment, event.points_payment, event.currency)

    def listed_entry(self, message: entry_pb2.Entry, listed: ListedEntry) -> None:
        """One entry with what can be forgotten of it."""
        self.entry(message, listed.entry)
        if not listed.entry.detail_commitment:
            return
        detail = listed.detail
        message.detail.erased = detail is None
        if detail is not None:
            message.detail.store_id = detail.get("store_id", "")
            message.detail.receipt_number = detail.get("receipt_number", "")
            message.detail.note = detail.get("note", "")
            message.detail.activity_reference = detail.get("activity_reference", "")
            message.detail.identifier_id = detail.get("identifier", "")


def _rules(messages: Any, rules: Iterable[RulePoints], currency: str) -> None:
    for rule in rules:
        messages.add(rule=rule.rule, points=rule.points, reason=explain(rule, currency))


def _points_payment(message: entry_pb2.PointsPayment, payment: PointsPayment, currency: str) -> None:
    message.redemption_id = payment.redemption_id
    message.points = payment.points
    message.amount.currency_code = currency
    message.amount.minor_units = payment.amount


def _refund(response: Any, event: Event) -> None:
    """What a till hands out for what came back, and the points that had paid for it."""
    given_back = event.points_payment or PointsPayment("", 0, 0)
    response.refund_amount.currency_code = event.currency
    response.refund_amount.minor_units = event.amount - given_back.amount
    response.points_returned = given_back.points


def _hold(message: lot_pb2.Hold, event: Event) -> None:
    """What is left of a hold after an event of it."""
    message.hold_id = event.reference or event.request_id
    message.points = event.hold_left
    assert event.expire_time is not None, "an event of a hold says when it runs out"
    set_time(message.expire_time, event.expire_time)
