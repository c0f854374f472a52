"""Ranks that step together, on the clock of whoever drives them: a step's time, its watts, its noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.twin.engine.batch import Batch
from serving.twin.engine.power import PowerModel, Work
from serving.twin.engine.rank import Rank
from serving.twin.engine.request import Request, Times

_NOISE_AHEAD = 4096
_WORTH_IT = 4  # fewer steps than these are taken one by one


class StepTime(Protocol):
    """`serving.twin.tables.steptime.StepTable`, or a formula in its place."""

    def step_s(
        self, prefill_tokens: int, prefill_attended: float, decodes: int, decode_context: float
    ) -> float: ...

    def decodes_s(self, decodes: int, contexts: Times) -> Times: ...


WorkOf = Callable[[Batch], Work]  # what a batch of one rank asks of one of its GPUs


@dataclass(frozen=True, slots=True)
class HostCosts:
    """What the engine's own Python costs, in seconds: fitted to measured runs (`serving.twin.engine.host`).

    `step_s`: between two steps, and `prefill_step_s` more if the step computes prompts; `latency_s`: of a
    request before it is in the queue (the network, threads that tokenise). `least_step_s`: what launching
    a step's kernels takes without CUDA graphs.
    """

    step_s: float = 0.0
    prefill_step_s: float = 0.0
    latency_s: float = 0.0
    least_step_s: float = 0.0

    def around(self, step_s: float, *, prompts: bool = False) -> float:
        """From the start of a step to that of the next."""
        return max(step_s, self.least_step_s) + self.step_s + self.prefill_step_s * prompts

    def around_all(self, steps_s: Times) -> Times:
        """`around` of many steps without prompts."""
        return np.maximum(steps_s, self.least_step_s) + self.step_s


class DeviceMemoryExhausted(Exception):
    """A step's activations are larger than what is left of the GPU: the engine dies of it, under load."""

    def __init__(self, need_bytes: float, have_bytes: float) -> None:
        super().__init__(f"{need_bytes / 1e9:.1f} GB for a step, {have_bytes / 1e9:.1f} are left")
        self.need_bytes, self.have_bytes = need_bytes, have_bytes


@dataclass(frozen=True, slots=True)
class Spare:
    """Bytes of a GPU that neither weights nor cache take, and what a token of a step takes of them."""

    bytes: float = float("inf")
    bytes_per_token: float = 0.0

    def check(self, tokens: int) -> None:
        need_bytes = tokens * self.bytes_per_token
        if need_bytes > self.bytes:
            raise DeviceMemoryExhausted(need_bytes, self.bytes)


class Noise:
    """Factors around 1, seeded: exp of a normal of this deviation."""

    def __init__(self, deviation: float, rng: np.random.Generator) -> None:
        self._deviation, self._rng = deviation, rng
        self._ahead: NDArray[np.float64] | list[float] = []
        self._next = 0

    def factor(self) -> float:
        if not self._deviation:
            return 1.0
        if self._next >= len(self._ahead):
            drawn = self._rng.normal(0.0, self._deviation, _NOISE_AHEAD)
            self._ahead, self._next = np.exp(drawn).tolist(), 0
        self._next += 1
        return float(self._ahead[self._next - 1])

    def coming(self, count: int) -> Times:
        """The next factors, without taking them."""
        if not self._deviation:
            return np.ones(count)
        while self._next + count > len(self._ahead):
            drawn = self._rng.normal(0.0, self._deviation, _NOISE_AHEAD)
            self._ahead = [*self._ahead[self._next :], *np.exp(drawn).tolist()]
            self._next = 0
        return np.array(self._ahead[self._next : self._next + count])

    def take(self, count: int) -> None:
        self._next += count if self._deviation else 0


class Engine:
    """`ranks` take each step at once and wait for the slowest; each holds `gpus_per_rank` GPUs."""

    def __init__(  # noqa: PLR0913 (its parts, by name)
        self,
        ranks: Sequence[Rank],
        times: StepTime,
        *,
        host: HostCosts,
        power: PowerModel,
        work: WorkOf,
        gpus_per_rank: int,
        noise: Noise,
        draft_cost: float = 0.0,
        spare: Spare | None = None,
    ) -> None:
        self.ranks, self.power, self.gpus_per_rank = list(ranks), power, gpus_per_rank
        self._times, self._host, self._work, self._noise = times, host, work, noise
        self._draft_cost, self._spare = draft_cost, spare
        self._since_s, self._spent_j, self._watts = (
            0.0,
            [0.0] * len(ranks),
            [power.idle_w] * len(ranks),
        )
        self.step_energy_j = 0.0  # of all its GPUs, in steps
        self.busy_s, self.steps = 0.0, 0
        self._batches: list[Batch | None] = []

    @property
    def load(self) -> int:
        return sum(rank.load for rank in self.ranks)

    def begin(self, now_s: float) -> float | None:
        """Forms the next step of all ranks; returns when it ends, None if none has work.

        Raises DeviceMemoryExhausted.
        """
        batches = self._batches = [rank.begin() for rank in self.ranks]
        if not any(batches):
            return None
        step_s, prompts = 0.0, False
        for batch in batches:
            if batch is None:
                continue
            if self._spare is not None:
                self._spare.check(batch.prefill_tokens + batch.decodes)
            step_s = max(step_s, self._step_s(batch))
            prompts = prompts or batch.prefill_tokens > 0
        step_s *= self._noise.factor()
        self._meter(now_s)
        # The rank whose cap bites most slows all of them.
        capped_s, idle_w = 0.0, self.power.idle_w
        for index, batch in enumerate(batches):
            if batch is not None:
                slowed_s, self._watts[index] = self.power.step(self._work(batch), step_s)
                capped_s = max(capped_s, slowed_s)
        whole_s = self._host.around(capped_s, prompts=prompts)
        share = capped_s / whole_s
        for index, busy_w in enumerate(self._watts):
            # Over the whole step: its kernels, and what the host takes between two.
            watts = self._watts[index] = idle_w + (busy_w - idle_w) * share
            self.step_energy_j += watts * whole_s * self.gpus_per_rank
        self.busy_s += whole_s
        self.steps += 1
        return now_s + whole_s

    def finish(self, at_s: float) -> tuple[list[Request], list[Request]]:
        """The step is over. Returns who made a token by its prompt, and who is done."""
        self._meter(at_s)
        made: list[Request] = []
        done: list[Request] = []
        for index, batch in enumerate(self._batches):
            self._watts[index] = self.power.idle_w
            if batch is not None:
                more, ended = self.ranks[index].finish(at_s)
                made += more
                done += ended
        return made, done

    def run_ahead(self, now_s: float, until_s: float) -> float:
        """Takes at once all steps that are over by `until_s` and in which nothing happens but decoding.

        Returns the end of the last one. They are the very steps that `begin` and `finish` would take.
        """
        steps = self.ranks[0].quiet_steps() if len(self.ranks) == 1 else 0
        if steps < _WORTH_IT:
            return now_s
        batch = self.ranks[0].decoding
        first_s = self._times.step_s(0, 0.0, batch.decodes, batch.context)
        steps = min(steps, int(min((until_s - now_s) / first_s * 1.5, _NOISE_AHEAD)))
        if steps < _WORTH_IT:
            return now_s
        index = np.arange(steps, dtype=np.float64)
        step_s = self._times.decodes_s(batch.decodes, batch.context + index)
        work, then = self._work(batch), self._work(replace(batch, context=batch.context + 1))
        capped_s, busy_w = self.power.steps(
            work.flop + index * (then.flop - work.flop),
            work.bytes + index * (then.bytes - work.bytes),
            step_s * self._noise.coming(steps),
        )
        whole_s = self._host.around_all(capped_s)
        ends_s = now_s + np.cumsum(whole_s)
        count = int(np.searchsorted(ends_s, until_s, side="right"))
        if not count:
            return now_s
        self._noise.take(count)
        self._meter(now_s)
        idle_w = self.power.idle_w
        joules = float(((busy_w - idle_w) * capped_s + idle_w * whole_s)[:count].sum())
        self._spent_j[0] += joules
        self.step_energy_j += joules * self.gpus_per_rank
        self.busy_s += float(whole_s[:count].sum())
        self.steps += count
        self.ranks[0].skip(ends_s[:count])
        self._since_s = float(ends_s[count - 1])
        return self._since_s

    def watts(self) -> list[float]:
        """Of each GPU, now."""
        return [watts for watts in self._watts for _ in range(self.gpus_per_rank)]

    def energy_j(self, at_s: float) -> list[float]:
        """Of each GPU, since time 0."""
        rest_s = max(0.0, at_s - self._since_s)
        return [
            spent + watts * rest_s
            for spent, watts in zip(self._spent_j, self._watts, strict=True)
            for _ in range(self.gpus_per_rank)
        ]

    def _meter(self, at_s: float) -> None:
        passed_s = at_s - self._since_s
        if passed_s > 0:
            for index, watts in enumerate(self._watts):
                self._spent_j[index] += watts * passed_s
            self._since_s = at_s

    def _step_s(self, batch: Batch) -> float:
        """Of one rank. With speculation a request brings 1 + k tokens that read its cache once."""
        drafts = self.ranks[0].scheduling.draft_tokens
        tokens, context = batch.decodes * (1 + drafts), batch.context / (1 + drafts)
        step_s = self._times.step_s(batch.prefill_tokens, batch.attended, tokens, context)
        return step_s * (1 + self._draft_cost * drafts) if tokens else step_s
