"""The engine loop against references: another implementation, queueing theory, Little's law."""

import numpy as np
import pytest

from loadgen import Closed, Poisson, Workload
from loadgen.control.virtual import run_virtual
from loadgen.results.stats import summarize
from loadgen.workload.arrivals import Arrival
from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import assemble
from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.request import Request
from serving.twin.setup import Setup
from tests.serving.twin.emulations import LinearStepTime, emulation_of
from tuner.trial.simulate import TwinServer


def test_agrees_with_aisimulate() -> None:
    """NVIDIA's own simulator (aisimulate 0.13.0.dev, `predict`, run 2026-11-23) on the same step times:
    Llama 3.1 70B FP8, B300, vLLM, TP4, 64 users, 512 requests of 1,024 → 1,024 tokens: 5,773 tok/s, mean
    TTFT 289 ms, mean TPOT 10.81 ms. Its users send the next request at the moment of their last token."""
    setup = Setup(
        framework="vllm",
        model="nvidia/Llama-3.1-70B-Instruct-FP8",
        served_model="m",
        host="127.0.0.1",
        port=1,
        context_tokens=4096,
        kv="fp8",
        tensor=4,
        max_sequences=1024,
        prefix_caching=False,
    )
    config = TwinConfig(system="b300_sxm", noise=0, host_overhead=False)
    (engine,) = assemble(setup, config).emulation.engines
    (rank,) = engine.ranks
    waiting, done, now_s = iter([Request(i, 1024, 1024) for i in range(512)]), [], 0.0
    for _, request in zip(range(64), waiting, strict=False):
        rank.submit(request)
    while (end_s := engine.begin(now_s)) is not None:
        now_s = end_s
        for request in engine.finish(now_s)[1]:
            done.append(request)
            if (following := next(waiting, None)) is not None:
                following.arrived_s = now_s
                rank.submit(following)
    assert len(done) == 512
    assert 512 * 1024 / now_s == pytest.approx(5773, rel=0.03)
    assert np.mean([(r.last_token_s - r.first_token_s) / 1023 for r in done]) == pytest.approx(
        0.01081, rel=0.03
    )
    assert np.mean([r.first_token_s - r.arrived_s for r in done]) == pytest.approx(0.289, rel=0.08)


def workload(arrival: Arrival, level_s: float, output: int) -> Workload:
    return Workload(
        name="w",
        input_tokens=32,
        output_tokens=output,
        arrival=arrival,
        warmup_s=5,
        level_s=level_s,
        level_max_s=4 * level_s,
    )


@pytest.mark.thorough
def test_one_sequence_at_a_time_is_an_m_d_1_queue() -> None:
    """Pollaczek and Khinchine: W = ρ s / 2 (1 − ρ), before the service itself."""
    times = LinearStepTime(base_s=0.01, prompt_s=0.0, decode_s=0.0)
    output, rate = 11, 5.0
    emulation = emulation_of(SchedulerConfig(1, 8192), times=times)
    load = workload(Poisson(rate_per_s=(rate,)), 2000, output)
    (level,) = run_virtual(TwinServer(emulation), load, vocabulary=1000).levels
    service_s = output * 0.01
    busy = rate * service_s
    waited_s = busy * service_s / (2 * (1 - busy))
    ttft_ms = summarize(level).metrics["ttft_mean_ms"] or 0.0
    assert ttft_ms / 1e3 - 0.01 == pytest.approx(waited_s, rel=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("users", [1, 7, 40])
def test_littles_law_holds_in_the_measured_window(users: int) -> None:
    emulation = emulation_of(SchedulerConfig(16, 512), noise=0.05)
    load = workload(Closed(concurrency=(users,)), 200, 20)
    (level,) = run_virtual(TwinServer(emulation), load, vocabulary=1000).levels
    metrics = summarize(level).metrics
    rate = (metrics["throughput_output_tok_s"] or 0.0) / 20
    assert rate * (metrics["e2e_mean_ms"] or 0.0) / 1e3 == pytest.approx(users, rel=0.03)
