"""The e-mail channel against real SMTP servers: TLS, authentication, and all the ways in which one can fail."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from services.notifier.channels import email as email_module
from services.notifier.channels.email import Composer, Login, Mail, MailServer, Security
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Verdict
from services.notifier.domain.messages import Outgoing
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import InstallationError, MailServerError
from services.notifier.links import Refusal, UnsubscribeLinks
from tests.messages_desk import NOON, programme
from tests.tls import localhost_certificate

# The server's own words about its settings.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
]

MAIL = Mail(sender="shop@example.com", recipient="ann@example.com", content=b"Subject: x\r\n\r\ny\r\n")


@dataclass
class Taken:
    """What a server saw: messages with whether they came by TLS, and who logged in."""

    messages: list[tuple[bytes, bool]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    sessions: int = 0
    sender_reply: str = ""
    data_reply: str = ""
    hangs: bool = False
    breaks: bool = False

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.sender_reply:
            return self.sender_reply
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.breaks:
            server.transport.abort()
            return "421 gone"
        if self.data_reply:
            return self.data_reply
        self.messages.append((envelope.content, session.ssl is not None or _is_tls(server)))
        return "250 2.0.0 taken"

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"shop", b"secret")
        if right:
            self.users.append(data.login.decode())
        return AuthResult(success=right, handled=False)


def _is_tls(server: SMTP) -> bool:
    return server.transport is not None and server.transport.get_extra_info("ssl_object") is not None


@contextlib.asynccontextmanager
async def smtp_server(
    taken: Taken, *, implicit: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, login: bool = False
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        taken.sessions += 1
        made = SMTP(
            taken,
            hostname="localhost",
            loop=loop,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=taken.authenticate if login else None,
            auth_required=login,
            auth_require_tls=implicit is None and login,
        )
        sessions.append(made)
        return made

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=implicit)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in sessions:
            if one.transport is not None:
                one.transport.abort()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def client(port: int, **settings: Any) -> AsyncIterator[MailServer]:
    server = MailServer(host="localhost", port=port, greeting="example.com", **settings)
    try:
        yield server
    finally:
        await server.close()


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS, Security.OFFERED])
async def test_a_mail_goes_by_tls_over_a_connection_that_is_kept(tmp_path: Path, security: Security) -> None:
    tls, authority = localhost_certificate(tmp_path)
    taken = Taken()
    offered = {"implicit": tls} if security is Security.TLS else {"starttls": tls}
    async with smtp_server(taken, **offered) as port, client(port, security=security, authority=authority) as server:
        for _ in range(5):
            assert (await server.send(MAIL)).verdict is Verdict.TAKEN
    assert [by_tls for _, by_tls in taken.messages] == [True] * 5
    assert taken.sessions == 1


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_we_log_in_before_we_send_and_a_wrong_password_closes_the_channel(
    tmp_path: Path, security: Security
) -> None:
    tls, authority = localhost_certificate(tmp_path)
    taken = Taken()
    offered = {"implicit": tls} if security is Security.TLS else {"starttls": tls}
    async with smtp_server(taken, login=True, **offered) as port:
        async with client(
            port, security=security, authority=authority, login=Login(user="shop", password="secret")
        ) as server:
            assert (await server.send(MAIL)).verdict is Verdict.TAKEN
        assert taken.users == ["shop"]
        async with client(
            port, security=security, authority=authority, login=Login(user="shop", password="wrong")
        ) as server:
            with pytest.raises(MailServerError, match="turned us away: 535"):
                await server.send(MAIL)
    assert len(taken.messages) == 1


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS, Security.OFFERED])
async def test_a_certificate_that_is_not_trusted_or_is_anothers_is_told_nothing(
    tmp_path: Path, security: Security
) -> None:
    own, own_authority = localhost_certificate(tmp_path / "own")
    others, others_authority = localhost_certificate(tmp_path / "other", "mail.example.org")
    for tls, authority in ((own, None), (own, others_authority), (others, others_authority), (others, own_authority)):
        taken = Taken()
        offered = {"implicit": tls} if security is Security.TLS else {"starttls": tls}
        async with (
            smtp_server(taken, **offered) as port,
            client(port, security=security, authority=authority) as server,
        ):
            with pytest.raises(MailServerError, match="certificate is not one that we trust"):
                await server.send(MAIL)
        assert taken.messages == []


async def test_a_server_that_takes_nothing_from_our_sender_closes_the_channel_and_refuses_no_message(
    tmp_path: Path,
) -> None:
    """A wrong setting of ours, or of the server, must not make dead letters of all that waits."""
    tls, authority = localhost_certificate(tmp_path)
    taken = Taken()
    async with smtp_server(taken, login=True, starttls=tls) as port:
        for settings in ({"security": Security.NONE}, {"security": Security.STARTTLS, "authority": authority}):
            async with client(port, **settings) as server:
                with pytest.raises(MailServerError, match="turned us away: 530"):
                    await server.send(MAIL)
    async with smtp_server(taken) as port, client(port) as server:
        taken.sender_reply = "552 5.3.4 too long"
        outcome = await server.send(MAIL)
        assert (outcome.verdict, outcome.error) == (Verdict.REFUSED, "the sender was refused: 552 5.3.4")
        taken.sender_reply = "550 5.7.1 not you"
        with pytest.raises(MailServerError, match=r"turned us away: 550 5\.7\.1"):
            await server.send(MAIL)
        taken.sender_reply = ""
        assert (await server.send(MAIL)).verdict is Verdict.TAKEN


async def test_where_starttls_is_asked_for_a_server_without_it_is_told_nothing(tmp_path: Path) -> None:
    _, authority = localhost_certificate(tmp_path)
    taken = Taken()
    async with smtp_server(taken) as port:
        async with client(port, security=Security.STARTTLS, authority=authority) as server:
            with pytest.raises(MailServerError):
                await server.send(MAIL)
        assert taken.messages == []
        async with client(port, security=Security.NONE) as server:
            assert (await server.send(MAIL)).verdict is Verdict.TAKEN


@pytest.mark.parametrize("security", [Security.NONE, Security.OFFERED])
async def test_a_password_never_goes_over_the_wire_for_all_to_read(security: Security) -> None:
    with pytest.raises(InstallationError, match="by starttls or tls alone"):
        MailServer(
            host="localhost", port=1, greeting="x", security=security, login=Login(user="shop", password="secret")
        )  # fmt: skip
    assert "secret" not in repr(Login(user="shop", password="secret"))


async def test_a_file_without_a_certificate_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    path.write_text("nothing")
    with pytest.raises(InstallationError):
        MailServer(host="localhost", port=1, greeting="x", authority=path)


@pytest.mark.parametrize(
    ("reply", "verdict", "error"),
    [
        ("451 4.3.0 later", Verdict.DEFERRED, "the message was refused: 451 4.3.0"),
        ("554 5.7.1 spam", Verdict.REFUSED, "the message was refused: 554 5.7.1"),
        ("421 4.3.2 closing", Verdict.DEFERRED, "the message was refused: 421 4.3.2"),
    ],
)
async def test_what_a_server_says_after_data_is_passing_or_for_good(reply: str, verdict: Verdict, error: str) -> None:
    taken = Taken(data_reply=reply)
    async with smtp_server(taken) as port, client(port) as server:
        outcome = await server.send(MAIL)
        assert (outcome.verdict, outcome.error, outcome.suppress) == (verdict, error, "")
        taken.data_reply = ""
        assert (await server.send(MAIL)).verdict is Verdict.TAKEN


async def test_a_server_that_hangs_in_data_is_left_in_time_and_others_are_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(email_module, "_SEND_SECONDS", 0.3)
    taken = Taken(hangs=True)
    async with smtp_server(taken) as port, client(port) as server:
        outcomes = await asyncio.gather(*(server.send(MAIL) for _ in range(3)))
        assert {(one.verdict, one.error) for one in outcomes} == {
            (Verdict.DEFERRED, "the mail server did not answer in time")
        }
        taken.hangs = False
        assert (await server.send(MAIL)).verdict is Verdict.TAKEN


async def test_a_connection_that_breaks_in_data_is_not_used_again() -> None:
    taken = Taken(breaks=True)
    async with smtp_server(taken) as port, client(port) as server:
        outcome = await server.send(MAIL)
        assert (outcome.verdict, outcome.error) == (Verdict.DEFERRED, "the connection broke")
        taken.breaks = False
        assert (await server.send(MAIL)).verdict is Verdict.TAKEN
    assert taken.sessions == 2


@pytest.mark.parametrize("page", ["https://shop.example.com/stop?token={token}", "https://" + "x" * 685 + "{token}"])
async def test_the_link_to_unsubscribe_reaches_the_server_on_one_line_as_it_is(page: str) -> None:
    """In encoded words, or folded, no mail program finds it."""
    links = UnsubscribeLinks(key=b"k" * 32, url=page)
    composer = Composer(programmes=Programmes(programme()), mail_from="Shop <shop@example.com>", links=links)
    message = Outgoing(
        partition=0, member_id="m" * 64, campaign_id="offer", trigger="first", created_time=NOON, facts={},
        channel="email", topic="offers",
    )  # fmt: skip
    due = DueDelivery(delivery_id="0" * 32, message=message, coupon=None, attempts=0, leased_until=NOON)
    taken = Taken()
    async with smtp_server(taken) as port, client(port) as server:
        outcome = await server.send(composer.compose(due, Contact(name="Zoë", email="zoe@example.com"), NOON))
    assert outcome.verdict is Verdict.TAKEN
    ((content, _),) = taken.messages
    lines = content.decode("ascii").split("\r\n")
    (header,) = [line for line in lines if line.startswith("List-Unsubscribe:")]
    before, after = f"List-Unsubscribe: <{page}>".split("{token}")
    assert (header[: len(before)], header[-len(after) :]) == (before, after)
    assert links.read(header[len(before) : -len(after)]).member_id == "m" * 64
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
    assert max(map(len, lines)) <= 998


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example.com/{token}", "https://shop.example.com/", "https://x/{token}{token}", "{token}",
        "https://x/a b{token}", "https://x/>{token}", "https://x/\n{token}", "https://" + "x" * 686 + "{token}",
    ],
)  # fmt: skip
def test_a_page_to_unsubscribe_at_is_https_and_is_told_the_token(url: str) -> None:
    with pytest.raises(InstallationError):
        UnsubscribeLinks(key=b"k" * 32, url=url)
    assert UnsubscribeLinks(key=b"k" * 32, url="").link(Refusal(member_id="m", channel="email", topic="x")) == ""


def test_a_token_tells_nothing_and_opens_with_its_own_key_alone() -> None:
    refusal = Refusal(member_id="member-1", channel="email", topic="offers")
    links = UnsubscribeLinks(key=b"k" * 32, url="https://shop.example.com/{token}")
    token = links.token(refusal)
    assert links.read(token) == refusal
    assert "member" not in token
    assert len(token) < 200
    with pytest.raises(Exception, match="not one that a message"):
        UnsubscribeLinks(key=b"l" * 32, url="").read(token)
