"""Which request may enter a rank's batch: places, step budget, and room in its cache."""

from serving.twin.engine.batch import Scheduling
from serving.twin.engine.blocks import Blocks
from serving.twin.engine.request import Request

# SGLang reserves a share of the output that is still to come; the share falls as it sees how it goes
# (sglang/srt/environ.py: SGLANG_INIT_NEW_TOKEN_RATIO, …_MIN_…_FACTOR, …_DECAY_STEPS).
RESERVE_FIRST, RESERVE_LEAST, RESERVE_STEP = 0.7, 0.14, 0.7 / 600


def came_computed(request: Request) -> bool:
    """Its prompt's cache was computed elsewhere, and is here."""
    return request.handed_over and not request.preemptions


class Admission:
    def __init__(self, scheduling: Scheduling, blocks: Blocks) -> None:
        self._scheduling, self._blocks = scheduling, blocks
        self._most = scheduling.max_sequences
        if scheduling.draft_tokens:
            self._most = min(self._most, scheduling.step_tokens // (1 + scheduling.draft_tokens))
        self._least = RESERVE_LEAST * RESERVE_FIRST * scheduling.conservativeness
        self._reserve = min(1.0, RESERVE_FIRST * scheduling.conservativeness)

    def room(self, active: int) -> bool:
        """Whether one more than those has a place."""
        return active < self._most

    def let_in(self, request: Request, budget: int, coming: float | None) -> bool:
        """Takes its blocks if it may come in now; `known` is then what the cache knows of its prompt.

        `coming`: output tokens that those inside will still make; None where there are none.
        """
        blocks, scheduling = self._blocks, self._scheduling
        hits = min(blocks.hits(request.blocks) * blocks.block_tokens, request.target - 1)
        hits -= hits % blocks.block_tokens
        computed = came_computed(request)
        rest = 0 if computed else request.target - hits
        if not scheduling.chunked and budget < rest <= scheduling.step_tokens:
            return False
        whole = request.prompt_tokens if computed else request.target
        if scheduling.reserve == "all":
            whole = request.prompt_tokens + request.output_tokens
        need, spare = blocks.needed(whole), 0
        if scheduling.reserve == "estimate" and coming is not None:
            spare = blocks.needed(int(self._reserve * (coming + request.left)))
        if not blocks.fits(request.blocks, need + spare):
            return False
        blocks.hold(request.blocks, need)
        if not computed:
            request.known = hits
            request.hit_tokens += hits
        return True

    def learn(self, steps: int) -> None:
        """So many decode steps went well."""
        if self._scheduling.reserve == "estimate":
            self._reserve = max(self._least, self._reserve - steps * RESERVE_STEP)

    def warned(self) -> None:
        """A request had to go: caution starts anew."""
        self._reserve = min(1.0, RESERVE_FIRST * self._scheduling.conservativeness)
