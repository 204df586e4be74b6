"""E-mail: a message is written with the standard library's own header rules, and handed to one mail server by SMTP.

Connections are kept and used again. What a server says is boiled down to its reply code: its words may repeat the
address.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from pathlib import Path
from typing import Any, Final

import aiosmtplib

from services.notifier.channels.adapter import Addressee
from services.notifier.channels.words import Words
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Outcome, Verdict
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FieldError, InstallationError, MailServerError
from services.notifier.links import Refusal, UnsubscribeLinks
from services.programme.messages import EMAIL, Consent
from services.runtime.clock import MachineClock

# One server's connections; more would only wait for each other.
CONNECTIONS: Final = 8
_OPEN_SECONDS: Final = 15.0
_SEND_SECONDS: Final = 30.0
# Servers drop a connection that says nothing for some minutes; one as old as this is not trusted with a message.
_IDLE_SECONDS: Final = 20.0
_LEASED: Final = 200
# No mailbox, no domain, no such address, moved, takes no mail at all, disabled (RFC 3463, RFC 7505).
_NO_SUCH_ADDRESS: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_TURNED_US_AWAY: Final = "the mail server turned us away"
# What is said of the sender alone: that it must log in or use TLS (530, 535), or is none that may send (550, 553, 554).
_TURNED_AWAY: Final = frozenset({530, 535, 550, 553, 554})
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


class _Verbatim(UnstructuredHeader, BaseHeader):
    """A header that stays on one line, as it is: a long link in encoded words is none to a mail program (RFC 2369)."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _Verbatim)
_POLICY: Final = SMTP.clone(header_factory=_HEADERS)


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

    def __init__(self, *, programmes: Programmes, mail_from: str, links: UnsubscribeLinks | None = None) -> None:
        """`mail_from` is an address, or a name and an address: `Shop <shop@example.com>`; else InstallationError."""
        self._programmes = programmes
        self._words = Words(programmes)
        self._links = links
        self._from, self._sender = _sender(mail_from)

    def compose(self, due: DueDelivery, contact: Contact, now: datetime) -> Mail:
        """The e-mail of a message, in the words of its campaign, as they were when it was made.

        Raises FieldError, LookupError (no such campaign), VersionsAwaitedError (none that is known so far).

        The Message-ID is the same at every try, so that a receiver can tell a repeated one.
        """
        link = self._link(due)
        words = self._words.write(due, contact, unsubscribe_url=link)
        contact.check(now.date())
        recipient = contact.address()
        message = EmailMessage(policy=_POLICY)
        try:
            # A header that was parsed once is taken as it is.
            message["From"] = self._from
            message["To"] = recipient
            message["Subject"] = words.subject
            message["Date"] = now
            message["Message-ID"] = f"<{due.delivery_id}@{self._sender.domain}>"
            message["Auto-Submitted"] = "auto-generated"
            if link:
                # RFC 8058: the member's own program unsubscribes, without a page.
                message["List-Unsubscribe"] = f"<{link}>"
                message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
            message.set_content(words.text, cte=_encoding(words.text))
            if words.html:
                message.add_alternative(words.html, subtype="html", cte=_encoding(words.html))
                # By chance alone it would be another at every try.
                message.set_boundary(f"={due.delivery_id}=")
            content = message.as_bytes()
        except (MessageError, ValueError):
            raise FieldError("contact", "the e-mail cannot be written with this name and address") from None
        return Mail(sender=self._sender.addr_spec, recipient=recipient.addr_spec, content=content)

    def _link(self, due: DueDelivery) -> str:
        """Where the member refuses what this is about; empty where that cannot be refused."""
        message = due.message
        topic = self._programmes.at(message.created_time).messages.topic(message.topic)
        if self._links is None or topic.consent is Consent.ALWAYS:
            return ""
        return self._links.link(Refusal(member_id=message.member_id, channel=EMAIL, topic=topic.id))

    @property
    def domain(self) -> str:
        """The sender's domain: by this name the mail server is greeted."""
        return self._sender.domain


class Security(enum.StrEnum):
    """How the connection to the mail server is kept from others. Certificates are verified wherever there are any."""

    NONE = "none"
    OFFERED = "offered"
    """By STARTTLS where the server offers it."""
    STARTTLS = "starttls"
    """By STARTTLS, or not at all."""
    TLS = "tls"
    """From the first byte on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """By what the mail server knows us. The repr shows nothing."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(...)"


class MailServer:
    """One SMTP server, over connections that are kept."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        greeting: str,
        security: Security = Security.OFFERED,
        authority: Path | None = None,
        login: Login | None = None,
    ) -> None:
        """`authority`: whose certificates are trusted, where it is not one that everybody trusts. Raises
        InstallationError where a password would go over the wire for all to read, and for a file without a certificate.
        """
        if login is not None and security not in (Security.STARTTLS, Security.TLS):
            raise InstallationError("a mail server is told a password by starttls or tls alone")
        self._host = host
        self._port = port
        self._greeting = greeting
        self._security = security
        self._login = login
        try:
            self._tls = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError):
            raise InstallationError(f"the file {authority} holds no certificate") from None
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._idle: list[tuple[float, aiosmtplib.SMTP]] = []
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def send(self, mail: Mail) -> Outcome:
        """Hands one message over and says what came of it.

        Raises MailServerError where no connection can be opened, or the server takes nothing from our sender: then it
        has seen nothing of the message.
        """
        async with self._connection() as connection:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await connection.sendmail(mail.sender, [mail.recipient], mail.content)
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                if isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code in _TURNED_AWAY:
                    # The next message would fare no better.
                    raise MailServerError(_reply(_TURNED_US_AWAY, error).error) from None
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
            hostname=self._host,
            port=self._port,
            local_hostname=self._greeting,
            timeout=_SEND_SECONDS,
            use_tls=self._security is Security.TLS,
            start_tls={Security.OFFERED: None, Security.STARTTLS: True}.get(self._security, False),
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await connection.connect()
                await connection.ehlo()
                if self._login is not None:
                    await connection.login(self._login.user, self._login.password)
        except aiosmtplib.SMTPResponseException as error:
            connection.close()
            raise MailServerError(f"{_TURNED_US_AWAY}: {error.code}") from None
        except ssl.SSLError:
            connection.close()
            raise MailServerError("the mail server's certificate is not one that we trust") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            connection.close()
            if isinstance(error.__cause__, ssl.SSLError):
                raise MailServerError("the mail server's certificate is not one that we trust") from None
            raise MailServerError from None
        return connection


class EmailChannel:
    """Messages as e-mails over one mail server."""

    leased = _LEASED
    senders = CONNECTIONS

    def __init__(self, *, composer: Composer, server: MailServer, machine_now: MachineClock) -> None:
        self._composer = composer
        self._server = server
        self._machine_now = machine_now

    def address(self, contact: Contact) -> str:
        """The e-mail address."""
        return contact.email

    async def deliver(self, due: DueDelivery, to: Addressee) -> Outcome:
        """Writes and sends one message; raises MailServerError, FieldError, LookupError, before it was sent."""
        assert to.contact is not None
        return await self._server.send(self._composer.compose(due, to.contact, self._machine_now()))


def _encoding(text: str) -> str | None:
    return None if text.isascii() else "quoted-printable"


def _goes_on(error: Exception) -> bool:
    """Whether the server has answered, and the connection can take the next message. 421 is a farewell."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code != 421 for refused in error.recipients)
    return isinstance(error, aiosmtplib.SMTPResponseException) and error.code != 421


def _outcome(error: Exception) -> Outcome:
    """What a failed try means: 5xx is for good, all else may pass."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            reply = _reply("the recipient was refused", error.recipients[0])
            unknown = _ENHANCED_CODE.match(error.recipients[0].message)
            if reply.verdict is Verdict.REFUSED and unknown is not None and unknown.group() in _NO_SUCH_ADDRESS:
                return replace(reply, suppress=reply.error)
            return reply
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
    message = EmailMessage(policy=_POLICY)
    try:
        message["From"] = text
        (address,) = message["From"].addresses
    except (MessageError, ValueError, IndexError):
        address = Address()
    if not isinstance(address, Address) or not address.username or not address.domain or message["From"].defects:
        raise InstallationError(f"{text!r} is no address to send mail from, like `Shop <shop@example.com>`")
    return message["From"], address
