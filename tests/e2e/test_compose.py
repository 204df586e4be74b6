"""docker-compose.yml without Docker: every command that stands there is run, with the places of this machine put in.

PostgreSQL and Envoy are those of the wheels, of the same releases as the images; services listen on ports and know each
other by certificates.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.certificates import LocalAuthority
from services.cli.postgres import choose_account, find_binaries
from services.gateway import render
from tests import compose
from tests.compose import ROOT, Places

SECONDS = 60


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@dataclass
class Stack:
    """The file, where its parts are, and the programs that run."""

    folder: Path
    services: dict[str, Any]
    places: Places
    gateway: str
    running: contextlib.ExitStack

    def once(self, name: str, command: list[str] | None = None) -> str:
        """Runs a service to its end, as written or with another command, and says what it wrote."""
        service = self.services[name]
        done = subprocess.run(
            self.places.command(service, command), cwd=ROOT, env=self.places.environment(service),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, name: str) -> None:
        """Starts a service as written, and returns when its health check passes, where it is a command of ours."""
        service = self.services[name]
        self.keep(name, self.places.command(service), self.places.environment(service))
        check = service["healthcheck"]["test"]
        assert check[0] == "CMD"

        def healthy() -> bool:
            command = [self.places.command({**service, "entrypoint": []}, [word])[0] for word in check[1:]]
            environment = self.places.environment(service)
            return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode == 0

        wait_until(healthy, f"{name} does not get healthy: {self.log(name)}")

    def keep(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """Runs a program until the end of the test."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.running.callback(end, process)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def token(self) -> str:
        return (self.places.volumes["secrets-caller"] / "first-token").read_text().strip()

    def status(self, token: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{self.gateway}/v1/programme", headers=headers, timeout=20).status_code


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The whole file, up."""
    folder = Path(tempfile.mkdtemp(prefix="ly-"))
    services = compose.read()["services"]
    parts = ("ledger", "tiers", "notifier", "gateway", "owner", "postgres", "caller")
    volumes = {f"secrets-{part}": folder / "made" / part for part in parts} | {"keys": folder / "made" / "keys"}
    ports = {name: free_port() for name in ("postgres", "ledger", "tiers", "notifier", "gateway", "mailbox")}
    words = {
        "@postgres:5432": f"@127.0.0.1:{ports['postgres']}",
        "http://gateway:8080": f"http://127.0.0.1:{ports['gateway']}",
        "/dev/tcp/127.0.0.1/8080": f"/dev/tcp/127.0.0.1/{ports['gateway']}",
    }
    for name, port in (("ledger", 7001), ("tiers", 7002), ("notifier", 7003)):
        words |= {f"{name}:{port}": f"127.0.0.1:{ports[name]}", f"0.0.0.0:{port}": f"127.0.0.1:{ports[name]}"}
    with contextlib.ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Stack(folder, services, Places(volumes, words), f"http://127.0.0.1:{ports['gateway']}", running)
        services["notifier"]["environment"] |= {
            "LOYALTY_SMTP_HOST": "127.0.0.1", "LOYALTY_SMTP_PORT": str(ports["mailbox"]),
        }  # fmt: skip
        services["gateway-config"]["environment"] |= {
            "LOYALTY_GATEWAY_HOST": "127.0.0.1", "LOYALTY_GATEWAY_PORT": str(ports["gateway"]),
        }  # fmt: skip
        services["gateway"]["entrypoint"] = [str(render.envoy_binary())]
        made.once("secrets")
        start_postgres(made, ports["postgres"])
        mailbox = [sys.executable, "-m", "services.cli.mailbox", f"--listen=127.0.0.1:{ports['mailbox']}"]
        made.keep("mailbox", [*mailbox, f"--maildir={folder / 'mail'}"], made.places.environment({}))
        made.once("migrate")
        for name in ("ledger", "tiers", "notifier"):
            made.begin(name)
        made.once("gateway-config")
        made.begin("gateway")
        wait_until(lambda: made.status(made.token()) == 200, "the gateway reaches no service")
        yield made


def start_postgres(stack: Stack, port: int) -> None:
    """A new cluster as the image of PostgreSQL makes it: initdb, the script with roles, then the server as written."""
    binaries = find_binaries()
    account = choose_account(binaries)
    folder = stack.folder / "postgres"
    folder.mkdir(mode=0o700)
    if account.become:
        stack.folder.chmod(0o711)
        os.chown(folder, *account.become)
    service = stack.services["postgres"]
    password = stack.places.volumes["secrets-postgres"] / "postgres"
    given = folder / "password"
    shutil.copy(password, given)
    if account.become:
        os.chown(given, *account.become)
    arguments = service["environment"]["POSTGRES_INITDB_ARGS"].split()
    initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "--username=postgres", f"--pwfile={given}"]
    made = subprocess.run(account.command([*initdb, *arguments]), cwd="/", capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with (folder / "data" / "pg_hba.conf").open("a") as access:
        access.write("\nhost all all all scram-sha-256\n")
    assert service["command"][0] == "postgres"
    here = ["-D", str(folder / "data"), "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
    server = account.command([str(binaries / "postgres"), *service["command"][1:], *here], death_signal=signal.SIGINT)
    with (stack.folder / "postgres.log").open("ab") as log:
        process = subprocess.Popen(server, cwd="/", stdout=log, stderr=log)
    stack.running.callback(end, process, signal.SIGINT)
    check = service["healthcheck"]["test"]
    ready = [str(binaries / check[1]), *check[2:], "-p", str(port)]
    wait_until(
        lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
        f"the database does not get ready: {stack.log('postgres')}",
    )
    (script,) = (mount["source"] for mount in service["volumes"] if "initdb.d" in mount["target"])
    ran = subprocess.run(
        ["bash", str(ROOT / script)],
        env={
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "LOYALTY_SQL": str(ROOT / "services/cli/sql"),
            "LOYALTY_PASSWORDS": str(password.parent),
            "PGHOST": str(folder),
            "PGPORT": str(port),
            "PGPASSWORD": password.read_text().strip(),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_the_acceptance_suite_passes_as_the_file_runs_it(stack: Stack) -> None:
    stack.services["tests"]["environment"].pop("LOYALTY_MAILBOX")
    said = stack.once("tests")
    assert " passed" in said, said
    assert "failed" not in said, said


def test_each_part_is_given_its_own_secrets_alone_and_nobody_else_can_read_them(stack: Stack) -> None:
    files = [path for path in (stack.folder / "made").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in files if path.suffix not in (".json", ".yaml", ".binpb")} == {0}
    keys = {path.read_text() for path in files if path.name in ("key.pem", "pgpass", "master-key", "identifier-key")}
    assert len(keys) == 4 + 4 + 1 + 1
    made_of = (stack.folder / "made" / "keys" / "tls" / "authority-key.pem").read_text()
    assert [path.parent.name for path in files if path.read_bytes() == made_of.encode()] == ["tls"]


def test_made_again_secrets_are_what_they_were(stack: Stack) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (stack.folder / "made").rglob("*") if path.is_file()}

    before = content()
    stack.once("secrets")
    stack.once("gateway-config")
    assert content() == before
    shown = stack.once("secrets", ["secrets", "--data", "/made", "--show-token"])
    assert shown.strip() == stack.token()


@pytest.mark.parametrize("name", ["ledger", "tiers", "notifier"])
def test_a_service_checks_itself_with_what_it_is_told(stack: Stack, name: str) -> None:
    report = json.loads(stack.once(name, ["python", "-m", f"services.{name}", "check"]))
    assert (report["service"], report["differences"]) == (name, [])


def test_a_token_is_made_revoked_and_its_key_dropped_while_all_runs(stack: Stack) -> None:
    till = stack.once("secrets", ["token", "--role", "pos", "--store", "17", "--data", "/made"]).strip()
    old = stack.token()
    assert (stack.status(till), stack.status(old)) == (200, 200)
    stack.once("secrets", ["token-rotate", "--drop-old", "--data", "/made"])
    wait_until(lambda: stack.status(old) == 401 and stack.status(till) == 401, "old tokens still open the gateway", 10)
    assert stack.token() != old
    wait_until(lambda: stack.status(stack.token()) == 200, "the new first token opens nothing", 10)


def test_the_gateway_shows_a_certificate_that_it_was_given_and_the_next_one_without_a_restart(stack: Stack) -> None:
    port = free_port()
    shown = stack.folder / "shown"
    shown.mkdir()
    authority = LocalAuthority(stack.folder / "public")
    authority.ready()

    def show(name: str) -> None:
        files = authority.files(name)
        for source, target in ((files.certificate, "certificate.pem"), (files.key, "key.pem")):
            partial = shown / f"{target}.partial"
            shutil.copy(source, partial)
            partial.replace(shown / target)

    show("gateway")
    output = stack.folder / "with-tls"
    told = stack.services["gateway-config"]["environment"] | {
        "LOYALTY_GATEWAY_PORT": str(port),
        "LOYALTY_GATEWAY_TLS_CERTIFICATE": str(shown / "certificate.pem"),
        "LOYALTY_GATEWAY_TLS_KEY": str(shown / "key.pem"),
    }
    service = stack.services["gateway-config"] | {"environment": told}
    command = [sys.executable, "-m", "services.gateway", "render", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, env=stack.places.environment(service), check=True)
    stack.keep("with-tls", render.command(output / "envoy.yaml"), dict(os.environ))
    trusted = ssl.create_default_context(cafile=str(authority.folder / "authority.pem"))

    def status(name: str) -> int:
        try:
            with httpx.Client(verify=trusted, timeout=5) as client:
                url = f"https://127.0.0.1:{port}/v1/programme"
                headers = {"authorization": f"Bearer {stack.token()}"}
                return client.get(url, headers=headers, extensions={"sni_hostname": name}).status_code
        except httpx.HTTPError:
            return 0

    wait_until(lambda: status("gateway") == 200, f"no answer over TLS: {stack.log('with-tls')}")
    assert status("cli") == 0
    show("cli")
    wait_until(lambda: status("cli") == 200, "the new certificate is not shown", 20)
