"""What the notifier reads from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.programme import Programme, ProgrammeError, load
from services.runtime import config
from services.runtime.command import CommonConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierConfig(CommonConfig):
    """Where ledger, tiers and the mail server are; from whom mail comes; the file of the master key (base64)."""

    ledger_address: str = config.setting()
    tiers_address: str = config.setting()
    smtp_host: str = config.setting()
    smtp_port: int = config.setting(minimum=1, maximum=65535)
    mail_from: str = config.setting()
    master_key_file: Path = config.setting()


def read_programme(settings: NotifierConfig) -> Programme:
    """The programme; raises ConfigurationError with all that is wrong with the file."""
    try:
        return load(settings.programme)
    except ProgrammeError as error:
        raise config.ConfigurationError(str(error)) from None
