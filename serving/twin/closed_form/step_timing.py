"""Mean step times of a rank while a given number of requests decode on it, in closed form. Pure.

Prompts arrive independently of each other, so the share of steps with prefill is that of a Poisson process.
A step's time and power are those of the mean batch.
"""

from dataclasses import dataclass
from math import ceil, exp, nan

from serving.twin.engine.batch import Batch, SchedulerConfig
from serving.twin.engine.engine import ActivationHeadroom, HostCosts, StepTime, WorkOf
from serving.twin.engine.power import PowerModel

_MAX_UTILIZATION = (
    0.98  # of a step's token budget: beyond it, the limit on decodes says how many wait
)


@dataclass(frozen=True, slots=True)
class SteadyInputs:
    """The parts of an emulation that determine its steady state.

    Independent `engines`, each of `ranks` in lockstep; `kv_tokens` of one rank; `gpus` of all. A step with
    draft tokens takes 1 + `draft_cost` × drafts as long. Without `power` and `work` there is no power cap, and
    watts are NaN.
    """

    times: StepTime
    scheduler: SchedulerConfig
    host: HostCosts
    kv_tokens: int
    block_tokens: int = 1
    engines: int = 1
    ranks: int = 1
    gpus: int = 1
    draft_cost: float = 0.0
    headroom: ActivationHeadroom | None = None
    power: PowerModel | None = None
    work: WorkOf | None = None


@dataclass(frozen=True, slots=True)
class MeanLengths:
    """Tokens of the mean request; `cached`: of the prompt, in the prefix cache."""

    prompt: float
    output: float
    cached: float = 0.0

    @property
    def computed(self) -> float:
        """Prompt tokens that are computed."""
        return self.prompt - self.cached

    @property
    def attended(self) -> float:
        """Tokens that a computed prompt token attends to, on average."""
        return self.cached + self.computed / 2

    @property
    def context(self) -> float:
        """Context of a decode step, on average."""
        return self.prompt + self.output / 2


@dataclass(frozen=True, slots=True)
class StepTiming:
    """Means at a given number of decodes.

    `step_s`: between two decode steps of a request; `prefill_s`: the steps that compute a prompt; `wait_s`:
    from sending a request to the first of them; `watts`: of one GPU.
    """

    step_s: float
    prefill_s: float
    wait_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class _Step:
    """Seconds from its start to the start of the next; joules of one GPU in that time."""

    seconds: float
    joules: float


def mixed_timing(
    inputs: SteadyInputs,
    lengths: MeanLengths,
    decodes: float,
    rate: float,
    ranks_in_step: float,
    users: float,
) -> StepTiming:
    """Prefill and decode share a step.

    `rate`: prompts that arrive at a rank per step; `ranks_in_step`: ranks in lockstep; `users`: requests that
    run on all of these.
    """
    scheduler, prompt = inputs.scheduler, lengths.computed
    budget = max(1.0, scheduler.step_tokens - decodes * (1 + scheduler.draft_tokens))
    if not scheduler.chunked:
        budget = max(1.0, budget // prompt) * prompt
    chunks = ceil(prompt / budget)
    used = min(1.0, rate * prompt / budget)
    busy = max(1 - exp(-rate * chunks * ranks_in_step), used)
    each = prompt / chunks
    tokens = min(budget, _most_prompts(rate * chunks / busy, ranks_in_step) * each)
    others = _share_of_others(users)
    own = min(budget, max(tokens * others, each + rate * prompt * others))
    alone = _step(inputs, lengths, 0.0, decodes)
    shared = _step(inputs, lengths, tokens, decodes, rate * prompt / busy)
    own_s = _step(inputs, lengths, own, decodes).seconds
    watts = _mixture(alone, shared, busy)
    step_s = alone.seconds + busy * others * (shared.seconds - alone.seconds)
    used = min(used, _MAX_UTILIZATION)
    behind_s = chunks * own_s * used / (2 * (1 - used))
    # A request is sent as a step ends, and arrives after the next one has begun.
    wait_s = max(1, ceil(inputs.host.latency_s / step_s)) * step_s + behind_s
    return StepTiming(step_s, chunks * own_s, wait_s, watts)


def separate_timing(
    inputs: SteadyInputs,
    lengths: MeanLengths,
    decodes: float,
    rate: float,
    ranks_in_step: float,
    users: float,
) -> StepTiming:
    """Prefill goes first, in steps of its own, while decodes wait. Arguments as in `mixed_timing`."""
    scheduler, prompt = inputs.scheduler, lengths.computed
    late_s, budget = inputs.host.latency_s, float(scheduler.step_tokens)
    chunks = ceil(prompt / budget)
    alone = _step(inputs, lengths, 0.0, decodes)
    every = scheduler.receive_steps
    fills = _prompt_steps(rate * ranks_in_step, every, late_s / alone.seconds)
    fills = max(fills * chunks, rate * prompt / budget)
    each = prompt / chunks
    tokens = min(budget, _most_prompts(rate * chunks / fills, ranks_in_step) * each)
    fill = _step(inputs, lengths, tokens, 0.0, rate * prompt / fills)
    step_s = alone.seconds + fills * _share_of_others(users) * fill.seconds
    # What runs as a request arrives: a prefill step, or decode steps until the scheduler polls.
    share = fills * fill.seconds / step_s
    rest_s = share * fill.seconds / 2 + (1 - share) * alone.seconds * every / 2
    watts = (alone.joules + fills * fill.joules) / (alone.seconds + fills * fill.seconds)
    return StepTiming(step_s, chunks * fill.seconds, late_s + rest_s, watts)


def _share_of_others(users: float) -> float:
    """The share of prompts that delay a decoding request: all but its own."""
    return 1 - 1 / max(1.0, users)


def _mixture(alone: _Step, shared: _Step, busy: float) -> float:
    """Mean watts, where a share `busy` of the steps has prefill."""
    joules = alone.joules + busy * (shared.joules - alone.joules)
    return joules / (alone.seconds + busy * (shared.seconds - alone.seconds))


def _prompt_steps(rate: float, every: int, late: float) -> float:
    """Prefill steps per decode step, at `rate` prompts per decode step and a poll `every` so many of them.

    Prompts take `late` decode steps to arrive: those sent soon after the first ones arrive while these are
    computed, and share the next prefill step.
    """
    seen = (1 - exp(-rate * every)) / every
    behind = rate * max(0.0, ceil(late) - 1)
    return (2 - exp(-behind)) * rate / (rate / seen + behind)


def _most_prompts(mean: float, ranks: float) -> float:
    """Prompts in the fullest rank, in a step in which any rank has some: the largest of Poisson counts."""
    if ranks <= 1:
        return mean
    below, term, most, count = 0.0, exp(-mean), 0.0, 0
    while True:
        below += term
        more = 1 - float(min(1.0, below) ** ranks)
        most += more
        if more < 1e-4:
            return max(1.0, most)
        count += 1
        term *= mean / count


def _step(
    inputs: SteadyInputs, lengths: MeanLengths, tokens: float, decodes: float, mean: float = 0.0
) -> _Step:
    """One step as in `Engine.begin`, with mean instead of whole counts.

    `tokens`: of prompts in the fullest rank; `mean`: on average over the ranks.
    """
    drafts = inputs.scheduler.draft_tokens
    rows, context = decodes * (1 + drafts), lengths.context / (1 + drafts)
    step_s = inputs.times.step_s(tokens, lengths.attended, rows, context)  # type: ignore[arg-type]
    step_s *= 1 + inputs.draft_cost * drafts if decodes else 1
    if inputs.power is None or inputs.work is None:
        return _Step(inputs.host.interval_s(step_s, prompts=tokens > 0), nan)
    # Ranks without prefill in this step wait for those with it.
    full = mean / tokens if tokens else 0.0
    capped_s, busy_w = 0.0, 0.0
    for share, own in ((full, tokens), (1 - full, 0.0)):
        if share > 0:
            batch = Batch([], own, lengths.attended, decodes, lengths.context)  # type: ignore[arg-type]
            slowed_s, watts = inputs.power.step(inputs.work(batch), step_s)
            capped_s, busy_w = max(capped_s, slowed_s), busy_w + share * watts
    seconds = inputs.host.interval_s(capped_s, prompts=tokens > 0)
    idle_w = inputs.power.idle_w
    return _Step(seconds, idle_w * seconds + (busy_w - idle_w) * capped_s)
