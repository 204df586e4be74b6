"""Pools of codes that were made elsewhere: what is a code, which are alike, and what an import makes of its lines."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

# Letters and digits, and single dashes between them. Too few of them could be guessed.
_CODE: Final = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)*", re.ASCII)
_FEWEST: Final = 6
_MOST: Final = 64
# What people mix up is one and the same here: who reads a code aloud or types it in means either.
_ALIKE: Final = str.maketrans("OILZSB", "011258", "-")


class CodeProblem(enum.StrEnum):
    """Why a line of an import is left out."""

    MALFORMED = "malformed"
    DUPLICATE = "duplicate"
    LOOK_ALIKE = "look_alike"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCode:
    """A code of a pool, and the line of the import that brought it. `folded` is what all codes that look like it
    share."""

    folded: str
    code: str
    import_id: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemLine:
    """A line that is left out. `other_line`: the line of the same import that it repeats or looks like, else 0."""

    line: int
    problem: CodeProblem
    other_line: int = 0


def folded(text: str) -> str:
    """What a code is known by: without case, dashes, and what tells look-alikes apart."""
    return text.strip().upper().translate(_ALIKE)


def printed(text: str) -> str | None:
    """A line as the code that it is, in capitals; None where it is none."""
    code = text.strip().upper()
    letters = len(code) - code.count("-")
    return code if len(code) <= _MOST and letters >= _FEWEST and _CODE.fullmatch(code) else None


def read_lines(lines: Iterable[str], *, import_id: str, first_line: int) -> tuple[list[PoolCode], list[ProblemLine]]:
    """The codes of a part of an import, each once, and the lines that are left out for what stands in this part.

    An empty line is neither.
    """
    codes: dict[str, PoolCode] = {}
    problems: list[ProblemLine] = []
    for line, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        code = printed(text)
        if code is None:
            problems.append(ProblemLine(line=line, problem=CodeProblem.MALFORMED))
            continue
        new = PoolCode(folded=folded(code), code=code, import_id=import_id, line=line)
        first = codes.setdefault(new.folded, new)
        if first is not new:
            problems.append(clash(new, first))
    return list(codes.values()), problems


def against_kept(codes: Iterable[PoolCode], kept: Mapping[str, PoolCode]) -> tuple[list[PoolCode], list[ProblemLine]]:
    """Those of the codes that are in the pool by this very line, and the lines that are left out for what was there
    before, by what codes are known by."""
    taken: list[PoolCode] = []
    problems: list[ProblemLine] = []
    for code in codes:
        there = kept[code.folded]
        if (there.import_id, there.line) == (code.import_id, code.line):
            taken.append(code)
        else:
            problems.append(clash(code, there))
    return taken, problems


def clash(new: PoolCode, first: PoolCode) -> ProblemLine:
    """What is wrong with a line whose code, or one that looks like it, was there first."""
    same = new.code.replace("-", "") == first.code.replace("-", "")
    return ProblemLine(
        line=new.line,
        problem=CodeProblem.DUPLICATE if same else CodeProblem.LOOK_ALIKE,
        other_line=first.line if first.import_id == new.import_id else 0,
    )
