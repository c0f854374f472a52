"""Ends a search whose next trial is expected to gain too little. Pure."""

from dataclasses import dataclass

from tuner.config.groups.search import StopRule
from tuner.metrics.notation import number, stated


@dataclass(frozen=True, slots=True)
class GainMonitor:
    """Counts the asks in a row whose trial was expected to gain too little.

    A search stops at `rule.patience` of them.
    """

    rule: StopRule
    low: int = 0

    def after(self, gain: float | None, trial_device_hours: float | None) -> "GainMonitor":
        """After one more ask. `gain`: the share that its trial is expected to add; None: unknown, it runs."""
        is_low = bool(low_gain(self.rule, gain, trial_device_hours))
        return GainMonitor(self.rule, self.low + 1 if is_low else 0)

    @property
    def stops(self) -> bool:
        """Whether the search ends here."""
        return self.low >= self.rule.patience


def low_gain(rule: StopRule, gain: float | None, trial_device_hours: float | None) -> str:
    """Why a trial gains too little by the rule; empty if it gains enough, or if its gain is unknown."""
    if gain is None:
        return ""
    if rule.gain is not None and gain < rule.gain:
        expected = f"the next trial is expected to add {gain:.2%}"
        return f"{expected} (search.stop.gain {rule.gain:.2%})"
    if rule.payback_devices is None or rule.payback_days is None or trial_device_hours is None:
        return ""
    saved = gain * rule.payback_devices * rule.payback_days * 24
    if saved >= trial_device_hours:
        return ""
    return (
        f"the next trial is expected to add {gain:.2%}, {number(saved)} device-hours of "
        f"{rule.payback_devices} devices in {stated(rule.payback_days)} days, and takes "
        f"{number(trial_device_hours)} (search.stop.payback_devices, payback_days)"
    )
