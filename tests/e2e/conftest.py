"""The command line, for the tests here; their stack, `live`, is the one of all tests."""

from __future__ import annotations

from tests.conftest import LOYALTY, loyalty

__all__ = ["LOYALTY", "loyalty"]
