"""Runs the emulation on the wall clock: sleeps until its next event, then writes the tokens of that event."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from serving.twin.engine.emulation import Emulation, EmulationEvent
from serving.twin.engine.engine import Engine
from serving.twin.engine.rank import Rank
from serving.twin.errors import DeviceMemoryExhausted
from serving.twin.frameworks.dialects import EngineCounters
from serving.twin.server.lag import ScheduleLag
from serving.twin.server.responses import ServedRequest
from serving.twin.server.timer import Timer

MAX_LAG_S = 0.25  # beyond it the schedule is moved instead of caught up with
MAX_EVENTS = 16  # before the sockets are read again
clock_s = time.monotonic  # CLOCK_MONOTONIC, as the timer's


class WallClock:
    """Drives an emulation in an event loop. `origin_s`: `clock_s` at the emulation's time 0.

    `reject` is called with a request that the engine can never serve, `crashed` when a step runs out of memory.
    Writing to a socket must not call back here: the requests of a rank are being iterated over.
    """

    def __init__(
        self,
        emulation: Emulation,
        loop: asyncio.AbstractEventLoop,
        reject: Callable[[ServedRequest], None],
        crashed: Callable[[DeviceMemoryExhausted], None],
    ) -> None:
        self.emulation, self.lag = emulation, ScheduleLag()
        self._reject, self._crashed = reject, crashed
        self.origin_s = clock_s()
        self._loop, self._timer = loop, Timer(loop, self._tick)
        self._timer_s: float | None = None
        self._tick_queued = False
        self._ranks = [rank for engine in emulation.all_engines for rank in engine.ranks]
        self._decode_steps = dict.fromkeys(self._ranks, 0)
        self._preemptions = dict.fromkeys(self._ranks, 0)
        self._last_step = dict.fromkeys(emulation.all_engines, (0, 0.0, 0.0))
        self._aborted_early: set[ServedRequest] = set()  # disconnected before they were queued
        self._output_tokens = self._finished = self._aborted = 0
        self._rates = [(clock_s(), 0), (clock_s(), 0)]

    def now_s(self) -> float:
        """Seconds on the emulation's clock."""
        return max(clock_s() - self.origin_s, self.emulation.now_s)

    def submit(self, request: ServedRequest) -> None:
        """A request has arrived."""
        self.emulation.submit(request, self.now_s())
        self._wake()

    def abort(self, request: ServedRequest) -> None:
        """The client has disconnected."""
        self._aborted += 1
        if not self._drop(request):
            self._aborted_early.add(request)

    def close(self) -> None:
        """Stops the clock."""
        self._timer.close()

    def counters(self) -> EngineCounters:
        """What metrics pages show now."""
        now = self.emulation.counts()
        now_s, output_tokens = clock_s(), self._output_tokens
        if now_s - self._rates[1][0] >= 1:
            self._rates = [self._rates[1], (now_s, output_tokens)]
        since_s, before = self._rates[0]
        return EngineCounters(
            running=now.running,
            waiting=now.waiting,
            usage=now.used_blocks / now.total_blocks,
            used_blocks=now.used_blocks,
            total_blocks=now.total_blocks,
            prompt_tokens=now.prefix_queries,
            cached_tokens=now.prefix_hits,
            output_tokens=output_tokens,
            preemptions=now.preemptions,
            drafts=now.drafts,
            accepted_drafts=now.accepted_drafts,
            prefill_queue=now.prefill_queue or 0,
            decode_queue=now.decode_queue or 0,
            finished=self._finished,
            aborted=self._aborted,
            steps=sum(engine.steps for engine in self.emulation.all_engines),
            tokens_s=(output_tokens - before) / max(now_s - since_s, 1e-3),
        )

    def _wake(self) -> None:
        """Sets the timer for the next event; one that is due already comes after the sockets are read."""
        due_s = self.emulation.next_s
        if due_s is None or self._tick_queued:
            return
        if due_s <= self.now_s():
            self._tick_queued = True
            self._loop.call_soon(self._again)
        elif due_s != self._timer_s:
            self._timer_s = due_s
            self._timer.set(self.origin_s + due_s)

    def _again(self) -> None:
        self._tick_queued = False
        self._tick()

    def _tick(self) -> None:
        emulation = self.emulation
        self._timer_s = None
        for _ in range(MAX_EVENTS):
            due_s = emulation.next_s
            if due_s is None:
                return
            began_s = clock_s()
            late_s = began_s - self.origin_s - due_s
            if late_s < 0:
                break
            if late_s > MAX_LAG_S:
                self.origin_s += late_s
                self.lag.shifts += 1
            try:
                event = emulation.advance()
            except DeviceMemoryExhausted as error:
                self._crashed(error)
                return
            if event.stepped is None:
                self._arrived(event)
            else:
                step_s = self._last_step[event.stepped][2]
                write_began_s = clock_s()
                self._write_step(event, event.stepped)
                self.lag.add(late_s + write_began_s - began_s, clock_s() - write_began_s, step_s)
            self._measure(event.stepped)
        self._wake()

    def _measure(self, stepped: Engine | None) -> None:
        """Notes the length of the step that has just begun."""
        for engine in self.emulation.all_engines if stepped is None else (stepped,):
            steps, busy_s, _ = self._last_step[engine]
            if engine.steps != steps:
                self._last_step[engine] = engine.steps, engine.busy_s, engine.busy_s - busy_s

    def _arrived(self, event: EmulationEvent) -> None:
        for each in event.done:  # rejected
            request = cast(ServedRequest, each)
            self._aborted_early.discard(request)
            self._reject(request)
        for request in [each for each in self._aborted_early if self._drop(each)]:
            self._aborted_early.discard(request)

    def _write_step(self, event: EmulationEvent, engine: Engine) -> None:
        """Writes each request's new tokens. Finished requests come last: they are no longer on their rank."""
        for each in event.prefilled:
            request = cast(ServedRequest, each)
            self._output_tokens += request.generated - request.due
            request.stream(request.generated)
        for rank in engine.ranks:
            steps = len(rank.decode_ends)
            if steps != self._decode_steps[rank]:
                self._decode_steps[rank] = steps
                self._write_decodes(rank, steps)
            if rank.counters.preemptions != self._preemptions[rank]:
                self._preemptions[rank] = rank.counters.preemptions
                self._write_preempted(rank)
        for each in event.done:
            request = cast(ServedRequest, each)
            self._output_tokens += request.output_tokens - request.due
            self._finished += 1
            request.finish()

    def _write_decodes(self, rank: Rank, steps: int) -> None:
        running = cast("dict[ServedRequest, Any]", rank.running)
        written = 0
        if rank.scheduler.draft_tokens:
            for request, run in running.items():
                if steps > run.begin:
                    new = int(run.tokens[steps - run.begin - 1])
                    request.stream(request.due + new)
                    written += new
        else:
            for request, run in running.items():
                due = request.generated + steps - run.begin
                if due == request.due + 1 and request.event and request.sent:
                    request.due = request.sent = due  # the common case
                    request.connection.write(request.event)
                    written += 1
                elif due > request.due:
                    written += due - request.due
                    request.stream(due)
        self._output_tokens += written

    def _write_preempted(self, rank: Rank) -> None:
        """Preempted requests left the batch before this step's token was written."""
        for each in rank.waiting:
            request = cast(ServedRequest, each)
            if request.generated > request.due:
                self._output_tokens += request.generated - request.due
                request.stream(request.generated)

    def _drop(self, request: ServedRequest) -> bool:
        """Takes a request out of its rank's queues; False if it is in none."""
        for rank in self._ranks:
            if request in rank.running or request in rank.prefilling or request in rank.waiting:
                self.emulation.abort(request)
                return True
        return False
