"""Campaigns and segments: messages in and out."""

from __future__ import annotations

from datetime import date

from loyalty.notifier.v1 import campaign_pb2
from loyalty.type.v1 import money_pb2

from services.notifier.domain.assignments import Spent
from services.notifier.errors import FieldError
from services.notifier.rpc.calls import Context, Methods, stamp
from services.notifier.service.campaigns import CampaignView, Preview
from services.runtime.causality import parse_token
from services.runtime.identity import current_caller
from services.runtime.interceptors import seconds_to_wait

_SERVICE = "/loyalty.notifier.v1.NotifierService"


class CampaignMethods(Methods):
    """What NotifierService does with campaigns."""

    async def ListCampaigns(  # the contract's name
        self, request: campaign_pb2.ListCampaignsRequest, context: Context
    ) -> campaign_pb2.ListCampaignsResponse:
        """Lists campaigns."""
        views = await self._do.campaigns.list_campaigns()
        return campaign_pb2.ListCampaignsResponse(campaigns=[self._campaign(view) for view in views])

    async def PreviewCampaign(  # the contract's name
        self, request: campaign_pb2.PreviewCampaignRequest, context: Context
    ) -> campaign_pb2.PreviewCampaignResponse:
        """Says who would get what."""
        try:
            day = date.fromisoformat(request.day) if request.day else None
        except ValueError:
            raise FieldError("day", "there is no such day") from None
        seen = await self._do.campaigns.preview(request.campaign_id, day=day, sample=request.sample_size)
        shown = {one.member_id for one in seen.sample}
        await self._audit.read(current_caller.get(), f"{_SERVICE}/PreviewCampaign", shown)
        return self._preview(seen)

    async def PauseCampaign(  # the contract's name
        self, request: campaign_pb2.PauseCampaignRequest, context: Context
    ) -> campaign_pb2.PauseCampaignResponse:
        """Stops a campaign."""
        view = await self._do.campaigns.pause(request.campaign_id)
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/PauseCampaign", ())
        return campaign_pb2.PauseCampaignResponse(campaign=self._campaign(view))

    async def ResumeCampaign(  # the contract's name
        self, request: campaign_pb2.ResumeCampaignRequest, context: Context
    ) -> campaign_pb2.ResumeCampaignResponse:
        """Lets a campaign go on."""
        view = await self._do.campaigns.resume(request.campaign_id)
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/ResumeCampaign", ())
        return campaign_pb2.ResumeCampaignResponse(campaign=self._campaign(view))

    async def UpdateSegment(  # the contract's name
        self, request: campaign_pb2.UpdateSegmentRequest, context: Context
    ) -> campaign_pb2.UpdateSegmentResponse:
        """Puts members into a segment, and takes others out."""
        entered = await self._do.campaigns.update_segment(
            request.segment,
            add=request.add_member_ids,
            remove=request.remove_member_ids,
            after=parse_token(request.causal_token),
            wait_seconds=seconds_to_wait(context),
        )
        told = {*request.add_member_ids, *request.remove_member_ids}
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/UpdateSegment", told)
        return campaign_pb2.UpdateSegmentResponse(
            added=entered.added, unknown=len(entered.unknown), unknown_member_ids=entered.unknown
        )

    def _campaign(self, view: CampaignView) -> campaign_pb2.Campaign:
        campaign, budget = view.campaign, view.campaign.budget
        limits = (("count", budget.count), ("points", budget.points), ("amount", budget.minor_units))
        return campaign_pb2.Campaign(
            campaign_id=campaign.id,
            trigger=campaign.trigger.kind.value,
            state=_state(view, self._do.campaigns.today),
            paused_time=None if view.paused_time is None else stamp(view.paused_time),
            groups=[
                campaign_pb2.CampaignGroup(
                    variant=count.variant,
                    in_control=count.in_control,
                    given=self._sum(Spent(count=count.given, points=count.points, minor_units=count.minor_units)),
                )
                for count in sorted(view.counts, key=lambda count: (count.variant, count.in_control))
            ],
            given=self._sum(view.given),
            limited=[name for name, limit in limits if limit is not None],
            left=self._sum(view.left),
        )

    def _preview(self, seen: Preview) -> campaign_pb2.PreviewCampaignResponse:
        given = [spent for (_, in_control, _), spent in seen.groups.items() if not in_control]
        return campaign_pb2.PreviewCampaignResponse(
            groups=[
                campaign_pb2.CampaignGroup(
                    variant=variant, in_control=in_control, tier=tier, given=self._sum(seen.groups[key])
                )
                for key in sorted(seen.groups)
                for variant, in_control, tier in [key]
            ],
            given=self._sum(
                Spent(
                    count=sum(one.count for one in given),
                    points=sum(one.points for one in given),
                    minor_units=sum(one.minor_units for one in given),
                )
            ),
            sample=[
                campaign_pb2.CampaignMember(
                    member_id=one.member_id, tier=one.tier, variant=one.variant, in_control=one.in_control
                )
                for one in seen.sample
            ],
            members_looked_at=seen.looked_at,
            complete=seen.complete,
        )

    def _sum(self, spent: Spent) -> campaign_pb2.CampaignSum:
        amount = money_pb2.Money(currency_code=self._currency, minor_units=spent.minor_units)
        return campaign_pb2.CampaignSum(count=spent.count, points=spent.points, amount=amount)


def _state(view: CampaignView, today: date) -> campaign_pb2.CampaignState:
    if view.paused_time is not None:
        return campaign_pb2.CAMPAIGN_STATE_PAUSED
    if not view.campaign.runs_on(today):
        return campaign_pb2.CAMPAIGN_STATE_OUT_OF_SEASON
    return campaign_pb2.CAMPAIGN_STATE_RUNNING
