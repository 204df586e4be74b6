"""What every use case of the notifier asks of a request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.notifier.service.requests import lies_ahead

NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(("simulated", "tolerated"), [(False, timedelta(minutes=5)), (True, timedelta(days=2))])
def test_a_callers_clock_may_run_ahead_as_far_as_the_ledger_lets_it(simulated: bool, tolerated: timedelta) -> None:
    assert not lies_ahead(NOW + tolerated, NOW, simulated=simulated)
    assert lies_ahead(NOW + tolerated + timedelta(microseconds=1), NOW, simulated=simulated)
