"""The channels of an installation, as its settings say."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.notifier.channels.adapter import AdaptedChannel, Channel, load_adapters
from services.notifier.channels.email import Composer, EmailChannel, Login, MailServer
from services.notifier.channels.log import LogChannel
from services.notifier.channels.webhooks import WebhookChannel, read_networks
from services.notifier.channels.words import Words
from services.notifier.config import NotifierConfig
from services.notifier.domain.programmes import Programmes
from services.notifier.endpoint_secrets import EndpointSecrets
from services.notifier.errors import InstallationError
from services.notifier.links import UnsubscribeLinks
from services.programme.messages import EMAIL, LOG, WEBHOOK
from services.runtime.clock import MachineClock
from services.runtime.config import read_secret


def open_channels(
    settings: NotifierConfig,
    *,
    programmes: Programmes,
    links: UnsubscribeLinks,
    secrets: EndpointSecrets,
    stack: AsyncExitStack,
    machine_now: MachineClock,
) -> dict[str, Channel]:
    """The channels by name; what they open is closed by the stack. Raises InstallationError for a wrong setting."""
    composer = Composer(programmes=programmes, mail_from=settings.mail_from, links=links)
    server = MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        greeting=composer.domain,
        security=settings.smtp_security,
        authority=settings.smtp_authority,
        login=_login(settings),
    )
    stack.push_async_callback(server.close)
    webhooks = WebhookChannel(
        secrets=secrets,
        networks=read_networks(settings.webhook_networks),
        authority=settings.webhook_authority,
        machine_now=machine_now,
    )
    stack.push_async_callback(webhooks.close)
    words = Words(programmes)
    return {
        EMAIL: EmailChannel(composer=composer, server=server, machine_now=machine_now),
        WEBHOOK: webhooks,
        LOG: LogChannel(),
        **{name: AdaptedChannel(adapter, words) for name, adapter in load_adapters(settings.channel_adapters).items()},
    }


def _login(settings: NotifierConfig) -> Login | None:
    if not settings.smtp_user and settings.smtp_password_file is None:
        return None
    if not settings.smtp_user or settings.smtp_password_file is None:
        raise InstallationError("LOYALTY_SMTP_USER and LOYALTY_SMTP_PASSWORD_FILE are set together, or neither is")
    return Login(user=settings.smtp_user, password=read_secret(settings.smtp_password_file))
