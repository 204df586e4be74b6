"""A YAML document as plain values that know their lines.

YAML 1.2's core schema, and less: no aliases (so no alias bombs and no cycles), no tags, no key twice, keys
are text. `no`, `1:30` and `2026-01-01` are text, `010` is ten. A number with a point stays as it was written
(`Unquoted`): nothing here ever becomes a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.composer import Composer
from yaml.events import AliasEvent
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 20
MAX_NODES: Final = 100_000
"""Keys and values together: 11,000 rates have so many, and are read in three seconds; all else is far less."""
MAX_PROBLEMS: Final = 100

KeyPath = tuple[str | int, ...]
"""Where a value stands: the keys, and the positions (from 0) in lists, that lead to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: what it is, and after a semicolon what would be right. Line 1 is the first."""

    line: int | None
    path: KeyPath
    message: str

    @property
    def sentence(self) -> str:
        """The problem with its place."""
        place = "" if self.line is None else f"line {self.line}: "
        path = f"{format_path(self.path)}: " if self.path else ""
        return f"{place}{path}{self.message}"


class ProgrammeError(Exception):
    """A programme file that can not be used. Its text: a line for each problem, FILE:LINE: key path: sentence."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda p: (p.line or 0, format_path(p.path), p.message)))
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for problem in self.problems[:MAX_PROBLEMS]:
            place = self.source if problem.line is None else f"{self.source}:{problem.line}"
            path = f"{format_path(problem.path)}: " if problem.path else ""
            yield f"{place}: {path}{problem.message}"
        if len(self.problems) > MAX_PROBLEMS:
            yield f"{self.source}: and {len(self.problems) - MAX_PROBLEMS} more; mend these first"


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A number that is no whole number, as it stands in the file."""

    text: str


class Document:
    """The content of one file, and the line of each of its values.

    `content` holds dicts, lists, str, int, bool, None and Unquoted. `problems` are those that leave the
    rest readable; what makes the whole unreadable raises ProgrammeError from the constructor.
    """

    def __init__(self, text: str, source: str) -> None:
        self.problems: list[Problem] = []
        self._lines: dict[KeyPath, int] = {(): 1}
        self._blocks: dict[KeyPath, int] = {}
        try:
            root = _Loader(text).get_single_node()
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            # PyYAML's stubs say int; it is the character itself where the input is text.
            code = error.character if isinstance(error.character, int) else ord(error.character)
            raise ProgrammeError(
                source, [_problem(line, f"the character U+{code:04X} is not allowed in YAML; remove it")]
            ) from None
        except yaml.MarkedYAMLError as error:
            raise ProgrammeError(source, [_syntax_problem(error)]) from None
        if root is None:
            raise ProgrammeError(source, [_problem(1, "the file is empty; a programme is expected")])
        self.content = self._value(root, ())

    def line(self, path: KeyPath) -> int:
        """The line of the value at `path`, or of the nearest one around it that is in the file."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def line_within(self, path: KeyPath, line: int) -> int:
        """The file's line of line `line` of the text at `path`; its first, where that can not be told."""
        return self._blocks[path] + line - 1 if path in self._blocks else self.line(path)

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, path)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                for index, item in enumerate(node.value):
                    self._lines[(*path, index)] = _line(item)
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            case yaml.ScalarNode(tag=str(tag), value=str(value)) if tag in _SCALARS:
                if node.style == "|":
                    self._blocks[path] = _line(node) + 1
                pattern, read = _SCALARS[tag]
                if pattern.match(value):
                    return read(value)
        message = f"the tag {_short(node.tag.replace('tag:yaml.org,2002:', '!!'))} is not allowed here; remove it"
        if node.tag == _ALIAS:
            message = "aliases (*name) are not allowed; write the value out"
        self.problems.append(Problem(line=_line(node), path=path, message=message))
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        content: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self._value(key_node, path)
            if not isinstance(key, str):
                message = f"a key is text; found {found(key)}"
                self.problems.append(Problem(line=_line(key_node), path=path, message=message))
                continue
            here = (*path, key)
            if key in content:
                message = f"this key is already on line {self._lines[here]}; keep one of the two"
                self.problems.append(Problem(line=_line(key_node), path=here, message=message))
                continue
            self._lines[here] = _line(key_node)
            content[key] = self._value(value_node, here)
        return content


def format_path(path: KeyPath) -> str:
    """`tiers.levels[1].from`"""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_short(step)}" for step in path)
    return text.removeprefix(".")


def found(value: object) -> str:
    """A value of a document, as a person would name it: `"abc"`, `300.00 without quotes`, `a list`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"{str(value).lower()} without quotes"
        case int():
            return f"{value} without quotes"
        case Unquoted(text):
            return f"{_short(text)} without quotes"
        case str():
            return json.dumps(_short(value), ensure_ascii=False)
        case list():
            return "a list"
        case _:
            return "a mapping"


def _short(text: str) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:60])
    return printable if len(text) == len(printable) else f"{printable}\N{HORIZONTAL ELLIPSIS}"


class _BeyondBoundsError(yaml.MarkedYAMLError):
    """Valid YAML, and too much of it."""


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """Text to nodes. There is no constructor among its bases: nothing can be made from a tag."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]  # the stubs leave the parser untyped
            return yaml.ScalarNode(_ALIAS, "", alias.start_mark, alias.end_mark)
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH or self._nodes > MAX_NODES:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # as above
            limit = f"nested more than {MAX_DEPTH} deep" if self._depth > MAX_DEPTH else f"more than {MAX_NODES:,}"
            raise _BeyondBoundsError(None, None, f"the values are {limit}; a programme has far fewer", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


# The tag of the node that stands for an alias; no tag in a file can hold a space.
_ALIAS: Final = "an alias"

_Read = Callable[[str], object]
_TRUE: Final = ("true", "True", "TRUE")

# In the order in which a plain scalar is tried. A whole number beyond 18 digits is beyond every bound of a
# programme, and stays as it was written.
_SCALARS: Final[dict[str, tuple[re.Pattern[str], _Read]]] = {
    "tag:yaml.org,2002:null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), lambda _: None),
    "tag:yaml.org,2002:bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), _TRUE.__contains__),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?[0-9]{1,18}\Z"), int),
    "tag:yaml.org,2002:float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        Unquoted,
    ),
    "tag:yaml.org,2002:str": (re.compile(""), str),
}
for _tag, (_pattern, _) in _SCALARS.items():
    if not _tag.endswith(":str"):
        _Loader.add_implicit_resolver(_tag, _pattern, None)


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = " ".join(filter(None, [error.context, error.problem])).replace("\n", " ")
    line = mark.line + 1 if mark else 1
    if isinstance(error, _BeyondBoundsError):
        return _problem(line, what)
    right = "mend the line, or the one before it"
    if "'\\t'" in what:
        right = "indent with spaces, not with tabs"
    elif "mapping values are not allowed" in what:
        right = "put text that holds a colon in quotes, and keep the keys of one mapping below each other"
    elif "expected a single document" in what:
        right = "a file holds one programme: remove the second ---"
    return _problem(line, f"this is not YAML: {what}; {right}")


def _problem(line: int, message: str) -> Problem:
    return Problem(line=line, path=(), message=message)


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
