"""The closed form of the twin's loop: against arithmetic by hand, and against the loop itself."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.twin.closed_form.pace import Lengths, Loop
from serving.twin.closed_form.steady import NoClosedForm, places, steady_curve
from serving.twin.engine.batch import Scheduling
from serving.twin.engine.engine import DeviceMemoryExhausted, HostCosts, Spare
from serving.twin.engine.request import Request
from tests.serving.twin.stations import Linear, drive, emulation_of

TIMES = Linear(base_s=0.01, prompt_s=1e-5, decode_s=1e-4)
PLENTY = 10_000_000


def loop(scheduling: Scheduling | None = None, **changes: object) -> Loop:
    known = Loop(TIMES, scheduling or Scheduling(256, 8192), HostCosts(), PLENTY)
    return replace(known, **changes)  # type: ignore[arg-type]


def simulated(
    scheduling: Scheduling, users: int, lengths: Lengths, host: HostCosts, ranks: int = 1
) -> tuple[float, float, float]:
    """Medians of TTFT and TPOT, and output tokens a second, of the second half of a long run."""
    random = np.random.default_rng(users)
    count = max(300, 8 * users)
    prompts, outputs = (
        random.integers(int(0.8 * mean), int(1.2 * mean), count, endpoint=True)
        for mean in (lengths.prompt, lengths.output)
    )
    pairs = enumerate(zip(prompts.tolist(), outputs.tolist(), strict=True))
    asked = [Request(number, prompt, output) for number, (prompt, output) in pairs]
    emulation = emulation_of(scheduling, blocks=PLENTY, ranks=ranks, times=TIMES, host=host)
    done = drive(emulation, asked, users)
    later = [r for r in done if count * 0.4 < r.number < count - users]
    ttft_s = np.median([r.first_s - r.arrived_s for r in later])
    tpot_s = np.median([(r.last_s - r.first_s) / (r.made - 1) for r in later])
    span_s = max(r.last_s for r in later) - min(r.last_s for r in later)
    return float(ttft_s), float(tpot_s), sum(r.made for r in later[1:]) / span_s


def test_one_user_by_hand() -> None:
    curve = steady_curve(loop(), Lengths(1000, 101), [1])
    step_s = 0.01 + 1e-4
    first_s = step_s + 0.01 + 1000 * 1e-5  # it comes as a step begins
    # One user's prompt never meets its own decodes.
    assert curve.tpot_s[0] == pytest.approx(step_s, rel=1e-3)
    assert curve.ttft_s[0] == pytest.approx(first_s, rel=0.03)
    assert curve.output_tok_s_gpu[0] == pytest.approx(101 / (first_s + 100 * step_s), rel=0.012)
    assert not curve.queued[0]


def test_beyond_its_places_throughput_stays_and_users_wait() -> None:
    scheduling = Scheduling(max_sequences=16, step_tokens=8192)
    curve = steady_curve(loop(scheduling), Lengths(100, 200), [8, 16, 32, 64])
    assert curve.queued.tolist() == [False, False, True, True]
    assert curve.output_tok_s_gpu[2] == pytest.approx(curve.output_tok_s_gpu[3], rel=1e-3)
    # Little: 32 more users wait for 32 more requests.
    requests_s = curve.output_tok_s_gpu[3] / 200
    assert curve.ttft_s[3] - curve.ttft_s[2] == pytest.approx(32 / requests_s, rel=1e-2)


def test_places_by_the_cache() -> None:
    lengths, kv = Lengths(1000, 200), 12_000
    for reserve, held in (("none", 1100.0), ("all", 1200.0)):
        scheduling = Scheduling(256, 8192, reserve=reserve)  # type: ignore[arg-type]
        held_by = places(loop(scheduling, kv_tokens=kv, block_tokens=0), lengths)
        assert held_by == pytest.approx(kv / held)
    estimate = places(loop(Scheduling(256, 8192, reserve="estimate"), kv_tokens=kv), lengths)
    assert kv / 1201 < estimate < kv / 1100
    assert places(loop(Scheduling(8, 8192), kv_tokens=kv), lengths) == 8
    drafting = Scheduling(256, 60, draft_tokens=3, acceptance=0.5)
    assert places(loop(drafting, kv_tokens=PLENTY), lengths) == 15


def test_ranks_and_engines_share_the_users() -> None:
    lengths = Lengths(200, 200)
    alone = steady_curve(loop(gpus=2), lengths, [8])
    apart = steady_curve(loop(engines=4, gpus=8), lengths, [32])
    few = steady_curve(loop(engines=4, gpus=8), lengths, [2])
    one = steady_curve(loop(gpus=2), lengths, [1])
    assert apart.tpot_s[0] == pytest.approx(alone.tpot_s[0])
    assert apart.output_tok_s_gpu[0] == pytest.approx(alone.output_tok_s_gpu[0])
    assert few.output_tok_s_gpu[0] == pytest.approx(one.output_tok_s_gpu[0] * 2 / 4)
    together = steady_curve(loop(ranks=4, gpus=8), lengths, [32])
    assert together.tpot_s[0] > apart.tpot_s[0]  # each waits for the others' prompts


def test_what_has_no_closed_form_says_so() -> None:
    for lengths, scheduling, kv, said in (
        (Lengths(100, 1), None, PLENTY, "one token"),
        (Lengths(900, 200), None, 1000, "does not fit the KV cache"),
        (Lengths(900, 20), Scheduling(16, 512, chunked=False), PLENTY, "does not fit a step"),
    ):
        with pytest.raises(NoClosedForm, match=said):
            steady_curve(loop(scheduling, kv_tokens=kv), lengths, [1])


def test_a_step_too_large_for_what_is_left_of_the_gpu_kills_it() -> None:
    spare = Spare(bytes=4e9, bytes_per_token=1e6)  # 4,000 tokens
    steady_curve(loop(spare=spare), Lengths(1000, 100), [1, 3])
    with pytest.raises(DeviceMemoryExhausted, match=r"8\.2 GB for a step, 4\.0 are left"):
        steady_curve(loop(spare=spare), Lengths(1000, 100), [1, 64])


def test_known_prefixes_are_not_computed() -> None:
    plain = steady_curve(loop(), Lengths(2000, 100), [16])
    known = steady_curve(loop(), Lengths(2000, 100, cached=1800), [16])
    fresh = steady_curve(loop(), Lengths(200, 100), [16])
    assert known.ttft_s[0] < plain.ttft_s[0]
    assert known.tpot_s[0] == pytest.approx(fresh.tpot_s[0])  # here contexts cost nothing
    assert isnan(known.watts_gpu[0])


CASES: Sequence[tuple[str, Scheduling, HostCosts, Lengths, int, int]] = (
    ("few", Scheduling(256, 8192), HostCosts(latency_s=0.004), Lengths(1000, 300), 4, 1),
    ("many", Scheduling(256, 8192), HostCosts(1e-3, 5e-3, 4e-3), Lengths(1000, 300), 96, 1),
    ("prompts fill the steps", Scheduling(512, 512), HostCosts(), Lengths(1500, 100), 96, 1),
    ("chunks", Scheduling(256, 1024), HostCosts(), Lengths(3000, 300), 24, 1),
    ("more users than places", Scheduling(32, 8192), HostCosts(), Lengths(800, 200), 80, 1),
    ("apart", Scheduling(256, 8192, mixed=False), HostCosts(1e-3, 2e-2, 2e-2), Lengths(800, 300), 48, 1),
    ("ranks", Scheduling(256, 8192), HostCosts(), Lengths(1000, 300), 64, 4),
    ("whole", Scheduling(256, 4096, chunked=False, reserve="all"), HostCosts(), Lengths(900, 200), 64, 1),
)  # fmt: skip


@pytest.mark.parametrize(("name", "scheduling", "host", "lengths", "users", "ranks"), CASES)
def test_it_is_what_the_loop_comes_to(
    name: str, scheduling: Scheduling, host: HostCosts, lengths: Lengths, users: int, ranks: int
) -> None:
    ttft_s, tpot_s, tokens_s = simulated(scheduling, users, lengths, host, ranks)
    curve = steady_curve(loop(scheduling, host=host, ranks=ranks), lengths, [users])
    assert curve.tpot_s[0] == pytest.approx(tpot_s, rel=0.08), name
    assert curve.output_tok_s_gpu[0] == pytest.approx(tokens_s, rel=0.08), name
    assert curve.ttft_s[0] == pytest.approx(ttft_s, rel=0.35), name


@settings(max_examples=60)
@given(
    st.integers(16, 8192),
    st.integers(8, 2048),
    st.integers(64, 16384),
    st.integers(1, 512),
    st.booleans(),
    st.integers(1, 8),
)
def test_users_are_never_lost(
    prompt: int, output: int, budget: int, sequences: int, mixed: bool, ranks: int
) -> None:
    """Little's law for the whole loop; more users do not make it slower in all."""
    scheduling = Scheduling(sequences, budget, mixed=mixed)
    users = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]
    curve = steady_curve(loop(scheduling, ranks=ranks), Lengths(prompt, output), users)
    requests_s = curve.output_tok_s_gpu / output
    inside = requests_s * (curve.ttft_s + (output - 1) * curve.tpot_s)
    assert inside == pytest.approx(users, rel=0.02)
    if prompt <= budget:
        assert (np.diff(curve.output_tok_s_gpu) > -0.05 * curve.output_tok_s_gpu[1:]).all()
    assert ((curve.running > 0) & (curve.tpot_s > 0) & (curve.tpot_s < inf)).all()
