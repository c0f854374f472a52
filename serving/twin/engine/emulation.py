"""A serving installation on its own clock: engines, a router before them, and prompts that travel.

The clock belongs to the driver. A server sleeps until `next_s` and then calls `advance`; a simulation
calls it at once. What happens is the same.
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

_Event = Literal["step", "arrive", "arrive_decode"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """From the GPUs that computed a prompt to those that decode: its KV cache, over the network."""

    bytes_per_token: float
    bytes_s: float
    latency_s: float = 0.002

    def seconds(self, tokens: int) -> float:
        return self.latency_s + tokens * self.bytes_per_token / self.bytes_s


@dataclass(slots=True)
class Turn:
    """What happened at one moment. `stepped` ranks gave each of their running requests its output."""

    at_s: float
    made: list[Request] = field(default_factory=list)  # by its prompt: the first token
    done: list[Request] = field(default_factory=list)
    stepped: Engine | None = None


class Emulation:
    """With `decoders`, `engines` compute prompts only, and hand them over."""

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        host: HostCosts,
        decoders: Sequence[Engine] = (),
        transfer: Transfer | None = None,
    ) -> None:
        if bool(decoders) != (transfer is not None):
            raise ValueError("decoders and transfer belong together")
        self.engines, self.decoders = list(engines), list(decoders)
        self.now_s = 0.0
        self.ahead_s = 0.0  # nobody comes or goes before that: steps till then may be taken at once
        self._host, self._transfer = host, transfer
        self._order = count()
        self._events: list[tuple[float, int, _Event, object]] = []
        self._stepping: set[Engine] = set()
        self._wanted: dict[
            Request, int
        ] = {}  # output tokens of those whose prompt is computed apart
        self._turn = count()
        self._gone: set[Request] = set()

    @property
    def next_s(self) -> float | None:
        """When the next thing happens; None while there is nothing to do."""
        return self._events[0][0] if self._events else None

    @property
    def all_engines(self) -> list[Engine]:
        return [*self.engines, *self.decoders]

    @property
    def gpus(self) -> int:
        return sum(len(each.ranks) * each.gpus_per_rank for each in self.all_engines)

    def submit(self, request: Request, at_s: float) -> None:
        """A request reaches the server, and a little later the queue."""
        request.arrived_s = at_s
        self._at(at_s + self._host.latency_s, "arrive", request)

    def advance(self) -> Turn:
        """The next thing that happens."""
        at_s, _, kind, what = heappop(self._events)
        self.now_s = at_s
        turn = Turn(at_s)
        if kind == "step":
            assert isinstance(what, Engine)
            self._stepping.discard(what)
            turn.stepped = what
            made, done = what.finish(at_s)
            turn.made = made
            turn.done = (
                self._handed_over(done, at_s) if what in self.engines and self.decoders else done
            )
            if not turn.done:
                self._run_ahead(what)
            self._step(what)
        else:
            assert isinstance(what, Request)
            self._arrive(what, turn, self.engines if kind == "arrive" else self.decoders)
        return turn

    def energy_j(self, at_s: float) -> list[float]:
        """Of each GPU since time 0; `at_s` not before the last event."""
        return [joules for each in self.all_engines for joules in each.energy_j(at_s)]

    def watts(self) -> list[float]:
        return [watts for each in self.all_engines for watts in each.watts()]

    def abandon(self, request: Request) -> None:
        """The client went away: nothing more is computed for it after this step."""
        found = [r.abandon(request) for each in self.all_engines for r in each.ranks]
        if not any(found):
            self._gone.add(request)  # on its way: it is dropped where it arrives

    def _at(self, at_s: float, kind: _Event, what: object) -> None:
        heappush(self._events, (at_s, next(self._order), kind, what))

    def _arrive(self, request: Request, turn: Turn, engines: Sequence[Engine]) -> None:
        if request in self._gone:
            self._gone.discard(request)
            return
        if request.refused:
            turn.done.append(request)
            return
        engine, rank = self._least_loaded(engines)
        if self.decoders and engine in self.engines:
            self._wanted[request] = request.output_tokens
            request.output_tokens = 1
        rank.submit(request)
        if request.refused:
            turn.done.append(request)
        elif engine not in self._stepping:
            self._step(engine)

    def _least_loaded(self, engines: Sequence[Engine]) -> tuple[Engine, Rank]:
        """The rank with the fewest requests; of equal ones each in its turn."""
        ranks = [(engine, rank) for engine in engines for rank in engine.ranks]
        if len(ranks) == 1:
            return ranks[0]
        first = next(self._turn) % len(ranks)
        return min(ranks[first:] + ranks[:first], key=lambda pair: pair[1].load)

    def _run_ahead(self, engine: Engine) -> None:
        until_s = min(self.ahead_s, self._events[0][0] if self._events else inf)
        if until_s > self.now_s:
            self.now_s = engine.run_ahead(self.now_s, until_s)

    def _step(self, engine: Engine) -> None:
        end_s = engine.begin(self.now_s)
        if end_s is not None:
            self._stepping.add(engine)
            self._at(end_s, "step", engine)

    def _handed_over(self, done: Sequence[Request], at_s: float) -> list[Request]:
        """Those that wanted one token are done; the rest travel."""
        assert self._transfer is not None
        finished = []
        for request in done:
            request.output_tokens = self._wanted.pop(request)
            if not request.left:
                finished.append(request)
                continue
            request.handed_over, request.preemptions = True, 0
            request.known = request.prompt_tokens
            arrived_s = at_s + self._transfer.seconds(request.prompt_tokens)
            self._at(arrived_s, "arrive_decode", request)
        return finished
