"""Turns a sampler's suggestions into trials: each possible configuration once, the default ones first."""

import random
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter

from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point
from tuner.config.trial import TrialConfig
from tuner.search.base import ImpossiblePoint, Outcome, Proposal, Resolve, Sampler, Suggestion
from tuner.search.optuna_samplers import quasi_random
from tuner.search.space import SearchSpace

REASKS = 64  # suggestions that are impossible or known, before quasi-random points are tried
# After so many proposals, and so many more each time, a search on curves starts anew from what it has learned:
# a resumed study need not search again for what was proposed before.
RENEWED_AFTER, RENEWED_EVERY = 64, 16
DRAWS = 2000  # quasi-random points without a new one after which the space counts as exhausted


class Proposer:
    """Proposes each configuration once, default configurations first; a transient failure once more.

    `defaults`: engine → the point that leaves everything as configured. `resolve` turns a point into a
    configuration or raises `ImpossiblePoint`. `sampler`: None where all points are listed. `identity` is equal
    for configurations that are the same. Given the same seed and the same order of asks and tells it proposes
    the same points: a ledger replays to the same state, so a study can be resumed.
    """

    def __init__(
        self,
        search: SearchConfig,
        space: SearchSpace,
        defaults: Mapping[str, Point],
        resolve: Resolve,
        sampler: Sampler | None,
        identity: Callable[[TrialConfig], str] = attrgetter("fingerprint"),
    ) -> None:
        self._space, self._resolve, self._sampler = space, resolve, sampler
        self._identity = identity
        self._seen: dict[str, Outcome | None] = {}
        self._live: dict[int, tuple[Proposal, Suggestion | None]] = {}
        self._retried: set[str] = set()  # fingerprints that had a transient failure
        self._asked = 0
        self.expected_gain: float | None = None  # of the last proposal, if its sampler knows
        self._listed = _listed(search, space, defaults)
        self._startup = search.startup_trials if search.kind in ("tpe", "nsga2", "gp") else 0
        self._quasi_random = quasi_random(search, space)
        self._largest: tuple[int, int] | None = None
        self._renewable, self._renewed = search.kind == "curve", 0
        self._searched_from = 0  # proposals before it are taken from the ledger

    @property
    def asked(self) -> int:
        """How many were proposed."""
        return self._asked

    def limit(self, largest: tuple[int, int]) -> None:
        """From now on proposes only layouts that a node with so many (GPUs, CPU cores) holds."""
        self._largest = largest

    def replays(self, asked: int, latest: int) -> None:
        """A ledger with `asked` proposals follows. At least the `latest` ones are searched for again."""
        renewals = _renewals(asked - latest) if self._renewable else 0
        if renewals:
            self._searched_from = RENEWED_AFTER + RENEWED_EVERY * (renewals - 1)

    def ask(self, known: Point | None = None) -> Proposal | None:
        """The next configuration; None when none is left to try.

        `known`: the point that the ledger has for it, which is taken where nothing later depends on the search
        for it.
        """
        for point in self._listed:
            if proposal := self._accept(point, None):
                return proposal
        if self._sampler is None:
            return None
        if known is not None and self._asked < self._searched_from:
            return self._accept(known, None)
        if self._renewable and self._renewed != (renewals := _renewals(self._asked)):
            self._renewed = renewals
            self._sampler.renew(self._asked)
        return self._searched(self._sampler)

    def _searched(self, sampler: Sampler) -> Proposal | None:
        """What the sampler suggests; quasi-random points before it has learned enough, and where it repeats."""
        if self._startup:
            self._startup -= 1
        else:
            for _ in range(REASKS):
                suggestion = sampler.suggest([each.point for each, _ in self._live.values()])
                if suggestion is None:
                    return None
                if proposal := self._accept(suggestion.point, suggestion):
                    return proposal
        for _ in range(DRAWS):
            if proposal := self._accept(self._quasi_random.next_point(), None):
                return proposal
        return None

    def adopt(self, number: int, point: Point) -> Proposal:
        """A trial of the ledger that the search would not propose now: takes it, as if it had.

        Takes back a proposal of the same number. Raises ImpossiblePoint.
        """
        config = self._resolve(point)
        taken = self._live.pop(number, None)
        if taken is not None:
            own, suggestion = taken
            self._seen.pop(self._identity(own.config), None)
            if suggestion is not None and self._sampler is not None:
                self._sampler.drop(suggestion, None)
        self._asked = max(self._asked, number + 1)
        self._seen[self._identity(config)] = None
        proposal = Proposal(number, point, config)
        self._live[number] = (proposal, None)
        return proposal

    def tell(self, number: int, outcome: Outcome) -> None:
        """The outcome of the proposal of that number."""
        proposal, suggestion = self._live.pop(number)
        fingerprint = self._identity(proposal.config)
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
        if config and self._largest and not config.reserves.fits(*self._largest):
            config = None
        if config is None or self._identity(config) in self._seen:
            if suggestion is not None and self._sampler is not None:
                known = None if config is None else self._seen[self._identity(config)]
                self._sampler.drop(suggestion, known)
            return None
        number, self._asked = self._asked, self._asked + 1
        self._seen[self._identity(config)] = None
        by = None if suggestion is None else self._sampler
        self.expected_gain = getattr(by, "expected_gain", None)
        proposal = Proposal(number, point, config)
        self._live[number] = (proposal, suggestion)
        if self._sampler is not None:
            self._sampler.begin(point)
        return proposal


def _renewals(asked: int) -> int:
    """How often a search was renewed before so many proposals."""
    return max(0, (asked - RENEWED_AFTER) // RENEWED_EVERY + 1)


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
