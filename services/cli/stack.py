"""`loyalty up`, `loyalty status`, `loyalty down`: the local stack of a folder."""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.cli import installation
from services.cli.errors import NotRunningError
from services.cli.installation import DEFAULT_DIRECTORY, Connection

DEFAULT_PORT = 8080

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of the installation.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(up)
    app.command()(status)
    app.command()(down)


def up(
    data: Data = DEFAULT_DIRECTORY,
    programme: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The programme of a new installation (default: points-basic)."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The gateway's port on 127.0.0.1; 0 takes a free one.")
    ] = DEFAULT_PORT,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is healthy.")] = False,
) -> None:
    """Start database, services, gateway and mailbox, and keep them running."""
    # The stack's own machinery takes its time to load, and the other commands do without.
    from services.cli import local_stack

    if not (data / "installation.json").exists():
        # Before anything is made: a port that is taken leaves no trace.
        with local_stack.reserved_port(port):
            pass
    there = installation.open_or_create(data, programme_file=programme)
    if detach:
        installation.start(there, port=port, say=_say)
        _explain(installation.connection(there.directory))
        return
    asyncio.run(local_stack.serve(there, port=port, say=_say, ready=_explain_and_stay))
    typer.echo("everything has stopped")


def status(
    data: Data = DEFAULT_DIRECTORY,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the children of the stack; exit code 3 where it is not up."""
    there = installation.find(data)
    state = installation.running_state(there)
    if state is None:
        if as_json:
            typer.echo(json.dumps({"running": False, "data": str(there.directory)}))
            raise typer.Exit(NotRunningError.exit_code)
        installation.connection(there.directory)
        raise NotRunningError(f"the stack of {there.directory} has just stopped")
    if as_json:
        typer.echo(json.dumps({"running": True, "data": str(there.directory), **state}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("child", "pid", "uptime", "restarts", "healthy", box=None)
    now = datetime.now(UTC)
    for name, child in state["children"].items():
        uptime = "" if child["pid"] is None else _duration(now - datetime.fromisoformat(child["started"]))
        healthy = "yes" if child["state"] == "healthy" else f"no: {child['state']}"
        table.add_row(name, str(child["pid"] or ""), uptime, str(child["restarts"]), healthy)
    Console().print(table)
    typer.echo(f"gateway {state['addresses']['gateway']}, made with {state['programme']}, {state['clock']} time")


def down(data: Data = DEFAULT_DIRECTORY) -> None:
    """Stop the stack and wait until all of it is gone."""
    there = installation.find(data)
    if installation.stop(there):
        typer.echo(f"the stack of {there.directory} has stopped")
    else:
        typer.echo(f"the stack of {there.directory} was not up")


def _say(text: str) -> None:
    typer.echo(f"  {text}")


def _explain_and_stay(connection: Connection) -> None:
    _explain(connection)
    typer.echo("Ctrl-C stops it.")


def _explain(connection: Connection) -> None:
    """What a person needs to begin."""
    directory = shlex.quote(str(connection.installation.directory))
    token_keys = connection.installation.token_keys
    first_token, first_id = shlex.quote(str(token_keys.first_token_file)), token_keys.first_token_id()
    typer.echo(
        f"The stack is up, in {connection.installation.clock.value} time, made with the programme "
        f"{connection.installation.programme_version}.\n"
        f"  gateway   {connection.gateway}  (JSON, gRPC-Web and gRPC)\n"
        f"  token     in {first_token} (id {first_id}); `loyalty token` makes others\n"
        f"  mailbox   {connection.installation.mailbox}\n"
        f"  logs      {connection.installation.log}\n"
        "Try it:\n"
        # By standard input: what stands in a command can be read in the list of processes.
        f"  printf 'authorization: Bearer %s' \"$(cat {first_token})\" | curl -H @- {connection.gateway}/v1/programme\n"
        f"Look and stop:\n"
        f"  loyalty status --data {directory}\n"
        f"  loyalty down --data {directory}"
    )


def _duration(passed: timedelta) -> str:
    seconds = max(0, int(passed.total_seconds()))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
