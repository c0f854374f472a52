"""Studies on the twin whose effects are known: what a report says, and each subset of changes, simulated."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from tuner.analysis.effects.ablation import MeasuredChanges, measured_changes
from tuner.analysis.effects.knob_effects import TierEffects, default_of, knob_effects
from tuner.analysis.effects.reverted import KEPT, Changes
from tuner.config.groups.space import Point
from tuner.config.load import load
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.confirm.repeat import repeat_config
from tuner.confirm.results import remeasured
from tuner.results.ledger import Entry, Ledger, repeated, searched
from tuner.results.tiers import tier_values
from tuner.search.space import SearchSpace
from tuner.study.study import Study
from tuner.trial.behaviour import behaviour
from tuner.trial.result import Completed, TrialResult
from tuner.trial.simulate import simulate_trial

STARTS = 3  # of each configuration, whose median is the truth
TRIES = 9  # to find them
ROUNDS = 1000  # of the truth's prompts and noise: of no study
SUBSETS = 8  # changes up to which every subset is simulated


def _starts(config: TrialConfig) -> list[TrialResult]:
    """Those whose levels are all valid; a level that is not says nothing."""
    found: list[TrialResult] = []
    for start in range(TRIES):
        result = simulate_trial(repeat_config(config, (), 0, ROUNDS + start)).result
        points = result.points if isinstance(result, Completed) else ()
        if all(point.valid for point in points) or start >= TRIES - STARTS + len(found):
            found.append(result)
        if len(found) == STARTS:
            break
    return found


@dataclass(slots=True)
class Truth:
    """The value of any configuration of a study, simulated on starts that the study never saw.

    Configurations that give the engine the same settings are one.
    """

    study: StudyConfig
    _known: dict[object, Mapping[str, float]] = field(default_factory=dict)

    def of(self, point: Point) -> Mapping[str, float]:
        """Tier → its utility, the median of starts; 0 outside the tier."""
        config = trial_config(self.study, point)
        key = behaviour(config)
        if key not in self._known:
            starts = [tier_values(self.study.slo, self.study.objective, r) for r in _starts(config)]
            tiers = self.study.slo.tiers
            self._known[key] = {t: float(np.median([each[t] for each in starts])) for t in tiers}
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Shown:
    """An effect of a report, and the truth: shares of the best's value. `shown`: its sign is claimed."""

    path: str
    low: float
    median: float
    high: float
    true: float
    shown: bool

    @property
    def sign_right(self) -> bool:
        return self.true * self.median > 0

    @property
    def inside(self) -> bool:
        return self.low <= self.true <= self.high


@dataclass(frozen=True, slots=True)
class Fewest:
    """A confirmed set of changes: how many, the share of the gain that it truly keeps, and the size of the
    smallest of all subsets that keeps enough; None: too many to simulate."""

    changes: int
    keeps: float
    smallest: int | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A tier of a study."""

    effects: tuple[Shown, ...]
    without_effect: tuple[float, ...]  # the true shares of changes that a report says have none
    fewest: Fewest | None
    unavailable: bool


def run(overrides: Sequence[str]) -> tuple[StudyConfig, list[Entry]]:
    """A whole study on the virtual clock."""
    study = load(overrides)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder)) as ledger:
        source = Study(study, ledger, [])
        while proposal := source.ask():
            source.finished(proposal.number, simulate_trial(proposal.config))
        return study, list(ledger.entries())


def judged(study: StudyConfig, entries: Sequence[Entry]) -> list[Judged]:
    """What its report would say of each tier that it has a winner in, against the truth."""
    tiers = {tier.tier: tier for tier in remeasured(study, entries)}
    chosen = {
        name: tier.chosen.candidate.of
        for name, tier in tiers.items()
        if tier.chosen is not None and tier.chosen.candidate.of is not None
    }
    ablated, truth = measured_changes(study, entries, tiers), Truth(study)
    search = searched(entries)
    found = []
    for each in knob_effects(study, search, chosen, repeated(entries)):
        winner = next((entry for entry in search if entry.number == each.winner), None)
        if winner is None or winner.is_default:
            continue
        space = SearchSpace.of(study)
        start = default_of(study, winner)
        made = {path: v for path, v in winner.point.items() if path in space.parameters}
        changes = Changes(start, made)
        found.append(_tier(each, changes, space, truth, ablated.get(each.tier)))
    return found


def _tier(
    each: TierEffects,
    changes: Changes,
    space: SearchSpace,
    truth: Truth,
    ablated: MeasuredChanges | None,
) -> Judged:
    best = truth.of(changes.point(space))[each.tier]

    def true_share(path: str) -> float:
        return truth.of(changes.point(space, [path]))[each.tier] / best - 1 if best else 0.0

    effects = tuple(
        Shown(
            knob.path,
            knob.without.low,
            knob.without.median,
            knob.without.high,
            true_share(knob.path),
            knob.without.excludes_zero,
        )
        for knob in each.knobs
        if knob.without is not None
    )
    idle = tuple(map(true_share, each.without_effect))
    fewest = None
    if ablated is not None and ablated.enough:
        fewest = _fewest(each, changes, space, truth, ablated.paths)
    return Judged(effects, idle, fewest, bool(each.unavailable))


def _fewest(
    each: TierEffects, changes: Changes, space: SearchSpace, truth: Truth, paths: Sequence[str]
) -> Fewest:
    best = truth.of(changes.point(space))[each.tier]
    default = truth.of(changes.start)[each.tier]

    def keeps(kept: Sequence[str]) -> float:
        point = changes.point(space, [path for path in changes.made if path not in kept])
        return (truth.of(point)[each.tier] - default) / (best - default)

    able = [path for path in changes.made if path not in each.without_effect]
    smallest = None
    if len(able) <= SUBSETS:
        subsets = (s for size in range(len(able) + 1) for s in combinations(able, size))
        smallest = next((len(s) for s in subsets if keeps(s) >= KEPT), None)
    return Fewest(len(paths), keeps(paths), smallest)
