"""`loyalty secrets`: the secrets of an installation whose parts run apart, made in one folder, handed out by parts.

DIR/keys/       what nobody but this command reads: the authority's key, keys that sign tokens, passwords, master key,
                the key of identifiers
DIR/ledger/, tiers/, notifier/   certificate.pem, key.pem, authority.pem, token-keys.json, revoked-tokens, pgpass;
                the notifier's master-key and the ledger's identifier-key, too
DIR/gateway/    certificate.pem, key.pem, authority.pem, token-keys.json, token-filter.json
DIR/owner/      pgpass of the role that migrates
DIR/postgres/   a file with a password for each role
DIR/caller/     first-token

Each part is given its own folder and nothing else. Files are replaced by a rename, so that whoever watches the folder
takes up what has changed; for that the folder must be shared with the part, not a file of it.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from services.cli.certificates import LocalAuthority
from services.cli.errors import CommandError
from services.cli.installation import new_key
from services.cli.postgres import DATABASE, OWNER, ROLES, SUPERUSER, make_private, write_changed_secret, write_secret
from services.cli.token_keys import TokenKeys

SERVICES: Final = ("ledger", "tiers", "notifier")
# `caller` holds the first token, `owner` what the migrations need.
PARTS: Final = (*SERVICES, "gateway", "owner", "postgres", "caller")

_PASSWORD_BYTES = 24


class Handout:
    """The secrets of a folder, and what each part is given of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys = folder / "keys"

    @property
    def token_keys(self) -> TokenKeys:
        """What signs and revokes tokens."""
        return TokenKeys(self._keys, run=self._folder / "gateway")

    @property
    def exists(self) -> bool:
        """Whether there is anything to hand out."""
        return self._keys.is_dir()

    def ready(self) -> None:
        """Makes what is missing, renews what ends soon, and hands all of it out."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("keys", *PARTS):
                # A volume is there already, and belongs to who may write to it.
                make_private(self._folder / name)
            self._authority.ready()
            self.token_keys.ready()
            for role in (SUPERUSER, *ROLES):
                self._make(f"database-{role}", secrets.token_hex(_PASSWORD_BYTES))
            self._make("master-key", new_key())
            self._make("identifier-key", new_key())
            self.hand_out()
        except OSError as error:
            raise CommandError(f"{error.filename or self._folder} cannot be written: {error.strerror}") from None

    def hand_out(self) -> None:
        """Gives every part what has changed."""
        # Two at once could hand out in the wrong order, and take a revocation back.
        with self.token_keys.locked():
            self._hand_out()

    def _hand_out(self) -> None:
        for name in (*SERVICES, "gateway"):
            files = self._authority.files(name)
            given = {"certificate.pem": files.certificate, "key.pem": files.key, "authority.pem": files.authority}
            given["token-keys.json"] = self.token_keys.key_set_file
            for file_name, source in given.items():
                self._give(name, file_name, _read(source))
        for name in SERVICES:
            self._give(name, "revoked-tokens", _read(self.token_keys.revoked_file))
            self._give(name, "pgpass", self._pgpass(f"loyalty_{name}"))
        self._give("notifier", "master-key", _read(self._keys / "master-key"))
        self._give("ledger", "identifier-key", _read(self._keys / "identifier-key"))
        self._give("owner", "pgpass", self._pgpass(OWNER))
        for role in (SUPERUSER, *ROLES):
            self._give("postgres", role, self._password(role))
        self._give("caller", "first-token", _read(self.token_keys.first_token_file))

    @property
    def _authority(self) -> LocalAuthority:
        return LocalAuthority(self._keys / "tls")

    def _make(self, name: str, content: str) -> None:
        path = self._keys / name
        if not path.exists():
            write_secret(path, content)

    def _password(self, role: str) -> str:
        return _read(self._keys / f"database-{role}")

    def _pgpass(self, role: str) -> str:
        """A line of a password file as libpq and asyncpg read it, for whatever host the database has."""
        return f"*:*:{DATABASE}:{role}:{self._password(role)}"

    def _give(self, part: str, name: str, content: str) -> None:
        write_changed_secret(self._folder / part / name, content)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
