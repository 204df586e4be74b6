"""Webhooks: an event is signed as Standard Webhooks has it, and posted to an endpoint.

Whoever names an endpoint could name a place inside our own network. So the address that a name resolves to is looked
at, and the connection goes to that very address: a name that resolves to another one a moment later changes nothing.
Redirects are not followed, and what is answered is read no further than needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, TypeAlias

import httpx
from standardwebhooks import Webhook

from services.notifier.channels.adapter import Addressee
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import DueDelivery, Outcome, Verdict
from services.notifier.domain.webhooks import Endpoint, body
from services.notifier.endpoint_secrets import EndpointSecrets
from services.notifier.errors import ChannelClosedError, InstallationError
from services.runtime.clock import MachineClock

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# What one endpoint, and all at one host, are sent at once.
SENDERS: Final = 4
_LEASED: Final = 50
_RESOLVE_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 5.0
_SEND_SECONDS: Final = 15.0
# With what a try takes it fits into the end of a lease.
_WAIT_SECONDS: Final = 20.0
# What is read of an answer, so that its connection can be used again.
_READ_BYTES: Final = 16 * 1024
_MOST_HOSTS: Final = 100
_LOOPBACK: Final = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LONGEST_RETRY_AFTER: Final = timedelta(days=1)


class WebhookChannel:
    """Events to endpoints."""

    leased = _LEASED
    senders = SENDERS

    def __init__(
        self,
        *,
        secrets: EndpointSecrets,
        networks: Sequence[Network] = (),
        authority: Path | None = None,
        machine_now: MachineClock,
    ) -> None:
        """`networks`: addresses that are not of the internet and allowed all the same, there without TLS, too.
        `authority`: whose certificates are trusted beside those that everybody trusts. Raises InstallationError."""
        self._secrets = secrets
        self._networks = tuple(networks)
        self._machine_now = machine_now
        self._tls = ssl.create_default_context()
        if authority is not None:
            try:
                self._tls.load_verify_locations(cafile=authority)
            except (OSError, ssl.SSLError):
                raise InstallationError(f"the file {authority} holds no certificate") from None
        # One for each host: over a connection that was verified for one name nothing goes to another one.
        self._hosts: dict[str, _Host] = {}

    def address(self, contact: Contact) -> str:
        """It reaches no member."""
        return ""

    async def deliver(self, due: DueDelivery, to: Addressee) -> Outcome:
        """Posts one event; never raises what a receiver could cause."""
        endpoint = to.endpoint
        assert endpoint is not None
        content = body(due.message, endpoint)
        now = self._machine_now()
        secrets = [self._secrets.open(endpoint.endpoint_id, sealed) for sealed in endpoint.secrets(now)]
        headers = {
            "content-type": "application/json",
            "user-agent": "loyalty-webhooks/1",
            "webhook-id": due.delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Webhook(secret).sign(due.delivery_id, now, content) for secret in secrets),
        }
        async with self._place(endpoint.host) as client:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    return await self._post(client, endpoint, content, headers)
            except TimeoutError:
                problem = "the endpoint did not answer in time"
            except _RefusedAddress:
                problem = "the endpoint's name leads to an address that is not allowed"
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                untrusted = isinstance(_root(error), ssl.SSLError)
                problem = "the endpoint's certificate is not trusted" if untrusted else "the endpoint cannot be reached"
        return Outcome(verdict=Verdict.DEFERRED, error=problem)

    async def close(self) -> None:
        """Closes all connections."""
        while self._hosts:
            _, place = self._hosts.popitem()
            await place.client.aclose()

    async def _post(
        self, client: httpx.AsyncClient, endpoint: Endpoint, content: str, headers: dict[str, str]
    ) -> Outcome:
        url = httpx.URL(endpoint.url)
        address = await self._resolved(url)
        pinned = url.copy_with(host=str(address))
        request = client.build_request(
            "POST",
            pinned,
            content=content.encode(),
            headers={**headers, "host": url.netloc.decode()},
            extensions={"sni_hostname": url.host},
        )
        response = await client.send(request, stream=True)
        try:
            outcome = self._outcome(response)
            read = 0
            with contextlib.suppress(httpx.HTTPError):
                async for part in response.aiter_raw():
                    read += len(part)
                    if read > _READ_BYTES:
                        break
        finally:
            await response.aclose()
        return outcome

    async def _resolved(self, url: httpx.URL) -> Address:
        """The address to connect to: every one that the name has must be allowed."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await loop.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        if not all(is_allowed(address, url.scheme, self._networks) for address in addresses):
            raise _RefusedAddress
        return addresses[0]

    @contextlib.asynccontextmanager
    async def _place(self, host: str) -> AsyncIterator[httpx.AsyncClient]:
        """One of the places that a host has; raises ChannelClosedError where none is free for long."""
        if host not in self._hosts:
            await self._forget_one()
            client = httpx.AsyncClient(
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(_SEND_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=SENDERS, max_keepalive_connections=SENDERS, keepalive_expiry=20),
            )
            self._hosts[host] = _Host(client)
        place = self._hosts[host]
        place.wanted += 1
        try:
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await place.free.acquire()
            except TimeoutError:
                raise ChannelClosedError("the endpoint's host is busy with others") from None
            try:
                yield place.client
            finally:
                place.free.release()
        finally:
            place.wanted -= 1

    async def _forget_one(self) -> None:
        """Closes the connections of a host that nothing is being sent to, where there are many."""
        idle = next((host for host, place in self._hosts.items() if not place.wanted), None)
        if len(self._hosts) >= _MOST_HOSTS and idle is not None:
            await self._hosts.pop(idle).client.aclose()

    def _outcome(self, response: httpx.Response) -> Outcome:
        status = response.status_code
        if 200 <= status < 300:
            return Outcome(verdict=Verdict.TAKEN)
        error = f"the endpoint answered {status}"
        if status == httpx.codes.GONE:
            return Outcome(verdict=Verdict.REFUSED, error=error, gone=True)
        later = retry_after(response.headers.get("retry-after", ""), self._machine_now())
        return Outcome(verdict=Verdict.DEFERRED, error=error, retry_after=later)


class _Host:
    """The connections to a host, who may use them, and how many want to."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.free = asyncio.Semaphore(SENDERS)
        self.wanted = 0


class _RefusedAddress(Exception):
    """A name leads to where nothing may be sent."""


def is_public(address: Address) -> bool:
    """Whether it is on the internet: not private, loopback, link-local, or kept for something else; nor is what it may
    stand for."""
    if isinstance(address, ipaddress.IPv6Address):
        inner: list[ipaddress.IPv4Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        meant = [each for each in inner if each is not None]
        if meant:
            return all(is_public(each) for each in meant)
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_allowed(address: Address, scheme: str, networks: Sequence[Network]) -> bool:
    """Whether events may go there: to the internet over https, and to `networks` in any way."""
    inside = any(address.version == network.version and address in network for network in networks)
    return inside or (scheme == "https" and is_public(address))


def named_addresses(host: str) -> Sequence[Address]:
    """The addresses that a host says by itself, without being asked for: an address, however it is written, or
    localhost. Any other name has none."""
    bare = host.rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return _LOOPBACK
    try:
        return (ipaddress.ip_address(bare.partition("%")[0]),)
    except ValueError:
        pass
    try:
        # As 127.1 or 0x7f000001, which a resolver takes, too.
        return (ipaddress.IPv4Address(socket.inet_aton(bare)),)
    except OSError:
        return ()


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks with commas between them, as 127.0.0.0/8; raises InstallationError."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InstallationError(f"LOYALTY_WEBHOOK_NETWORKS: {error}") from None


def retry_after(text: str, now: datetime) -> timedelta | None:
    """What the header Retry-After says, in seconds or as a date, at most a day; None where it says nothing."""
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=min(int(text[:9]), 10**6)), _LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    pause = moment.replace(tzinfo=moment.tzinfo or UTC) - now
    return min(pause, _LONGEST_RETRY_AFTER) if pause > timedelta(0) else None


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
