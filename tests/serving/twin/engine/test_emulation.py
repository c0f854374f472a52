"""Tokens, KV blocks and energy are conserved for all flags; timings match closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.twin.config import Power
from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.kv_blocks import BlockPool
from serving.twin.engine.power import PowerModel
from serving.twin.engine.request import Request
from tests.fuzz.examples import examples
from tests.serving.twin.emulations import (
    GPU,
    LinearStepTime,
    disaggregated,
    emulation_of,
    engine_of,
    random_requests,
    rank_of,
    run_closed_loop,
    work,
)

SCHEDULERS = st.builds(
    SchedulerConfig,
    max_sequences=st.integers(1, 40),
    step_tokens=st.sampled_from([640, 1024, 4096]),
    chunked=st.booleans(),
    mixed=st.booleans(),
    reserve=st.sampled_from(["none", "all", "estimate"]),
    conservativeness=st.floats(0.1, 1.5),
    draft_tokens=st.integers(0, 3),
    acceptance=st.floats(0, 1),
)


@settings(max_examples=examples(120))
@given(
    scheduler=SCHEDULERS,
    blocks=st.sampled_from([60, 150, 5000]),
    users=st.integers(1, 30),
    seed=st.integers(0, 10**6),
    ranks=st.integers(1, 3),
)
def test_tokens_blocks_and_energy_are_conserved(
    scheduler: SchedulerConfig, blocks: int, users: int, seed: int, ranks: int
) -> None:
    emulation = emulation_of(scheduler, blocks=blocks, ranks=ranks, noise=0.05)
    requests = random_requests(60, seed, max_prompt=500, max_output=120)
    wanted = {request.number: request.output_tokens for request in requests}
    done = run_closed_loop(emulation, requests, users)
    (engine,) = emulation.engines
    assert sorted(request.number for request in done) == sorted(wanted)
    for request in done:
        times, counts = request.output()
        assert request.generated == wanted[request.number] == int(counts.sum())
        assert np.all(counts > 0)
        assert np.all(np.diff(times) >= 0)
        assert request.arrived_s < request.first_token_s == times[0]
        assert times[-1] == request.last_token_s
    for rank in engine.ranks:
        assert rank.blocks.used == rank.load == 0
        assert not rank._growth.by_step or not any(rank._growth.by_step.values())
    generated = sum(rank.counters.output_tokens for rank in engine.ranks)
    assert generated == sum(wanted.values())
    idle_s = emulation.now_s - engine.busy_s
    expected = engine.step_energy_j + idle_s * engine.power.idle_w * emulation.gpus
    assert sum(emulation.energy_j(emulation.now_s)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=examples(60))
@given(scheduler=SCHEDULERS, seed=st.integers(0, 1000), when=st.integers(1, 60))
def test_the_cache_never_exceeds_its_blocks(
    scheduler: SchedulerConfig, seed: int, when: int
) -> None:
    rank = rank_of(scheduler, BlockPool(60, 16, prefix_caching=False), seed)
    for request in random_requests(20, seed, max_prompt=300, max_output=200):
        rank.submit(request)
    for step in range(when):
        if rank.begin() is None:
            break
        rank.finish(step * 0.01)
        assert rank.blocks.used <= rank.blocks.total
        assert len(rank.running) + len(rank.prefilling) <= scheduler.max_sequences
        held = sum(-(-r.computed_tokens // 16) for r in rank.prefilling)
        assert rank.blocks.used >= held


def test_preempted_requests_are_recomputed_and_complete() -> None:
    emulation = emulation_of(SchedulerConfig(16, 4096), blocks=40)
    done = run_closed_loop(emulation, [Request(i, 100, 200) for i in range(12)], 12)
    (rank,) = emulation.engines[0].ranks
    assert rank.counters.preemptions > 0
    assert all(request.generated == 200 for request in done)
    assert rank.counters.prompt_tokens > 12 * 100


def test_a_prefilling_request_is_preempted_before_a_decoding_one() -> None:
    """One prompt is prefilled in small chunks while another request grows; the cache can't hold both."""
    rank = rank_of(SchedulerConfig(8, 3), BlockPool(10, 16, prefix_caching=False))
    first, second = Request(0, 16, 100), Request(1, 120, 5)
    rank.submit(first)
    rank.submit(second)
    step = 0
    while rank.begin() is not None:
        assert rank.blocks.used <= rank.blocks.total
        step += 1
        rank.finish(step * 0.01)
    assert second.preemptions > 0 == first.preemptions
    assert (first.generated, second.generated) == (100, 5)
    assert rank.blocks.used == 0


def test_requests_that_can_never_be_served_are_rejected() -> None:
    emulation = emulation_of(SchedulerConfig(16, 512, chunked=False), blocks=40)
    done = run_closed_loop(
        emulation, [Request(0, 639, 2), Request(1, 600, 2), Request(2, 100, 2)], 3
    )
    rejections = {request.number: request.rejection for request in done}
    assert "KV cache" in rejections[0]
    assert "step" in rejections[1]
    assert not rejections[2]


def test_timing_of_a_static_batch() -> None:
    """n equal requests at once: one step for all prompts, then steps of n decodes."""
    times, n, prompt, output = LinearStepTime(), 8, 100, 50
    done = run_closed_loop(
        emulation_of(SchedulerConfig(64, 8192)), [Request(i, prompt, output) for i in range(n)], n
    )
    first = times.step_s(n * prompt, 0, 0, 0)
    decode = times.step_s(0, 0, n, 0)
    # The first request's step has begun before the others arrive: they share the second step.
    late = times.step_s(prompt, 0, 0, 0) + times.step_s((n - 1) * prompt, 0, 1, 0)
    assert [r.first_token_s for r in done[1:]] == pytest.approx([late] * (n - 1))
    assert first < late
    tpot = np.array([(r.last_token_s - r.first_token_s) / (output - 1) for r in done[1:]])
    assert tpot == pytest.approx(decode, rel=1e-3)


def test_chunked_prefill_fills_the_token_budget_of_each_step() -> None:
    times = LinearStepTime()
    (done,) = run_closed_loop(emulation_of(SchedulerConfig(64, 256)), [Request(0, 1000, 1)], 1)
    chunks = [256, 256, 256, 232]
    assert done.first_token_s == pytest.approx(sum(times.step_s(c, 0, 0, 0) for c in chunks))


def test_prefill_first_pauses_decodes_and_mixed_steps_do_not() -> None:
    gaps = {}
    for mixed in (True, False):
        emulation = emulation_of(
            SchedulerConfig(64, 512, mixed=mixed), times=LinearStepTime(prompt_s=1e-4, decode_s=0)
        )
        long = Request(0, 10, 100)
        emulation.submit(long, 0.0)
        emulation.submit(Request(1, 5000, 2), 0.2)
        while emulation.next_s is not None:
            emulation.advance()
        gaps[mixed] = np.diff(long.output()[0]).max()
    assert gaps[True] == pytest.approx(0.01 + 511 * 1e-4)
    assert gaps[False] == pytest.approx(10 * 0.01 + 5000 * 1e-4 + 0.01, rel=0.05)


def test_a_cached_prefix_is_not_computed_again() -> None:
    emulation = emulation_of(SchedulerConfig(64, 8192), prefix_caching=True)
    blocks = tuple(range(20))  # of 16 tokens
    first, second = Request(0, 330, 5, blocks), Request(1, 330, 5, (*blocks[:10], 77, 78))
    other = Request(2, 330, 5, (105, *blocks[1:]))
    for at_s, request in enumerate((first, second, other)):
        emulation.submit(request, float(at_s))
    while emulation.next_s is not None:
        emulation.advance()
    assert (first.cached_tokens, second.cached_tokens, other.cached_tokens) == (0, 160, 0)
    (rank,) = emulation.engines[0].ranks
    assert rank.counters.prompt_tokens == 330 + 170 + 330


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), max_size=30))
def test_shared_blocks_are_all_released(prompts: list[list[int]]) -> None:
    blocks = BlockPool(20, 16, prefix_caching=True)
    held: list[tuple[tuple[int, ...], int]] = []
    for prompt in prompts:
        hashes = tuple(hash(tuple(prompt[: i + 1])) for i in range(len(prompt)))
        if blocks.can_allocate(hashes, len(prompt) + 1):
            blocks.allocate(hashes, len(prompt) + 1)
            held.append((hashes, len(prompt) + 1))
        elif held:
            blocks.release(*held.pop(0))
        assert 0 <= blocks.used <= blocks.total
        assert blocks.used + blocks.cached <= blocks.total
    for each in held:
        blocks.release(*each)
    assert blocks.used == 0


def test_speculation_yields_the_tokens_per_step_of_its_acceptance() -> None:
    scheduler = SchedulerConfig(64, 8192, draft_tokens=3, acceptance=0.6)
    (done,) = run_closed_loop(emulation_of(scheduler), [Request(0, 100, 20_000)], 1)
    _, counts = done.output()
    assert counts[1:-1].mean() == pytest.approx(1 + 0.6 + 0.36 + 0.216, rel=0.03)


def test_ranks_in_lockstep_wait_for_the_slowest() -> None:
    times = LinearStepTime(base_s=0.0, prompt_s=1e-3, decode_s=0.0)
    emulation = emulation_of(SchedulerConfig(64, 8192), ranks=2, times=times)
    long, short = Request(0, 1000, 1), Request(1, 10, 1)
    engine = emulation.engines[0]
    engine.ranks[0].submit(long)
    engine.ranks[1].submit(short)
    assert engine.begin(0.0) == pytest.approx(1.0)


def test_disaggregated_prompts_are_transferred_before_they_decode() -> None:
    emulation = disaggregated(2, 1, bytes_s=1e9)
    requests = [Request(i, 400, 30) for i in range(10)]
    done = run_closed_loop(emulation, requests, 4)
    assert all(r.generated == int(r.output()[1].sum()) == 30 for r in done)
    gaps = [np.diff(r.output()[0])[0] for r in done]
    assert min(gaps) >= 400 * 1e5 / 1e9
    assert all(rank.blocks.used == 0 for e in emulation.all_engines for rank in e.ranks)
    assert emulation.gpus == 6


@pytest.mark.parametrize("aborted", ["waiting", "prefilling", "running"])
def test_aborted_requests_release_their_blocks(aborted: str) -> None:
    emulation = emulation_of(SchedulerConfig(1 if aborted == "waiting" else 8, 64))
    first, second = Request(0, 100, 50), Request(1, 100, 50)
    emulation.submit(first, 0.0)
    emulation.submit(second, 0.0)
    victim = first if aborted == "running" else second
    for _ in range({"waiting": 4, "prefilling": 3, "running": 8}[aborted]):
        emulation.advance()
    emulation.abort(victim)
    while emulation.next_s is not None:
        emulation.advance()
    (rank,) = emulation.engines[0].ranks
    assert rank.blocks.used == 0
    assert victim.generated < 50
    assert (second if victim is first else first).generated == 50


def test_a_power_cap_lengthens_steps_and_lowers_power() -> None:
    model = {cap: PowerModel(GPU, Power(cap_w=cap)) for cap in (1100, 900, 700, 500, 300)}
    rank = rank_of(SchedulerConfig(64, 8192), BlockPool(1000, 16, prefix_caching=False))
    rank.submit(Request(0, 8000, 1))
    batch = rank.begin()
    assert batch is not None
    seconds, watts = zip(*(each.step(work(batch), 0.3) for each in model.values()), strict=True)
    assert list(seconds) == sorted(seconds)
    assert list(watts) == sorted(watts, reverse=True)
    assert seconds[0] == 0.3
    capped = list(zip(watts, model, strict=True))
    assert all(w <= cap + 1e-6 for w, cap in capped[:-1])
    assert watts[-1] > 300  # the lowest clock


def test_a_step_draws_between_idle_and_maximum_power() -> None:
    engine = engine_of(
        [rank_of(SchedulerConfig(64, 8192), BlockPool(1000, 16, prefix_caching=False))]
    )
    assert engine.watts() == [engine.power.idle_w] * 2
    engine.ranks[0].submit(Request(0, 4000, 1))
    engine.begin(0.0)
    assert all(engine.power.idle_w < watts <= GPU.max_w for watts in engine.watts())
