"""Where events are sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from services.notifier.channels.webhooks import Network, is_allowed, named_addresses
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.messages import webhook_route
from services.notifier.domain.webhooks import (
    MAX_ENDPOINTS,
    SECRETS_OVERLAP,
    Endpoint,
    check_url,
    endpoint_id,
    unknown_fields,
)
from services.notifier.endpoint_secrets import EndpointSecrets
from services.notifier.errors import EndpointUnknownError, TooManyEndpointsError, WebhookFieldError, WebhookUrlError
from services.notifier.service.requests import same_request
from services.notifier.store import KeptRequest, Store, Transaction
from services.runtime.clock import MachineClock

_DELETED = "the endpoint was deleted"


class WebhookService:
    """Makes, lists, enables and deletes endpoints, and changes their secrets. `networks`: addresses that are not of the
    internet and allowed all the same; where there are any, one may be reached without TLS."""

    def __init__(
        self,
        *,
        store: Store,
        secrets: EndpointSecrets,
        request_key: bytes,
        networks: Sequence[Network],
        machine_now: MachineClock,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._request_key = request_key
        self._networks = networks
        self._machine_now = machine_now

    async def create(
        self,
        *,
        request_id: str,
        principal: str,
        url: str,
        description: str,
        event_types: Collection[str],
        fields: Collection[str],
    ) -> tuple[Endpoint, str, bool]:
        """Makes an endpoint; says its secret as it is shown, and whether this was answered before.

        Raises WebhookUrlError, WebhookFieldError, TooManyEndpointsError, RequestIdReusedError.
        """
        self._check(url)
        if unknown := unknown_fields(fields):
            raise WebhookFieldError(unknown)
        identity = endpoint_id(self._request_key, f"{principal} {request_id}")
        digest = keyed_digest(
            self._request_key, "endpoint", url, description, " ".join(sorted(event_types)), " ".join(sorted(fields))
        )
        secret = self._secrets.draw()
        endpoint = Endpoint(
            endpoint_id=identity,
            url=url,
            description=description,
            event_types=frozenset(event_types),
            fields=frozenset(fields),
            sealed_secret=self._secrets.seal(identity, secret),
            created_time=self._machine_now(),
        )

        async def put(transaction: Transaction) -> tuple[Endpoint, bool]:
            await transaction.lock_endpoints()
            found = await transaction.find_endpoint(identity)
            if found is not None:
                kept, made_by, _ = found
                return kept, same_request(made_by, digest)
            if len(await transaction.list_endpoints()) >= MAX_ENDPOINTS:
                raise TooManyEndpointsError
            await transaction.insert_endpoint(endpoint, digest)
            return endpoint, False

        kept, replayed = await self._store.transact(put)
        return kept, self._secrets.shown(self._secrets.open(identity, kept.sealed_secret)), replayed

    async def list(self) -> Sequence[Endpoint]:
        """All of them, the newest first."""
        return await self._store.read(Transaction.list_endpoints)

    async def delete(self, endpoint_id: str) -> None:
        """Deletes an endpoint with all that waits for it; again, or of one that never was, changes nothing."""
        now = self._machine_now()

        async def put(transaction: Transaction) -> None:
            if await transaction.delete_endpoint(endpoint_id, now):
                await transaction.drop_deliveries_of_way(webhook_route(endpoint_id), _DELETED)

        await self._store.transact(put)

    async def enable(self, *, request_id: str, principal: str, endpoint_id: str) -> tuple[Endpoint, bool]:
        """Sends events to an endpoint again that was disabled, one that is not stays as it is; says whether this was
        answered before. Raises EndpointUnknownError, RequestIdReusedError."""

        async def put(transaction: Transaction) -> None:
            await transaction.enable_endpoint(endpoint_id)

        return await self._change("enable", request_id, principal, endpoint_id, put)

    async def rotate_secret(self, *, request_id: str, principal: str, endpoint_id: str) -> tuple[Endpoint, str, bool]:
        """Gives an endpoint another secret; for a day events are signed with the one before, too. Says the secret as it
        is shown, and whether this was answered before. Raises EndpointUnknownError, RequestIdReusedError."""
        sealed = self._secrets.seal(endpoint_id, self._secrets.draw())
        until = self._machine_now() + SECRETS_OVERLAP

        async def put(transaction: Transaction) -> None:
            await transaction.change_secret(endpoint_id, sealed, until)

        endpoint, replayed = await self._change("rotate", request_id, principal, endpoint_id, put)
        return endpoint, self._secrets.shown(self._secrets.open(endpoint_id, endpoint.sealed_secret)), replayed

    async def _change(
        self,
        change: str,
        request_id: str,
        principal: str,
        endpoint_id: str,
        put: Callable[[Transaction], Awaitable[None]],
    ) -> tuple[Endpoint, bool]:
        """Changes an endpoint, once for a request; says how it is now."""
        request = keyed_digest(self._request_key, "endpoint request", principal, request_id)
        content = keyed_digest(self._request_key, change, endpoint_id)
        asked = KeptRequest(content_digest=content, answer=None)
        now = self._machine_now()

        async def once(transaction: Transaction) -> tuple[Endpoint, bool]:
            kept = await transaction.keep_request(request, asked, now)
            replayed = kept is not None and same_request(kept.content_digest, content)
            if not replayed:
                await put(transaction)
            found = await transaction.find_endpoint(endpoint_id)
            if found is None or found[2]:
                raise EndpointUnknownError
            return found[0], replayed

        return await self._store.transact(once)

    def _check(self, url: str) -> None:
        """What a name leads to is looked at whenever something is sent there; what needs no asking is said at once."""
        parts = check_url(url, plain_allowed=bool(self._networks))
        named = named_addresses(parts.hostname or "")
        if named and not any(is_allowed(address, parts.scheme, self._networks) for address in named):
            raise WebhookUrlError("events do not go to this address: it is not one of the internet")
