"""When the metered energy of a window is valid. Pure.

Each check that fails gives a reason; with any reason there is no figure: see `judged`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.telemetry.base import HARDWARE_SLOWDOWNS, Boundary, PowerKind
from serving.telemetry.trace import DeviceTrace, Floats, PowerTrace

# Counter against the integral of sampled power, relative: the tolerance of the public benchmark's own check
# (InferenceX, `aggregate_power.py`, 2026).
TOLERANCE = 0.05
# Lag of a reading: counters are updated at least every 0.1 s; `nvmlDeviceGetPowerUsage` is the mean of the last
# second (nvml.h), which lags by half of that. Either end of a window is uncertain by this much.
EDGE_S: Mapping[PowerKind, float] = {"instant": 0.1, "average": 0.5}
OVER_LIMIT = 1.1  # boards exceed their limit for moments, not for whole windows
COUNTER, SAMPLED = "energy counter", "sampled power"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`joules` of the window by device, or None and the `reasons`.

    `method`: energy counter, sampled power, or both. `counter_error`: (counter − integral of power) ÷
    integral, over all devices; None if a device lacks either. `by_role`: joules of prefill and decode GPUs.
    """

    joules: Mapping[str, float] | None
    reasons: tuple[str, ...] = ()
    method: str = ""
    counter_error: float | None = None
    by_role: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_j(self) -> float | None:
        """The joules of all devices."""
        return None if self.joules is None else sum(self.joules.values())


@dataclass(frozen=True, slots=True)
class _Window:
    begin_ns: int
    end_ns: int
    gap_s: float

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


def judged(
    trace: PowerTrace, boundary: Boundary, begin_ns: int, end_ns: int, expected: int | None = None
) -> Verdict:
    """The joules of all devices inside a boundary between two moments, if they are valid.

    `expected`: how many devices there must be; None: at least one.
    """
    if end_ns <= begin_ns:
        return Verdict(None, ("the window is empty",))
    devices, window = trace.of(boundary), _Window(begin_ns, end_ns, trace.gap_s)
    reasons = []
    if not devices or (expected is not None and len(devices) != expected):
        wanted = "" if expected is None else f" of {expected}"
        because = f": {trace.absent_because}" if trace.absent_because else ""
        reasons.append(f"{trace.source} metered {len(devices)}{wanted} devices{because}")
    found = [_Device(each, window, trace.power_kind) for each in devices]
    reasons += [reason for each in found for reason in each.reasons()]
    if reasons and trace.absent_because and devices:
        reasons.append(f"{trace.source}: {trace.absent_because}")
    errors = [each.counter_j_and_integral() for each in found]
    error = _relative([each for each in errors if each is not None]) if all(errors) else None
    method = " and ".join(sorted({each.method for each in found}))
    if reasons:
        return Verdict(None, tuple(dict.fromkeys(reasons)), method, error)
    joules = {each.trace.device.name: each.joules for each in found}
    by_role: dict[str, float] = {}
    for each in found:
        by_role[each.trace.device.role] = by_role.get(each.trace.device.role, 0.0) + each.joules
    return Verdict(joules, (), method, error, by_role)


def _relative(pairs: Sequence[tuple[float, float]]) -> float | None:
    counted, integral = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return counted / integral - 1 if integral > 0 else None


class _Device:
    """One device in one window."""

    def __init__(self, trace: DeviceTrace, window: _Window, power_kind: PowerKind) -> None:
        self.trace, self._window, self._power_kind = trace, window, power_kind
        counts = len(trace.reported("energy_j")[0]) > 1
        self.method = COUNTER if counts else SAMPLED
        self._at_ns, self._values = trace.reported("energy_j" if counts else "power_w")

    @property
    def joules(self) -> float:
        ends = (self._window.begin_ns, self._window.end_ns)
        if self.method == COUNTER:
            return increase(self._at_ns, self._values, *ends)
        return integral(self._at_ns, self._values, *ends)

    def reasons(self) -> list[str]:
        name = self.trace.device.name
        if unknown := self._uncovered():
            return [f"{name}: {unknown}"]
        checks = (self._gap(), self._decreased(), self._disagrees(), self._implausible())
        return [f"{name}: {text}" for text in (*checks, self._foreign(), self._slowed()) if text]

    def counter_j_and_integral(self) -> tuple[float, float] | None:
        """None unless both are reported over the whole window, and the power is measured, not modelled."""
        at_ns, watts = self.trace.reported("power_w")
        comparable = self.method == COUNTER and self._power_kind in EDGE_S
        if not comparable or not self._covers(at_ns) or self._uncovered():
            return None
        return self.joules, integral(at_ns, watts, self._window.begin_ns, self._window.end_ns)

    def _covers(self, at_ns: NDArray[np.int64]) -> bool:
        window = self._window
        return len(at_ns) > 1 and bool(at_ns[0] <= window.begin_ns and window.end_ns <= at_ns[-1])

    def _uncovered(self) -> str:
        if self._covers(self._at_ns):
            return ""
        faults = self.trace.faults
        because = f": {faults[-1][1]}" if faults else ""
        if len(self._at_ns) < 2:
            return f"neither an energy counter nor power was reported{because}"
        window = self._window
        seen = min(self._at_ns[-1], window.end_ns) - max(self._at_ns[0], window.begin_ns)
        share = max(0.0, seen / (window.end_ns - window.begin_ns))
        return f"{self.method} covers {share:.0%} of the window{because}"

    def _bracket(self) -> slice:
        """The samples inside the window, and those just before and after it."""
        first = np.searchsorted(self._at_ns, self._window.begin_ns, "right") - 1
        return slice(int(first), int(np.searchsorted(self._at_ns, self._window.end_ns)) + 1)

    def _gap(self) -> str:
        longest_s = float(np.diff(self._at_ns[self._bracket()]).max()) / 1e9
        if longest_s <= self._window.gap_s:
            return ""
        return f"no reading for {longest_s:.1f} s, more than {self._window.gap_s:g} s"

    def _decreased(self) -> str:
        steps = np.diff(self._values[self._bracket()]) if self.method == COUNTER else np.zeros(1)
        return "its energy counter decreased: it was reset" if steps.min() < 0 else ""

    def _disagrees(self) -> str:
        pair = self.counter_j_and_integral()
        if pair is None:
            return ""
        allowed = TOLERANCE + 2 * EDGE_S[self._power_kind] / self._window.seconds
        error = _relative([pair])
        if error is not None and abs(error) <= allowed:
            return ""
        return (
            f"energy counter and sampled power disagree: {pair[0]:.4g} J and {pair[1]:.4g} J, "
            f"more than {allowed:.1%} apart"
        )

    def _implausible(self) -> str:
        watts = self.joules / self._window.seconds
        limits = self.trace.reported("limit_w")[1]
        most = OVER_LIMIT * limits.max() if len(limits) else np.inf
        if 0 < watts <= most:
            return ""
        allowed = f"at most {most:.0f} W" if np.isfinite(most) else "more than 0 W"
        return f"{watts:.0f} W on average is not plausible: {allowed}"

    def _foreign(self) -> str:
        """Checked at intervals: the last check before and the first after the window count as well."""
        window, checks = self._window, self.trace.foreign
        first = max((at for at, _ in checks if at <= window.begin_ns), default=0)
        last = min((at for at, _ in checks if at >= window.end_ns), default=window.end_ns)
        seen = {who for at, who in checks if first <= at <= last and who}
        return f"other processes were on it: {', '.join(sorted(seen))}" if seen else ""

    def _slowed(self) -> str:
        bits = self.trace.inside("throttle", self._window.begin_ns, self._window.end_ns)
        seen = int(np.bitwise_or.reduce(bits.astype(np.int64), initial=0))
        named = [text for bit, text in HARDWARE_SLOWDOWNS.items() if seen & bit]
        return f"its clocks were throttled: {', '.join(named)}" if named else ""


def increase(at_ns: NDArray[np.int64], counter: Floats, begin_ns: int, end_ns: int) -> float:
    """Of a counter between two moments, interpolated between samples."""
    ends = np.interp([begin_ns, end_ns], at_ns, counter)
    return float(ends[1] - ends[0])


def integral(at_ns: NDArray[np.int64], watts: Floats, begin_ns: int, end_ns: int) -> float:
    """Joules by the trapezoidal rule, with the ends interpolated."""
    inside = (at_ns > begin_ns) & (at_ns < end_ns)
    ends = np.interp([begin_ns, end_ns], at_ns, watts)
    t_s = (np.concatenate(([begin_ns], at_ns[inside], [end_ns])) - begin_ns) / 1e9
    w = np.concatenate((ends[:1], watts[inside], ends[1:]))
    return float((np.diff(t_s) * (w[:-1] + w[1:])).sum() / 2)
