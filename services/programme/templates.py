"""The messages' templates: Jinja in a sandbox, cut down so far that a template that loads always renders.

A template may print the variables, put them through a filter without arguments, join them with `~`, choose
with `if`, `and`, `or`, `not`, `==` and `!=`, and carry comments. No loops, calls, arithmetic or attributes:
what these could do wrong would show only when the message is due, and to one member.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment

from services.programme.campaigns import TriggerKind
from services.programme.messages import Message

POINTS_BALANCE: Final = "points_balance"
OF_MEMBERS: Final = (POINTS_BALANCE, "tier")
"""What messages know of their member."""
_ALWAYS: Final = ("currency", "member_id", "name", "programme", "unsubscribe_url", *OF_MEMBERS)
OF_OCCASIONS: Final[Mapping[TriggerKind, tuple[str, ...]]] = {
    TriggerKind.TIER_REACHED: ("balance", "previous_tier"),
    TriggerKind.TIER_LOST: ("balance", "previous_tier"),
    TriggerKind.TIER_AT_RISK: ("day",),
    TriggerKind.POINTS_EXPIRING: ("day", "points"),
    TriggerKind.ANNIVERSARY: ("years",),
    TriggerKind.INACTIVITY: ("days",),
    TriggerKind.COUPON_EXPIRING: ("code", "day"),
    TriggerKind.PROGRAMME_CHANGE: ("version",),
}
"""What messages know of what set them off."""
OF_GIFTS: Final[Mapping[str, tuple[str, ...]]] = {
    "coupon": ("code", "discount", "valid_until"),
    "points": ("points",),
    "badge": ("badge",),
    "survey": ("survey_link",),
}
"""What messages know of what is given with them; of a survey where it has a link."""
VARIABLES: Final = tuple(sorted({*_ALWAYS}.union(*OF_OCCASIONS.values(), *OF_GIFTS.values())))
"""All that templates may use."""
FILTERS: Final = ("capitalize", "lower", "title", "trim", "upper")

_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Filter, nodes.Concat,
    nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip


def _environment(*, html: bool) -> SandboxedEnvironment:
    return SandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, autoescape=html
    )


_TEXT: Final = _environment(html=False)
# What a value holds is shown as it stands, and is never a tag.
_HTML: Final = _environment(html=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateMistake:
    """What is wrong in a template, and on which of its lines (1 is the first)."""

    line: int
    message: str


_TOO_DEEP: Final = TemplateMistake(line=1, message="the template is nested too deep; make it simpler")


def known(trigger: TriggerKind, gifts: Collection[str]) -> frozenset[str]:
    """The variables that a message of this trigger has, with these of OF_GIFTS; all others are empty in it."""
    return frozenset(_ALWAYS).union(OF_OCCASIONS.get(trigger, ()), *(OF_GIFTS[gift] for gift in gifts))


def used(template: str) -> Iterator[tuple[str, int]]:
    """The variables that a template uses, each with its line, in no order; none where it can not be read."""
    try:
        tree = _TEXT.parse(template)
        for name in tree.find_all(nodes.Name):
            yield name.name, name.lineno
    except (TemplateSyntaxError, RecursionError):
        return


def asked(template: str) -> set[str]:
    """The variables by which a template chooses its words: it knows that they may be empty."""
    try:
        tree = _TEXT.parse(template)
        tests = [choice.test for choice in tree.find_all(nodes.If)]
        tests += [choice.test for choice in tree.find_all(nodes.CondExpr)]
        # `find_all` looks below a node, and a test may be a name itself.
        return {name.name for name in nodes.Output(tests).find_all(nodes.Name)}
    except (TemplateSyntaxError, RecursionError):
        return set()


def check(template: str, *, html: bool = False) -> list[TemplateMistake]:
    """All that is wrong in a template; empty when `render` can not fail on it."""
    environment = _HTML if html else _TEXT
    try:
        tree = environment.parse(template)
    except TemplateSyntaxError as error:
        what = (error.message or "unreadable").rstrip(".")
        return [TemplateMistake(line=error.lineno, message=f"the template is broken: {what}; mend it")]
    except RecursionError:
        return [_TOO_DEEP]
    mistakes = []
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        message = _mistake(node)
        if message is not None:
            mistakes.append(TemplateMistake(line=node.lineno, message=message))
        if isinstance(node, _ALLOWED):
            waiting.extend(node.iter_child_nodes())
    if not mistakes:
        try:
            environment.compile(tree)
        except (RecursionError, SyntaxError):
            return [_TOO_DEEP]
    return sorted(mistakes, key=lambda mistake: (mistake.line, mistake.message))


def render(message: Message, values: Mapping[str, str]) -> Message:
    """The message as the member reads it. `values` has every name of VARIABLES; one not known is "".

    The subject comes back on one line, whatever the values hold, so that it can not grow mail headers; in HTML values
    are text and nothing else.
    Raises ValueError where a value is missing.
    """
    missing = sorted(set(VARIABLES) - values.keys())
    if missing:
        raise ValueError(f"no value for {', '.join(missing)}")
    return Message(
        subject=" ".join(_compiled(message.subject).render(values).split()),
        text=_compiled(message.text).render(values),
        html=_compiled(message.html, html=True).render(values) if message.html else "",
    )


@lru_cache(maxsize=512)
def _compiled(template: str, *, html: bool = False) -> Template:
    return (_HTML if html else _TEXT).from_string(template)


def _mistake(node: nodes.Node) -> str | None:
    match node:
        case nodes.Name(name=str(name)) if name not in VARIABLES:
            close = get_close_matches(name, VARIABLES, n=1)
            right = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(VARIABLES)}"
            return f'unknown variable "{name}"; {right}'
        case nodes.Filter(name=name) if name not in FILTERS or node.args or node.kwargs or node.node is None:
            return f'no filter "{name}" like this; there are {", ".join(FILTERS)}, without arguments'
        case nodes.Operand(op=op) if op not in ("eq", "ne"):
            return f'the comparison "{op}" is not available; all values are text: compare with == or !='
        case nodes.CondExpr(expr2=None):
            return '"if" inside {{ }} has no else; add one, "" for nothing'
        case _ if not isinstance(node, _ALLOWED):
            kind = type(node).__name__.lower()
            return f'"{kind}" is not available; use variables, filters and if'
        case _:
            return None
