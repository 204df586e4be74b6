"""Members whole, goodwill, exports and erasures: the contract's messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import privacy_pb2, survey_pb2

from services.notifier.domain.deliveries import Delivery
from services.notifier.errors import PeerError
from services.notifier.rpc.calls import Context, Methods, acting_principal, stamp
from services.notifier.rpc.preferences import consent_message
from services.notifier.rpc.rewards import coupon_message
from services.notifier.service.members import masked
from services.runtime.causality import parse_token
from services.runtime.identity import current_caller
from services.runtime.interceptors import seconds_to_wait
from services.runtime.status import InvalidFieldError

_SERVICE = "/loyalty.notifier.v1.NotifierService"
_READS_CONTACTS = "contacts.read"


class PrivacyMethods(Methods):
    """What NotifierService does for those who help members, and for members who ask what is kept of them."""

    async def GetMemberView(  # the contract's name
        self, request: privacy_pb2.GetMemberViewRequest, context: Context
    ) -> privacy_pb2.GetMemberViewResponse:
        """Shows a member whole."""
        member_id = request.member_id
        if bool(member_id) == request.HasField("identifier"):
            raise InvalidFieldError("member_id", "either this or an identifier is given, and not both")
        caller = current_caller.get()
        if not member_id:
            sought = request.identifier
            member_id = await self._do.members.look_up(sought.kind, sought.value, acting_principal())
        whole = caller.scopes is None or _READS_CONTACTS in caller.scopes
        shown = await self._do.members.view(
            member_id, request.causal_token, parse_token(request.causal_token), seconds_to_wait(context)
        )
        await self._audit.read(caller, f"{_SERVICE}/GetMemberView", {member_id})
        contact = shown.contact
        return privacy_pb2.GetMemberViewResponse(
            view=privacy_pb2.MemberView(
                member=shown.member,
                name=contact.name if whole else masked(contact.name),
                email=contact.email if whole else "",
                phone=contact.phone if whole else "",
                standing=shown.standing,
                standing_lines=shown.standing_lines,
                purchases=shown.purchases,
                coupons=[coupon_message(coupon, state, self._currency) for coupon, state in shown.coupons],
                messages=[_line(message) for message in shown.messages] if whole else [],
                consents=[consent_message(choice) for choice in shown.consents] if whole else [],
                badges=[
                    privacy_pb2.MemberBadge(
                        badge_id=badge.badge_id,
                        name=name,
                        campaign_id=badge.campaign_id,
                        given_time=stamp(badge.given_time),
                    )
                    for badge, name in shown.badges
                ],
                answers=[
                    survey_pb2.SurveyAnswer(
                        survey_id=answer.survey_id,
                        score=answer.score,
                        choice=answer.choice if answer.score is None else None,
                        comment=comment,
                        source=answer.source,
                        answered_time=stamp(answer.answered_time),
                    )
                    for answer, comment in shown.answers
                ]
                if whole
                else [],
                goodwill_points_this_month=shown.goodwill_this_month,
                missing_parts=shown.missing,
            )
        )

    async def GrantGoodwill(  # the contract's name
        self, request: privacy_pb2.GrantGoodwillRequest, context: Context
    ) -> privacy_pb2.GrantGoodwillResponse:
        """Gives points as goodwill."""
        try:
            left, replayed, token = await self._do.members.grant(
                request_id=request.request_id,
                member_id=request.member_id,
                points=request.points,
                reason=request.reason,
                principal=acting_principal(),
            )
        except PeerError:
            # It is kept, and given when the ledger answers.
            await self._audit.acted(current_caller.get(), f"{_SERVICE}/GrantGoodwill", {request.member_id})
            raise
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/GrantGoodwill", {request.member_id})
        return privacy_pb2.GrantGoodwillResponse(points_left_this_month=left, replayed=replayed, causal_token=token)

    async def ExportMember(  # the contract's name
        self, request: privacy_pb2.ExportMemberRequest, context: Context
    ) -> privacy_pb2.ExportMemberResponse:
        """Hands out everything that is kept about a member."""
        page = await self._do.privacy.export(
            member_id=request.member_id, page_size=request.page_size, page_token=request.page_token
        )
        await self._audit.read(current_caller.get(), f"{_SERVICE}/ExportMember", {request.member_id})
        return privacy_pb2.ExportMemberResponse(
            holdings=[
                privacy_pb2.Holding(
                    category=holding.category,
                    description=holding.description,
                    purpose=holding.purpose,
                    recipients=holding.recipients,
                    retention=holding.retention,
                )
                for holding in page.holdings
            ],
            records=[privacy_pb2.ExportedRecord(category=one.category, json=one.json) for one in page.records],
            next_page_token=page.next_page_token,
        )

    async def EraseMember(  # the contract's name
        self, request: privacy_pb2.EraseMemberRequest, context: Context
    ) -> privacy_pb2.EraseMemberResponse:
        """Forgets a member in all services."""
        erased_time, replayed = await self._do.privacy.erase(
            request_id=request.request_id,
            member_id=request.member_id,
            reason=request.reason or "asked",
            principal=acting_principal(),
        )
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/EraseMember", {request.member_id})
        return privacy_pb2.EraseMemberResponse(
            erased_time=None if erased_time is None else stamp(erased_time), replayed=replayed
        )


def _line(message: Delivery) -> privacy_pb2.MessageLine:
    return privacy_pb2.MessageLine(
        delivery_id=message.delivery_id,
        campaign_id=message.campaign_id,
        state=message.state.value,
        created_time=stamp(message.created_time),
    )
