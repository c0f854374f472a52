"""One request inside the emulation: its lengths, its progress, and when its tokens came."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]  # seconds
Counts = NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Request:
    """Seconds are on the emulation's own clock; a time of -1 has not come yet.

    `blocks`: hashes of the prompt's full KV blocks in order, each of the prompt up to that block's end.
    `segments`: output by uninterrupted stretch of decode steps; see `output`.
    """

    number: int
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[int] = ()
    arrived_s: float = 0.0
    computed_tokens: int = 0  # in the KV cache
    generated: int = 0  # output tokens so far
    first_token_s: float = -1.0
    last_token_s: float = -1.0
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    preemptions: int = 0
    rejection: str = ""  # why the engine does not serve it
    transferred: bool = False  # prefilled elsewhere, its KV cache sent over the network
    segments: list[tuple[Times, Counts | None]] = field(default_factory=list)

    @property
    def total_tokens(self) -> int:
        """Prompt and output so far: what must be in the cache before it can decode."""
        return self.prompt_tokens + self.generated

    @property
    def remaining(self) -> int:
        """Output tokens still to generate."""
        return self.output_tokens - self.generated

    def output(self) -> tuple[Times, Counts]:
        """When output came, and how many tokens each time: both (n,), times non-decreasing."""
        if not self.segments:
            return np.zeros(0), np.zeros(0, np.int32)
        times = [times for times, _ in self.segments]
        counts = [
            np.ones(len(times), np.int32) if counts is None else counts
            for times, counts in self.segments
        ]
        return np.concatenate(times), np.concatenate(counts)
