"""The rule that ends a search whose next trial is expected to gain too little."""

import pytest
from pydantic import ValidationError

from tuner.config.groups.search import StopRule
from tuner.search.stopping import GainMonitor, low_gain


def test_a_rule_stops_after_several_low_expected_gains_in_a_row() -> None:
    monitor, stops = GainMonitor(StopRule(gain=0.01, patience=2)), []
    for gain in (None, 0.005, 0.02, 0.005, None, 0.001, 0.002):
        monitor = monitor.after(gain, 1.0)
        stops.append(monitor.stops)
    assert stops == [False] * 6 + [True]
    assert not GainMonitor(StopRule()).after(0.0, 1.0).after(0.0, 1.0).after(0.0, 1.0).stops


def test_payback_counts_devices_and_days() -> None:
    """1 % of 8 devices in 10 days is 19.2 device-hours."""
    rule = StopRule(payback_devices=8, payback_days=10)
    assert low_gain(rule, 0.01, 19.1) == ""
    assert "19.2 device-hours of 8 devices in 10 days" in low_gain(rule, 0.01, 19.3)
    assert low_gain(rule, 0.01, None) == low_gain(rule, None, 1.0) == ""


@pytest.mark.parametrize(
    "settings", [{"payback_days": 3}, {"payback_devices": 8}, {"gain": 0}, {"gain": 1}]
)
def test_half_a_rule_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        StopRule.model_validate(settings)
