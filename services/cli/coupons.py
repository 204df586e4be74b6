"""`loyalty coupons`: takes codes in that were made elsewhere, and draws codes as pictures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from services.cli import installation
from services.cli.accounts import Account
from services.cli.commands import AsJson, Data, interruptible
from services.cli.errors import CommandError, UsageError
from services.cli.installation import DEFAULT_DIRECTORY, Connection

# Lines of a part, as many as the contract takes, and parts under way at once.
_PART: Final = 10_000
_AT_ONCE: Final = 2
# What is longer is no code, whatever follows.
_LONGEST_LINE: Final = 256

group = typer.Typer(help="Coupons and their codes.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.add_typer(group, name="coupons")


@group.command("import")
def import_codes(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool that they go to.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A code in each line.")],
    data: Data = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Take in codes that were made elsewhere, so that coupons are given by them. Doing it again changes nothing.

    Tells of each line that is left out: no code, there already, or like one that is.
    """
    there = installation.find(data)
    with (
        interruptible("interrupted; the same command goes on where it was"),
        installation.running(there.directory) as up,
    ):
        account = asyncio.run(_import(up, pool, file))
    if as_json:
        print(json.dumps({"pool": pool, "imported": account.taken, **account.as_json()}))
    else:
        are = "is" if account.taken == 1 else "are"
        print(f"{account.taken:,} of {account.lines:,} lines {are} in the pool {pool}")
        account.show_problems()
    if account.nothing_but_malformed:
        raise UsageError(
            f"{file} has no codes: it needs one in each line, 6 to 64 letters and digits with single dashes"
        )


@group.command()
def qr(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code of a coupon.")],
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the PNG goes.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the SVG goes.")] = None,
    data: Data = DEFAULT_DIRECTORY,
) -> None:
    """Draw the code of a coupon as a QR code, for a mail or for print."""
    if png is None and svg is None:
        raise UsageError("say where the picture goes: --png FILE or --svg FILE")
    there = installation.find(data)
    with interruptible("interrupted"), installation.running(there.directory) as up:
        for file, kind in ((png, "QR_FORMAT_PNG"), (svg, "QR_FORMAT_SVG")):
            if file is not None:
                _write(file, asyncio.run(_drawn(up, code, kind)))


async def _import(up: Connection, pool: str, file: Path) -> Account:
    from loyalty.notifier.v1 import coupon_pb2

    from services.cli import remote

    words = {
        coupon_pb2.CODE_PROBLEM_KIND_MALFORMED: "malformed",
        coupon_pb2.CODE_PROBLEM_KIND_DUPLICATE: "duplicate",
        coupon_pb2.CODE_PROBLEM_KIND_LOOK_ALIKE: "looks like another",
    }
    account = Account()
    async with _rewards(up) as stub:

        async def send(first_line: int, codes: list[str]) -> Any:
            request = coupon_pb2.ImportCodesRequest(
                # Of its pool: so it need not name it.
                request_id=f"{digest[:32]}-{first_line}",
                pool=pool,
                import_id=digest,
                first_line=first_line,
                codes=codes,
            )
            return await remote.call(stub.ImportCodes, request)

        try:
            with file.open("rb") as source:
                begin = _begin(source)
                source.seek(begin)
                digest = hashlib.file_digest(source, "sha256").hexdigest()
                source.seek(begin)
                parts = _parts(source)
                while some := list(islice(parts, _AT_ONCE)):
                    # In this order, so that of two lines that are alike in two parts the first one mostly stays.
                    for answer in await remote.together(send(first, codes) for first, codes in some):
                        account.taken += answer.imported
                        account.problems += [(one.line, words[one.kind], one.other_line) for one in answer.problems]
                    account.lines += sum(bool(code) for _, codes in some for code in codes)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror or error}") from None
    return account


def _begin(source: BinaryIO) -> int:
    """Where the first line begins: spreadsheets put a byte-order mark before it, which belongs to no code."""
    return len(BOM_UTF8) if source.read(len(BOM_UTF8)) == BOM_UTF8 else 0


def _parts(source: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """The file in parts: the number of the first line of each, from 1, and its lines."""
    first = 1
    while lines := list(islice(source, _PART)):
        yield first, [line.decode(errors="replace").strip()[:_LONGEST_LINE] for line in lines]
        first += len(lines)


async def _drawn(up: Connection, code: str, kind: str) -> bytes:
    from loyalty.notifier.v1 import coupon_pb2

    from services.cli import remote

    request = coupon_pb2.GetCouponRequest(code=code, qr=kind)
    async with _rewards(up) as stub:
        return bytes((await remote.call(stub.GetCoupon, request)).qr)


@contextlib.asynccontextmanager
async def _rewards(up: Connection) -> AsyncIterator[Any]:
    """The rewards and coupons of a running stack."""
    from loyalty.notifier.v1 import coupon_pb2_grpc

    from services.cli import remote

    channel = remote.open_service(up, "notifier")
    try:
        yield coupon_pb2_grpc.RewardServiceStub(channel)
    finally:
        await channel.close()


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror or error}") from None
