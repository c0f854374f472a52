"""The emulation on the wall clock: sleeps until something is due, then gives out what came of it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from serving.twin.engine.emulation import Emulation, Turn
from serving.twin.engine.engine import DeviceMemoryExhausted, Engine
from serving.twin.engine.rank import Rank
from serving.twin.frameworks.faces import Counts
from serving.twin.server.alarm import Alarm
from serving.twin.server.answers import Answer
from serving.twin.server.lateness import Lateness

BEHIND_S = 0.25  # further behind than that it does not run after its schedule
TURNS = 16  # without a look at the sockets
clock_s = time.monotonic  # CLOCK_MONOTONIC, as the alarm's


class Wall:
    """`refuse` is called with a request that the engine can never serve, `died` once it is dead.

    What it writes to a socket never calls back here at once: a rank's requests may be walked over.
    """

    def __init__(
        self,
        emulation: Emulation,
        loop: asyncio.AbstractEventLoop,
        refuse: Callable[[Answer], None],
        died: Callable[[DeviceMemoryExhausted], None],
    ) -> None:
        self.emulation, self.lateness = emulation, Lateness()
        self._refuse, self._died = refuse, died
        self.origin_s = clock_s()
        self._loop, self._alarm = loop, Alarm(loop, self._tick)
        self._alarm_s: float | None = None
        self._soon = False
        self._ranks = [rank for engine in emulation.all_engines for rank in engine.ranks]
        self._steps = dict.fromkeys(self._ranks, 0)
        self._preemptions = dict.fromkeys(self._ranks, 0)
        self._lengths = dict.fromkeys(emulation.all_engines, (0, 0.0, 0.0))
        self._early: set[Answer] = set()  # gone before they were in a queue
        self._prompt_tokens = self._cached_tokens = 0
        self._output_tokens = self._finished = self._aborted = 0
        self._rates = [(clock_s(), 0), (clock_s(), 0)]

    def now_s(self) -> float:
        """On the emulation's clock."""
        return max(clock_s() - self.origin_s, self.emulation.now_s)

    def submit(self, answer: Answer) -> None:
        self.emulation.submit(answer, self.now_s())
        self._wake()

    def abandon(self, answer: Answer) -> None:
        """The client went away."""
        self._aborted += 1
        if not self._drop(answer):
            self._early.add(answer)

    def close(self) -> None:
        self._alarm.close()

    def counts(self) -> Counts:
        total = sum(rank.blocks.total for rank in self._ranks)
        used = sum(rank.blocks.used for rank in self._ranks)
        now_s, made = clock_s(), self._output_tokens
        if now_s - self._rates[1][0] >= 1:
            self._rates = [self._rates[1], (now_s, made)]
        since_s, before = self._rates[0]
        return Counts(
            running=sum(len(rank.running) + len(rank.filling) for rank in self._ranks),
            waiting=sum(len(rank.waiting) for rank in self._ranks),
            usage=used / total,
            used_blocks=used,
            total_blocks=total,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=made,
            preemptions=sum(rank.stats.preemptions for rank in self._ranks),
            finished=self._finished,
            aborted=self._aborted,
            steps=sum(engine.steps for engine in self.emulation.all_engines),
            tokens_s=(made - before) / max(now_s - since_s, 1e-3),
        )

    def _wake(self) -> None:
        """Sets the alarm for what is due next; what is due already comes when the sockets are read."""
        due_s = self.emulation.next_s
        if due_s is None or self._soon:
            return
        if due_s <= self.now_s():
            self._soon = True
            self._loop.call_soon(self._again)
        elif due_s != self._alarm_s:
            self._alarm_s = due_s
            self._alarm.at(self.origin_s + due_s)

    def _again(self) -> None:
        self._soon = False
        self._tick()

    def _tick(self) -> None:
        emulation = self.emulation
        self._alarm_s = None
        for _ in range(TURNS):
            due_s = emulation.next_s
            if due_s is None:
                return
            began_s = clock_s()
            late_s = began_s - self.origin_s - due_s
            if late_s < 0:
                break
            if late_s > BEHIND_S:
                self.origin_s += late_s
                self.lateness.shifts += 1
            try:
                turn = emulation.advance()
            except DeviceMemoryExhausted as error:
                self._died(error)
                return
            if turn.stepped is None:
                self._arrived(turn)
            else:
                step_s = self._lengths[turn.stepped][2]
                given_s = clock_s()
                self._give(turn, turn.stepped)
                self.lateness.add(late_s + given_s - began_s, clock_s() - given_s, step_s)
            self._measure(turn.stepped)
        self._wake()

    def _measure(self, stepped: Engine | None) -> None:
        """How long the step takes that has just begun."""
        for engine in self.emulation.all_engines if stepped is None else (stepped,):
            steps, busy_s, _ = self._lengths[engine]
            if engine.steps != steps:
                self._lengths[engine] = engine.steps, engine.busy_s, engine.busy_s - busy_s

    def _arrived(self, turn: Turn) -> None:
        for request in turn.done:  # it was refused
            answer = cast(Answer, request)
            self._early.discard(answer)
            self._refuse(answer)
        for answer in [each for each in self._early if self._drop(each)]:
            self._early.discard(answer)

    def _give(self, turn: Turn, engine: Engine) -> None:
        """Each request's new tokens: in this order, since what was done is no longer with its rank."""
        for request in turn.made:
            answer = cast(Answer, request)
            if not answer.sent and not answer.due:
                self._prompt_tokens += answer.prompt_tokens
                self._cached_tokens += answer.hit_tokens
            self._output_tokens += answer.made - answer.due
            answer.give(answer.made)
        for rank in engine.ranks:
            steps = len(rank.ends)
            if steps != self._steps[rank]:
                self._steps[rank] = steps
                self._decoded(rank, steps)
            if rank.stats.preemptions != self._preemptions[rank]:
                self._preemptions[rank] = rank.stats.preemptions
                self._preempted(rank)
        for request in turn.done:
            answer = cast(Answer, request)
            self._output_tokens += answer.output_tokens - answer.due
            self._finished += 1
            answer.finish()

    def _decoded(self, rank: Rank, steps: int) -> None:
        running = cast("dict[Answer, Any]", rank.running)
        given = 0
        if rank.scheduling.draft_tokens:
            for answer, decode in running.items():
                if steps > decode.begin:
                    new = int(decode.tokens[steps - decode.begin - 1])
                    answer.give(answer.due + new)
                    given += new
        else:
            for answer, decode in running.items():
                due = answer.made + steps - decode.begin
                if due == answer.due + 1 and answer.plain and answer.sent:
                    answer.due = answer.sent = due  # nearly all are like this
                    answer.connection.write(answer.plain)
                    given += 1
                elif due > answer.due:
                    given += due - answer.due
                    answer.give(due)
        self._output_tokens += given

    def _preempted(self, rank: Rank) -> None:
        """They left the batch before this step's token was given to them."""
        for request in rank.waiting:
            answer = cast(Answer, request)
            if answer.made > answer.due:
                self._output_tokens += answer.made - answer.due
                answer.give(answer.made)

    def _drop(self, answer: Answer) -> bool:
        """Whether it was in a queue, from which it is taken."""
        for rank in self._ranks:
            if answer in rank.running or answer in rank.filling or answer in rank.waiting:
                self.emulation.abandon(answer)
                return True
        return False
