"""`loyalty token`, `token-revoke`, `token-rotate`: who may call, and for how long; `loyalty secrets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from services.cli.display import time_text
from services.cli.errors import UsageError
from services.cli.installation import DEFAULT_DIRECTORY, find

if TYPE_CHECKING:
    from services.cli.token_keys import TokenKeys

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of the installation.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(token)
    app.command("token-revoke")(revoke)
    app.command("token-rotate")(rotate)
    app.command()(secrets)


def token(
    role: Annotated[
        list[str],
        typer.Option("--role", metavar="ROLE", help="pos, backend, support, analyst or ops; may be repeated."),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Who the bearer is, as entries name it (default: the role).")
    ] = "",
    store: Annotated[str, typer.Option(metavar="STORE", help="Bind a till to this store.")] = "",
    terminal: Annotated[str, typer.Option(metavar="TERMINAL", help="The till within its store.")] = "",
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it lasts: 45m, 8h, 90d.")] = "8h",
    delegates: Annotated[
        bool, typer.Option("--delegates", help="The bearer may act for others, whom it names in x-on-behalf-of.")
    ] = False,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Make a bearer token. It stands alone on standard output; its id, for token-revoke, is told beside it."""
    from services.cli.token_keys import read_ttl

    issued = _ready(data).token_keys.issue(
        principal=name or _name_of(role, store, terminal),
        roles=role,
        ttl=read_ttl(ttl),
        store=store,
        terminal=terminal,
        delegates=delegates,
    )
    typer.echo(issued.token)
    typer.echo(f"id {issued.token_id}, until {time_text(issued.expires)}", err=True)


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `loyalty token` told.")],
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Revoke a token by its id: within five seconds nobody is let in by it."""
    there = _ready(data)
    new = there.token_keys.revoke(token_id)
    there.hand_out()
    typer.echo(f"the token {token_id} {'is' if new else 'was already'} revoked")


def rotate(
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Tokens that were signed before are worth nothing from now on.")
    ] = False,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Make a new key that signs tokens from now on; what older keys have signed is accepted until it expires."""
    there = _ready(data)
    key_id = there.token_keys.rotate(drop_old=drop_old)
    # The one to begin with may be signed by a key that is gone.
    there.token_keys.ready()
    there.hand_out()
    typer.echo(f"the key {key_id} signs tokens now; older keys are {'dropped' if drop_old else 'accepted on'}")


def secrets(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder of the secrets.")],
    show_token: Annotated[bool, typer.Option("--show-token", help="Print the token to begin with, alone.")] = False,
) -> None:
    """Make the secrets of an installation whose parts run apart, and a folder of them for each part.

    Done again it keeps what is there, and renews the first token and certificates that end soon.
    """
    from services.cli.handout import PARTS, Handout

    handout = Handout(data.resolve())
    handout.ready()
    if show_token:
        typer.echo(handout.token_keys.first_token())
    else:
        typer.echo(f"all secrets are in {data}: a folder for each of {', '.join(PARTS)}")


class _Holder(Protocol):
    """Who holds the keys of tokens: an installation, or the secrets of one whose parts run apart."""

    @property
    def token_keys(self) -> TokenKeys:
        """What signs and revokes tokens."""

    def hand_out(self) -> None:
        """Gives those who check tokens what has changed."""


def _ready(data: Path) -> _Holder:
    from services.cli.handout import Handout

    handout = Handout(data.resolve())
    holder: _Holder = handout if handout.exists else find(data)
    holder.token_keys.ready()
    return holder


def _name_of(roles: list[str], store: str, terminal: str) -> str:
    """A principal for who was not named: `pos-17-3`."""
    if len(roles) > 1:
        raise UsageError("a token of several roles needs a name: --name NAME")
    return "-".join([roles[0], *(place.lower() for place in (store, terminal) if place)])
