"""The steady window and over-saturation, on simulated servers."""

import heapq

import numpy as np
import pytest
from numpy.typing import NDArray

from loadgen.results.steady_state import SteadyWindow, find_steady_window, oversaturated

Times = NDArray[np.int64]
S = 10**9


def closed(
    users: int,
    run_s: float,
    random: np.random.Generator,
    *,
    cold_s: float = 0.0,
    drift: float = 0.0,
) -> tuple[Times, Times, Times]:
    """Due, end (0: in flight at the end) and first token. Requests take 1 s, at first up to 2 s."""
    rows = []
    for user in range(users):
        at = user * 0.5 / users
        while at < run_s:
            slow = 1 + (np.exp(-at / cold_s) if cold_s else 0) + drift * at / run_s
            took = slow * max(0.1, random.normal(1, 0.2))
            rows.append((at, at + took if at + took <= run_s else 0, at + 0.1 * took))
            at += took
    due, over, first = (np.array(rows).T * S).astype(np.int64)
    return due, over, np.where(over > 0, first, 0)


def windows(count: int, users: int, run_s: float, **how: float) -> list[SteadyWindow]:
    found = []
    for seed in range(count):
        due, over, first = closed(users, run_s, np.random.default_rng(seed), **how)
        span = (0, int(run_s * S))
        found.append(find_steady_window(due, over, first, span, int(0.7 * S), users))
    return found


def test_a_steady_run_is_cut_little_and_has_no_trend() -> None:
    found = windows(150, 16, 30)
    assert np.mean([w.start_ns / S / 30 for w in found]) < 0.2
    assert np.mean([bool(w.unsettled) for w in found]) <= 0.05


def test_a_slow_start_is_cut() -> None:
    found = windows(100, 16, 60, cold_s=4)
    starts = np.array([w.start_ns / S for w in found])
    assert (np.exp(-starts / 4) < 0.2).mean() > 0.95  # the excess left there
    assert np.mean([bool(w.unsettled) for w in found]) <= 0.1


def test_a_run_without_steady_state_is_reported() -> None:
    assert np.mean([bool(w.unsettled) for w in windows(60, 16, 30, drift=0.6)]) > 0.9


def test_the_window_ends_when_the_first_user_stops() -> None:
    due = np.array([0, 0, 10, 10, 20]) * S
    over = np.array([10, 10, 20, 20, 30]) * S
    found = find_steady_window(due, over, over, (0, 30 * S), 0, 2)
    assert (found.start_ns, found.end_ns) == (10 * S, 20 * S)  # after each user had an answer


def queue(load: float, servers: int, count: int, seed: int) -> tuple[Times, Times]:
    """M/M/c with a mean service time of 1 s: due and end."""
    random = np.random.default_rng(seed)
    due = np.cumsum(random.exponential(1 / (load * servers), count))
    free, over = [0.0] * servers, np.empty(count)
    for index, (at, took) in enumerate(zip(due, random.exponential(1, count), strict=True)):
        over[index] = max(at, heapq.heappop(free)) + took
        heapq.heappush(free, over[index])
    return (due * S).astype(np.int64), (over * S).astype(np.int64)


def detected_after(load: float, servers: int, count: int, seed: int) -> int | None:
    """Arrivals until over-saturation was detected, in fifty checks."""
    due, over = queue(load, servers, count, seed)
    for at_ns in np.linspace(0, due[-1], 51)[1:].astype(np.int64):
        here = due < at_ns
        if oversaturated(due[here], np.where(over[here] <= at_ns, over[here], 0), (0, int(at_ns))):
            return int(here.sum())
    return None


@pytest.mark.parametrize("servers", [1, 8, 64])
def test_a_server_that_just_keeps_up_is_not_over_saturated(servers: int) -> None:
    assert [detected_after(0.95, servers, 2500, seed) for seed in range(40)] == [None] * 40


@pytest.mark.parametrize(("load", "within"), [(1.2, 4000), (1.5, 1200), (3.0, 400)])
def test_a_server_that_falls_behind_is_detected(load: float, within: int) -> None:
    found = [detected_after(load, 8, within, seed) for seed in range(40)]
    assert sum(count is not None for count in found) >= 38


def test_a_stall_is_no_transient_even_after_a_slow_start() -> None:
    """Four users, 10 ms a request; the first few take 12 ms, and at 0.3 s all stall for half a second."""
    for seed in range(200):
        random, rows = np.random.default_rng(seed), []
        for user in range(4):
            at = user * 0.01
            while at < 2:
                took = random.normal(0.010, 0.0002) + (0.002 if at < 0.06 else 0)
                if at < 0.3 <= at + took:
                    took += 0.5
                rows.append((at, at + took, at + took / 4))
                at += took
        due, over, first = (np.array(rows).T * S).astype(np.int64)
        found = find_steady_window(due, over, first, (0, 2 * S), int(0.05 * S), 4)
        assert found.start_ns < 0.3 * S
