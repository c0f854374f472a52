"""The virtual clock against closed forms."""

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
import pytest

from loadgen import Adaptive, Closed, Constant, EndpointErrors, Poisson, Workload
from loadgen.control.virtual import run_virtual
from loadgen.http.response import Outcome
from loadgen.results.stats import OVERSATURATED, summarize
from loadgen.worker.virtual_dispatcher import VirtualExchange
from loadgen.workload.arrivals import Arrival


class Station:
    """`places` servers with one queue; each request takes `service_s`, and has a token at both ends."""

    def __init__(self, places: int, service_s: float, *, refuses: bool = False) -> None:
        self._free = [0.0] * places
        self._service_s, self._refuses = service_s, refuses
        self._events: list[tuple[float, int, VirtualExchange]] = []
        self._count = 0
        self.now_s = 0.0
        self.gone: list[VirtualExchange] = []

    @property
    def next_s(self) -> float | None:
        return self._events[0][0] if self._events else None

    def send(self, sent: VirtualExchange, at_s: float) -> None:
        begin_s = max(at_s, heappop(self._free))
        end_s = begin_s + self._service_s
        heappush(self._free, end_s)
        sent.times_s = np.array([begin_s, end_s])
        self._count += 1
        heappush(self._events, (end_s, self._count, sent))

    def advance(self, until_s: float) -> Sequence[VirtualExchange]:
        if not self._events or self._events[0][0] > until_s:
            return []
        end_s, _, sent = heappop(self._events)
        self.now_s = end_s
        sent.end_s, sent.input_tokens = end_s, sent.request.input_tokens or 0
        if sent not in self.gone:
            sent.tokens = np.array([1, sent.request.output_tokens - 1], np.int32)
        if self._refuses:
            sent.error, sent.times_s, sent.tokens = "no", np.zeros(0), np.zeros(0, np.int32)
        return [sent]

    def abandon(self, sent: VirtualExchange) -> None:
        sent.times_s, sent.tokens = np.zeros(0), np.zeros(0, np.int32)
        self.gone.append(sent)


def workload(arrival: Arrival, **changes: object) -> Workload:
    values = {"name": "t", "input_tokens": 64, "output_tokens": 16, "arrival": arrival}
    times = {"warmup_s": 1.0, "level_s": 200.0, "level_max_s": 4000.0}
    return Workload.model_validate({**values, **times, **changes})


def test_a_closed_loop_keeps_its_users_busy() -> None:
    station = Station(4, 0.5)
    load = workload(Closed(concurrency=(1, 4, 8)), level_s=100.0)
    levels = run_virtual(station, load, vocabulary=1000).levels
    stats = [summarize(level) for level in levels]
    assert [each.invalid_because for each in stats] == [(), (), ()]
    rates = [each.metrics["throughput_output_tok_s"] for each in stats]
    assert rates == pytest.approx([32, 128, 128], rel=0.02)  # 16 tokens in each half second
    waits = [each.metrics["ttft_p50_ms"] for each in stats]
    assert waits == pytest.approx([0, 0, 500], abs=1)  # Little: 8 users, 4 places


def test_an_m_d_1_queue_waits_as_pollaczek_and_khinchine_say() -> None:
    rate, service_s = 6.0, 0.1
    station = Station(1, service_s)
    load = workload(Poisson(rate_per_s=(rate,)), level_s=3000.0)
    (level,) = run_virtual(station, load, vocabulary=1000).levels
    busy = rate * service_s
    expected_ms = 1e3 * busy * service_s / (2 * (1 - busy))
    assert summarize(level).metrics["ttft_mean_ms"] == pytest.approx(expected_ms, rel=0.08)


def test_a_rate_that_is_too_high_ends_the_level_early() -> None:
    load = workload(Constant(rate_per_s=(20.0,)), level_s=100.0)
    (level,) = run_virtual(Station(1, 0.1), load, vocabulary=1000).levels
    assert level.verdict == OVERSATURATED
    assert level.records.end_ns.max() < 100 * 1e9


def test_a_cap_makes_requests_wait_before_they_are_sent() -> None:
    load = workload(Constant(rate_per_s=(9.0,), max_concurrency=1), level_s=50.0)
    (level,) = run_virtual(Station(8, 0.2), load, vocabulary=1000).levels
    records = level.records
    sent = records.sent_ns[records.completed]
    assert np.all(np.diff(np.sort(sent)) >= 200_000_000 - 2)
    assert (records.sent_ns - records.due_ns).max() > 1e9


def test_an_adaptive_load() -> None:
    arrival = Adaptive(loop="closed", lowest=1, highest=64, levels=8)
    report = run_virtual(Station(4, 0.5), workload(arrival, level_s=30.0), vocabulary=1000)
    users = [level.concurrency for level in report.levels]
    assert users[:2] == [1, 4]
    assert 4 < len(set(users)) <= 8


def test_requests_in_flight_at_the_end_are_abandoned() -> None:
    station = Station(2, 0.7)
    load = workload(Closed(concurrency=(4,)), level_s=10.0)
    (level,) = run_virtual(station, load, vocabulary=1000).levels
    assert len(station.gone) == 4
    assert not level.records.completed.all()
    assert not level.records.failed.any()


def test_requests_time_out() -> None:
    load = workload(Poisson(rate_per_s=(1.5,)), level_s=400.0, request_timeout_s=0.8)
    (level,) = run_virtual(Station(1, 0.3), load, vocabulary=1000).levels
    records = level.records
    late = records.outcome == Outcome.TIMED_OUT
    assert late.any()
    waited = (records.end_ns - records.due_ns) / 1e9
    assert waited[late].min() > 0.8
    assert waited[records.completed].max() <= 0.8 + 0.1, "checked ten times a second"


def test_a_server_that_refuses_all_is_an_error_of_the_endpoint_after_some_attempts() -> None:
    load = workload(Closed(concurrency=(2,)), level_s=500.0)
    server = Station(2, 0.1, refuses=True)
    with pytest.raises(EndpointErrors, match="no"):
        run_virtual(server, load, vocabulary=1000)
    assert server.now_s < 10


def test_a_server_that_hangs_costs_no_more_than_the_time_out() -> None:
    class Hung(Station):
        next_s = None

    load = workload(Closed(concurrency=(2,)), level_s=500.0, request_timeout_s=3.0)
    server = Hung(2, 0.1)
    with pytest.raises(EndpointErrors, match="no whole reply within 3 s"):
        run_virtual(server, load, vocabulary=1000)
    failed = [each for each in server.gone if each.outcome == Outcome.TIMED_OUT]
    assert len(failed) == 10, "failures in a row end the level"
