"""What is kept whole, as JSON: frozen dataclasses out and in, by their annotations."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def pack(value: Any) -> str:
    """A dataclass as JSON text. Fields hold text, whole numbers, truths, times, enumerations, tuples and mappings of
    such, dataclasses, or nothing."""
    return json.dumps(dataclasses.asdict(value), default=_plain, ensure_ascii=False, separators=(",", ":"))


def unpack(kind: type[T], text: str) -> T:
    """The dataclass that `pack` wrote; fields that it did not know yet have their defaults."""
    read: T = _read(kind, json.loads(text))
    return read


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is nothing that is kept")


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not types.NoneType)
        origin = get_origin(kind)
    if origin is tuple:
        return tuple(_read(get_args(kind)[0], one) for one in value)
    if origin is not None:
        return dict(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _fields(kind)
        return kind(**{name: _read(hints[name], one) for name, one in value.items()})
    if issubclass(kind, datetime):
        return datetime.fromisoformat(value)
    return kind(value) if issubclass(kind, enum.Enum) else value
