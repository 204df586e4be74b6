"""`loyalty master-key-rotate`: the key that contact data is encrypted with changes, and everything runs on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli.errors import CommandError
from services.cli.installation import DEFAULT_DIRECTORY, Installation, find, new_key, running

# What was being written when the new key came is under it by then; see the notifier's rotation.
SETTLED_SECONDS: Final = 60.0
_LOOK_SECONDS = 0.5
# Without any progress for so long nobody is at it.
_STUCK_SECONDS = 60.0


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command("master-key-rotate")(rotate)


def rotate(
    drop_old: Annotated[
        bool,
        typer.Option("--drop-old", help="Make no new key, but remove the older ones once nothing needs them."),
    ] = False,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The folder of the installation.")
    ] = DEFAULT_DIRECTORY,
) -> None:
    """Make a new master key for contact data. Members' keys are wrapped anew while everything runs."""
    installation = find(data)
    if drop_old:
        _drop_old(installation)
    else:
        add(installation)
        typer.echo(
            "the new master key wraps members' keys now; older ones are needed until all are wrapped anew: then "
            "`loyalty master-key-rotate --drop-old` removes them"
        )


def add(installation: Installation) -> None:
    """Puts a new key before those that are there."""
    from services.cli.postgres import write_secret

    write_secret(installation.master_key_file, "\n".join([new_key(), *_lines(installation)]))


def _drop_old(installation: Installation) -> None:
    from services.cli.postgres import write_secret

    newest, *older = _lines(installation)
    if not older:
        typer.echo("there is one master key, and no older one")
        return
    with running(installation.directory, say=lambda text: typer.echo(text, err=True)):
        young = installation.master_key_file.stat().st_mtime + SETTLED_SECONDS - time.time()
        if young > 0:
            typer.echo(f"the newest key is young: waiting for {young:.0f} s", err=True)
            time.sleep(young)
        asyncio.run(_until_needless(installation))
        if _lines(installation) != [newest, *older]:
            raise CommandError("the master keys were changed meanwhile; nothing was removed, try again")
        write_secret(installation.master_key_file, newest)
    typer.echo(f"{len(older)} older master {'key is' if len(older) == 1 else 'keys are'} removed; backups need them")


async def _until_needless(installation: Installation) -> None:
    """Returns when no key needs an older master key; raises CommandError where it does not get so."""
    from services.cli.postgres import Cluster
    from services.notifier.store import Store, Transaction
    from services.notifier.vault import read_master_keys
    from services.runtime.database import create_pool

    newest_id = read_master_keys(installation.master_key_file)[0].key_id

    async def count(transaction: Transaction) -> int:
        return await transaction.count_keys_of_older(newest_id)

    pool = await create_pool(
        Cluster(installation.directory).dsn("loyalty_notifier"), service="master-key-rotate", size=1
    )
    try:
        least, since = None, time.monotonic()
        while left := await Store(pool).read(count):
            if least is None or left < least:
                least, since = left, time.monotonic()
            elif time.monotonic() - since > _STUCK_SECONDS:
                raise CommandError(
                    f"{left} keys need an older master key and are not wrapped anew; see "
                    f"{installation.log}/notifier.log"
                )
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await pool.close()


def _lines(installation: Installation) -> list[str]:
    """The keys as they stand in the file, newest first; raises CommandError where it holds none."""
    from services.notifier.errors import InstallationError
    from services.notifier.vault import read_master_keys

    path = installation.master_key_file
    try:
        read_master_keys(path)
    except InstallationError as error:
        raise CommandError(f"{error}; restore it from a backup") from None
    return path.read_text(encoding="ascii").split()
