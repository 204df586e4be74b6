"""`make bench`: the speed of the services beside their references (docs/benchmarks.md)."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from services import programme
from services.ledger.config import Config
from tests.benchmarks import notifier, tiers
from tests.benchmarks.figures import DATABASE, FULL_PARTS, Bench, heads, join
from tests.benchmarks.figures import PARTS as LEDGER_PARTS
from tests.benchmarks.results import Figure, Results
from tests.benchmarks.sizes import FULL, ORDINARY, SMOKE
from tests.benchmarks.stack import PARTITIONS, PROGRAMME, ROOT, BenchmarkError, machine, running_stack

PARTS = {**LEDGER_PARTS, **tiers.PARTS, **notifier.PARTS}

# Above this others work on the machine, and figures say little.
_BUSY = 0.5
# A table that is cut off says nothing, so it is as wide on every terminal.
_WIDTH = 175


def main() -> int:
    """Measures, prints the table, writes the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--full", action="store_true", help="with the parts that take half an hour more")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    parser.add_argument("--only", help="these parts alone, with commas: " + ", ".join([*PARTS, *FULL_PARTS]))
    options = parser.parse_args()
    parts = {**PARTS, **FULL_PARTS}
    asked = options.only.split(",") if options.only else list(parts if options.full else PARTS)
    # `tiers` are all of its parts.
    chosen = [part for name in asked for part in parts if name in (part, part.partition(".")[0])]
    if unknown := [name for name in asked if not any(name in (part, part.partition(".")[0]) for part in parts)]:
        parser.error(f"there is no part {', '.join(unknown)}")
    sizes = SMOKE if options.smoke else FULL if options.full else ORDINARY
    console = Console(width=_WIDTH)
    before = machine()
    if before["load_before"] > _BUSY:
        console.print(f"The machine is busy (load {before['load_before']}): figures of now say little.")
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim]  {text}")

    figures: list[Figure] = []
    notes: dict[str, Any] = {}
    try:
        with running_stack() as stack:
            database = stack.database_settings()
            stack.create_database(DATABASE)
            with stack.ledger(DATABASE) as ledger:
                say(f"{sizes.members:,} members join")
                join(stack, ledger, sizes)
                bench = Bench(
                    stack=stack, sizes=sizes, ledger=ledger, joined=heads(stack, ledger), say=say, notes=notes
                )
                for name in chosen:
                    say(name)
                    figures += parts[name](bench)
            if options.smoke:
                say("check")
                stack.check(DATABASE)
    except BenchmarkError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    results = Results(
        figures=figures,
        machine=before,
        settings={
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began),
            "revision": _revision(),
            "parts": chosen,
            "programme": programme.load(PROGRAMME).version,
            "clock": "real",
            "partitions": PARTITIONS,
            "lanes": next(one.default for one in dataclasses.fields(Config) if one.name == "lanes"),
            "sizes": dataclasses.asdict(sizes),
            "database": database,
            **notes,
        },
    )
    path = ROOT / "bench" / ("smoke.json" if options.smoke else "results.json")
    results.write(path)
    results.show(console)
    console.print(f"The same in {path.relative_to(ROOT)}.")
    return 0


def _revision() -> str:
    """The commit that was measured; `-dirty` where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
