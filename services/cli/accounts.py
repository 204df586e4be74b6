"""What became of the lines of a file that was taken in, where most of them are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

_SHOWN: Final = 20


@dataclass(slots=True)
class Account:
    """Every line that says something is counted, and either taken or left out with what is wrong with it."""

    lines: int = 0
    taken: int = 0
    # The line, what is wrong with it, and the line that it repeats or looks like (0: none of the file).
    problems: list[tuple[int, str, int]] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How many lines are left out, by what is wrong with them."""
        return Counter(what for _, what, _ in self.problems)

    @property
    def nothing_but_malformed(self) -> bool:
        """Whether no line is what it should be."""
        return self.lines == self.counts()["malformed"]

    def as_json(self) -> dict[str, Any]:
        """The lines and what is left out, for a machine."""
        return {
            "lines": self.lines,
            "left_out": dict(self.counts()),
            "problems": [{"line": line, "what": what, "other_line": other} for line, what, other in self.problems],
        }

    def show_problems(self) -> None:
        """What is left out by count, and the first of those lines."""
        for what, count in sorted(self.counts().items()):
            print(f"  {count:,} left out: {what}")
        for line, what, other in self.problems[:_SHOWN]:
            print(f"    line {line}: {what}" + (f" (line {other})" if other else ""))
        if len(self.problems) > _SHOWN:
            print(f"    and {len(self.problems) - _SHOWN:,} more; --json has them all")
