"""The programme file: what it may say (`schema`), and what that means (`model`)."""

from __future__ import annotations

from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import Problem, ProgrammeError
from services.programme.model import (
    BASIS_POINTS,
    Base,
    Campaign,
    CouponAction,
    Earning,
    Level,
    Message,
    Programme,
    TierPolicy,
    Window,
    format_amount,
    format_percent,
    points_for,
)
from services.programme.schema import load, parse
from services.programme.templates import VARIABLES, render

__all__ = [
    "BASIS_POINTS",
    "MINOR_UNIT_DIGITS",
    "VARIABLES",
    "Base",
    "Campaign",
    "CouponAction",
    "Earning",
    "Level",
    "Message",
    "Problem",
    "Programme",
    "ProgrammeError",
    "TierPolicy",
    "Window",
    "format_amount",
    "format_percent",
    "load",
    "parse",
    "points_for",
    "render",
]
