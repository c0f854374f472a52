"""The same load without a network and without waiting: against a server that has a clock of its own.

Whose turn it is, when a level has been long enough, which part of it is measured and what comes out of
it are the very functions of a load on the wall clock; only sending and receiving are others.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import ClockAnchor
from loadgen.control.finalize import raise_if_hopeless, settled
from loadgen.control.level_controller import Outcomes
from loadgen.control.live_stats import Feed
from loadgen.control.load_plan import Load, next_load, plan_of
from loadgen.control.stopping import Ending, Judge
from loadgen.errors import LoadError
from loadgen.http.response_parser import Outcome
from loadgen.prompts.base import Ask, Source
from loadgen.prompts.build import build
from loadgen.results.records import Records, offsets_of
from loadgen.results.report import Level, LoadReport
from loadgen.worker.messages import Live, Plan, Series
from loadgen.worker.request_queue import Agenda
from loadgen.workload.workload import Workload

_LOOK_S, _LOOK_SHARE = 0.2, 0.05  # between two looks at how a level goes; of its length so far
_START_NS = 10**9  # 0 would say that something never happened
_BACKOFF_S = 0.5
_STATUS = {Outcome.REFUSED: 400, Outcome.TIMED_OUT: 0}


@dataclass(slots=True, eq=False)
class Sent:
    """A request on its way. `times_s` and `tokens`: its events, once it is answered."""

    ask: Ask
    slot: int
    due_s: float
    sent_s: float
    end_s: float = 0.0
    input_tokens: int = -1
    times_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    tokens: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    error: str = ""
    text: str = ""
    outcome: Outcome = Outcome.ABANDONED


class VirtualServer(Protocol):
    """Seconds on its own clock, which begins at 0 and only `advance` moves."""

    @property
    def now_s(self) -> float:
        """When the last thing happened."""

    @property
    def next_s(self) -> float | None:
        """When something happens next; None while nothing will."""

    def send(self, sent: Sent, at_s: float) -> None: ...

    def advance(self, until_s: float) -> Sequence[Sent]:
        """Things happen up to `until_s`, but not beyond the first moment at which something is answered.

        Returns that: times, tokens and end are filled in.
        """

    def abandon(self, sent: Sent) -> None:
        """It is given up. What came of it until now is filled in."""


def run_virtual(
    server: VirtualServer,
    workload: Workload,
    *,
    vocabulary: int,
    first: float | None = None,
    after_level: Callable[[Level], str] | None = None,
) -> LoadReport:
    """`loadgen.run` on a virtual clock. Raises a LoadError if the first level has no answer at all."""
    source, levels = _source(workload.model_dump_json(), vocabulary), list[Level]()
    used, begin_s = 0, 0.0
    while (load := next_load(workload, levels, first)) is not None:
        run = _Level(server, workload, load, plan_of(workload, load, used), source)
        outcomes = run.outcomes(begin_s)
        begin_s = run.now_s
        try:
            raise_if_hopeless(outcomes, workload)
        except LoadError as error:
            if not levels:
                raise
            return LoadReport(tuple(levels), ClockAnchor(0, 0), failure=error)
        levels.append(settled(workload, load, outcomes))
        used += outcomes.used
        if after_level is not None and (why := after_level(levels[-1])):
            return LoadReport(tuple(levels), ClockAnchor(0, 0), ended_because=why)
    return LoadReport(tuple(levels), ClockAnchor(0, 0))


@lru_cache(maxsize=4)
def _source(workload: str, vocabulary: int) -> Source:
    """Made once for all trials of a study: they are asked the same."""
    return build(Workload.model_validate_json(workload), vocabulary)


class _Level:
    def __init__(
        self, server: VirtualServer, workload: Workload, load: Load, plan: Plan, source: Source
    ) -> None:
        self._server, self._workload, self._load = server, workload, load
        self._plan, self._source = plan, source
        self._agenda = Agenda(plan, (0, 1), source)
        self._active: dict[Sent, None] = {}
        self._waiting: deque[Sent] = deque()
        self._finished: list[Sent] = []
        self._told = 0  # of those finished, how many the judge knows
        self._open = True
        self._received = 0
        self.now_s = 0.0

    def outcomes(self, begin_s: float) -> Outcomes:
        """Drives the level from `begin_s` on, to its end."""
        begin_ns = ns_of(begin_s)
        self.now_s = begin_s
        self._agenda.begin(begin_ns)
        feed, judge = Feed(1), Judge(self._workload, self._load, begin_ns)
        ending, close_s = self._measure(feed, judge, begin_s)
        self._open = False
        if ending.drain and self._plan.drain:
            while (self._active or self._waiting) and (next_s := self._server.next_s) is not None:
                self._happen(max(next_s, self.now_s + _LOOK_S))
                self._time_out()
        for sent in [*self._active, *self._waiting]:
            if sent in self._active:
                self._server.abandon(sent)
            sent.end_s = self.now_s
            self._finished.append(sent)
        return self._told_of(begin_ns, ns_of(close_s), ending)

    def _measure(self, feed: Feed, judge: Judge, begin_s: float) -> tuple[Ending, float]:
        look_s = begin_s + _LOOK_S
        while True:
            upto_s = self._upto(look_s)
            if upto_s is None:
                return Ending(""), self.now_s
            self.now_s = max(self.now_s, upto_s)
            if self.now_s >= look_s:
                self._time_out()
                feed.add(0, self._live())
                ending = judge.ending(feed)
                if ending is not None:
                    return ending, self.now_s
                look_s = self.now_s + max(_LOOK_S, _LOOK_SHARE * (self.now_s - begin_s))

    def _time_out(self) -> None:
        """Those that fell due too long ago, in the order in which they did."""
        limit_s = self._workload.request_timeout_s
        for sent in [*self._active, *self._waiting]:
            if self.now_s - sent.due_s <= limit_s:
                continue
            if sent in self._active:
                self._server.abandon(sent)
            else:
                self._waiting.remove(sent)
                self._active[sent] = None
            sent.error, sent.end_s = f"no whole reply within {limit_s:g} s", self.now_s
            self._answered(sent)
            sent.outcome = Outcome.TIMED_OUT

    def _upto(self, limit_s: float) -> float | None:
        """Lets happen what happens next, but nothing after `limit_s`. None: nothing will any more."""
        due_ns, next_s = self._agenda.due_ns, self._server.next_s
        due_s = s_of(due_ns) if due_ns else math.inf
        if due_s <= min(limit_s, limit_s if next_s is None else next_s):
            self.now_s = max(self.now_s, due_s)
            while turn := self._agenda.pop(max(due_ns, ns_of(self.now_s))):
                self._issue(turn[1], s_of(turn[0]), turn[2])
            return self.now_s
        if next_s is not None and next_s <= limit_s:
            self._happen(min(limit_s, due_s))
            return self.now_s
        if due_s == math.inf and next_s is None:
            return limit_s if self._active or self._waiting else None
        return limit_s

    def _happen(self, until_s: float) -> None:
        answered = self._server.advance(until_s)
        self.now_s = max(self.now_s, self._server.now_s)
        for sent in answered:
            if sent in self._active:
                self._answered(sent)

    def _issue(self, slot: int, due_s: float, ask: Ask) -> None:
        sent = Sent(ask, slot, due_s, due_s)
        limit = self._plan.max_in_flight
        if limit is not None and len(self._active) >= limit:
            self._waiting.append(sent)
        else:
            self._send(sent)

    def _send(self, sent: Sent) -> None:
        sent.sent_s = max(self.now_s, sent.due_s)
        self._active[sent] = None
        self._server.send(sent, sent.sent_s)

    def _answered(self, sent: Sent) -> None:
        del self._active[sent]
        sent.outcome = Outcome.REFUSED if sent.error else Outcome.COMPLETED
        self._received += int(sent.tokens.sum())
        self._finished.append(sent)
        if self._waiting:
            self._send(self._waiting.popleft())
        if not self._open:
            return
        going_on = self._source.multi_turn and not sent.error
        more = self._source.next(sent.ask, sent.text) if going_on else None
        if more is not None:
            self._agenda.push(ns_of(sent.end_s + more.think_s), sent.slot, more)
        elif self._plan.closed and (ask := self._agenda.next_round(sent.slot)) is not None:
            pause_s = _BACKOFF_S if sent.error else 0.0
            self._agenda.push(ns_of(sent.end_s + pause_s), sent.slot, ask)

    def _live(self) -> Live:
        rows = [
            (ns_of(s.due_s), _event_ns(s, 0), ns_of(s.end_s), int(s.tokens.sum()), not s.error)
            for s in self._finished[self._told :]
        ]
        self._told = len(self._finished)
        waiting = [ns_of(sent.due_s) for sent in (*self._active, *self._waiting)]
        return Live(
            ns_of(self.now_s),
            np.array(rows, np.int64).reshape(len(rows), 5),
            np.array(waiting, np.int64),
            self._received,
            len(self._finished) + len(self._active),
        )

    def _told_of(self, begin_ns: int, close_ns: int, ending: Ending) -> Outcomes:
        records = records_of(self._finished, self._load.index)
        over_ns = ns_of(self.now_s)
        at_ns = np.sort(records.sent_ns)
        on_time = np.zeros(len(at_ns), np.int64)
        span = np.array([begin_ns, over_ns], np.int64)
        idle = np.zeros(2, np.int64)
        return Outcomes(
            records=records,
            series=Series(on_time, at_ns, idle, span, idle, span),
            begin_ns=begin_ns,
            close_ns=close_ns,
            over_ns=over_ns,
            ending=ending,
            cpu=((span, idle),),
            resent=0,
            connected=0,
            clock_uncertainty_ns=0,
            gave_up=False,
            stopped=False,
            used=self._agenda.used,
            repeated=self._agenda.repeated,
        )


def records_of(finished: Sequence[Sent], level: int) -> Records:
    """The columns that a client on the wall clock would have brought home."""
    codes: dict[str, int] = {"": 0}
    error = [codes.setdefault(sent.error, len(codes)) for sent in finished]
    events = np.array([len(sent.times_s) for sent in finished], np.int32)
    times_s = np.concatenate([np.zeros(0), *(sent.times_s for sent in finished)])
    tokens = np.concatenate([np.zeros(0, np.int32), *(sent.tokens for sent in finished)])
    return Records(
        level=np.full(len(finished), level, np.int32),
        slot=np.array([sent.slot for sent in finished], np.int32),
        due_ns=np.array([ns_of(sent.due_s) for sent in finished], np.int64),
        sent_ns=np.array([ns_of(sent.sent_s) for sent in finished], np.int64),
        first_ns=np.array([_event_ns(sent, 0) for sent in finished], np.int64),
        last_ns=np.array([_event_ns(sent, -1) for sent in finished], np.int64),
        end_ns=np.array([ns_of(sent.end_s) for sent in finished], np.int64),
        input_tokens=np.array([sent.input_tokens for sent in finished], np.int32),
        output_tokens=np.array([int(sent.tokens.sum()) for sent in finished], np.int32),
        events=events,
        outcome=np.array([int(sent.outcome) for sent in finished], np.int8),
        status=np.array([_STATUS.get(sent.outcome, 200) for sent in finished], np.int16),
        exact_tokens=np.ones(len(finished), np.int8),
        error=np.array(error, np.int32),
        errors=tuple(codes),
        event_ns=np.rint(times_s * 1e9).astype(np.int64) + _START_NS,
        event_tokens=tokens.astype(np.int32),
        event_offsets=offsets_of(events),
    )


def _event_ns(sent: Sent, index: int) -> int:
    return ns_of(float(sent.times_s[index])) if len(sent.times_s) else 0


def ns_of(seconds: float) -> int:
    """A moment of the virtual clock as records have it."""
    return round(seconds * 1e9) + _START_NS


def s_of(ns: int) -> float:
    """The same moment on the virtual clock."""
    return (ns - _START_NS) / 1e9
