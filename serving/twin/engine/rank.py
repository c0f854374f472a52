"""Continuous batching on one data-parallel rank: which request gets what in the next step.

What a step costs here does not grow with the number of requests that decode: when each will finish,
and when it needs another KV block, is known as soon as it begins to decode.
"""

from array import array
from collections import deque
from heapq import heappop, heappush
from itertools import count

import numpy as np

from serving.twin.engine.admission import Admission, came_computed
from serving.twin.engine.batch import Batch, Scheduling, Stats
from serving.twin.engine.blocks import Blocks
from serving.twin.engine.decode import Decode, accepted
from serving.twin.engine.request import Request, Times


class Rank:
    """`begin` forms a batch, `finish` gives its tokens out; the clock is the caller's."""

    def __init__(self, scheduling: Scheduling, blocks: Blocks, rng: np.random.Generator) -> None:
        self.scheduling, self.blocks, self.stats = scheduling, blocks, Stats()
        self.waiting: deque[Request] = deque()
        self.filling: list[Request] = []
        self.running: dict[Request, Decode] = {}
        self.ends = array("d")
        self._mean_tokens = scheduling.mean_tokens
        self._rng = rng
        self._batch: Batch | None = None
        self._order = count()
        self._finishing: list[tuple[int, int, Request, Decode]] = []
        self._growth: dict[int, int] = {}  # decode step → blocks needed then
        self._phases = [
            0
        ] * blocks.block_tokens  # the same without speculation, step by step the same
        self._context = 0.0
        self._left = 0.0  # tokens still to come of those that run
        self._door = Admission(scheduling, blocks)
        self._seen = 0  # of those that wait; the scheduler has not looked since the rest came
        self._unlooked = 0  # decode steps

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.filling) + len(self.running)

    def submit(self, request: Request) -> None:
        """Sets `refused` instead of taking what can never be served."""
        whole = self.blocks.needed(request.prompt_tokens + request.output_tokens)
        if whole > self.blocks.total:
            request.refused = "the request does not fit the KV cache"
        elif not self.scheduling.chunked and request.prompt_tokens > self.scheduling.step_tokens:
            request.refused = "the prompt does not fit a step, and may not be chunked"
        else:
            self.waiting.append(request)

    def begin(self) -> Batch | None:
        """The next batch; None when there is nothing to do."""
        batch = Batch()
        self._look()
        self._take_over()
        if self.scheduling.mixed:
            preempted = self._decode(batch)
            per_request = 1 + self.scheduling.draft_tokens
            budget = self.scheduling.step_tokens - batch.decodes * per_request
            self._fill(batch, budget, admit=not preempted)
        else:
            self._fill(batch, self.scheduling.step_tokens, admit=True)
            if not batch.chunks:
                self._decode(batch)
        if not batch.chunks and not batch.decodes:
            return None
        self._batch = batch
        self._unlooked += self.scheduling.receive_steps if batch.chunks else 1
        return batch

    def finish(self, at_s: float) -> tuple[list[Request], list[Request]]:
        """The batch is computed. Returns who made a token by its prompt, and who is done."""
        batch, self._batch = self._batch, None
        assert batch is not None, "finish follows begin"
        done: list[Request] = []
        if batch.decodes:
            self._advance(at_s, done)
        if not batch.chunks:
            self.stats.finished += len(done)
            return [], done
        chunks = [each for each in batch.chunks if each[0] in self.filling]  # some went away
        made = [request for request, tokens in chunks if self._filled(request, tokens, at_s)]
        for request in made:
            if request.left:
                self._join(request)
            else:
                self._end(request, self.blocks.needed(request.known), at_s)
                done.append(request)
        self.stats.finished += len(done)
        return made, done

    def _look(self) -> None:
        """At what has arrived: after a prompt step, when idle, else every so many decode steps."""
        if self._unlooked >= self.scheduling.receive_steps or not self.running:
            self._seen, self._unlooked = len(self.waiting), 0

    def _fill(self, batch: Batch, budget: int, *, admit: bool) -> None:
        """Chunks of prompts that are begun, then of those that wait, first come first served."""
        for request in self.filling:
            budget -= self._chunk(batch, request, budget)
        while admit and self._seen and budget > 0 and self._door.room(self._active):
            request = self.waiting[0]
            if came_computed(request) or not self._let_in(request, budget):
                break
            self.waiting.popleft()
            self._seen -= 1
            self.filling.append(request)
            budget -= self._chunk(batch, request, budget)

    def _take_over(self) -> None:
        """Requests whose prompts were computed elsewhere decode at once."""
        while self._seen and came_computed(self.waiting[0]) and self._door.room(self._active):
            if not self._let_in(self.waiting[0], 0):
                break
            self._join(self.waiting.popleft())
            self._seen -= 1

    @property
    def _active(self) -> int:
        return len(self.filling) + len(self.running)

    def _let_in(self, request: Request, budget: int) -> bool:
        others = self._left + sum(r.left for r in self.filling) if self._active else None
        if not self._door.let_in(request, budget, others):
            return False
        self.stats.hit_tokens += request.known if not came_computed(request) else 0
        return True

    def _chunk(self, batch: Batch, request: Request, budget: int) -> int:
        """How many tokens of the prompt this step computes."""
        tokens = min(budget, request.target - request.known)
        if tokens <= 0:
            return 0
        batch.add(request, tokens)
        return tokens

    def _filled(self, request: Request, tokens: int, at_s: float) -> bool:
        """Whether its prompt is complete: then its next token is made in the same step."""
        request.known += tokens
        self.stats.prompt_tokens += tokens
        if request.known < request.target:
            return False
        self.filling.remove(request)
        request.made += 1
        self.stats.output_tokens += 1
        request.pieces.append((np.array([at_s]), None))
        if request.first_s < 0:
            request.first_s = at_s
        return True

    def _decode(self, batch: Batch) -> bool:
        """All that run, once the cache has room for their next tokens; True if some had to go."""
        preempted = False
        while self._needed(len(self.ends)) > self.blocks.free and self._active > 1:
            self._preempt(self.filling[-1] if self.filling else next(reversed(self.running)))
            preempted = True
        batch.decodes = len(self.running)
        if batch.decodes:
            batch.context = self._context / batch.decodes
            self.blocks.grow(self._needed(len(self.ends)))
        return preempted

    def _needed(self, step: int) -> int:
        if self.scheduling.reserve == "all":
            return 0
        phase = self._phases[step % self.blocks.block_tokens]
        return phase + (self._growth.get(step, 0) if self._growth else 0)

    def _advance(self, at_s: float, done: list[Request]) -> None:
        step = len(self.ends)
        self._growth.pop(step, None)
        self.ends.append(at_s)
        tokens = len(self.running) * self._mean_tokens
        self._context += tokens
        self._left = max(0.0, self._left - tokens)
        self._door.learn(1)
        while self._finishing and self._finishing[0][0] <= step:
            _, _, request, decode = heappop(self._finishing)
            if decode.over:
                continue
            self._stop(request, decode, step + 1)
            self._end(request, self.blocks.needed(request.known), at_s)
            done.append(request)

    def _join(self, request: Request) -> None:
        """Its next step is a decode step."""
        begin, left, tokens = len(self.ends), request.left, None
        request.known = request.target - 1  # that of its last token is not written yet
        steps = left
        if self.scheduling.draft_tokens:
            tokens = accepted(self.scheduling, left, self._rng)
            steps = len(tokens)
        decode = Decode(begin, request.known, begin + steps - 1, tokens)
        self.running[request] = decode
        self._context += request.known
        self._left += left
        self._plan_growth(decode, 1)
        heappush(self._finishing, (decode.finish, next(self._order), request, decode))

    def _plan_growth(self, decode: Decode, sign: int) -> None:
        """Enters, or takes back, at which steps it needs another block."""
        if self.scheduling.reserve == "all":
            return
        if decode.tokens is None:
            self._phases[(decode.begin - decode.length) % self.blocks.block_tokens] += sign
            return
        now = len(self.ends) + (sign < 0 and self._under_way)
        for step, more in decode.growth(self.blocks.block_tokens):
            if step >= now:
                self._growth[step] = self._growth.get(step, 0) + sign * more

    @property
    def _under_way(self) -> bool:
        """A decode step is formed, and not finished."""
        return self._batch is not None and self._batch.decodes > 0

    def _stop(self, request: Request, decode: Decode, step: int) -> None:
        """It decodes no more from `step` on: what it made until then is its own."""
        del self.running[request]
        decode.over = True
        steps = step - decode.begin
        counts = None if decode.tokens is None else decode.tokens[:steps]
        made = steps if counts is None else int(counts.sum())
        self._plan_growth(decode, -1)
        self._context -= decode.length + steps * self._mean_tokens
        if not self.running:
            self._context, self._left = 0.0, 0.0
        if steps:
            request.pieces.append((np.array(self.ends[decode.begin : step]), counts))
        request.made += made
        request.known = decode.length + made
        self.stats.output_tokens += made

    def _preempt(self, request: Request) -> None:
        """Out of the cache and to the head of the queue: all of it is computed again."""
        held = request.target
        if request in self.running:
            self._left = max(0.0, self._left - request.left)
            self._stop(request, self.running[request], len(self.ends))
            held = request.known
        else:
            self.filling.remove(request)
        self.blocks.release(request.blocks, self.blocks.needed(held))
        request.known = 0
        request.preemptions += 1
        self.stats.preemptions += 1
        self._door.warned()
        self.waiting.appendleft(request)
        self._seen += 1

    def _end(self, request: Request, blocks: int, at_s: float) -> None:
        if self.scheduling.reserve == "all":
            blocks = self.blocks.needed(request.prompt_tokens + request.output_tokens)
        self.blocks.release(request.blocks, blocks)
        request.last_s = at_s

    def abandon(self, request: Request) -> bool:
        """The client went away; a step that is under way is not formed anew. False: it is not here."""
        if request in self.running:
            decode, step = self.running[request], len(self.ends)
            # Its place for the token of a step that is under way is taken already.
            steps = step + self._under_way - decode.begin
            cached = steps if decode.tokens is None else int(decode.tokens[:steps].sum())
            self._stop(request, decode, step)
            self._end(request, self.blocks.needed(decode.length + cached), -1.0)
        elif request in self.filling:
            self.filling.remove(request)
            self._end(request, self.blocks.needed(request.target), -1.0)
        elif request in self.waiting:
            self._seen -= self.waiting.index(request) < self._seen
            self.waiting.remove(request)
        else:
            return False
        return True

    def quiet_steps(self) -> int:
        """For how many steps from now on all that run decode and nothing else happens."""
        if self.filling or not self.running or self.scheduling.draft_tokens:
            return 0
        if self.waiting and self._door.room(self._active):
            return 0
        while self._finishing[0][3].over:
            heappop(self._finishing)
        steps = self._finishing[0][0] - len(self.ends)
        if self.scheduling.reserve != "all":  # each takes one block in so many steps
            rounds = self.blocks.free // len(self.running)
            steps = min(steps, rounds * self.blocks.block_tokens)
        return steps

    @property
    def decoding(self) -> Batch:
        """The step that comes if it is one of decodes alone."""
        count = len(self.running)
        return Batch(decodes=count, context=self._context / count)

    def skip(self, ends_s: Times) -> None:
        """So many quiet steps are over, each at its time."""
        begin, steps, tokens = len(self.ends), len(ends_s), self.blocks.block_tokens
        made = steps * len(self.running)
        if self.scheduling.reserve != "all":
            rounds, rest = divmod(steps, tokens)
            part = sum(self._phases[(begin + i) % tokens] for i in range(rest))
            self.blocks.grow(rounds * len(self.running) + part)
        self.ends.extend(ends_s.tolist())
        self._context += made
        self._left = max(0.0, self._left - made)
        self._door.learn(steps)
        every = self.scheduling.receive_steps
        over = min(self._unlooked, every) + steps
        self._seen = len(self.waiting) if over > every else self._seen
        self._unlooked = (over - 1) % every + 1
