"""Codes as pictures."""

from __future__ import annotations

import io
from typing import Final

import segno

# Of each square, in pixels; with the quiet zone around it that the standard asks for.
_SCALE: Final = 8
_BORDER: Final = 4


def qr(code: str, *, kind: str) -> bytes:
    """A QR code of a text, `png` or `svg`; a quarter of it may be soiled or torn."""
    written = io.BytesIO()
    segno.make_qr(code, error="q").save(written, kind=kind, scale=_SCALE, border=_BORDER)
    return written.getvalue()
