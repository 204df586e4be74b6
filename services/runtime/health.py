"""`python -m services.runtime.health NAME`: whether the service of that name that is told what this is serves.

It asks where the service listens, with the service's own certificate; exit 0 where it serves, else 1 with a sentence.
For container platforms that look at a service by running a command beside it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime import config
from services.runtime.tls import Certificates, TlsFiles

_SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # what is listened on, not done here


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """What of a service's configuration says how to reach it."""

    listen: str = config.setting()
    tls_certificate: str = config.setting(default="")
    tls_key: str = config.setting(default="")
    tls_authority: str = config.setting(default="")


def reachable(listen: str) -> str:
    """The address at which a service is reached from its own machine, by the one that it listens on."""
    host, colon, port = listen.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}{colon}{port}"


def problem(settings: HealthConfig, name: str) -> str:
    """Why the service does not serve; empty where it does. Raises ConfigurationError."""
    address = reachable(settings.listen)
    files = TlsFiles.of(settings.tls_certificate, settings.tls_key, settings.tls_authority)
    if files is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(
            address, Certificates(files).channel_credentials(), options=[("grpc.ssl_target_name_override", name)]
        )
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            return str(error)
    return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "it does not serve"


def main() -> int:
    """Runs the command and says its exit code."""
    if len(sys.argv) != 2:
        print("write: python -m services.runtime.health NAME", file=sys.stderr)
        return 2
    try:
        why = problem(config.load(HealthConfig, os.environ), sys.argv[1])
    except config.ConfigurationError as error:
        why = str(error)
    if why:
        print(f"{sys.argv[1]}: {why}", file=sys.stderr)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
