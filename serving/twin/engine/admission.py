"""Which request may join a rank's batch: sequence slots, token budget, and free KV blocks."""

from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.kv_blocks import BlockPool
from serving.twin.engine.request import Request

# SGLang reserves a ratio of the output still to come, which decays while no request is retracted
# (sglang/srt/environ.py: SGLANG_INIT_NEW_TOKEN_RATIO, …_MIN_…_FACTOR, …_DECAY_STEPS).
RESERVE_FIRST, RESERVE_LEAST, RESERVE_STEP = 0.7, 0.14, 0.7 / 600


def arrives_prefilled(request: Request) -> bool:
    """Its prompt was computed by a prefill engine, and has not been evicted since."""
    return request.transferred and not request.preemptions


class Admission:
    """The admission rule of one rank, with the state of SGLang's reserve ratio."""

    def __init__(self, scheduler: SchedulerConfig, blocks: BlockPool) -> None:
        self._scheduler, self._blocks = scheduler, blocks
        self._max_active = scheduler.max_sequences
        if scheduler.draft_tokens:
            by_budget = scheduler.step_tokens // (1 + scheduler.draft_tokens)
            self._max_active = min(self._max_active, by_budget)
        self._least_ratio = RESERVE_LEAST * RESERVE_FIRST * scheduler.conservativeness
        self._ratio = min(1.0, RESERVE_FIRST * scheduler.conservativeness)

    def has_slot(self, active: int) -> bool:
        """Whether one more request than `active` may run."""
        return active < self._max_active

    def admit(self, request: Request, budget: int, remaining: float | None) -> bool:
        """Allocates the request's blocks and sets `computed_tokens` if it may start now.

        `budget`: tokens left of the step. `remaining`: output tokens that active requests will still
        generate; None if there are none.
        """
        blocks, scheduler = self._blocks, self._scheduler
        hits = min(
            blocks.cached_prefix(request.blocks) * blocks.block_tokens, request.total_tokens - 1
        )
        hits -= hits % blocks.block_tokens
        computed = arrives_prefilled(request)
        rest = 0 if computed else request.total_tokens - hits
        if not scheduler.chunked and budget < rest <= scheduler.step_tokens:
            return False
        tokens = request.prompt_tokens if computed else request.total_tokens
        if scheduler.reserve == "all":
            tokens = request.prompt_tokens + request.output_tokens
        need, reserved = blocks.blocks_for(tokens), 0
        if scheduler.reserve == "estimate" and remaining is not None:
            reserved = blocks.blocks_for(int(self._ratio * (remaining + request.remaining)))
        if not blocks.can_allocate(request.blocks, need + reserved):
            return False
        blocks.allocate(request.blocks, need)
        if not computed:
            request.computed_tokens = hits
            request.cached_tokens += hits
        return True

    def decay(self, steps: int) -> None:
        """Lowers the reserve ratio after so many decode steps without a preemption."""
        if self._scheduler.reserve == "estimate":
            self._ratio = max(self._least_ratio, self._ratio - steps * RESERVE_STEP)

    def reset(self) -> None:
        """Puts the reserve ratio back to its start, after a preemption."""
        self._ratio = min(1.0, RESERVE_FIRST * self._scheduler.conservativeness)
