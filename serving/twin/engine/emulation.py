"""A serving installation on its own clock: engines, the router before them, and KV cache transfers.

The caller keeps the clock. A server sleeps until `next_s` and then calls `advance`; a simulation calls it at
once. Both see the same events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Literal

from serving.twin.engine.engine import Engine, HostCosts
from serving.twin.engine.rank import Rank
from serving.twin.engine.request import Request

_Kind = Literal["step", "arrive", "arrive_decode"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """The network between prefill and decode GPUs, over which a prompt's KV cache is sent."""

    bytes_per_token: float
    bytes_s: float
    latency_s: float = 0.002

    def seconds(self, tokens: int) -> float:
        """How long the cache of so many tokens takes."""
        return self.latency_s + tokens * self.bytes_per_token / self.bytes_s


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Gauges of now and counters since the start, of all engines.

    `prefill_queue`, `decode_queue`: waiting requests of each pool; None with a single one.
    """

    running: int
    waiting: int
    used_blocks: int
    total_blocks: int
    preemptions: int
    prefix_hits: int
    prefix_queries: int
    drafts: int
    accepted_drafts: int
    prefill_queue: int | None
    decode_queue: int | None


@dataclass(slots=True)
class EmulationEvent:
    """What happened at one moment.

    `prefilled`: requests whose prefill gave them a token; `done`: finished or rejected. `stepped`: the engine
    that finished a step; each running request of its ranks has its output.
    """

    at_s: float
    prefilled: list[Request] = field(default_factory=list)
    done: list[Request] = field(default_factory=list)
    stepped: Engine | None = None


class Emulation:
    """Engines behind one router. With `decode_engines`, `engines` only prefill and hand requests over."""

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        host: HostCosts,
        decode_engines: Sequence[Engine] = (),
        transfer: Transfer | None = None,
    ) -> None:
        if bool(decode_engines) != (transfer is not None):
            raise ValueError("decode engines need a transfer, and only they do")
        self.engines, self.decode_engines = list(engines), list(decode_engines)
        self.now_s = 0.0
        self.undisturbed_until_s = 0.0  # no submit or abort before: steps may be fast-forwarded
        self.host, self._transfer = host, transfer
        self._order = count()
        self._events: list[tuple[float, int, _Kind, object]] = []
        self._stepping: set[Engine] = set()
        self._output_tokens: dict[Request, int] = {}  # asked for, while the prompt is prefilled
        self._router_turn = count()
        self._aborted: set[Request] = set()

    @property
    def next_s(self) -> float | None:
        """When the next event happens; None while there is nothing to do."""
        return self._events[0][0] if self._events else None

    @property
    def all_engines(self) -> list[Engine]:
        """Prefill and decode engines."""
        return [*self.engines, *self.decode_engines]

    @property
    def gpus(self) -> int:
        """GPUs of all engines."""
        return sum(len(each.ranks) * each.gpus_per_rank for each in self.all_engines)

    def submit(self, request: Request, at_s: float) -> None:
        """A client sends a request; it reaches a scheduler's queue `host.latency_s` later."""
        request.arrived_s = at_s
        self._schedule(at_s + self.host.latency_s, "arrive", request)

    def advance(self) -> EmulationEvent:
        """Moves to the next event. Raises DeviceMemoryExhausted."""
        at_s, _, kind, what = heappop(self._events)
        self.now_s = at_s
        event = EmulationEvent(at_s)
        if kind == "step":
            assert isinstance(what, Engine)
            self._stepping.discard(what)
            event.stepped = what
            prefilled, done = what.finish(at_s)
            event.prefilled = prefilled
            hands_over = what in self.engines and self.decode_engines
            event.done = self._hand_over(done, at_s) if hands_over else done
            if not event.done:
                self._fast_forward(what)
            self._step(what)
        else:
            assert isinstance(what, Request)
            self._arrive(what, event, self.engines if kind == "arrive" else self.decode_engines)
        return event

    def energy_j(self, at_s: float) -> list[float]:
        """Energy of each GPU since time 0; `at_s`: not before the last event."""
        return [joules for each in self.all_engines for joules in each.energy_j(at_s)]

    def watts(self) -> list[float]:
        """Power draw of each GPU now."""
        return [watts for each in self.all_engines for watts in each.watts()]

    def counts(self) -> EngineCounts:
        """What the engines report on their metrics pages now."""
        ranks = [rank for each in self.all_engines for rank in each.ranks]
        counters = [rank.counters for rank in ranks]
        queues = [
            sum(len(rank.waiting) for each in pool for rank in each.ranks)
            for pool in (self.engines, self.decode_engines)
        ]
        return EngineCounts(
            running=sum(len(rank.running) + len(rank.prefilling) for rank in ranks),
            waiting=sum(queues),
            used_blocks=sum(rank.blocks.used for rank in ranks),
            total_blocks=sum(rank.blocks.total for rank in ranks),
            preemptions=sum(each.preemptions for each in counters),
            prefix_hits=sum(each.prefix_hits for each in counters),
            prefix_queries=sum(each.prefix_queries for each in counters),
            drafts=sum(each.drafts for each in counters),
            accepted_drafts=sum(each.accepted_drafts for each in counters),
            prefill_queue=queues[0] if self.decode_engines else None,
            decode_queue=queues[1] if self.decode_engines else None,
        )

    def abort(self, request: Request) -> None:
        """The client disconnected: nothing more is computed for it after the current step."""
        found = [r.abort(request) for each in self.all_engines for r in each.ranks]
        if not any(found):
            self._aborted.add(request)  # on its way: dropped where it arrives

    def _schedule(self, at_s: float, kind: _Kind, what: object) -> None:
        heappush(self._events, (at_s, next(self._order), kind, what))

    def _arrive(self, request: Request, event: EmulationEvent, engines: Sequence[Engine]) -> None:
        if request in self._aborted:
            self._aborted.discard(request)
            return
        if request.rejection:
            event.done.append(request)
            return
        engine, rank = self._least_loaded(engines)
        if self.decode_engines and engine in self.engines:
            self._output_tokens[request] = request.output_tokens
            request.output_tokens = 1
        rank.submit(request)
        if request.rejection:
            event.done.append(request)
        elif engine not in self._stepping:
            self._step(engine)

    def _least_loaded(self, engines: Sequence[Engine]) -> tuple[Engine, Rank]:
        """The rank with the fewest requests; round robin among equals."""
        ranks = [(engine, rank) for engine in engines for rank in engine.ranks]
        if len(ranks) == 1:
            return ranks[0]
        first = next(self._router_turn) % len(ranks)
        return min(ranks[first:] + ranks[:first], key=lambda pair: pair[1].load)

    def _fast_forward(self, engine: Engine) -> None:
        until_s = min(self.undisturbed_until_s, self._events[0][0] if self._events else inf)
        if until_s > self.now_s:
            self.now_s = engine.fast_forward(self.now_s, until_s)

    def _step(self, engine: Engine) -> None:
        end_s = engine.begin(self.now_s)
        if end_s is not None:
            self._stepping.add(engine)
            self._schedule(end_s, "step", engine)

    def _hand_over(self, done: Sequence[Request], at_s: float) -> list[Request]:
        """Sends the KV cache of prefilled requests to the decode engines; returns those that are finished."""
        assert self._transfer is not None
        finished = []
        for request in done:
            request.output_tokens = self._output_tokens.pop(request)
            if not request.remaining:
                finished.append(request)
                continue
            request.transferred, request.preemptions = True, 0
            request.computed_tokens = request.prompt_tokens
            arrived_s = at_s + self._transfer.seconds(request.prompt_tokens)
            self._schedule(arrived_s, "arrive_decode", request)
        return finished
