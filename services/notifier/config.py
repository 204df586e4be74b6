"""What the notifier reads from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.notifier.channels.email import Security
from services.programme import Programme, ProgrammeError, load
from services.runtime import config
from services.runtime.command import CommonConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierConfig(CommonConfig):
    """Where ledger, tiers and the mail server are; from whom mail comes; the file of the master key (base64).

    `smtp_*`: how the connection to the mail server is kept from others, whose certificates are trusted there, and by
    what it knows us. `unsubscribe_url`: the page of the retailer where messages are refused, with `{token}` in it;
    empty: mails have no such link. `webhook_networks`: addresses that are not of the internet to which events may go
    all the same, as 10.0.0.0/8; `webhook_authority`: whose certificates are trusted there beside those of everybody.
    `channel_adapters`: channels of the retailer's own, as sms=shop.sms:make.
    """

    ledger_address: str = config.setting()
    tiers_address: str = config.setting()
    smtp_host: str = config.setting()
    smtp_port: int = config.setting(minimum=1, maximum=65535)
    mail_from: str = config.setting()
    smtp_security: Security = config.setting(default=Security.OFFERED)
    smtp_authority: Path | None = config.setting(default=None)
    smtp_user: str = config.setting(default="")
    smtp_password_file: Path | None = config.setting(default=None)
    unsubscribe_url: str = config.setting(default="")
    webhook_networks: str = config.setting(default="")
    webhook_authority: Path | None = config.setting(default=None)
    channel_adapters: str = config.setting(default="")
    master_key_file: Path = config.setting()
    erasures_file: str = config.setting(default="")


def read_programme(settings: NotifierConfig) -> Programme:
    """The programme; raises ConfigurationError with all that is wrong with the file."""
    try:
        return load(settings.programme, applied=True)
    except ProgrammeError as error:
        raise config.ConfigurationError(str(error)) from None
