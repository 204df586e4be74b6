"""The `loyalty` command. Each group of commands stands in a module of its own and registers itself here."""

from __future__ import annotations

import os
import sys

import structlog
import typer

from services.cli import commands, coupons, master_keys, previewing, programmes, segments, stack, tokens
from services.cli.errors import CommandError

app = typer.Typer(
    help="A self-hosted customer loyalty platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stack.register(app)
tokens.register(app)
master_keys.register(app)
commands.register(app)
programmes.register(app)
coupons.register(app)
segments.register(app)
previewing.register(app)


def main() -> None:
    """Runs the command line: an error is one sentence on standard error and an exit code."""
    # Standard output is for what was asked for.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        app()
    except CommandError as error:
        print(f"loyalty: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # What nobody foresaw: a person is spared the traceback, who looks for the cause asks for it.
        if os.environ.get("LOYALTY_DEBUG"):
            raise
        print(
            f"loyalty: unexpected {type(error).__name__}: {error} (set LOYALTY_DEBUG=1 to see where)", file=sys.stderr
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
