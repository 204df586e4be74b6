"""E-mail: a message is written with the standard library's own header rules, and handed to one mail server by SMTP.

Connections are kept and used again. What a server says is boiled down to its reply code: its words may repeat the
address.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from typing import Any, Final

import aiosmtplib

from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Outcome, Verdict
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import ContactError, InstallationError, MailServerError, VersionsAwaitedError
from services.programme import Metric, Offer, Programme, format_percent, render
from services.runtime.clock import MachineClock

# One server's connections; more would only wait for each other.
CONNECTIONS: Final = 8
_OPEN_SECONDS: Final = 15.0
_SEND_SECONDS: Final = 30.0
# Servers drop a connection that says nothing for some minutes; one as old as this is not trusted with a message.
_IDLE_SECONDS: Final = 20.0
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A message ready to send: envelope and content. The repr shows nothing."""

    sender: str
    recipient: str
    content: bytes

    def __repr__(self) -> str:
        return "Mail(...)"


class Composer:
    """Writes the e-mails of a programme, from one sender."""

    def __init__(self, *, programmes: Programmes, mail_from: str) -> None:
        """`mail_from` is an address, or a name and an address: `Shop <shop@example.com>`; else InstallationError."""
        self._programmes = programmes
        self._from, self._sender = _sender(mail_from)

    def compose(self, due: DueDelivery, contact: Contact, now: datetime) -> Mail:
        """The e-mail of a message, in the words of its campaign, as they were when its coupon was issued.

        Raises ContactError, LookupError (no such campaign), VersionsAwaitedError (none that is known so far).

        The Message-ID is the same at every try, so that a receiver can tell a repeated one.
        """
        coupon, letter = due.coupon, due.letter
        programme = self._programmes.at(coupon.issued_time)
        campaign = next((one for one in programme.campaigns if one.id == coupon.campaign_id), None)
        if campaign is None:
            raise LookupError if self._programmes.asked else VersionsAwaitedError
        contact.check()
        recipient = contact.address()
        words = render(
            campaign.message.within(""),
            {
                "member_id": coupon.member_id,
                "name": contact.name,
                "tier": str(letter.facts["tier"]),
                "previous_tier": str(letter.facts["previous_tier"]),
                "balance": _balance(programme, int(letter.facts["balance"])),
                "code": coupon.code,
                "discount": describe_offer(programme, coupon.offer),
                "valid_until": programme.local_day(coupon.valid_until_time).isoformat(),
                "currency": programme.currency,
                "programme": programme.name,
            },
        )
        message = EmailMessage(policy=SMTP_POLICY)
        try:
            # A header that was parsed once is taken as it is.
            message["From"] = self._from
            message["To"] = recipient
            message["Subject"] = words.subject
            message["Date"] = now
            message["Message-ID"] = f"<{letter.delivery_id}@{self._sender.domain}>"
            message["Auto-Submitted"] = "auto-generated"
            encoding = None if words.text.isascii() else "quoted-printable"
            message.set_content(words.text, cte=encoding)
            content = message.as_bytes()
        except (MessageError, ValueError):
            raise ContactError("contact", "the e-mail cannot be written with this name and address") from None
        return Mail(sender=self._sender.addr_spec, recipient=recipient.addr_spec, content=content)

    @property
    def domain(self) -> str:
        """The sender's domain: by this name the mail server is greeted."""
        return self._sender.domain


class MailServer:
    """One SMTP server, over connections that are kept."""

    def __init__(self, *, host: str, port: int, greeting: str) -> None:
        self._host = host
        self._port = port
        self._greeting = greeting
        self._idle: list[tuple[float, aiosmtplib.SMTP]] = []
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def send(self, mail: Mail) -> Outcome:
        """Hands one message over and says what came of it.

        Raises MailServerError where no connection can be opened: then the server has seen nothing of the message.
        """
        async with self._connection() as connection:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await connection.sendmail(mail.sender, [mail.recipient], mail.content)
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                if not _goes_on(error):
                    connection.close()
                return _outcome(error)
        return Outcome(verdict=Verdict.TAKEN)

    async def close(self) -> None:
        """Takes leave of the server."""
        while self._idle:
            _, connection = self._idle.pop()
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await connection.quit(timeout=1)
            connection.close()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        loop = asyncio.get_running_loop()
        async with self._places:
            connection = self._kept(loop.time()) or await self._open()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            if connection.is_connected:
                self._idle.append((loop.time(), connection))

    def _kept(self, now: float) -> aiosmtplib.SMTP | None:
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_connected and now - since < _IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _open(self) -> aiosmtplib.SMTP:
        connection = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, local_hostname=self._greeting, timeout=_SEND_SECONDS
        )
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await connection.connect()
                await connection.ehlo()
        except aiosmtplib.SMTPResponseException as error:
            connection.close()
            raise MailServerError(f"the mail server turned us away: {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            connection.close()
            raise MailServerError from None
        return connection


class EmailChannel:
    """Messages as e-mails over one mail server."""

    def __init__(self, *, composer: Composer, server: MailServer, machine_now: MachineClock) -> None:
        self._composer = composer
        self._server = server
        self._machine_now = machine_now

    async def deliver(self, due: DueDelivery, contact: Contact) -> Outcome:
        """Writes and sends one message; raises MailServerError, ContactError, LookupError, before it was sent."""
        return await self._server.send(self._composer.compose(due, contact, self._machine_now()))


def _balance(programme: Programme, balance: int) -> str:
    """`1234.00 USD`, or `1,234` where the metric is no money."""
    return programme.format_money(balance) if programme.tiers.metric is Metric.NET_SPEND else f"{balance:,}"


def describe_offer(programme: Programme, offer: Offer) -> str:
    """What a coupon is worth, for people: `5 %`, `10.00 USD`."""
    if offer.percent_bp is not None:
        return format_percent(offer.percent_bp)
    return programme.format_money(offer.amount) if offer.amount is not None else offer.detail or offer.sku


def _goes_on(error: Exception) -> bool:
    """Whether the server has answered, and the connection can take the next message. 421 is a farewell."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code != 421 for refused in error.recipients)
    return isinstance(error, aiosmtplib.SMTPResponseException) and error.code != 421


def _outcome(error: Exception) -> Outcome:
    """What a failed try means: 5xx is for good, all else may pass."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            return _reply("the recipient was refused", error.recipients[0])
        case aiosmtplib.SMTPSenderRefused():
            return _reply("the sender was refused", error)
        case aiosmtplib.SMTPResponseException():
            return _reply("the message was refused", error)
        case aiosmtplib.SMTPNotSupported():
            return Outcome(verdict=Verdict.REFUSED, error="the mail server does not take such an address")
        case TimeoutError():
            return Outcome(verdict=Verdict.DEFERRED, error="the mail server did not answer in time")
        case _:
            return Outcome(verdict=Verdict.DEFERRED, error="the connection broke")


def _reply(what: str, error: aiosmtplib.SMTPResponseException) -> Outcome:
    enhanced = _ENHANCED_CODE.match(error.message)
    codes = f"{error.code} {enhanced.group()}" if enhanced else str(error.code)
    verdict = Verdict.REFUSED if 500 <= error.code < 600 else Verdict.DEFERRED
    return Outcome(verdict=verdict, error=f"{what}: {codes}")


def _sender(text: str) -> tuple[Any, Address]:
    """The From header and the address in it."""
    message = EmailMessage(policy=SMTP_POLICY)
    try:
        message["From"] = text
        (address,) = message["From"].addresses
    except (MessageError, ValueError, IndexError):
        address = Address()
    if not isinstance(address, Address) or not address.username or not address.domain or message["From"].defects:
        raise InstallationError(f"{text!r} is no address to send mail from, like `Shop <shop@example.com>`")
    return message["From"], address
