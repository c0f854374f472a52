"""The validity checks: closed forms where joules are valid, and each check failing alone."""

from dataclasses import replace
from itertools import accumulate
from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.telemetry.base import Device, PowerKind, Reading
from serving.telemetry.trace import PowerTrace, device_trace
from serving.telemetry.validity import COUNTER, SAMPLED, TOLERANCE, Verdict, judged

S = 10**9
GPU = Device("gpu0", "gpu")
Readings = list[Reading]


def steady(watts: float = 400.0, seconds: float = 12.0, every_s: float = 0.1) -> Readings:
    """From 0 s on, the counter from 5 J."""
    moments = np.arange(0, seconds + every_s / 2, every_s)
    return [
        Reading(round(t * S), "gpu0", 5 + watts * t, watts, 700.0, throttle=0, foreign="")
        for t in moments
    ]


def trace(readings: Readings, kind: PowerKind = "instant", gap_s: float = 2.0) -> PowerTrace:
    devices = (device_trace(GPU, readings),)
    return PowerTrace("test", kind, gap_s, devices, "", frozenset({"gpu"}))


def verdict(readings: Readings, kind: PowerKind = "instant", expected: int = 1) -> Verdict:
    return judged(trace(readings, kind), "gpu", S, 11 * S, expected)


def reason(found: Verdict) -> str:
    assert found.joules is None
    [why] = found.reasons
    return why


def test_joules_between_samples_are_exact_where_power_is_steady() -> None:
    found = judged(trace(steady()), "gpu", S + 12_345_678, 11 * S - 7_654_321, 1)
    assert found.reasons == ()
    assert found.method == COUNTER
    assert found.total_j == pytest.approx(400 * (10 - 0.02), rel=1e-9)
    assert found.counter_error == pytest.approx(0.0, abs=1e-9)


def test_without_counters_power_is_integrated() -> None:
    """A sine of 2 s, sampled every 0.1 s: trapezoids lose (2π/20)²/12 of its swing."""
    moments = [i / 10 for i in range(121)]
    power = [Reading(round(t * S), "gpu0", None, 400 + 200 * sin(pi * t)) for t in moments]
    found = judged(trace(power), "gpu", S, round(10.5 * S), 1)
    exact = 400 * 9.5 + 200 / pi * (cos(pi) - cos(10.5 * pi))
    assert found.method == SAMPLED
    assert found.total_j == pytest.approx(exact, rel=1e-3)
    assert found.counter_error is None


@given(
    st.lists(st.floats(0.02, 0.5), min_size=8, max_size=40),
    st.lists(st.floats(50, 650), min_size=40, max_size=40),
    st.floats(0.1, 0.9),
)
def test_windows_side_by_side_add_up(gaps_s: list[float], watts: list[float], cut: float) -> None:
    times_s = [0.0, *accumulate(gaps_s)]
    joules = [0.0, *accumulate(g * w for g, w in zip(gaps_s, watts, strict=False))]
    rows = [Reading(round(t * S), "gpu0", e) for t, e in zip(times_s, joules, strict=True)]
    end_ns = rows[-1].at_ns
    middle_ns = int(end_ns * cut)
    parts = [judged(trace(rows), "gpu", *ends, 1) for ends in ((0, middle_ns), (middle_ns, end_ns))]
    whole = judged(trace(rows), "gpu", 0, end_ns, 1)
    assert sum(part.total_j or 0 for part in parts) == pytest.approx(whole.total_j, rel=1e-9)
    assert whole.total_j == pytest.approx(joules[-1], rel=1e-9)


def test_a_device_too_few_or_none() -> None:
    assert "test metered 1 of 2 devices" in reason(verdict(steady(), expected=2))
    empty = PowerTrace("test", "instant", 1.0, (), "no driver", frozenset({"gpu"}))
    assert reason(judged(empty, "gpu", 0, S, 1)) == "test metered 0 of 1 devices: no driver"


def test_a_window_that_is_not_covered() -> None:
    early = [each for each in steady() if each.at_ns < 6 * S]
    assert reason(verdict(early)) == "gpu0: energy counter covers 49% of the window"
    lost = [replace(steady()[-1], energy_j=None, power_w=None, fault="GPU is lost")]
    assert reason(verdict([*early, *lost])).endswith("of the window: GPU is lost")
    assert "neither an energy counter nor power was reported" in reason(verdict(lost))


def test_a_gap_in_the_readings() -> None:
    holed = [each for each in steady() if not 4 * S < each.at_ns < 7 * S]
    assert reason(verdict(holed)) == "gpu0: no reading for 3.0 s, more than 2 s"
    outside = [each for each in steady(seconds=20) if not 14 * S < each.at_ns < 18 * S]
    assert verdict(outside).reasons == ()


def test_a_counter_that_decreased() -> None:
    reset = [
        replace(each, energy_j=(each.energy_j or 0) - 2000 * (each.at_ns > 6 * S))
        for each in steady()
    ]
    assert "gpu0: its energy counter decreased: it was reset" in verdict(reset).reasons
    before = [
        replace(each, energy_j=(each.energy_j or 0) + 9000 * (each.at_ns < S / 2))
        for each in steady()
    ]
    assert verdict(before).reasons == ()


@pytest.mark.parametrize("off", [1 - TOLERANCE - 0.03, 1 + TOLERANCE + 0.04, 1000.0, 0.001])
def test_a_counter_and_sampled_power_that_disagree(off: float) -> None:
    wrong = [replace(each, power_w=400 * off) for each in steady()]
    assert "energy counter and sampled power disagree" in reason(verdict(wrong))
    assert verdict(wrong, "modelled").reasons == ()


def test_the_lag_of_averaged_power_is_tolerated() -> None:
    """From 100 to 400 W at the window's begin: the mean of a second shows it half a second late."""
    rows = [
        Reading(round(t * S), "gpu0", 100 * min(t, 1) + 400 * max(t - 1, 0), power)
        for t in np.arange(0, 12.05, 0.1)
        if (power := 100 + 300 * min(max(t - 1, 0), 1)) is not None
    ]
    assert verdict(rows, "average").reasons == ()
    assert verdict(rows, "average").counter_error == pytest.approx(150 / 3850, rel=0.02)


def test_implausible_watts() -> None:
    assert "880 W on average is not plausible: at most 770 W" in reason(verdict(steady(880.0)))
    assert verdict(steady(760.0)).reasons == ()
    assert "0 W on average" in verdict(steady(0.0)).reasons[-1]


def test_foreign_processes_on_the_board() -> None:
    """Checked every second: the check before the window and the one after it count as well."""

    def seen(at_s: int) -> Verdict:
        rows = [
            replace(
                each,
                foreign=None if each.at_ns % S else ("77 train" if each.at_ns == at_s * S else ""),
            )
            for each in steady(seconds=14)
        ]
        return judged(trace(rows), "gpu", round(1.5 * S), round(10.5 * S), 1)

    for at_s in (1, 5, 11):
        assert reason(seen(at_s)) == "gpu0: other processes were on it: 77 train"
    assert seen(13).reasons == ()


def test_clocks_throttled_by_hardware() -> None:
    slowed = [replace(each, throttle=0x8 | 0x40 if each.at_ns == 6 * S else 4) for each in steady()]
    said = "gpu0: its clocks were throttled: hardware slowdown, hardware thermal slowdown"
    assert reason(verdict(slowed)) == said
    capped = [replace(each, throttle=0x4 | 0x1) for each in steady()]  # a power cap is no fault
    assert verdict(capped).reasons == ()


def test_two_boards_have_one_verdict_and_either_can_invalidate_it() -> None:
    other = [
        replace(each, device="gpu1", energy_j=(each.energy_j or 0) / 2, power_w=200.0)
        for each in steady()
    ]
    rows = [*steady(), *other]
    devices = tuple(device_trace(Device(name, "gpu"), rows) for name in ("gpu0", "gpu1"))
    both = PowerTrace("test", "instant", 2.0, devices, "", frozenset({"gpu"}))
    found = judged(both, "gpu", S, 11 * S, 2)
    assert found.joules == pytest.approx({"gpu0": 4000.0, "gpu1": 2000.0})
    assert judged(both, "gpu", S, 13 * S, 2).joules is None
    assert judged(both, "node", S, 11 * S).reasons == ("test metered 0 devices",)
