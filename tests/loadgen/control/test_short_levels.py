"""Levels too short for a steady window: a burst of one request each, and all tokens at once."""

from typing import Any

import numpy as np
import pytest

import loadgen
from loadgen import Closed, Constant, Workload
from loadgen.control.finalize import WHOLE_LEVEL
from loadgen.results.stats import summarize
from loadgen.worker.group import forked_links
from tests.loadgen.fake_server import Behaviour, FakeServer, fake_server

pytestmark = pytest.mark.process


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "short",
        "input_tokens": 4,
        "output_tokens": 6,
        "arrival": Closed(concurrency=(40,)),
        "max_requests": 40,
        "warmup_s": 0.0,
        "level_max_s": 60.0,
    }
    return Workload(**base | changes)


def truth_ms(server: FakeServer) -> tuple[float, float]:
    """Median time from receipt to first event, and between events, as the server saw them."""
    first = [(each.sent_ns[0] - each.received_ns) / 1e6 for each in server.served]
    gaps = [np.diff(each.sent_ns) / 1e6 for each in server.served]
    return float(np.median(first)), float(np.median(np.concatenate(gaps)))


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(ttft_s=0.3, itl_s=0.02), Behaviour(ttft_s=0.3, itl_s=0.0)],
    ids=["one request each", "all tokens at once"],
)
@pytest.mark.parametrize("requests", [40, 60])
def test_a_burst_is_measured_whole_and_is_no_steady_state(
    behaviour: Behaviour, requests: int
) -> None:
    with fake_server(behaviour) as server:
        load = workload(max_requests=requests)
        (level,) = loadgen.run(server.url, "fake", load, links=forked_links).levels
        ttft_ms, itl_ms = truth_ms(server)
    metrics, reasons = summarize(level).metrics, summarize(level).invalid_because
    assert metrics["ttft_p50_ms"] == pytest.approx(ttft_ms, rel=0.5)
    assert metrics["itl_p50_ms"] == pytest.approx(itl_ms, rel=0.5, abs=5)
    assert any(reason.startswith("no steady state in the window") for reason in reasons)
    if requests == 40:
        assert f"no steady state in the window: {WHOLE_LEVEL}" in reasons
        assert metrics["requests_completed"] == requests
        assert metrics["throughput_output_tok_s"] == pytest.approx(
            requests * 6 / level.window.seconds
        )


def test_an_open_loop_of_one_instant_is_measured_whole() -> None:
    with fake_server(Behaviour(ttft_s=0.3)) as server:
        load = workload(arrival=Constant(rate_per_s=(10_000,)), max_requests=20)
        (level,) = loadgen.run(server.url, "fake", load, links=forked_links).levels
    metrics = summarize(level).metrics
    assert metrics["ttft_p50_ms"] is not None
    assert metrics["requests_completed"] == 20
