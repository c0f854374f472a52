"""A stretch of decode steps of one request, whose length is known when it begins."""

from dataclasses import dataclass

import numpy as np

from serving.twin.engine.batch import Scheduling
from serving.twin.engine.request import Counts


@dataclass(slots=True, eq=False)
class Decode:
    """A stretch of decode steps of one request: from step `begin` on, with `length` tokens cached."""

    begin: int
    length: int
    finish: int  # its last step
    tokens: Counts | None  # of each step, with speculation; else one
    over: bool = False

    def growth(self, block_tokens: int) -> list[tuple[int, int]]:
        """The steps at which it needs more blocks, and how many."""
        assert self.tokens is not None, "one token a step is counted by phase"
        lengths = self.length + np.concatenate(([0], np.cumsum(self.tokens)))
        more = np.diff(-(-lengths // block_tokens))
        return [(self.begin + int(i), int(more[i])) for i in np.flatnonzero(more)]


def accepted(scheduling: Scheduling, left: int, rng: np.random.Generator) -> Counts:
    """Output tokens of each step until `left` are made: drafts are taken until the first is not."""
    wanted = int(left / scheduling.mean_tokens * 1.25) + 8
    tokens = np.zeros(0, np.int32)
    while tokens.sum() < left:
        taken = rng.random((wanted, scheduling.draft_tokens)) < scheduling.acceptance
        more = 1 + np.cumprod(taken, axis=1).sum(axis=1)
        tokens = np.concatenate((tokens, more.astype(np.int32)))
    steps = int(np.searchsorted(np.cumsum(tokens), left)) + 1
    tokens = tokens[:steps]
    tokens[-1] -= int(tokens.sum()) - left
    return tokens
