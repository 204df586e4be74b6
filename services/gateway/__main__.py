"""`python -m services.gateway render --output DIR`: what Envoy reads, from variables of the environment.

DIR/envoy.yaml                       the configuration: `envoy --config-path DIR/envoy.yaml`
DIR/contract.binpb                   the contract
DIR/token-filter.json                whose tokens pass; read again by Envoy when it changes
DIR/services-*.json, listener.json   which files hold certificates; those are read again when they change

Each file is replaced by a rename. Done again after keys of tokens changed, it needs no restart of the gateway.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from services.gateway import render
from services.runtime import config, contract
from services.runtime.tls import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the services are and where the gateway listens, and whom it trusts.

    `tls_*`: the gateway's own certificate, by which services know it, and the authority of theirs. `gateway_tls_*`:
    what callers are shown; where it is empty the gateway listens without TLS. `token_keys`: a file that holds a JWKS;
    where it is empty tokens are checked by the services alone.
    """

    ledger_address: str = config.setting()
    tiers_address: str = config.setting()
    notifier_address: str = config.setting()
    gateway_host: str = config.setting(default="0.0.0.0")  # noqa: S104  # a container is reached from outside it
    gateway_port: int = config.setting(default=8080, minimum=1, maximum=65535)
    gateway_tls_certificate: str = config.setting(default="")
    gateway_tls_key: str = config.setting(default="")
    tls_certificate: str = config.setting(default="")
    tls_key: str = config.setting(default="")
    tls_authority: str = config.setting(default="")
    token_keys: str = config.setting(default="")
    token_issuer: str = config.setting(default="loyalty")
    token_audience: str = config.setting(default="loyalty")


def write(settings: Config, output: Path) -> Path:
    """Writes all that Envoy reads, and says which file it is to be started with.

    Raises ConfigurationError, GatewayError and OSError.
    """
    descriptors = contract.descriptor_set()
    addresses = {
        "ledger": settings.ledger_address,
        "tiers": settings.tiers_address,
        "notifier": settings.notifier_address,
    }
    content = render.render(
        render.backends(addresses, contract.SERVICES, descriptors),
        tls=_upstream(settings, output),
        listener_tls_path=_listener(settings, output),
        host=settings.gateway_host,
        port=settings.gateway_port,
        descriptor_path=_put(output / "contract.binpb", descriptors),
        token_filter_path=_token_filter(settings, output),
    )
    return _put(output / "envoy.yaml", content.encode())


def _upstream(settings: Config, output: Path) -> render.UpstreamTls | None:
    files = TlsFiles.of(settings.tls_certificate, settings.tls_key, settings.tls_authority)
    if files is None:
        return None
    own = render.certificate_secret(_there(files.certificate), _there(files.key))
    return render.UpstreamTls(
        certificate=_put(output / "services-certificate.json", own.encode()),
        authority=_put(output / "services-authority.json", render.authority_secret(_there(files.authority)).encode()),
    )


def _listener(settings: Config, output: Path) -> Path | None:
    certificate, key = settings.gateway_tls_certificate, settings.gateway_tls_key
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise config.ConfigurationError(
            "LOYALTY_GATEWAY_TLS_CERTIFICATE and LOYALTY_GATEWAY_TLS_KEY go together: set both or none"
        )
    shown = render.certificate_secret(_there(Path(certificate)), _there(Path(key)))
    return _put(output / "listener.json", shown.encode())


def _token_filter(settings: Config, output: Path) -> Path | None:
    if not settings.token_keys:
        return None
    try:
        key_set = Path(settings.token_keys).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise config.ConfigurationError(
            f"the keys of tokens cannot be read from {settings.token_keys}: {error.strerror}"
        ) from None
    content = render.token_filter(key_set, issuer=settings.token_issuer, audience=settings.token_audience)
    return _put(output / "token-filter.json", f"{content}\n".encode())


def _there(path: Path) -> Path:
    """The path of a file as it will be named, which must be there."""
    if not path.is_file():
        raise config.ConfigurationError(f"there is no file {path}")
    return path.absolute()


def _put(path: Path, content: bytes) -> Path:
    """Writes a file that is replaced as a whole, and only where it changes: Envoy looks at it again then."""
    path = path.absolute()
    if not path.exists() or path.read_bytes() != content:
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return path


def main() -> int:
    """Runs the command and says its exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway")
    parser.add_argument("command", choices=("render",))
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that Envoy reads")
    arguments = parser.parse_args()
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        written = write(config.load(Config, os.environ), arguments.output)
    except (config.ConfigurationError, render.GatewayError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gateway: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"the gateway is configured: envoy --config-path {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
