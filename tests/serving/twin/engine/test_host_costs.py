"""Host overhead, and when the scheduler polls for new requests."""

import numpy as np
import pytest

from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.engine import HostCosts
from serving.twin.engine.request import Request
from tests.benchmarks.twin.fit import Recorder
from tests.serving.twin.emulations import LinearStepTime, emulation_of, run_closed_loop

STEP_S = 0.01
TIMES = LinearStepTime(base_s=STEP_S, prompt_s=0.0, decode_s=0.0)


def test_latency_delays_all_requests_in_parallel() -> None:
    emulation = emulation_of(SchedulerConfig(16, 4096), times=TIMES, host=HostCosts(latency_s=0.1))
    done = run_closed_loop(emulation, [Request(n, 10, 1) for n in range(3)], 3)
    firsts = sorted(request.first_token_s for request in done)
    assert firsts == pytest.approx([0.1 + STEP_S, 0.1 + 2 * STEP_S, 0.1 + 2 * STEP_S])


def test_without_cuda_graphs_a_step_takes_at_least_its_kernel_launches() -> None:
    host = HostCosts(step_s=0.001, least_step_s=0.03)
    assert host.interval_s(STEP_S) == pytest.approx(0.031)
    assert host.interval_s(0.05) == pytest.approx(0.051)
    assert host.intervals_s(np.array([STEP_S, 0.05])) == pytest.approx([0.031, 0.051])


def test_a_prefill_step_has_more_overhead() -> None:
    host = HostCosts(step_s=0.001, prefill_step_s=0.05)
    emulation = emulation_of(SchedulerConfig(16, 4096), times=TIMES, host=host)
    (request,) = run_closed_loop(emulation, [Request(0, 10, 4)], 1)
    assert request.first_token_s == pytest.approx(STEP_S + 0.001 + 0.05)
    assert request.last_token_s - request.first_token_s == pytest.approx(3 * (STEP_S + 0.001))


@pytest.mark.parametrize(("steps", "waits"), [(1, 1), (10, 10)])
def test_the_scheduler_polls_every_so_many_decode_steps(steps: int, waits: int) -> None:
    emulation = emulation_of(SchedulerConfig(16, 4096, receive_steps=steps), times=TIMES)
    first, second = Request(0, 10, 100), Request(1, 10, 1)
    emulation.submit(first, 0.0)
    while first.first_token_s < 0:
        emulation.advance()
    emulation.advance()  # the step that began at once
    emulation.submit(second, emulation.now_s)
    while second.first_token_s < 0:
        emulation.advance()
    waited = (second.first_token_s - second.arrived_s) / STEP_S
    assert 1 <= waited <= waits + 2
    assert steps == 1 or waited > 2


def test_an_idle_engine_polls_at_once() -> None:
    emulation = emulation_of(SchedulerConfig(16, 4096, receive_steps=30), times=TIMES)
    done = run_closed_loop(emulation, [Request(n, 10, 3) for n in range(4)], 1)
    assert all(r.first_token_s - r.arrived_s == pytest.approx(STEP_S) for r in done)


def test_the_fit_separates_kernel_time_and_overhead_of_each_step() -> None:
    host = HostCosts(step_s=0.001, prefill_step_s=0.05)
    emulation = emulation_of(SchedulerConfig(16, 4096), times=TIMES, host=host)
    (engine,) = emulation.engines
    recorder = Recorder(engine)
    run_closed_loop(emulation, [Request(n, 10, 7) for n in range(9)], 3)
    kernels_s, steps, prompts = np.array(recorder.parts).sum(axis=0)
    assert kernels_s == pytest.approx(STEP_S * steps)
    assert steps == engine.steps
    assert 0 < prompts < steps
    assert engine.busy_s == pytest.approx(kernels_s + 0.001 * steps + 0.05 * prompts)
