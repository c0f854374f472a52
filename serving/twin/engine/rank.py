"""Continuous batching on one data-parallel rank: which requests get which tokens in the next step.

The cost of a step does not grow with the number of decoding requests: when each will finish, and when it
needs another KV block, is known as soon as it begins to decode.
"""

from array import array
from collections import deque
from heapq import heappop, heappush
from itertools import count

import numpy as np

from serving.twin.engine.admission import Admission, arrives_prefilled
from serving.twin.engine.batch import Batch, RankCounters, SchedulerConfig
from serving.twin.engine.decode import BlockGrowth, DecodeRun, accepted_tokens
from serving.twin.engine.kv_blocks import BlockPool
from serving.twin.engine.request import Request, Times


class Rank:
    """`begin` forms a batch, `finish` hands out its tokens; the caller keeps the clock.

    `decode_ends`: seconds at which each decode step ended, by step number.
    """

    def __init__(
        self, scheduler: SchedulerConfig, blocks: BlockPool, rng: np.random.Generator
    ) -> None:
        self.scheduler, self.blocks, self.counters = scheduler, blocks, RankCounters()
        self.waiting: deque[Request] = deque()
        self.prefilling: list[Request] = []
        self.running: dict[Request, DecodeRun] = {}
        self.decode_ends = array("d")
        self._mean_tokens = scheduler.mean_tokens
        self._rng = rng
        self._batch: Batch | None = None
        self._order = count()
        self._finishing: list[tuple[int, int, Request, DecodeRun]] = []
        self._growth = BlockGrowth(blocks.block_tokens, reserved=scheduler.reserve == "all")
        self._context = 0.0
        self._remaining = 0.0  # output tokens that running requests will still generate
        self._admission = Admission(scheduler, blocks)
        self._visible = 0  # waiting requests that the scheduler has seen at its last poll
        self._since_poll = 0  # decode steps

    @property
    def load(self) -> int:
        """Requests on this rank, waiting ones included."""
        return len(self.waiting) + len(self.prefilling) + len(self.running)

    def submit(self, request: Request) -> None:
        """Queues the request, or sets its `rejection` if it can never be served."""
        blocks = self.blocks.blocks_for(request.prompt_tokens + request.output_tokens)
        if blocks > self.blocks.total:
            request.rejection = "the request does not fit the KV cache"
        elif not self.scheduler.chunked and request.prompt_tokens > self.scheduler.step_tokens:
            request.rejection = "the prompt does not fit a step, and chunked prefill is off"
        else:
            self.waiting.append(request)

    def begin(self) -> Batch | None:
        """The next batch; None when there is nothing to do."""
        batch = Batch()
        self._poll()
        self._admit_prefilled()
        if self.scheduler.mixed:
            preempted = self._schedule_decodes(batch)
            per_request = 1 + self.scheduler.draft_tokens
            budget = self.scheduler.step_tokens - batch.decodes * per_request
            self._schedule_prefill(batch, budget, admit=not preempted)
        else:
            self._schedule_prefill(batch, self.scheduler.step_tokens, admit=True)
            if not batch.chunks:
                self._schedule_decodes(batch)
        if not batch.chunks and not batch.decodes:
            return None
        self._batch = batch
        self._since_poll += self.scheduler.receive_steps if batch.chunks else 1
        return batch

    def finish(self, at_s: float) -> tuple[list[Request], list[Request]]:
        """The batch is computed. Returns requests whose prefill completed, and requests that are done."""
        batch, self._batch = self._batch, None
        assert batch is not None, "finish follows begin"
        done: list[Request] = []
        if batch.decodes:
            self._advance_decodes(at_s, done)
        if not batch.chunks:
            return [], done
        chunks = [each for each in batch.chunks if each[0] in self.prefilling]  # some were aborted
        prefilled = [
            request for request, tokens in chunks if self._advance_prefill(request, tokens, at_s)
        ]
        for request in prefilled:
            if request.remaining:
                self._start_decoding(request)
            else:
                self._end(request, self.blocks.blocks_for(request.computed_tokens), at_s)
                done.append(request)
        return prefilled, done

    def _poll(self) -> None:
        """Sees new requests: after a prefill step, when idle, else every `receive_steps` decode steps."""
        if self._since_poll >= self.scheduler.receive_steps or not self.running:
            self._visible, self._since_poll = len(self.waiting), 0

    def _schedule_prefill(self, batch: Batch, budget: int, *, admit: bool) -> None:
        """Chunks of prompts already begun, then of waiting ones, first come first served."""
        for request in self.prefilling:
            budget -= self._schedule_chunk(batch, request, budget)
        while admit and self._visible and budget > 0 and self._admission.has_slot(self._active):
            request = self.waiting[0]
            if arrives_prefilled(request) or not self._admit(request, budget):
                break
            self.waiting.popleft()
            self._visible -= 1
            self.prefilling.append(request)
            budget -= self._schedule_chunk(batch, request, budget)

    def _admit_prefilled(self) -> None:
        """Requests whose prompts were computed by a prefill engine decode at once."""
        while (
            self._visible
            and arrives_prefilled(self.waiting[0])
            and self._admission.has_slot(self._active)
        ):
            if not self._admit(self.waiting[0], 0):
                break
            self._start_decoding(self.waiting.popleft())
            self._visible -= 1

    @property
    def _active(self) -> int:
        return len(self.prefilling) + len(self.running)

    def _admit(self, request: Request, budget: int) -> bool:
        remaining = (
            self._remaining + sum(r.remaining for r in self.prefilling) if self._active else None
        )
        return self._admission.admit(request, budget, remaining)

    def _schedule_chunk(self, batch: Batch, request: Request, budget: int) -> int:
        """How many tokens of the prompt this step computes."""
        tokens = min(budget, request.total_tokens - request.computed_tokens)
        if tokens <= 0:
            return 0
        batch.add(request, tokens)
        return tokens

    def _advance_prefill(self, request: Request, tokens: int, at_s: float) -> bool:
        """Whether the prompt is complete: then the same step has generated its next token."""
        request.computed_tokens += tokens
        self.counters.prompt_tokens += tokens
        if request.computed_tokens < request.total_tokens:
            return False
        self.prefilling.remove(request)
        request.generated += 1
        self.counters.output_tokens += 1
        request.segments.append((np.array([at_s]), None))
        if request.first_token_s < 0:
            request.first_token_s = at_s
            self.counters.prefix_queries += request.prompt_tokens
            self.counters.prefix_hits += request.cached_tokens
        return True

    def _schedule_decodes(self, batch: Batch) -> bool:
        """All running requests, once the cache has room for their next tokens; True if some were preempted."""
        preempted = False
        step = len(self.decode_ends)
        while self._growth.at(step) > self.blocks.free and self._active > 1:
            self._preempt(self.prefilling[-1] if self.prefilling else next(reversed(self.running)))
            preempted = True
        batch.decodes = len(self.running)
        if batch.decodes:
            batch.context = self._context / batch.decodes
            self.blocks.grow(self._growth.at(step))
        return preempted

    def _advance_decodes(self, at_s: float, done: list[Request]) -> None:
        step = len(self.decode_ends)
        self._growth.by_step.pop(step, None)
        self.decode_ends.append(at_s)
        tokens = len(self.running) * self._mean_tokens
        self._context += tokens
        self._remaining = max(0.0, self._remaining - tokens)
        self._admission.decay(1)
        while self._finishing and self._finishing[0][0] <= step:
            _, _, request, run = heappop(self._finishing)
            if run.stopped:
                continue
            self._stop_decoding(request, run, step + 1)
            self._end(request, self.blocks.blocks_for(request.computed_tokens), at_s)
            done.append(request)

    def _start_decoding(self, request: Request) -> None:
        """Its next step is a decode step."""
        begin, remaining, tokens = len(self.decode_ends), request.remaining, None
        request.computed_tokens = request.total_tokens - 1  # its last token is not in the cache yet
        steps = remaining
        if self.scheduler.draft_tokens:
            tokens = accepted_tokens(self.scheduler, remaining, self._rng)
            steps = len(tokens)
        run = DecodeRun(begin, request.computed_tokens, begin + steps - 1, tokens)
        self.running[request] = run
        self._context += request.computed_tokens
        self._remaining += remaining
        self._growth.add(run, begin)
        heappush(self._finishing, (run.finish, next(self._order), request, run))

    @property
    def _decode_in_flight(self) -> bool:
        """A decode step has begun and not finished."""
        return self._batch is not None and self._batch.decodes > 0

    def _stop_decoding(self, request: Request, run: DecodeRun, step: int) -> None:
        """It decodes no more from `step` on, and keeps what it generated until then."""
        del self.running[request]
        run.stopped = True
        steps = step - run.begin
        counts = None if run.tokens is None else run.tokens[:steps]
        generated = steps if counts is None else int(counts.sum())
        self._growth.remove(run, len(self.decode_ends) + self._decode_in_flight)
        self._context -= run.cached + steps * self._mean_tokens
        if not self.running:
            self._context, self._remaining = 0.0, 0.0
        if steps:
            request.segments.append((np.array(self.decode_ends[run.begin : step]), counts))
        request.generated += generated
        request.computed_tokens = run.cached + generated
        self.counters.output_tokens += generated
        self.counters.drafts += steps * self.scheduler.draft_tokens
        self.counters.accepted_drafts += generated - steps

    def _preempt(self, request: Request) -> None:
        """Out of the cache and to the head of the queue: all of it is computed again."""
        cached = request.total_tokens
        if request in self.running:
            self._remaining = max(0.0, self._remaining - request.remaining)
            self._stop_decoding(request, self.running[request], len(self.decode_ends))
            cached = request.computed_tokens
        else:
            self.prefilling.remove(request)
        self.blocks.release(request.blocks, self.blocks.blocks_for(cached))
        request.computed_tokens = 0
        request.preemptions += 1
        self.counters.preemptions += 1
        self._admission.reset()
        self.waiting.appendleft(request)
        self._visible += 1

    def _end(self, request: Request, blocks: int, at_s: float) -> None:
        if self.scheduler.reserve == "all":
            blocks = self.blocks.blocks_for(request.prompt_tokens + request.output_tokens)
        self.blocks.release(request.blocks, blocks)
        request.last_token_s = at_s

    def abort(self, request: Request) -> bool:
        """The client disconnected; a step in flight runs as it is. False if the request is not on this rank."""
        if request in self.running:
            run, step = self.running[request], len(self.decode_ends)
            # A step in flight has already taken the block for its token.
            steps = step + self._decode_in_flight - run.begin
            generated = steps if run.tokens is None else int(run.tokens[:steps].sum())
            self._stop_decoding(request, run, step)
            self._end(request, self.blocks.blocks_for(run.cached + generated), -1.0)
        elif request in self.prefilling:
            self.prefilling.remove(request)
            self._end(request, self.blocks.blocks_for(request.total_tokens), -1.0)
        elif request in self.waiting:
            self._visible -= self.waiting.index(request) < self._visible
            self.waiting.remove(request)
        else:
            return False
        return True

    def decode_only_steps(self) -> int:
        """For how many coming steps all running requests decode and nothing else happens."""
        if self.prefilling or not self.running or self.scheduler.draft_tokens:
            return 0
        if self.waiting and self._admission.has_slot(self._active):
            return 0
        while self._finishing[0][3].stopped:
            heappop(self._finishing)
        steps = self._finishing[0][0] - len(self.decode_ends)
        if self.scheduler.reserve != "all":  # each request takes one block in `block_tokens` steps
            rounds = self.blocks.free // len(self.running)
            steps = min(steps, rounds * self.blocks.block_tokens)
        return steps

    @property
    def decode_batch(self) -> Batch:
        """The next step, if it is a decode step."""
        count = len(self.running)
        return Batch(decodes=count, context=self._context / count)

    def fast_forward(self, ends_s: Times) -> None:
        """So many decode-only steps are over, each at its time."""
        begin, steps, tokens = len(self.decode_ends), len(ends_s), self.blocks.block_tokens
        generated = steps * len(self.running)
        if self.scheduler.reserve != "all":
            rounds, rest = divmod(steps, tokens)
            part = sum(self._growth.at(begin + i) for i in range(rest))
            self.blocks.grow(rounds * len(self.running) + part)
        self.decode_ends.extend(ends_s.tolist())
        self._context += generated
        self._remaining = max(0.0, self._remaining - generated)
        self._admission.decay(steps)
        every = self.scheduler.receive_steps
        unpolled = min(self._since_poll, every) + steps
        self._visible = len(self.waiting) if unpolled > every else self._visible
        self._since_poll = (unpolled - 1) % every + 1
