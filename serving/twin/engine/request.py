"""A request inside the twin: what was asked, how far it is, and when its tokens came."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]  # seconds
Counts = NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Request:
    """Seconds are on the emulation's own clock.

    `blocks` are hashes of the prompt's full KV blocks, in order, each standing for all before it too.
    `pieces` say when its output came, one an uninterrupted stretch of decode steps.
    """

    number: int
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[int] = ()
    arrived_s: float = 0.0
    known: int = 0  # tokens in the KV cache
    made: int = 0  # output tokens so far
    first_s: float = -1.0
    last_s: float = -1.0
    hit_tokens: int = 0  # of the prompt, found in the prefix cache
    preemptions: int = 0
    refused: str = ""
    handed_over: bool = False  # its prompt was computed elsewhere, and came over the network
    pieces: list[tuple[Times, Counts | None]] = field(default_factory=list)

    @property
    def target(self) -> int:
        """Tokens that must be in the cache before it can decode."""
        return self.prompt_tokens + self.made

    @property
    def left(self) -> int:
        return self.output_tokens - self.made

    def output(self) -> tuple[Times, Counts]:
        """When output came, and how many tokens each time: both (n,), times never falling."""
        if not self.pieces:
            return np.zeros(0), np.zeros(0, np.int32)
        times = [times for times, _ in self.pieces]
        counts = [
            np.ones(len(times), np.int32) if counts is None else counts
            for times, counts in self.pieces
        ]
        return np.concatenate(times), np.concatenate(counts)
