"""The programme file: what it may say (`schema`), and what that means (`model`)."""

from __future__ import annotations

from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import Problem, ProgrammeError
from services.programme.model import (
    BASIS_POINTS,
    Adjustments,
    Base,
    Bonus,
    Campaign,
    CouponAction,
    Earning,
    Expiry,
    ExpiryPolicy,
    Level,
    Liability,
    Message,
    PointValue,
    Programme,
    Redemption,
    Shortfall,
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
    "Adjustments",
    "Base",
    "Bonus",
    "Campaign",
    "CouponAction",
    "Earning",
    "Expiry",
    "ExpiryPolicy",
    "Level",
    "Liability",
    "Message",
    "PointValue",
    "Problem",
    "Programme",
    "ProgrammeError",
    "Redemption",
    "Shortfall",
    "TierPolicy",
    "Window",
    "format_amount",
    "format_percent",
    "load",
    "parse",
    "points_for",
    "render",
]
