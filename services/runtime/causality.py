"""Causal tokens: what a write hands out and a read of another service waits for (DESIGN §4).

A token is a vector of offsets, written "3-17.5-2": partition 3 at offset 17, partition 5 at offset 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_TOKEN = re.compile(r"[0-9]{1,5}-[0-9]{1,18}(?:\.[0-9]{1,5}-[0-9]{1,18})*", re.ASCII)


class CausalTokenError(Exception):
    """The causal token is not one that a write gave out."""


def format_token(offsets: Mapping[int, int]) -> str:
    """The token of a vector of offsets; empty for an empty vector."""
    return ".".join(f"{partition}-{offset}" for partition, offset in sorted(offsets.items()))


def parse_token(token: str) -> dict[int, int]:
    """The vector of offsets in a token; raises CausalTokenError where it is none."""
    if not token:
        return {}
    if not _TOKEN.fullmatch(token):
        raise CausalTokenError("this causal token was not given out by a write; send it as it came")
    offsets: dict[int, int] = {}
    for part in token.split("."):
        partition, offset = part.split("-")
        offsets[int(partition)] = max(int(offset), offsets.get(int(partition), 0))
    return offsets


def merge(vectors: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The smallest vector that is not behind any of these."""
    merged: dict[int, int] = {}
    for vector in vectors:
        for partition, offset in vector.items():
            if offset > merged.get(partition, 0):
                merged[partition] = offset
    return merged


def reached(cursors: Mapping[int, int], wanted: Mapping[int, int]) -> bool:
    """Whether cursors stand at or past every offset wanted."""
    return all(cursors.get(partition, 0) >= offset for partition, offset in wanted.items())
