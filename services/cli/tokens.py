"""`loyalty token`, `token-revoke`, `token-rotate`: who may call, and for how long; `loyalty secrets`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from services.cli.display import time_text
from services.cli.errors import CommandError, UsageError
from services.cli.installation import DEFAULT_DIRECTORY, find

if TYPE_CHECKING:
    from services.cli.token_keys import TokenKeys

# Put together by dashes such words stay apart: two tills do not share a name.
_WORD = re.compile(r"[a-z0-9]+", re.ASCII)

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
        str | None, typer.Option(metavar="NAME", help="Who the bearer is, as entries name it (default: the role).")
    ] = None,
    store: Annotated[str | None, typer.Option(metavar="STORE", help="Bind a till to this store.")] = None,
    terminal: Annotated[str | None, typer.Option(metavar="TERMINAL", help="The till within its store.")] = None,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it lasts: 45m, 8h, 90d.")] = "8h",
    delegates: Annotated[
        bool, typer.Option("--delegates", help="The bearer may act for others, whom it names in x-on-behalf-of.")
    ] = False,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Make a bearer token. It stands alone on standard output; its id, for token-revoke, is told beside it."""
    from services.cli.certificates import NAMES
    from services.cli.token_keys import read_ttl

    # An empty one is a variable that was not set, and a till would speak for every store.
    for option, given in (("--name", name), ("--store", store), ("--terminal", terminal)):
        if given == "":
            raise UsageError(f"{option} is empty; give it a value, or leave it out")
    # Entries by them are this command's own, or nobody's.
    if name in NAMES:
        raise UsageError(f"{name} is a part of the platform; give the bearer another name")
    with _in_words(data):
        issued = _ready(data).token_keys.issue(
            principal=name or _name_of(role, store or "", terminal or ""),
            roles=role,
            ttl=read_ttl(ttl),
            store=store or "",
            terminal=terminal or "",
            delegates=delegates,
        )
    typer.echo(issued.token)
    typer.echo(f"id {issued.token_id}, until {time_text(issued.expires)}", err=True)


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `loyalty token` told.")],
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Revoke a token by its id: within five seconds nobody is let in by it."""
    with _in_words(data):
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
    with _in_words(data):
        there = _ready(data)
        key_id = there.token_keys.rotate(drop_old=drop_old)
        there.hand_out()
    older = "are dropped" if drop_old else "sign no more, and what they have signed is accepted until it expires"
    typer.echo(f"the key {key_id} signs tokens now; older keys {older}")


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


@contextlib.contextmanager
def _in_words(data: Path) -> Iterator[None]:
    """A sentence where the folder, or a file in it, cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"{error.filename or data} cannot be used: {error.strerror}; run the command as the owner of {data}"
        ) from None


def _name_of(roles: list[str], store: str, terminal: str) -> str:
    """A principal for who was not named: `pos-17-3`."""
    if len(roles) > 1:
        raise UsageError("a token of several roles needs a name: --name NAME")
    places = [place for place in (store, terminal) if place]
    if strange := [place for place in places if not _WORD.fullmatch(place)]:
        raise UsageError(f"no name can be made of {strange[0]!r}, which is not small letters and digits: --name NAME")
    return "-".join([roles[0], *places])
