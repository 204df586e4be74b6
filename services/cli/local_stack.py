"""The local stack: which children it has, what they are told, how one sees that they are well; and its supervisor.

The supervisor holds the folder's lock, and its children do not outlive it. `python -m services.cli.local_stack
--data DIR --port N --report-fd FD` is the one in the background: it reports to FD, one JSON object a line:
{"said": ...} on the way, {"ready": ...} or {"error": ...} at the end.

Order: database and mailbox; migrations; ledger; tiers; notifier; gateway. Each needs those before it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.errors import CommandError
from services.cli.installation import (
    Connection,
    Installation,
    Say,
    connection,
    find,
    last_state,
    leftovers,
    locked,
    write_json,
)
from services.cli.postgres import OWNER, RECOVERY_SECONDS, STOP_SECONDS, Cluster, socket_folder
from services.cli.processes import ProcessId, tied
from services.cli.supervisor import Child, ChildSpec, Probe, Stage, Supervisor, TaskSpec, note
from services.gateway import render
from services.runtime import contract
from services.runtime.tls import Certificates, RenewedChannel

SERVICES = ("ledger", "tiers", "notifier")
HOST = "127.0.0.1"
MAIL_FROM = "loyalty@example.com"

# What of the notifier's settings `loyalty up` takes from its own environment: what leads out of this machine.
_HANDED_ON = (
    "LOYALTY_CHANNEL_ADAPTERS",
    "LOYALTY_UNSUBSCRIBE_URL",
    "LOYALTY_WEBHOOK_AUTHORITY",
    "LOYALTY_WEBHOOK_NETWORKS",
)

_PROBE_SECONDS = 2.0
_RENEWAL_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStack:
    """The children of an installation; everything listens on 127.0.0.1 or on a unix socket."""

    installation: Installation
    cluster: Cluster
    port: int
    smtp_port: int

    def address(self, service: str) -> str:
        """Where a service listens, as gRPC writes it."""
        return f"unix:{socket_folder(self.installation.directory) / service}.sock"

    def addresses(self) -> dict[str, Any]:
        """All addresses, as they stand in the state file."""
        return {
            "sockets": str(socket_folder(self.installation.directory)),
            "database": str(self.cluster.socket_directory),
            **{service: self.address(service) for service in SERVICES},
            "gateway": f"http://{HOST}:{self.port}",
            "gateway_port": self.port,
            "smtp_port": self.smtp_port,
        }

    def environment(self, service: str) -> dict[str, str]:
        """What `serve` and `check` of a service are told."""
        files = self.installation.authority.files(service)
        common = {
            "LOYALTY_LISTEN": self.address(service),
            "LOYALTY_DATABASE_URL": self.cluster.dsn(f"loyalty_{service}"),
            "LOYALTY_PROGRAMME": str(self.installation.programme),
            "LOYALTY_TLS_CERTIFICATE": str(files.certificate),
            "LOYALTY_TLS_KEY": str(files.key),
            "LOYALTY_TLS_AUTHORITY": str(files.authority),
            "LOYALTY_TOKEN_KEYS": str(self.installation.token_keys.key_set_file),
            "LOYALTY_REVOKED_TOKENS": str(self.installation.token_keys.revoked_file),
            "LOYALTY_LOG_LEVEL": "info",
        }
        ledger = {"LOYALTY_LEDGER_ADDRESS": self.address("ledger")}
        match service:
            case "ledger":
                return common | {
                    "LOYALTY_CLOCK": self.installation.clock.value,
                    "LOYALTY_PARTITIONS": str(self.installation.partitions),
                    "LOYALTY_IDENTIFIER_KEY_FILE": str(self.installation.identifier_key_file),
                }
            case "tiers":
                return common | ledger
            case "notifier":
                return (
                    common
                    | ledger
                    | {
                        "LOYALTY_TIERS_ADDRESS": self.address("tiers"),
                        "LOYALTY_SMTP_HOST": HOST,
                        "LOYALTY_SMTP_PORT": str(self.smtp_port),
                        "LOYALTY_MAIL_FROM": MAIL_FROM,
                        "LOYALTY_MASTER_KEY_FILE": str(self.installation.master_key_file),
                        "LOYALTY_ERASURES_FILE": str(self.installation.erasures_file),
                    }
                    | {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
                )
        raise ValueError(f"there is no service {service}")

    @contextlib.asynccontextmanager
    async def probes(self) -> AsyncIterator[dict[str, Probe]]:
        """How to see that a child is well, by its name."""
        certificates = Certificates(self.installation.authority.files("cli"))
        channels = {service: RenewedChannel(certificates, partial(self._probed, service)) for service in SERVICES}
        async with contextlib.AsyncExitStack() as stack:
            for channel in channels.values():
                stack.push_async_callback(channel.close)
            yield {
                "postgres": self._database_ready,
                "mailbox": self._mailbox_ready,
                **{service: _serving(channel) for service, channel in channels.items()},
                "gateway": self._gateway_ready,
            }

    def _probed(self, service: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        """A channel that soon sees that a service is there again."""
        return grpc.aio.secure_channel(
            self.address(service),
            credentials,
            options=[
                ("grpc.ssl_target_name_override", service),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
            ],
        )

    def stages(self, probes: Mapping[str, Probe]) -> tuple[Stage, ...]:
        """What is started, in this order. Writes the gateway's configuration."""
        return (
            (
                ChildSpec(
                    name="postgres",
                    command=tuple(self.cluster.command()),
                    ready=probes["postgres"],
                    ready_seconds=RECOVERY_SECONDS,
                    stops=((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10.0)),
                    prepare=self.cluster.prepare,
                ),
                ChildSpec(
                    name="mailbox",
                    command=_python(
                        "services.cli.mailbox",
                        f"--listen={HOST}:{self.smtp_port}",
                        f"--maildir={self.installation.mailbox}",
                    ),
                    ready=probes["mailbox"],
                ),
            ),
            tuple(
                TaskSpec(
                    name=f"{service}-migrate",
                    command=_python(f"services.{service}", "migrate"),
                    environment={"LOYALTY_MIGRATION_DATABASE_URL": self.cluster.dsn(OWNER)},
                )
                for service in SERVICES
            ),
            *(
                (
                    ChildSpec(
                        name=service,
                        command=_python(f"services.{service}", "serve"),
                        environment=self.environment(service),
                        ready=probes[service],
                        ready_seconds=60.0,
                    ),
                )
                for service in SERVICES
            ),
            (
                ChildSpec(
                    name="gateway",
                    command=tuple(tied(render.command(self._gateway_config()), death_signal=signal.SIGTERM)),
                    ready=probes["gateway"],
                    stops=((signal.SIGTERM, 10.0),),
                ),
            ),
        )

    def _gateway_config(self) -> Path:
        """Writes what Envoy reads: the contract's descriptors and the configuration."""
        descriptors = contract.descriptor_set()
        descriptor_path = self.installation.run / "contract.binpb"
        descriptor_path.write_bytes(descriptors)
        addresses = {service: self.address(service) for service in SERVICES}
        path = self.installation.run / "envoy.yaml"
        path.write_text(
            render.render(
                render.backends(addresses, contract.SERVICES, descriptors),
                tls=self._gateway_tls(),
                host=HOST,
                port=self.port,
                descriptor_path=descriptor_path,
                admin_path=socket_folder(self.installation.directory) / "admin.sock",
                token_filter_path=self.installation.token_keys.gateway_file,
            ),
            encoding="utf-8",
        )
        return path

    def _gateway_tls(self) -> render.UpstreamTls:
        """Writes what Envoy reads of certificates."""
        files = self.installation.authority.files("gateway")
        tls = render.UpstreamTls(
            certificate=self.installation.run / "gateway-certificate.json",
            authority=self.installation.run / "gateway-authority.json",
        )
        tls.certificate.write_text(render.certificate_secret(files.certificate, files.key), encoding="utf-8")
        tls.authority.write_text(render.authority_secret(files.authority), encoding="utf-8")
        return tls

    async def _database_ready(self) -> bool:
        process = await asyncio.create_subprocess_exec(
            *self.cluster.ready_command(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    async def _mailbox_ready(self) -> bool:
        return (await _answer(self.smtp_port, b"QUIT\r\n")).startswith(b"220 ")

    async def _gateway_ready(self) -> bool:
        request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        return (await _answer(self.port, request)).startswith(b"HTTP/1.1 200 ")


def attached(connection: Connection) -> LocalStack:
    """The running stack that a connection reaches: for its addresses and what its services are told."""
    return LocalStack(
        installation=connection.installation,
        cluster=Cluster(connection.installation.directory),
        port=int(connection.gateway.rpartition(":")[2]),
        smtp_port=connection.smtp_port,
    )


def _serving(channel: RenewedChannel) -> Probe:
    stub = health_pb2_grpc.HealthStub(channel)

    async def probe() -> bool:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe


async def _answer(port: int, request: bytes) -> bytes:
    """The first bytes that a server on this machine says; empty where there is none."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request)
                return await reader.read(256)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return b""


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return tuple(tied([sys.executable, "-m", module, *arguments], death_signal=signal.SIGTERM))


async def serve(installation: Installation, *, port: int, say: Say, ready: Callable[[Connection], None]) -> None:
    """Runs the stack of an installation until SIGTERM, SIGINT or SIGHUP; everything has ended when this returns.

    `ready` is called when all is healthy. Raises CommandError where the stack cannot be started.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    with locked(installation), reserved_port(port) as gateway_port, reserved_port(0) as smtp_port:
        await _end_leftovers(installation)
        # A folder of an earlier release has no keys yet, and neither tokens nor certificates last for ever.
        installation.ready()
        cluster = Cluster(installation.directory)
        began = time.monotonic()
        if not cluster.data.exists():
            await asyncio.to_thread(cluster.init)
            say(f"database made after {time.monotonic() - began:.1f} s")
        stack = LocalStack(installation=installation, cluster=cluster, port=gateway_port, smtp_port=smtp_port)
        me = ProcessId.of(os.getpid())
        assert me is not None
        is_ready = False
        children: Mapping[str, Child] = {}

        def write_state() -> None:
            write_json(
                installation.state_file,
                {
                    "format": 1,
                    "ready": is_ready and not stop.is_set(),
                    "stopping": stop.is_set(),
                    "supervisor": dataclasses.asdict(me),
                    "started": started,
                    "programme": installation.programme_version,
                    "clock": installation.clock.value,
                    "addresses": stack.addresses(),
                    "children": {name: child.to_json() for name, child in children.items()},
                },
            )

        def changed(now: Mapping[str, Child]) -> None:
            nonlocal children
            children = now
            try:
                write_state()
            except OSError as error:
                # A full disk is no reason to stop what runs; the next change writes again.
                with contextlib.suppress(OSError):
                    note("state_not_written", error=str(error.strerror))

        def all_ready() -> None:
            nonlocal is_ready
            is_ready = True
            write_state()
            ready(connection(installation.directory))

        async def tell_of_stop() -> None:
            await stop.wait()
            # Who comes now waits for the end of it, and does not turn to services that are about to go.
            changed(children)

        started = datetime.now(UTC).isoformat(timespec="seconds")
        write_state()
        telling = asyncio.create_task(tell_of_stop())
        renewing = asyncio.create_task(keep_renewed(installation))
        try:
            async with stack.probes() as probes:
                supervisor = Supervisor(stack.stages(probes), log=installation.log, changed=changed, say=say)
                await supervisor.run(stop, ready=all_ready)
        finally:
            telling.cancel()
            renewing.cancel()
            installation.state_file.unlink()


async def keep_renewed(installation: Installation) -> None:
    """Renews what ends soon of certificates and tokens, for ever; who runs takes it up by itself."""
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        try:
            await asyncio.to_thread(installation.ready)
        except Exception as error:
            # What lies in the folder may be wrong in any way, and must not end what runs.
            note("not_renewed", error=f"{type(error).__name__}: {error}")


async def _end_leftovers(installation: Installation) -> None:
    """Ends what a supervisor that was killed has left: its children were told to, and may still be at it."""
    state = last_state(installation)
    if state is None:
        return
    for child in leftovers(state):
        note("leftover_found", pid=str(child.pid))
        if not await asyncio.to_thread(child.wait_gone, 20.0):
            child.send(signal.SIGTERM)
            if not await asyncio.to_thread(child.wait_gone, 60.0):
                raise CommandError(f"the process {child.pid} of an earlier run does not end; stop it first")


@contextlib.contextmanager
def reserved_port(port: int) -> Iterator[int]:
    """A port of 127.0.0.1 that nobody else gets: bound, not listened on; 0 takes a free one.

    A child that binds with SO_REUSEADDR (Envoy, asyncio) listens on it beside us.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", port))
        except PermissionError:
            raise CommandError(
                f"port {port} needs more rights than you have; choose one above 1023 with --port"
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CommandError(f"port {port} of 127.0.0.1 cannot be had: {error.strerror}") from None
            raise CommandError(
                f"port {port} of 127.0.0.1 is in use; stop what listens there, or choose another one with --port "
                "(--port 0 takes a free one)"
            ) from None
        yield int(held.getsockname()[1])


def main() -> int:
    """The supervisor in the background."""
    parser = argparse.ArgumentParser(prog="python -m services.cli.local_stack")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--report-fd", required=True, type=int)
    arguments = parser.parse_args()
    report = os.fdopen(arguments.report_fd, "w", buffering=1, encoding="utf-8")
    # Not for the children.
    os.set_inheritable(report.fileno(), False)

    def say(**message: str) -> None:
        # Who started this may have gone; what was said is in the log.
        with contextlib.suppress(BrokenPipeError, ValueError):
            report.write(json.dumps(message) + "\n")

    def ready(_: Connection) -> None:
        say(ready="yes")
        with contextlib.suppress(BrokenPipeError):
            report.close()

    try:
        asyncio.run(serve(find(arguments.data), port=arguments.port, say=lambda text: say(said=text), ready=ready))
    except CommandError as error:
        note("supervisor_failed", why=str(error))
        say(error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
