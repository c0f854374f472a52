"""Scheduler settings of a rank, the batch of one step, and a rank's counters."""

from dataclasses import dataclass, field
from typing import Literal

from serving.twin.engine.request import Request


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The flags that decide on a rank's batches. Tokens and requests are those of one rank.

    `step_tokens`: token budget of a step. `chunked`: prompts may be split over steps. `mixed`: prefill and
    decode share a step; else prefill goes first. `reserve`: the output that must have KV blocks before a
    request is admitted: none of it, all, or an estimate (`conservativeness` times SGLang's ratio).
    `acceptance`: probability that a draft token is accepted, given that the one before it was.
    `receive_steps`: decode steps between two polls for new requests.
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
        """Output tokens of a request per decode step: 1 + a + a² + … + a^k."""
        return sum(self.acceptance**k for k in range(self.draft_tokens + 1))


@dataclass(slots=True)
class Batch:
    """One step of one rank.

    `attended`: tokens that a prompt token attends to, mean over the step's prompt tokens. `context`: tokens
    in the cache of a decoding request, mean over the `decodes`.
    """

    chunks: list[tuple[Request, int]] = field(default_factory=list)
    prefill_tokens: int = 0
    attended: float = 0.0
    decodes: int = 0
    context: float = 0.0

    def add(self, request: Request, tokens: int) -> None:
        """Adds the next `tokens` of a request's prompt."""
        attended = self.attended * self.prefill_tokens
        attended += tokens * (request.computed_tokens + tokens / 2)
        self.chunks.append((request, tokens))
        self.prefill_tokens += tokens
        self.attended = attended / self.prefill_tokens


@dataclass(slots=True)
class RankCounters:
    """Totals since the start. `prompt_tokens`: computed, those of preempted requests again.

    `prefix_queries`: tokens of prompts, each once; `prefix_hits`: those found in the prefix cache. `drafts`,
    `accepted_drafts`: draft tokens of stretches of decode steps that are over.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    drafts: int = 0
    accepted_drafts: int = 0
