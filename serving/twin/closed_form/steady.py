"""The steady state of a closed loop, in closed form: what the twin's loop comes to, without running it. Pure.

A rank decodes `d` requests at once, each n = output − 1 steps long, so λ = d / n prompts come with every
decode step; `serving.twin.closed_form.pace` says how long that step is in the mean. A request's time per token
is the mean step; throughput follows from it, and what waits from Little's law. `d` is the fixed point at
which all users are somewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.twin.closed_form.pace import Lengths, Loop, Pace, apart, mixed
from serving.twin.engine.admission import RESERVE_FIRST, RESERVE_LEAST
from serving.twin.engine.assemble import Assembled

Floats = NDArray[np.float64]
_ROUNDS, _CLOSE = 40, 1e-3


class NoClosedForm(Exception):
    """The loop would serve this, or refuse it, in a way that has no closed form; one line says why."""


@dataclass(frozen=True, slots=True)
class SteadyCurve:
    """All (n,), by number of users. `queued`: more users than are served at once; their wait is in the TTFT.

    `running`: requests that decode at once, over all ranks. `output_tok_s_gpu`: output tokens only.
    `watts_gpu`: of the mean GPU; NaN where there is no model of power.
    """

    users: Floats
    ttft_s: Floats
    tpot_s: Floats
    output_tok_s_gpu: Floats
    running: Floats
    watts_gpu: Floats
    queued: NDArray[np.bool_]


# Of a rank: decodes, seconds of a step, TTFT in seconds, requests/s, watts; whether some are queued.
_Point = tuple[float, float, float, float, float, bool]


def predict_curve(
    assembled: Assembled,
    isl: float,
    osl: float,
    users: Sequence[float],
    cached: float = 0.0,
) -> SteadyCurve:
    """By number of users of the whole installation.

    Raises NoClosedForm, and DeviceMemoryExhausted where the loop would die of these loads.
    """
    return steady_curve(loop_of(assembled), Lengths(isl, osl, cached), users)


def loop_of(assembled: Assembled) -> Loop:
    """Raises NoClosedForm for disaggregated engines."""
    emulation = assembled.emulation
    if emulation.decoders:
        raise NoClosedForm("prompts and output on different GPUs have no closed form")
    engine = emulation.engines[0]
    rank = engine.ranks[0]
    return Loop(
        times=engine._times,
        scheduling=rank.scheduling,
        host=engine._host,
        kv_tokens=assembled.kv_tokens,
        block_tokens=rank.blocks.block_tokens,
        engines=len(emulation.engines),
        ranks=len(engine.ranks),
        gpus=emulation.gpus,
        draft_cost=engine._draft_cost,
        spare=engine._spare,
        power=engine.power,
        work=engine._work,
    )


def steady_curve(loop: Loop, lengths: Lengths, users: Sequence[float]) -> SteadyCurve:
    """`predict_curve`, of the parts themselves."""
    _check(loop, lengths, users)
    ranks = loop.engines * loop.ranks
    rows = np.array(_points(loop, lengths, [count / ranks for count in users])).reshape(-1, 6)
    running, step_s, ttft_s, requests_s, watts, queued = rows.T
    mean_tokens = loop.scheduling.mean_tokens
    return SteadyCurve(
        users=np.asarray(users, dtype=np.float64),
        ttft_s=ttft_s,
        tpot_s=step_s / mean_tokens,
        output_tok_s_gpu=requests_s * ranks * lengths.output / loop.gpus,
        running=running * ranks,
        watts_gpu=watts,
        queued=queued > 0,
    )


def places(loop: Loop, lengths: Lengths) -> float:
    """Requests that one rank holds at once: its limit, or what its cache has room for."""
    scheduling, output = loop.scheduling, lengths.output
    drafts = scheduling.draft_tokens
    most = scheduling.max_sequences
    if drafts:
        most = min(most, scheduling.step_tokens // (1 + drafts))
    later = {
        "none": output / 2,
        "all": output,
        # Between what SGLang reserves at first and at last: in the mean, halfway.
        "estimate": output / 2 * (1 + _reserved(scheduling.conservativeness)),
    }[scheduling.reserve]
    held = lengths.prompt + later + loop.block_tokens / 2
    return min(float(most), loop.kv_tokens / held)


def _reserved(conservativeness: float) -> float:
    first = RESERVE_FIRST * conservativeness
    return (min(1.0, first) + RESERVE_LEAST * first) / 2


def _check(loop: Loop, lengths: Lengths, users: Sequence[float]) -> None:
    scheduling = loop.scheduling
    if lengths.output < 2:
        raise NoClosedForm("answers of one token have no decode steps")
    if lengths.prompt + lengths.output > loop.kv_tokens:
        raise NoClosedForm("the request does not fit the KV cache")
    if not scheduling.chunked and lengths.prompt > scheduling.step_tokens:
        raise NoClosedForm("the prompt does not fit a step, and may not be chunked")
    if loop.spare is not None and users:
        at_once = min(max(users) / (loop.engines * loop.ranks), places(loop, lengths))
        loop.spare.check(int(min(scheduling.step_tokens, max(1.0, at_once) * lengths.computed)))


def _points(loop: Loop, lengths: Lengths, users: Sequence[float]) -> list[_Point]:
    """Of one rank. Beyond saturation the state stays what it is: each level begins where the last one ended."""
    limit, steps = places(loop, lengths), _steps(loop, lengths)
    most = min(limit, _decodes_beside_prompts(loop, lengths, steps))
    found, decodes = list[_Point](), most
    for count in users:
        # Fewer users than ranks: so many of them have one each, and the rest none.
        present = max(count, 1.0)
        share = count / present
        guess = decodes if present > limit else min(present, most)
        decodes, pace = _balance(loop, lengths, (present, limit, most), share, guess)
        cycle_s, service_s = steps * pace.step_s, pace.wait_s + pace.fill_s
        requests_s = decodes / cycle_s
        ttft_s = max(service_s, present / requests_s - cycle_s)
        queued = present > limit * (1 + 1e-9) or ttft_s > 1.05 * service_s
        watts = pace.watts
        if loop.power is not None:
            watts = loop.power.idle_w + (watts - loop.power.idle_w) * share
        found.append((decodes * share, pace.step_s, ttft_s, requests_s * share, watts, queued))
    return found


def _balance(
    loop: Loop, lengths: Lengths, bounds: tuple[float, float, float], share: float, guess: float
) -> tuple[float, Pace]:
    """How many decode, where all users are somewhere; `bounds`: users, places, decodes at most."""
    present, limit, most = bounds
    steps = _steps(loop, lengths)
    pace_of = mixed if loop.scheduling.mixed else apart
    together = max(1.0, loop.ranks * share)
    inside_all = min(present, limit) * together
    decodes, last, weight = guess, 0.0, 1.0
    for _ in range(_ROUNDS):
        pace = pace_of(loop, lengths, decodes, decodes / steps, together, inside_all)
        cycle_s = steps * pace.step_s
        inside = limit / (1 + pace.fill_s / cycle_s)
        found = min(present / (1 + (pace.wait_s + pace.fill_s) / cycle_s), inside, most)
        change = found - decodes
        if abs(change) <= _CLOSE * decodes:
            break
        weight = weight / 2 if change * last < 0 else weight
        decodes, last = decodes + weight * change, change
    return decodes, pace


def _steps(loop: Loop, lengths: Lengths) -> float:
    """Decode steps of a request: its first token comes with its prompt."""
    return max(1.0, (lengths.output - 1) / loop.scheduling.mean_tokens)


def _decodes_beside_prompts(loop: Loop, lengths: Lengths, steps: float) -> float:
    """At most: a shared step has room for those that decode and for the prompts that follow them."""
    scheduling = loop.scheduling
    if not scheduling.mixed:
        return float("inf")
    each, budget = 1 + scheduling.draft_tokens, float(scheduling.step_tokens)
    most = budget / (lengths.computed / steps + each)
    if not scheduling.chunked:
        most = min(most, (budget - lengths.computed) / each)
    return max(most, 1.0)
