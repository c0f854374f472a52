"""What a rank decides by, and what it decides: flags of scheduling, one step's batch, counters."""

from dataclasses import dataclass, field
from typing import Literal

from serving.twin.engine.request import Request


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What of an engine's flags decides on its batches. Tokens and requests are those of one rank.

    `mixed`: prompts and decodes share a step, else prompts go first. `reserve`: what of a request's
    output must have its place in the KV cache before it is let in: nothing, all, or an estimate.
    `acceptance`: the chance that a draft token is taken, given that the one before it was.
    `receive_steps`: decode steps between two looks at what has arrived.
    """

    max_sequences: int
    step_tokens: int
    chunked: bool = True
    mixed: bool = True
    reserve: Literal["none", "all", "estimate"] = "none"
    conservativeness: float = 1.0
    draft_tokens: int = 0
    acceptance: float = 0.0
    receive_steps: int = 1

    @property
    def mean_tokens(self) -> float:
        """Output tokens of a request and decode step: 1 + a + a² + … + a^k."""
        return sum(self.acceptance**k for k in range(self.draft_tokens + 1))


@dataclass(slots=True)
class Batch:
    """One step of one rank. `attended`: tokens that a prompt token attends to, in the mean."""

    chunks: list[tuple[Request, int]] = field(default_factory=list)
    prefill_tokens: int = 0
    attended: float = 0.0
    decodes: int = 0
    context: float = 0.0

    def add(self, request: Request, tokens: int) -> None:
        attended = self.attended * self.prefill_tokens + tokens * (request.known + tokens / 2)
        self.chunks.append((request, tokens))
        self.prefill_tokens += tokens
        self.attended = attended / self.prefill_tokens


@dataclass(slots=True)
class Stats:
    """Counters since the start."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    hit_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
