"""Ranks that step together: the time, power draw and noise of their steps. The caller keeps the clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.twin.engine.batch import Batch
from serving.twin.engine.power import PowerModel, Work
from serving.twin.engine.rank import Rank
from serving.twin.engine.request import Request, Times
from serving.twin.errors import DeviceMemoryExhausted

_NOISE_AHEAD = 4096
_LEAST_FAST_FORWARD = 4  # fewer steps than these are taken one by one


class StepTime(Protocol):
    """`serving.twin.tables.steptime.StepTable`, or a formula in its place."""

    def step_s(
        self, prefill_tokens: int, prefill_attended: float, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one forward pass."""
        ...

    def decode_steps_s(self, decodes: int, contexts: Times) -> Times:
        """Seconds of decode steps, one for each mean context."""
        ...


WorkOf = Callable[[Batch], Work]  # the work of one rank's batch on one of its GPUs


@dataclass(frozen=True, slots=True)
class HostCosts:
    """Host overhead in seconds; `serving.twin.engine.host` has the fitted values.

    `step_s`: between two steps; `prefill_step_s`: added to a step with prefill; `latency_s`: from a client's
    request to the scheduler's queue (network, tokenisation); `least_step_s`: kernel launches of a step without
    CUDA graphs.
    """

    step_s: float = 0.0
    prefill_step_s: float = 0.0
    latency_s: float = 0.0
    least_step_s: float = 0.0

    def interval_s(self, step_s: float, *, prompts: bool = False) -> float:
        """From the start of a step of `step_s` to the start of the next."""
        return max(step_s, self.least_step_s) + self.step_s + self.prefill_step_s * prompts

    def intervals_s(self, steps_s: Times) -> Times:
        """`interval_s` of many steps without prefill."""
        return np.maximum(steps_s, self.least_step_s) + self.step_s


@dataclass(frozen=True, slots=True)
class ActivationHeadroom:
    """GPU memory left for activations, in bytes, and the bytes that each token of a step takes of it."""

    bytes: float = float("inf")
    bytes_per_token: float = 0.0

    def check(self, tokens: int) -> None:
        """Raises DeviceMemoryExhausted if a step of so many tokens does not fit."""
        need_bytes = tokens * self.bytes_per_token
        if need_bytes > self.bytes:
            raise DeviceMemoryExhausted(need_bytes, self.bytes)


class Noise:
    """Seeded log-normal factors; `deviation`: standard deviation of the logarithm."""

    def __init__(self, deviation: float, rng: np.random.Generator) -> None:
        self._deviation, self._rng = deviation, rng
        self._ahead: NDArray[np.float64] | list[float] = []
        self._next = 0

    def factor(self) -> float:
        """The next factor."""
        if not self._deviation:
            return 1.0
        if self._next >= len(self._ahead):
            drawn = self._rng.normal(0.0, self._deviation, _NOISE_AHEAD)
            self._ahead, self._next = np.exp(drawn).tolist(), 0
        self._next += 1
        return float(self._ahead[self._next - 1])

    def peek(self, count: int) -> Times:
        """The next factors, without consuming them."""
        if not self._deviation:
            return np.ones(count)
        while self._next + count > len(self._ahead):
            drawn = self._rng.normal(0.0, self._deviation, _NOISE_AHEAD)
            self._ahead = [*self._ahead[self._next :], *np.exp(drawn).tolist()]
            self._next = 0
        return np.array(self._ahead[self._next : self._next + count])

    def skip(self, count: int) -> None:
        """Consumes the next factors."""
        self._next += count if self._deviation else 0


class Engine:
    """Ranks in lockstep: each step ends with the slowest of them. Each rank has `gpus_per_rank` GPUs.

    `draft_cost`: what a draft token adds to a step, as a share of its time. `headroom`: None where the
    framework profiles its largest step before it sizes the cache, so no step can run out of memory.
    """

    def __init__(  # noqa: PLR0913  (its parts, by name)
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
        headroom: ActivationHeadroom | None = None,
    ) -> None:
        self.ranks, self.power, self.gpus_per_rank = list(ranks), power, gpus_per_rank
        self.times, self.host, self.work, self._noise = times, host, work, noise
        self.draft_cost, self.headroom = draft_cost, headroom
        self._metered_s = 0.0  # energy is counted up to here
        self._energy_j = [0.0] * len(ranks)  # of one GPU of each rank
        self._watts = [power.idle_w] * len(ranks)
        self.step_energy_j = 0.0  # of all its GPUs, during steps
        self.busy_s, self.steps = 0.0, 0
        self._batches: list[Batch | None] = []

    def begin(self, now_s: float) -> float | None:
        """Starts the next step of all ranks; returns when it ends, None if no rank has work.

        Raises DeviceMemoryExhausted.
        """
        batches = self._batches = [rank.begin() for rank in self.ranks]
        if not any(batches):
            return None
        step_s, prompts = 0.0, False
        for batch in batches:
            if batch is None:
                continue
            if self.headroom is not None:
                self.headroom.check(batch.prefill_tokens + batch.decodes)
            step_s = max(step_s, self._step_s(batch))
            prompts = prompts or batch.prefill_tokens > 0
        step_s *= self._noise.factor()
        self._meter(now_s)
        # All ranks wait for the one that its power cap slows most.
        capped_s, idle_w = 0.0, self.power.idle_w
        for index, batch in enumerate(batches):
            if batch is not None:
                slowed_s, self._watts[index] = self.power.step(self.work(batch), step_s)
                capped_s = max(capped_s, slowed_s)
        whole_s = self.host.interval_s(capped_s, prompts=prompts)
        share = capped_s / whole_s
        for index, busy_w in enumerate(self._watts):
            # Averaged over the kernels and the host overhead after them.
            watts = self._watts[index] = idle_w + (busy_w - idle_w) * share
            self.step_energy_j += watts * whole_s * self.gpus_per_rank
        self.busy_s += whole_s
        self.steps += 1
        return now_s + whole_s

    def finish(self, at_s: float) -> tuple[list[Request], list[Request]]:
        """The step is over. Returns requests whose prefill completed, and requests that are done."""
        self._meter(at_s)
        prefilled: list[Request] = []
        done: list[Request] = []
        for index, batch in enumerate(self._batches):
            self._watts[index] = self.power.idle_w
            if batch is not None:
                filled, ended = self.ranks[index].finish(at_s)
                prefilled += filled
                done += ended
        return prefilled, done

    def fast_forward(self, now_s: float, until_s: float) -> float:
        """Takes at once all decode-only steps that end by `until_s`; returns the end of the last one.

        They are the same steps that `begin` and `finish` would take one by one.
        """
        steps = self.ranks[0].decode_only_steps() if len(self.ranks) == 1 else 0
        if steps < _LEAST_FAST_FORWARD:
            return now_s
        batch = self.ranks[0].decode_batch
        first_s = self.times.step_s(0, 0.0, batch.decodes, batch.context)
        steps = min(steps, int(min((until_s - now_s) / first_s * 1.5, _NOISE_AHEAD)))
        if steps < _LEAST_FAST_FORWARD:
            return now_s
        index = np.arange(steps, dtype=np.float64)
        step_s = self.times.decode_steps_s(batch.decodes, batch.context + index)
        work, later = self.work(batch), self.work(replace(batch, context=batch.context + 1))
        capped_s, busy_w = self.power.steps(
            work.flop + index * (later.flop - work.flop),
            work.bytes + index * (later.bytes - work.bytes),
            step_s * self._noise.peek(steps),
        )
        whole_s = self.host.intervals_s(capped_s)
        ends_s = now_s + np.cumsum(whole_s)
        count = int(np.searchsorted(ends_s, until_s, side="right"))
        if not count:
            return now_s
        self._noise.skip(count)
        self._meter(now_s)
        idle_w = self.power.idle_w
        joules = float(((busy_w - idle_w) * capped_s + idle_w * whole_s)[:count].sum())
        self._energy_j[0] += joules
        self.step_energy_j += joules * self.gpus_per_rank
        self.busy_s += float(whole_s[:count].sum())
        self.steps += count
        self.ranks[0].fast_forward(ends_s[:count])
        self._metered_s = float(ends_s[count - 1])
        return self._metered_s

    def watts(self) -> list[float]:
        """Power draw of each GPU now."""
        return [watts for watts in self._watts for _ in range(self.gpus_per_rank)]

    def energy_j(self, at_s: float) -> list[float]:
        """Energy of each GPU since time 0; `at_s`: not before the last step's start."""
        rest_s = max(0.0, at_s - self._metered_s)
        return [
            spent + watts * rest_s
            for spent, watts in zip(self._energy_j, self._watts, strict=True)
            for _ in range(self.gpus_per_rank)
        ]

    def _meter(self, at_s: float) -> None:
        passed_s = at_s - self._metered_s
        if passed_s > 0:
            for index, watts in enumerate(self._watts):
                self._energy_j[index] += watts * passed_s
            self._metered_s = at_s

    def _step_s(self, batch: Batch) -> float:
        """Kernel time of one rank. With k draft tokens a request adds 1 + k tokens that read its cache once."""
        drafts = self.ranks[0].scheduler.draft_tokens
        tokens, context = batch.decodes * (1 + drafts), batch.context / (1 + drafts)
        step_s = self.times.step_s(batch.prefill_tokens, batch.attended, tokens, context)
        return step_s * (1 + self.draft_cost * drafts) if tokens else step_s
