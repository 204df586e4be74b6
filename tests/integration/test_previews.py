"""What `loyalty preview --member` shows is what the member is sent."""

from __future__ import annotations

from pathlib import Path

from services.cli.previewing import Reader, _variant, written
from services.notifier.domain.contacts import Contact
from tests import messages_desk
from tests.campaign_desk import campaign_desk
from tests.conftest import Database
from tests.mail_server import mail_server

MESSAGE = "message: {subject: '{{ name }}', text: '%s: {{ tier }}, {{ points_balance }}, %s'}"
CAMPAIGNS = (
    f"{{id: thanks, trigger: purchase, variants: [{{id: a, share: '50', {MESSAGE % ('a', '')}}}, "
    f"{{id: b, share: '50', points: 5, {MESSAGE % ('b', '{{ points }}')}}}]}}",
    f"{{id: fallen, trigger: tier_lost, tiers: [regular, star], {MESSAGE % ('fallen', '{{ previous_tier }}')}}}",
)
MEMBERS = [f"m-{number}" for number in range(6)]


async def test_a_preview_for_a_member_shows_what_the_member_is_sent(database: Database, tmp_path: Path) -> None:
    async with campaign_desk(database, CAMPAIGNS) as desk, mail_server(tmp_path / "mail") as mail:
        post = messages_desk.Desk(
            database=database, store=desk.store, programme=desk.programme, channels={}, now=desk.machine_now
        )
        channel = post.email(mail.port)
        await desk.join(*MEMBERS)
        for member_id in MEMBERS:
            await post.contact(member_id)
            await desk.change(member_id, 1, 3)
            await desk.buy(member_id, available=550)
            await desk.change(member_id, 3, 2)
        await post.worker.deliver_due()
        await channel._server.close()
        sent = {(one["X-Mailbox-To"].partition("@")[0], one.get_content().strip()) for one in mail.messages()}
    shown = set()
    for campaign in desk.programme.campaigns:
        for member_id in MEMBERS:
            reader = Reader(
                member_id=member_id,
                contact=Contact(name="Ann"),
                tier_number=3,
                points=550,
                now=desk.business_now,
            )
            variant, _ = _variant(campaign, "", member_id)
            shown.add((member_id, written(desk.programme, campaign, variant, reader).text.strip()))
    assert sent == shown
    assert {text.partition(":")[0] for _, text in shown} == {"a", "b", "fallen"}
