"""Configuration from the environment into frozen dataclasses.

A service declares a frozen dataclass; each field is read from `LOYALTY_<FIELD>` in upper case. All that is missing or
wrong is reported at once, so that one start tells an operator everything.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

PREFIX = "LOYALTY_"

T = TypeVar("T")


class ConfigurationError(Exception):
    """The environment does not give what the service needs."""


def setting(*, default: Any = dataclasses.MISSING, minimum: int = 0, maximum: int = 2**31) -> Any:
    """A field of a configuration; `minimum` and `maximum` bound it where it is an integer."""
    return dataclasses.field(default=default, metadata={"minimum": minimum, "maximum": maximum})


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Reads a configuration; raises ConfigurationError with one line per problem."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every configuration is a dataclass
        name = PREFIX + field.name.upper()
        text = environ.get(name, "").strip()
        if not text:
            if field.default is dataclasses.MISSING:
                problems.append(f"{name} is not set")
            continue
        try:
            values[field.name] = _parse(text, hints[field.name], field.metadata)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigurationError("; ".join(problems))
    return cls(**values)


def _parse(text: str, wanted: Any, limits: Mapping[str, int]) -> Any:
    if wanted is int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no whole number") from None
        if not limits.get("minimum", number) <= number <= limits.get("maximum", number):
            raise ValueError(f"{number} is not from {limits['minimum']} to {limits['maximum']}")
        return number
    if wanted in (Path, Path | None):
        path = Path(text)
        if not path.is_file():
            raise ValueError(f"there is no file {text}")
        return path
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        try:
            return wanted(text)
        except ValueError:
            raise ValueError(f"{text!r} is none of {', '.join(str(m.value) for m in wanted)}") from None
    return text


KEY_BYTES: Final = 32


def read_key(path: Path) -> bytes:
    """A key kept in a file: 32 bytes in base64."""
    try:
        key = base64.b64decode(read_secret(path), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"the file {path} holds no key: {KEY_BYTES} bytes in base64 are expected")
    return key


def read_secret(path: Path) -> str:
    """A secret kept in a file, without the line end."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"the secret in {path} cannot be read: {error.strerror}") from None
    if not secret:
        raise ConfigurationError(f"the file {path} is empty; it should hold a secret")
    return secret
