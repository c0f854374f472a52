"""The closed form of the steady state against arithmetic by hand, and against the emulation."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.twin.closed_form.steady import max_running, steady_curve
from serving.twin.closed_form.step_timing import MeanLengths, SteadyInputs
from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.engine import ActivationHeadroom, HostCosts
from serving.twin.engine.request import Request
from serving.twin.errors import DeviceMemoryExhausted, NoClosedForm
from tests.fuzz.examples import examples
from tests.serving.twin.emulations import LinearStepTime, emulation_of, run_closed_loop

TIMES = LinearStepTime(base_s=0.01, prompt_s=1e-5, decode_s=1e-4)
PLENTY = 10_000_000


def inputs(scheduler: SchedulerConfig | None = None, **changes: object) -> SteadyInputs:
    default = SteadyInputs(TIMES, scheduler or SchedulerConfig(256, 8192), HostCosts(), PLENTY)
    return replace(default, **changes)  # type: ignore[arg-type]


def simulated(
    scheduler: SchedulerConfig, users: int, lengths: MeanLengths, host: HostCosts, ranks: int = 1
) -> tuple[float, float, float]:
    """Median TTFT, median TPOT and output tokens/s over the later part of a long emulation."""
    random = np.random.default_rng(users)
    count = max(300, 8 * users)
    prompts, outputs = (
        random.integers(int(0.8 * mean), int(1.2 * mean), count, endpoint=True)
        for mean in (lengths.prompt, lengths.output)
    )
    pairs = enumerate(zip(prompts.tolist(), outputs.tolist(), strict=True))
    requests = [Request(number, prompt, output) for number, (prompt, output) in pairs]
    emulation = emulation_of(scheduler, blocks=PLENTY, ranks=ranks, times=TIMES, host=host)
    done = run_closed_loop(emulation, requests, users)
    later = [r for r in done if count * 0.4 < r.number < count - users]
    ttft_s = np.median([r.first_token_s - r.arrived_s for r in later])
    tpot_s = np.median([(r.last_token_s - r.first_token_s) / (r.generated - 1) for r in later])
    span_s = max(r.last_token_s for r in later) - min(r.last_token_s for r in later)
    return float(ttft_s), float(tpot_s), sum(r.generated for r in later[1:]) / span_s


def test_one_user_by_hand() -> None:
    curve = steady_curve(inputs(), MeanLengths(1000, 101), [1])
    step_s = 0.01 + 1e-4
    first_s = step_s + 0.01 + 1000 * 1e-5  # it arrives as a step begins
    # A single user's prefill never delays its own decodes.
    assert curve.tpot_s[0] == pytest.approx(step_s, rel=1e-3)
    assert curve.ttft_s[0] == pytest.approx(first_s, rel=0.03)
    assert curve.output_tok_s_gpu[0] == pytest.approx(101 / (first_s + 100 * step_s), rel=0.012)
    assert not curve.queued[0]


def test_beyond_the_sequence_limit_throughput_stays_and_users_queue() -> None:
    scheduler = SchedulerConfig(max_sequences=16, step_tokens=8192)
    curve = steady_curve(inputs(scheduler), MeanLengths(100, 200), [8, 16, 32, 64])
    assert curve.queued.tolist() == [False, False, True, True]
    assert curve.output_tok_s_gpu[2] == pytest.approx(curve.output_tok_s_gpu[3], rel=1e-3)
    # Little's law: 32 more users wait for 32 more requests.
    requests_s = curve.output_tok_s_gpu[3] / 200
    assert curve.ttft_s[3] - curve.ttft_s[2] == pytest.approx(32 / requests_s, rel=1e-2)


def test_running_requests_are_limited_by_the_cache() -> None:
    lengths, kv = MeanLengths(1000, 200), 12_000
    for reserve, held in (("none", 1100.0), ("all", 1200.0)):
        scheduler = SchedulerConfig(256, 8192, reserve=reserve)  # type: ignore[arg-type]
        held_by = max_running(inputs(scheduler, kv_tokens=kv, block_tokens=0), lengths)
        assert held_by == pytest.approx(kv / held)
    estimate = max_running(
        inputs(SchedulerConfig(256, 8192, reserve="estimate"), kv_tokens=kv), lengths
    )
    assert kv / 1201 < estimate < kv / 1100
    assert max_running(inputs(SchedulerConfig(8, 8192), kv_tokens=kv), lengths) == 8
    drafting = SchedulerConfig(256, 60, draft_tokens=3, acceptance=0.5)
    assert max_running(inputs(drafting, kv_tokens=PLENTY), lengths) == 15


def test_ranks_and_engines_share_the_users() -> None:
    lengths = MeanLengths(200, 200)
    alone = steady_curve(inputs(gpus=2), lengths, [8])
    separate = steady_curve(inputs(engines=4, gpus=8), lengths, [32])
    few = steady_curve(inputs(engines=4, gpus=8), lengths, [2])
    one = steady_curve(inputs(gpus=2), lengths, [1])
    assert separate.tpot_s[0] == pytest.approx(alone.tpot_s[0])
    assert separate.output_tok_s_gpu[0] == pytest.approx(alone.output_tok_s_gpu[0])
    assert few.output_tok_s_gpu[0] == pytest.approx(one.output_tok_s_gpu[0] * 2 / 4)
    together = steady_curve(inputs(ranks=4, gpus=8), lengths, [32])
    assert together.tpot_s[0] > separate.tpot_s[0]  # each waits for the others' prefill


def test_loads_without_closed_form_are_named() -> None:
    for lengths, scheduler, kv, message in (
        (MeanLengths(100, 1), None, PLENTY, "one token"),
        (MeanLengths(900, 200), None, 1000, "does not fit the KV cache"),
        (
            MeanLengths(900, 20),
            SchedulerConfig(16, 512, chunked=False),
            PLENTY,
            "does not fit a step",
        ),
    ):
        with pytest.raises(NoClosedForm, match=message):
            steady_curve(inputs(scheduler, kv_tokens=kv), lengths, [1])


def test_a_step_that_exceeds_the_free_memory_crashes_the_engine() -> None:
    headroom = ActivationHeadroom(bytes=4e9, bytes_per_token=1e6)  # 4,000 tokens
    steady_curve(inputs(headroom=headroom), MeanLengths(1000, 100), [1, 3])
    with pytest.raises(DeviceMemoryExhausted, match=r"a step needs 8\.2 GB, 4\.0 GB are free"):
        steady_curve(inputs(headroom=headroom), MeanLengths(1000, 100), [1, 64])


def test_cached_prefixes_are_not_computed() -> None:
    plain = steady_curve(inputs(), MeanLengths(2000, 100), [16])
    cached = steady_curve(inputs(), MeanLengths(2000, 100, cached=1800), [16])
    fresh = steady_curve(inputs(), MeanLengths(200, 100), [16])
    assert cached.ttft_s[0] < plain.ttft_s[0]
    assert cached.tpot_s[0] == pytest.approx(
        fresh.tpot_s[0]
    )  # in this formula, contexts cost nothing
    assert isnan(cached.watts_gpu[0])


CASES: Sequence[tuple[str, SchedulerConfig, HostCosts, MeanLengths, int, int]] = (
    ("few", SchedulerConfig(256, 8192), HostCosts(latency_s=0.004), MeanLengths(1000, 300), 4, 1),
    ("many", SchedulerConfig(256, 8192), HostCosts(1e-3, 5e-3, 4e-3), MeanLengths(1000, 300), 96, 1),
    ("prompts fill the steps", SchedulerConfig(512, 512), HostCosts(), MeanLengths(1500, 100), 96, 1),
    ("chunks", SchedulerConfig(256, 1024), HostCosts(), MeanLengths(3000, 300), 24, 1),
    ("more users than sequences", SchedulerConfig(32, 8192), HostCosts(), MeanLengths(800, 200), 80, 1),
    ("prefill first", SchedulerConfig(256, 8192, mixed=False), HostCosts(1e-3, 2e-2, 2e-2),
     MeanLengths(800, 300), 48, 1),
    ("ranks", SchedulerConfig(256, 8192), HostCosts(), MeanLengths(1000, 300), 64, 4),
    ("unchunked", SchedulerConfig(256, 4096, chunked=False, reserve="all"), HostCosts(),
     MeanLengths(900, 200), 64, 1),
)  # fmt: skip


@pytest.mark.parametrize(("name", "scheduler", "host", "lengths", "users", "ranks"), CASES)
def test_closed_form_matches_the_emulation(
    name: str,
    scheduler: SchedulerConfig,
    host: HostCosts,
    lengths: MeanLengths,
    users: int,
    ranks: int,
) -> None:
    ttft_s, tpot_s, tokens_s = simulated(scheduler, users, lengths, host, ranks)
    curve = steady_curve(inputs(scheduler, host=host, ranks=ranks), lengths, [users])
    assert curve.tpot_s[0] == pytest.approx(tpot_s, rel=0.08), name
    assert curve.output_tok_s_gpu[0] == pytest.approx(tokens_s, rel=0.08), name
    assert curve.ttft_s[0] == pytest.approx(ttft_s, rel=0.35), name


@settings(max_examples=examples(60))
@given(
    st.integers(16, 8192),
    st.integers(8, 2048),
    st.integers(64, 16384),
    st.integers(1, 512),
    st.booleans(),
    st.integers(1, 8),
)
def test_littles_law_accounts_for_all_users(
    prompt: int, output: int, budget: int, sequences: int, mixed: bool, ranks: int
) -> None:
    """Throughput does not fall with more users."""
    scheduler = SchedulerConfig(sequences, budget, mixed=mixed)
    users = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]
    curve = steady_curve(inputs(scheduler, ranks=ranks), MeanLengths(prompt, output), users)
    requests_s = curve.output_tok_s_gpu / output
    inside = requests_s * (curve.ttft_s + (output - 1) * curve.tpot_s)
    assert inside == pytest.approx(users, rel=0.02)
    if prompt <= budget:
        assert (np.diff(curve.output_tok_s_gpu) > -0.05 * curve.output_tok_s_gpu[1:]).all()
    assert ((curve.running > 0) & (curve.tpot_s > 0) & (curve.tpot_s < inf)).all()
