"""Whether an engine counts as hung: silence alone, or with metrics that stand still."""

import time

import pytest

from serving.telemetry.engine_metrics.page import MetricsPage, Quantity
from serving.telemetry.engine_progress import ProgressWatch
from serving.telemetry.engine_sampler import Scraper


def watch(*samples: dict[Quantity, float], age_s: float = 1.0) -> ProgressWatch:
    now_ns = time.monotonic_ns()
    scraper = Scraper(MetricsPage(), "http://127.0.0.1:1")
    scraper.samples = [(now_ns - int(age_s * 1e9), each) for each in samples]
    return ProgressWatch(60.0, scraper)


def test_silence_without_metrics_is_a_hang_once_it_is_long_enough() -> None:
    made = watch()
    made.look(59.9)
    assert made.stuck == ""
    made.look(60.1)
    assert made.stuck == "no output for 60 s while requests wait"
    made.look(0.0)
    assert made.stuck  # it was decided


@pytest.mark.parametrize(
    ("samples", "stuck"),
    [
        (({"running": 4, "kv_cache_share": 0.2}, {"running": 4, "kv_cache_share": 0.3}), False),
        (({"running": 4, "waiting": 1}, {"running": 4, "waiting": 9}), True),  # the load's own work
        (({"running": 4, "prefix_queries": 1}, {"running": 4, "prefix_queries": 9}), True),
        (({"running": 4}, {"running": 3}), False),
    ],
)
def test_an_engine_that_computes_is_not_hung(
    samples: tuple[dict[Quantity, float], ...], stuck: bool
) -> None:
    made = watch(*samples)
    made.look(61.0)
    assert bool(made.stuck) == stuck
    if stuck:
        assert made.stuck.endswith(", and its metrics do not change")


def test_metrics_of_before_the_silence_do_not_count() -> None:
    made = watch({"running": 4}, {"running": 3}, age_s=100)
    made.look(61.0)
    assert made.stuck
