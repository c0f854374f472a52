"""Turns a sampler's suggestions into trials: each possible configuration once, the default ones first."""

import random
from collections.abc import Iterator, Mapping

from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point
from tuner.search.base import ImpossiblePoint, Outcome, Proposal, Resolve, Sampler, Suggestion
from tuner.search.optuna_samplers import quasi_random
from tuner.search.space import SearchSpace

REASKS = 64  # suggestions that are impossible or known, before quasi-random points are tried
DRAWS = 2000  # quasi-random points without a new one after which the space counts as exhausted


class Proposer:
    """Proposes each configuration once, default configurations first; a transient failure once more.

    `defaults`: engine → the point that leaves everything as configured. `resolve` turns a point into a
    configuration or raises `ImpossiblePoint`. `sampler`: None where all points are listed. Given the same
    seed and the same order of asks and tells it proposes the same points: a ledger replays to the same state,
    so a study can be resumed.
    """

    def __init__(
        self,
        search: SearchConfig,
        space: SearchSpace,
        defaults: Mapping[str, Point],
        resolve: Resolve,
        sampler: Sampler | None,
    ) -> None:
        self._space, self._resolve, self._sampler = space, resolve, sampler
        self._seen: dict[str, Outcome | None] = {}
        self._live: dict[int, tuple[Proposal, Suggestion | None]] = {}
        self._retried: set[str] = set()  # fingerprints that had a transient failure
        self._asked = 0
        self.expected_gain: float | None = None  # of the last proposal, if its sampler knows
        self._listed = _listed(search, space, defaults)
        self._startup = search.startup_trials if search.kind in ("tpe", "nsga2", "gp") else 0
        self._quasi_random = quasi_random(search, space)

    def ask(self) -> Proposal | None:
        """The next configuration; None when none is left to try."""
        for point in self._listed:
            if proposal := self._accept(point, None):
                return proposal
        if self._sampler is None:
            return None
        if self._startup:
            self._startup -= 1
        else:
            for _ in range(REASKS):
                suggestion = self._sampler.suggest([each.point for each, _ in self._live.values()])
                if suggestion is None:
                    return None
                if proposal := self._accept(suggestion.point, suggestion):
                    return proposal
        for _ in range(DRAWS):
            if proposal := self._accept(self._quasi_random.next_point(), None):
                return proposal
        return None

    def tell(self, number: int, outcome: Outcome) -> None:
        """The outcome of the proposal of that number."""
        proposal, suggestion = self._live.pop(number)
        fingerprint = proposal.config.fingerprint
        if outcome.transient and fingerprint not in self._retried:
            self._retried.add(fingerprint)
            del self._seen[fingerprint]
        else:
            self._seen[fingerprint] = outcome
        if self._sampler is not None:
            self._sampler.learn(proposal.point, suggestion, outcome)

    def _accept(self, point: Point, suggestion: Suggestion | None) -> Proposal | None:
        config = None
        if self._space.possible(point):
            try:
                config = self._resolve(point)
            except ImpossiblePoint:
                config = None
        if config is None or config.fingerprint in self._seen:
            if suggestion is not None and self._sampler is not None:
                known = None if config is None else self._seen[config.fingerprint]
                self._sampler.drop(suggestion, known)
            return None
        number, self._asked = self._asked, self._asked + 1
        self._seen[config.fingerprint] = None
        by = None if suggestion is None else self._sampler
        self.expected_gain = getattr(by, "expected_gain", None)
        proposal = Proposal(number, point, config)
        self._live[number] = (proposal, suggestion)
        return proposal


def _listed(
    search: SearchConfig, space: SearchSpace, defaults: Mapping[str, Point]
) -> Iterator[Point]:
    """The points that no sampler chooses, in order."""
    if search.default_first:
        yield from defaults.values()
    yield from search.points
    if search.kind == "grid":
        grid = list(space.enumerate_points())
        random.Random(search.seed).shuffle(grid)
        yield from grid
