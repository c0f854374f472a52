"""Stretches of decode steps whose length is known when they begin, and the KV blocks that they will need."""

from dataclasses import dataclass

import numpy as np

from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.request import Counts


@dataclass(slots=True, eq=False)
class DecodeRun:
    """Decode steps of one request, by the rank's step numbers.

    `begin`: its first step; `cached`: tokens in the cache before that; `finish`: its last step. `tokens`: of
    each step, where draft tokens are used; None for one a step. `stopped`: it ended before `finish`.
    """

    begin: int
    cached: int
    finish: int
    tokens: Counts | None
    stopped: bool = False

    def growth(self, block_tokens: int) -> list[tuple[int, int]]:
        """The steps at which it needs more blocks, and how many."""
        assert self.tokens is not None, "one token a step is counted by phase"
        lengths = self.cached + np.concatenate(([0], np.cumsum(self.tokens)))
        more = np.diff(-(-lengths // block_tokens))
        return [(self.begin + int(i), int(more[i])) for i in np.flatnonzero(more)]


class BlockGrowth:
    """KV blocks that the running requests will need, by decode step.

    A request without draft tokens needs one every `block_tokens` steps: those are counted by step modulo
    `block_tokens`, the others in `by_step`. `reserved`: requests have all their blocks from the start.
    """

    def __init__(self, block_tokens: int, *, reserved: bool = False) -> None:
        self.by_step: dict[int, int] = {}
        self._reserved = reserved
        self._phases = [0] * block_tokens

    def at(self, step: int) -> int:
        """Blocks needed in one step."""
        phase = self._phases[step % len(self._phases)]
        return phase + (self.by_step.get(step, 0) if self.by_step else 0)

    def add(self, run: DecodeRun, now: int) -> None:
        """A run begins; `now` is the next step."""
        self._change(run, now, 1)

    def remove(self, run: DecodeRun, now: int) -> None:
        """A run ends; what it would have needed from step `now` on is not needed."""
        self._change(run, now, -1)

    def _change(self, run: DecodeRun, now: int, sign: int) -> None:
        if self._reserved:
            return
        block_tokens = len(self._phases)
        if run.tokens is None:
            self._phases[(run.begin - run.cached) % block_tokens] += sign
            return
        for step, more in run.growth(block_tokens):
            if step >= now:
                self.by_step[step] = self.by_step.get(step, 0) + sign * more


def accepted_tokens(scheduler: SchedulerConfig, remaining: int, rng: np.random.Generator) -> Counts:
    """Output tokens of each step until `remaining` are generated: drafts up to the first rejected one."""
    wanted = int(remaining / scheduler.mean_tokens * 1.25) + 8
    tokens = np.zeros(0, np.int32)
    while tokens.sum() < remaining:
        taken = rng.random((wanted, scheduler.draft_tokens)) < scheduler.acceptance
        more = 1 + np.cumprod(taken, axis=1).sum(axis=1)
        tokens = np.concatenate((tokens, more.astype(np.int32)))
    steps = int(np.searchsorted(np.cumsum(tokens), remaining)) + 1
    tokens = tokens[:steps]
    tokens[-1] -= int(tokens.sum()) - remaining
    return tokens
