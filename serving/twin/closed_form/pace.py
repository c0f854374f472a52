"""How fast a rank steps while so many requests decode on it: mean steps, in closed form. Pure.

With every decode step some prompts come, one of them as likely now as later: the share of steps that
compute prompts is that of a Poisson process. A step's time and watts are those of the mean batch.
"""

from dataclasses import dataclass
from math import ceil, exp, nan

from serving.twin.engine.batch import Batch, Scheduling
from serving.twin.engine.engine import HostCosts, Spare, StepTime, WorkOf
from serving.twin.engine.power import PowerModel

_BUSIEST = 0.98  # of a queue for a step's budget: beyond it the limit itself says how many wait


@dataclass(frozen=True, slots=True)
class Loop:
    """What of an emulation decides on its steady state.

    `engines` apart from each other, each of `ranks` that step together; `kv_tokens` of one rank; `gpus`
    of all. A step with draft tokens takes 1 + `draft_cost` × drafts as long. Without `power` and `work`
    there is no cap, and no watts are known.
    """

    times: StepTime
    scheduling: Scheduling
    host: HostCosts
    kv_tokens: int
    block_tokens: int = 1
    engines: int = 1
    ranks: int = 1
    gpus: int = 1
    draft_cost: float = 0.0
    spare: Spare | None = None
    power: PowerModel | None = None
    work: WorkOf | None = None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a mean request; of its prompt, `cached` are known to the prefix cache."""

    prompt: float
    output: float
    cached: float = 0.0

    @property
    def computed(self) -> float:
        return self.prompt - self.cached

    @property
    def attended(self) -> float:
        """By a computed token of the prompt, in the mean."""
        return self.cached + self.computed / 2

    @property
    def context(self) -> float:
        """Of a decode step, in the mean."""
        return self.prompt + self.output / 2


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, with so many decodes. `step_s`: from one token of a request to its next step's.

    `fill_s`: the steps that compute a prompt; `wait_s`: from sending to the first of them; `watts`: of one GPU.
    """

    step_s: float
    fill_s: float
    wait_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class _Step:
    """Seconds from its start to that of the next one; joules of one GPU in them."""

    seconds: float
    joules: float


def mixed(
    loop: Loop, lengths: Lengths, decodes: float, rate: float, together: float, users: float
) -> Pace:
    """Prompts and decodes share a step. `rate`: prompts of a rank that come with each step.

    `together`: ranks that step at once; `users`: that are inside, on all of these.
    """
    scheduling, prompt = loop.scheduling, lengths.computed
    budget = max(1.0, scheduling.step_tokens - decodes * (1 + scheduling.draft_tokens))
    if not scheduling.chunked:
        budget = max(1.0, budget // prompt) * prompt
    chunks = ceil(prompt / budget)
    used = min(1.0, rate * prompt / budget)
    busy = max(1 - exp(-rate * chunks * together), used)
    each = prompt / chunks
    tokens = min(budget, _most_prompts(rate * chunks / busy, together) * each)
    others = _of_others(users)
    own = min(budget, max(tokens * others, each + rate * prompt * others))
    alone = _step(loop, lengths, 0.0, decodes)
    shared = _step(loop, lengths, tokens, decodes, rate * prompt / busy)
    own_s = _step(loop, lengths, own, decodes).seconds
    watts = _mixture(alone, shared, busy)
    step_s = alone.seconds + busy * others * (shared.seconds - alone.seconds)
    used = min(used, _BUSIEST)
    behind_s = chunks * own_s * used / (2 * (1 - used))
    # It is sent as a step ends, and comes when the next one has begun.
    wait_s = max(1, ceil(loop.host.latency_s / step_s)) * step_s + behind_s
    return Pace(step_s, chunks * own_s, wait_s, watts)


def apart(
    loop: Loop, lengths: Lengths, decodes: float, rate: float, together: float, users: float
) -> Pace:
    """The same where prompts go first, in steps of their own, while all that decode wait."""
    scheduling, prompt = loop.scheduling, lengths.computed
    late_s, budget = loop.host.latency_s, float(scheduling.step_tokens)
    chunks = ceil(prompt / budget)
    alone = _step(loop, lengths, 0.0, decodes)
    looks = scheduling.receive_steps
    fills = _prompt_steps(rate * together, looks, late_s / alone.seconds)
    fills = max(fills * chunks, rate * prompt / budget)
    each = prompt / chunks
    tokens = min(budget, _most_prompts(rate * chunks / fills, together) * each)
    fill = _step(loop, lengths, tokens, 0.0, rate * prompt / fills)
    step_s = alone.seconds + fills * _of_others(users) * fill.seconds
    # What runs as it comes: a step of prompts, or decode steps until the scheduler looks.
    share = fills * fill.seconds / step_s
    rest_s = share * fill.seconds / 2 + (1 - share) * alone.seconds * looks / 2
    watts = (alone.joules + fills * fill.joules) / (alone.seconds + fills * fill.seconds)
    return Pace(step_s, chunks * fill.seconds, late_s + rest_s, watts)


def _of_others(users: float) -> float:
    """The share of prompts that hold a request up while it decodes: not its own."""
    return 1 - 1 / max(1.0, users)


def _mixture(alone: _Step, shared: _Step, busy: float) -> float:
    """Watts, where that share of steps has prompts."""
    joules = alone.joules + busy * (shared.joules - alone.joules)
    return joules / (alone.seconds + busy * (shared.seconds - alone.seconds))


def _prompt_steps(rate: float, looks: int, late: float) -> float:
    """For each decode step, where `rate` prompts come with one and are seen every so many `looks`.

    They come `late` (in decode steps): those that set out behind the first ones arrive while these
    are computed, and go into one step after it.
    """
    seen = (1 - exp(-rate * looks)) / looks
    behind = rate * max(0.0, ceil(late) - 1)
    return (2 - exp(-behind)) * rate / (rate / seen + behind)


def _most_prompts(mean: float, ranks: float) -> float:
    """In the fullest of the ranks, in a step in which some have any: the largest of Poisson counts."""
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


def _step(loop: Loop, lengths: Lengths, tokens: float, decodes: float, mean: float = 0.0) -> _Step:
    """One step, as `Engine.begin` has it; mean counts are as good as whole ones.

    `tokens` of prompts in the fullest rank, `mean` in any.
    """
    drafts = loop.scheduling.draft_tokens
    rows, context = decodes * (1 + drafts), lengths.context / (1 + drafts)
    step_s = loop.times.step_s(tokens, lengths.attended, rows, context)  # type: ignore[arg-type]
    step_s *= 1 + loop.draft_cost * drafts if decodes else 1
    if loop.power is None or loop.work is None:
        return _Step(loop.host.around(step_s, prompts=tokens > 0), nan)
    # What has no prompts in this step waits for what has.
    full = mean / tokens if tokens else 0.0
    capped_s, busy_w = 0.0, 0.0
    for share, own in ((full, tokens), (1 - full, 0.0)):
        if share > 0:
            batch = Batch([], own, lengths.attended, decodes, lengths.context)  # type: ignore[arg-type]
            slowed_s, watts = loop.power.step(loop.work(batch), step_s)
            capped_s, busy_w = max(capped_s, slowed_s), busy_w + share * watts
    seconds = loop.host.around(capped_s, prompts=tokens > 0)
    idle_w = loop.power.idle_w
    return _Step(seconds, idle_w * seconds + (busy_w - idle_w) * capped_s)
