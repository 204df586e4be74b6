"""Campaigns behind a real ledger and real tiers: points arrive, time and versions bring what they should."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import grpc
import pytest
import pytest_asyncio
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.notifier.v1 import campaign_pb2, survey_pb2
from loyalty.notifier.v1 import notifier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.clock import ClockMode
from tests.campaign_desk import HEAD
from tests.conftest import Database, StartLedger
from tests.integration.test_notifier_service import SECONDS, Installation, Till, reason_of, stamp
from tests.mail_server import mail_server

DAY = datetime(2024, 2, 1, 12, tzinfo=UTC)
PLAIN = """\
  - id: hello
    trigger: tier_reached
    tiers: [star]
    coupon: {prefix: STAR, discount_percent: "5", valid: P30D}
"""
RICH = (
    PLAIN
    + """\
  - {id: welcome, trigger: first_purchase, points: 50, lasting: P15D}
  - {id: toys, trigger: purchase, when: {departments: [Toys], stores: [s-1]}, points: 7}
  - {id: threshold, trigger: points_reached, when: {points: 340}, badge: explorer}
  - {id: asleep, trigger: inactivity, when: {after: P20D}, points: 3}
  - {id: careful, trigger: tier_at_risk, tiers: [regular], when: {before: P14D}, points: 4}
  - {id: lapsing, trigger: points_expiring, when: {before: P10D}, points: 6}
  - {id: news, trigger: programme_change, points: 1}
"""
)


@pytest.fixture
def text() -> str:
    """The programme, where a test says nothing else."""
    return HEAD + RICH


@pytest_asyncio.fixture
async def installation(
    start_ledger: StartLedger, database: Database, folder: Path, token_file: Path, text: str
) -> AsyncIterator[Installation]:
    programme = folder / "programme.yaml"
    programme.write_text(text, encoding="utf-8")
    (folder / "master-key").write_text(base64.b64encode(b"m" * 32).decode() + "\n")
    till = Till(await start_ledger(programme=programme, partitions=4, clock=ClockMode.SIMULATED))
    async with contextlib.AsyncExitStack() as stack:
        mail = await stack.enter_async_context(mail_server(folder / "mail"))
        made = Installation(
            database=database,
            folder=folder,
            token_file=token_file,
            mail=mail,
            till=till,
            stack=stack,
            programme=programme,
        )
        await made.start_tiers()
        yield made


async def buy(till: Till, member_id: str, minor_units: int, time: datetime, **more: object) -> str:
    request = ledger_pb.RecordPurchaseRequest(
        request_id=f"{member_id}:{time.isoformat()}",
        member_id=member_id,
        occurred_time=stamp(time),
        amount=Money(currency_code="EUR", minor_units=minor_units),
        **more,  # type: ignore[arg-type]
    )
    return (await till.stub.RecordPurchase(request, timeout=SECONDS)).causal_token


async def available(till: Till, member_id: str) -> int:
    answer = await till.stub.GetBalance(ledger_pb.GetBalanceRequest(member_id=member_id), timeout=SECONDS)
    return int(answer.balance.available_points)


async def until_available(till: Till, member_id: str, points: int) -> None:
    """Points are asked for after the fact: in no time, but not at once."""
    async with asyncio.timeout(SECONDS):
        while (found := await available(till, member_id)) != points:
            assert found <= points, (found, points)
            await asyncio.sleep(0.05)


async def given(installation: Installation) -> set[tuple[str, str, str]]:
    connection = await asyncpg.connect(installation.database.dsn("loyalty_owner"))
    try:
        rows = await connection.fetch("SELECT campaign_id, member_id, trigger FROM notifier.assignments")
        return {tuple(row) for row in rows}
    finally:
        await connection.close()


async def test_purchases_and_time_bring_points_to_the_ledger_once(installation: Installation) -> None:
    till = installation.till
    notifier = await installation.start()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    token = await buy(till, "m-1", 30000, DAY + timedelta(hours=1))
    await notifier.deliveries(token)
    # 300 for the purchase, 50 for its being the first; so more than 340, once the award is back from the ledger.
    await until_available(till, "m-1", 350)
    line = ledger_pb.Line(sku="bear", department="Toys", quantity=1, amount_minor_units=1000)
    token = await buy(till, "m-1", 1000, DAY + timedelta(hours=2), lines=[line], store_id="s-1")
    await notifier.deliveries(token)
    await until_available(till, "m-1", 367)
    assert await given(installation) >= {("welcome", "m-1", "first"), ("threshold", "m-1", "points:2024")}
    # 20 days later nobody has seen the member; from then on each day brings nothing more.
    for days in (4, 5, 6, 19, 20, 21, 25):
        await notifier.deliveries(await till.advance(DAY + timedelta(days=days, hours=1)))
    # The 50 lasted for their own 15 days; that they would lapse brought 6.
    await until_available(till, "m-1", 326)
    # What was bought on 1 February 2024 counts until 31 January 2025.
    for days in range(340, 366):
        await notifier.deliveries(await till.advance(DAY + timedelta(days=days)))
    found = await given(installation)
    assert ("careful", "m-1", "risk:regular:2025-01-31") in found
    assert {trigger for campaign, _, trigger in found if campaign == "lapsing"} >= {
        "expiring:2024-02-16",
        "expiring:2025-02-01",
    }
    campaigns = (await notifier.stub.ListCampaigns(campaign_pb2.ListCampaignsRequest(), timeout=SECONDS)).campaigns
    counts = {campaign.campaign_id: campaign.given.count for campaign in campaigns}
    assert counts["welcome"] == counts["toys"] == counts["asleep"] == counts["careful"] == 1
    assert await installation.differences() == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD
        + """\
  - id: welcome
    trigger: first_purchase
    points: 5
    coupon: {prefix: HI, gift_card: "5.00", valid: P30D}
    message: {subject: "Welcome, {{ name }}", text: "Take {{ code }} until {{ valid_until }}."}
  - id: cake
    trigger: birthday
    message: {subject: "Happy birthday", text: "All the best, {{ name }}."}
"""
    ],
)
async def test_what_campaigns_say_arrives_by_mail(installation: Installation) -> None:
    till = installation.till
    notifier = await installation.start()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    contact = pb.Contact(name="Ann", email="ann@example.com", birth_date="1990-03-05")
    request = pb.SetContactRequest(request_id="c", member_id="m-1", contact=contact)
    await notifier.stub.SetContact(request, timeout=SECONDS)
    (delivery,) = await notifier.deliveries(await buy(till, "m-1", 1000, DAY + timedelta(hours=1)))
    await installation.mail.next_message()
    (welcome,) = installation.mail.messages()
    assert (delivery.campaign_id, welcome["Subject"]) == ("welcome", "Welcome, Ann")
    assert delivery.coupon_code in welcome.get_content()
    given_now = await notifier.deliveries(await till.advance(datetime(2024, 3, 5, 12, tzinfo=UTC)))
    assert {one.campaign_id for one in given_now} == {"welcome", "cake"}
    await installation.mail.next_message()
    assert {mail["Subject"] for mail in installation.mail.messages()} == {"Welcome, Ann", "Happy birthday"}
    assert await installation.differences() == []


@pytest.mark.parametrize("text", [HEAD + PLAIN])
async def test_a_version_that_asks_for_more_finds_what_was_before(installation: Installation) -> None:
    till = installation.till
    notifier = await installation.start()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await notifier.deliveries(await buy(till, "m-1", 30000, DAY + timedelta(hours=1)))
    rich = HEAD + PLAIN + "  - {id: second, trigger: nth_visit, when: {visits: 2}, points: 7}\n"
    switch = DAY + timedelta(hours=2)
    request = ledger_pb.ApplyProgrammeRequest(request_id="apply", document=rich, from_time=stamp(switch))
    await till.stub.ApplyProgramme(request, timeout=SECONDS)
    await notifier.deliveries(await buy(till, "m-1", 1000, switch + timedelta(hours=1)))
    assert await given(installation) == {("second", "m-1", "visit:2")}
    await until_available(till, "m-1", 317)
    assert await installation.differences() == []


async def test_campaigns_are_previewed_paused_and_resumed_over_the_contract(installation: Installation) -> None:
    till = installation.till
    notifier = await installation.start()
    await till.advance(DAY)
    for member_id in ("m-1", "m-2"):
        token = await till.enroll(member_id, DAY)
    await notifier.deliveries(token)
    await notifier.deliveries()
    preview = campaign_pb2.PreviewCampaignRequest(campaign_id="welcome")
    seen = await notifier.stub.PreviewCampaign(preview, timeout=SECONDS)
    assert (seen.given.count, seen.given.points, seen.complete) == (2, 100, True)
    assert {one.member_id for one in seen.sample} == {"m-1", "m-2"}
    pause = campaign_pb2.PauseCampaignRequest(campaign_id="welcome")
    paused = (await notifier.stub.PauseCampaign(pause, timeout=SECONDS)).campaign
    assert paused.state == campaign_pb2.CAMPAIGN_STATE_PAUSED
    await notifier.deliveries(await buy(till, "m-1", 1000, DAY + timedelta(hours=1)))
    assert await given(installation) == set()
    resume = campaign_pb2.ResumeCampaignRequest(campaign_id="welcome")
    running = (await notifier.stub.ResumeCampaign(resume, timeout=SECONDS)).campaign
    assert running.state == campaign_pb2.CAMPAIGN_STATE_RUNNING
    await notifier.deliveries(await buy(till, "m-2", 1000, DAY + timedelta(hours=2)))
    assert await given(installation) == {("welcome", "m-2", "first")}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await notifier.stub.PauseCampaign(campaign_pb2.PauseCampaignRequest(campaign_id="x"), timeout=SECONDS)
    assert reason_of(refused.value) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_UNKNOWN")
    assert await installation.done_by_hand() == [("PauseCampaign", ""), ("ResumeCampaign", "")]


async def test_a_version_that_is_announced_is_told_to_its_members(installation: Installation) -> None:
    till = installation.till
    await installation.start()
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    later = HEAD + RICH + "  - {id: cake, trigger: birthday, points: 1}\n"
    request = ledger_pb.ApplyProgrammeRequest(
        request_id="apply", document=later, from_time=stamp(DAY + timedelta(days=40))
    )
    await till.stub.ApplyProgramme(request, timeout=SECONDS)
    await until_available(till, "m-1", 1)
    ((campaign, member, trigger),) = await given(installation)
    assert (campaign, member) == ("news", "m-1")
    assert trigger.startswith("version:shop@")


async def test_segments_and_answers_come_over_the_contract(installation: Installation) -> None:
    till = installation.till
    notifier = await installation.start()
    await till.advance(DAY)
    await notifier.deliveries(await till.enroll("m-1", DAY))
    update = campaign_pb2.UpdateSegmentRequest(segment="vip", add_member_ids=["m-1"])
    assert (await notifier.stub.UpdateSegment(update, timeout=SECONDS)).added == 1
    assert (await notifier.stub.UpdateSegment(update, timeout=SECONDS)).added == 0
    update.causal_token = await till.enroll("m-2", DAY)
    update.add_member_ids.extend(["m-2", "nobody"])
    answered = await notifier.stub.UpdateSegment(update, timeout=SECONDS)
    assert (answered.added, answered.unknown, list(answered.unknown_member_ids)) == (1, 1, ["nobody"])
    segments = [("UpdateSegment", "m-1"), ("UpdateSegment", "m-1"), ("UpdateSegment", "m-1 m-2 nobody")]
    assert await installation.done_by_hand() == segments
    answer = campaign_pb2.RecordFeedbackRequest(
        request_id="f-1", member_id="m-1", survey_id="nps", score=9, source="app"
    )
    assert not (await notifier.stub.RecordFeedback(answer, timeout=SECONDS)).replayed
    assert (await notifier.stub.RecordFeedback(answer, timeout=SECONDS)).replayed
    asked = survey_pb2.GetSurveyResultsRequest(survey_id="nps", by=survey_pb2.SURVEY_PERIODS_VERSION)
    (period,) = (await notifier.stub.GetSurveyResults(asked, timeout=SECONDS)).periods
    assert (period.members, period.net_promoter_basis_points) == (1, 10000)
    assert not period.HasField("mean_star_hundredths")
    assert [(one.score, one.share_basis_points) for one in period.answers if one.members] == [(9, 10000)]
    assert (len(period.answers), period.HasField("from_time")) == (11, False)
    assert period.programme_version.startswith("shop@")
    answer.request_id = "f-2"
    answer.occurred_time.FromDatetime(datetime(2099, 1, 1, tzinfo=UTC))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await notifier.stub.RecordFeedback(answer, timeout=SECONDS)
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "OCCURRED_IN_FUTURE")
    answer.ClearField("occurred_time")
    answer.choice = "tea"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await notifier.stub.RecordFeedback(answer, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
