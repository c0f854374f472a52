"""How long an endpoint has been silent, by what each worker reports."""

import numpy as np

from loadgen.control.live_stats import LiveStats
from loadgen.worker.messages import LiveUpdate

S = 10**9


def told(stats: LiveStats, worker: int, at_s: float, *, waiting: int, heard: bool) -> float:
    finished, due_ns = np.zeros((0, 5), np.int64), np.zeros(waiting, np.int64)
    stats.add(worker, LiveUpdate(int(at_s * S), finished, due_ns, 0, heard))
    return stats.silent_s


def test_silence_counts_while_requests_wait_and_ends_with_any_output() -> None:
    stats = LiveStats(1)
    assert stats.silent_s == 0
    assert told(stats, 0, 1, waiting=1, heard=False) == 0
    assert told(stats, 0, 2, waiting=1, heard=False) == 1
    assert told(stats, 0, 3, waiting=1, heard=False) == 2
    assert told(stats, 0, 4, waiting=1, heard=True) == 0
    assert told(stats, 0, 5, waiting=1, heard=False) == 1
    assert told(stats, 0, 6, waiting=0, heard=False) == 0
    assert told(stats, 0, 7, waiting=1, heard=False) == 1  # a pause between requests is none


def test_it_is_silent_only_if_no_worker_with_requests_hears_anything() -> None:
    stats = LiveStats(3)
    for second in (1, 2, 3):
        told(stats, 0, second, waiting=1, heard=False)
        told(stats, 1, second, waiting=2, heard=second < 2)
        told(stats, 2, second, waiting=0, heard=False)  # has none in flight
    assert stats.silent_s == 2
    assert told(stats, 1, 4, waiting=2, heard=True) == 0


def test_a_worker_that_was_stopped_itself_has_heard_nothing_for_moments_alone() -> None:
    stats = LiveStats(1)
    told(stats, 0, 1, waiting=1, heard=False)
    assert told(stats, 0, 901, waiting=1, heard=False) == 2
