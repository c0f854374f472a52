"""The steady state of a closed loop in closed form: what the emulation converges to. Pure.

A rank decodes d requests at once, each for n = output − 1 steps, so λ = d / n prompts arrive per decode step;
`serving.twin.closed_form.step_timing` has the mean length of that step. TPOT is the mean step; throughput
follows from it, and queueing from Little's law. d is the fixed point at which every user is decoding, in
prefill or waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.twin.closed_form.step_timing import (
    MeanLengths,
    SteadyInputs,
    StepTiming,
    mixed_timing,
    separate_timing,
)
from serving.twin.engine.admission import RESERVE_FIRST, RESERVE_LEAST
from serving.twin.engine.assemble import Assembled
from serving.twin.errors import NoClosedForm

Floats = NDArray[np.float64]
_ROUNDS, _CLOSE = 40, 1e-3


@dataclass(frozen=True, slots=True)
class SteadyCurve:
    """Arrays (n,) by number of users.

    `running`: requests that decode at once, over all ranks. `output_tok_s_gpu`: output tokens only.
    `watts_gpu`: mean over the GPUs; NaN without a power model. `queued`: requests wait, which TTFT includes.
    """

    users: Floats
    ttft_s: Floats
    tpot_s: Floats
    output_tok_s_gpu: Floats
    running: Floats
    watts_gpu: Floats
    queued: NDArray[np.bool_]


# Of a rank: decodes, step s, TTFT s, requests/s, watts; whether requests queue.
_Point = tuple[float, float, float, float, float, bool]


def predict_curve(
    assembled: Assembled,
    isl: float,
    osl: float,
    users: Sequence[float],
    cached: float = 0.0,
) -> SteadyCurve:
    """The steady state by number of users of the whole installation; lengths are means in tokens.

    Raises NoClosedForm, and DeviceMemoryExhausted where the engine would crash under these loads.
    """
    return steady_curve(steady_inputs(assembled), MeanLengths(isl, osl, cached), users)


def steady_inputs(assembled: Assembled) -> SteadyInputs:
    """The inputs of an emulation. Raises NoClosedForm for disaggregated engines."""
    emulation = assembled.emulation
    if emulation.decode_engines:
        raise NoClosedForm("disaggregated prefill and decode have no closed form")
    engine = emulation.engines[0]
    rank = engine.ranks[0]
    return SteadyInputs(
        times=engine.times,
        scheduler=rank.scheduler,
        host=engine.host,
        kv_tokens=assembled.kv_tokens,
        block_tokens=rank.blocks.block_tokens,
        engines=len(emulation.engines),
        ranks=len(engine.ranks),
        gpus=emulation.gpus,
        draft_cost=engine.draft_cost,
        headroom=engine.headroom,
        power=engine.power,
        work=engine.work,
    )


def steady_curve(inputs: SteadyInputs, lengths: MeanLengths, users: Sequence[float]) -> SteadyCurve:
    """`predict_curve` of given inputs."""
    _check(inputs, lengths, users)
    ranks = inputs.engines * inputs.ranks
    rows = np.array(_steady_points(inputs, lengths, [count / ranks for count in users])).reshape(
        -1, 6
    )
    running, step_s, ttft_s, requests_s, watts, queued = rows.T
    mean_tokens = inputs.scheduler.mean_tokens
    return SteadyCurve(
        users=np.asarray(users, dtype=np.float64),
        ttft_s=ttft_s,
        tpot_s=step_s / mean_tokens,
        output_tok_s_gpu=requests_s * ranks * lengths.output / inputs.gpus,
        running=running * ranks,
        watts_gpu=watts,
        queued=queued > 0,
    )


def max_running(inputs: SteadyInputs, lengths: MeanLengths) -> float:
    """Requests that one rank runs at once: its sequence limit, or what its KV cache has room for."""
    scheduler, output = inputs.scheduler, lengths.output
    drafts = scheduler.draft_tokens
    most = scheduler.max_sequences
    if drafts:
        most = min(most, scheduler.step_tokens // (1 + drafts))
    later = {
        "none": output / 2,
        "all": output,
        # SGLang's ratio decays from its first to its least value: the mean of both.
        "estimate": output / 2 * (1 + _reserved(scheduler.conservativeness)),
    }[scheduler.reserve]
    held = lengths.prompt + later + inputs.block_tokens / 2
    return min(float(most), inputs.kv_tokens / held)


def _reserved(conservativeness: float) -> float:
    first = RESERVE_FIRST * conservativeness
    return (min(1.0, first) + RESERVE_LEAST * first) / 2


def _check(inputs: SteadyInputs, lengths: MeanLengths, users: Sequence[float]) -> None:
    scheduler = inputs.scheduler
    if lengths.output < 2:
        raise NoClosedForm("outputs of one token have no decode steps")
    if lengths.prompt + lengths.output > inputs.kv_tokens:
        raise NoClosedForm("the request does not fit the KV cache")
    if not scheduler.chunked and lengths.prompt > scheduler.step_tokens:
        raise NoClosedForm("the prompt does not fit a step, and chunked prefill is off")
    if inputs.headroom is not None and users:
        at_once = min(max(users) / (inputs.engines * inputs.ranks), max_running(inputs, lengths))
        inputs.headroom.check(int(min(scheduler.step_tokens, max(1.0, at_once) * lengths.computed)))


def _steady_points(
    inputs: SteadyInputs, lengths: MeanLengths, users: Sequence[float]
) -> list[_Point]:
    """Steady states of one rank. Each search starts at the last result: beyond saturation it stays the same."""
    limit, steps = max_running(inputs, lengths), _steps(inputs, lengths)
    most = min(limit, _decodes_beside_prompts(inputs, lengths, steps))
    found, decodes = list[_Point](), most
    for count in users:
        # With fewer users than ranks, so many ranks have one each, and the rest none.
        present = max(count, 1.0)
        share = count / present
        guess = decodes if present > limit else min(present, most)
        decodes, timing = _solve_decodes(inputs, lengths, (present, limit, most), share, guess)
        cycle_s, service_s = steps * timing.step_s, timing.wait_s + timing.prefill_s
        requests_s = decodes / cycle_s
        ttft_s = max(service_s, present / requests_s - cycle_s)
        queued = present > limit * (1 + 1e-9) or ttft_s > 1.05 * service_s
        watts = timing.watts
        if inputs.power is not None:
            watts = inputs.power.idle_w + (watts - inputs.power.idle_w) * share
        found.append((decodes * share, timing.step_s, ttft_s, requests_s * share, watts, queued))
    return found


def _solve_decodes(
    inputs: SteadyInputs,
    lengths: MeanLengths,
    bounds: tuple[float, float, float],
    share: float,
    guess: float,
) -> tuple[float, StepTiming]:
    """How many requests decode, the fixed point. `bounds`: users, most running, most decoding."""
    present, limit, most = bounds
    steps = _steps(inputs, lengths)
    timing_of = mixed_timing if inputs.scheduler.mixed else separate_timing
    ranks_in_step = max(1.0, inputs.ranks * share)
    inside_all = min(present, limit) * ranks_in_step
    decodes, last, weight = guess, 0.0, 1.0
    for _ in range(_ROUNDS):
        timing = timing_of(inputs, lengths, decodes, decodes / steps, ranks_in_step, inside_all)
        cycle_s = steps * timing.step_s
        inside = limit / (1 + timing.prefill_s / cycle_s)
        found = min(present / (1 + (timing.wait_s + timing.prefill_s) / cycle_s), inside, most)
        change = found - decodes
        if abs(change) <= _CLOSE * decodes:
            break
        weight = weight / 2 if change * last < 0 else weight
        decodes, last = decodes + weight * change, change
    return decodes, timing


def _steps(inputs: SteadyInputs, lengths: MeanLengths) -> float:
    """Decode steps of a request: its first token comes with its prefill."""
    return max(1.0, (lengths.output - 1) / inputs.scheduler.mean_tokens)


def _decodes_beside_prompts(inputs: SteadyInputs, lengths: MeanLengths, steps: float) -> float:
    """Most decodes: a mixed step has room for them and for the prompts that replace those that finish."""
    scheduler = inputs.scheduler
    if not scheduler.mixed:
        return float("inf")
    each, budget = 1 + scheduler.draft_tokens, float(scheduler.step_tokens)
    most = budget / (lengths.computed / steps + each)
    if not scheduler.chunked:
        most = min(most, (budget - lengths.computed) / each)
    return max(most, 1.0)
