"""A picture of members by tier over time, for a terminal: stacked columns, told apart by shade and by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

ROWS: Final = 14
_COLUMN = "██"
# Shades from the lowest tier to the highest: readable without colour.
_SHADES: Final = ("░", "▒", "▓", "█")
_STYLES: Final = ("white", "green", "bright_blue", "yellow")
_AXIS = 7


def style_of(tier: int) -> str:
    """The colour of a tier, by its place from 0."""
    return _STYLES[tier % len(_STYLES)]


def chart(columns: Sequence[tuple[str, Mapping[str, int]]], *, rows: int = ROWS) -> Text:
    """Stacked columns with an axis and a legend; of each, its label (4 characters at most) and members by tier.

    The lowest tier stands at the bottom. A tier with a member is seen, be it ever so small.
    """
    tiers = list(columns[-1][1]) if columns else []
    most = max((sum(counts.values()) for _, counts in columns), default=0)
    stacks = [stack([counts.get(tier, 0) for tier in tiers], most, rows) for _, counts in columns]
    picture = Text()
    for row in range(rows, 0, -1):
        at = most * row // rows
        labelled = row == rows or row == rows // 2
        picture.append(f"{at:>{_AXIS - 2},} ┤" if labelled else " " * (_AXIS - 1) + "│", style="dim")
        for heights in stacks:
            picture.append("  ")
            picture.append(*_cell(heights, row))
        picture.append("\n")
    picture.append(" " * (_AXIS - 1) + "└" + "─" * (4 * len(columns) + 1) + "\n", style="dim")
    picture.append(" " * (_AXIS + 1) + "".join(f"{label:<4}" for label, _ in columns).rstrip() + "\n", style="dim")
    picture.append(" " * (_AXIS + 1))
    for number, tier in enumerate(tiers):
        picture.append(_SHADES[number % len(_SHADES)] * 2, style=style_of(number))
        picture.append(f" {tier} {columns[-1][1][tier]:,}   ")
    picture.rstrip()
    return picture


def stack(counts: Sequence[int], most: int, rows: int) -> list[int]:
    """How many rows each tier takes: by largest remainder, so that they add up, and at least one where there is any."""
    total = sum(counts)
    if not total or not most:
        return [0] * len(counts)
    height = max(1, round(rows * total / most))
    exact = [count * height / total for count in counts]
    heights = [int(one) for one in exact]
    by_remainder = sorted(range(len(counts)), key=lambda place: heights[place] - exact[place])
    for place in by_remainder[: height - sum(heights)]:
        heights[place] += 1
    for place, count in enumerate(counts):
        tallest = max(range(len(heights)), key=heights.__getitem__)
        if count and not heights[place] and heights[tallest] > 1:
            heights[place] += 1
            heights[tallest] -= 1
    return heights


def _cell(heights: Sequence[int], row: int) -> tuple[str, str]:
    top = 0
    for number, height in enumerate(heights):
        top += height
        if row <= top:
            return _SHADES[number % len(_SHADES)] * len(_COLUMN), style_of(number)
    return " " * len(_COLUMN), ""
