"""Measures the fewest changes that make the difference: the best of a race without all others. Pure.

An ablation (a configuration with parts taken out) is one more trial, after the races have ended. The surrogate
says which changes are enough; where the trial keeps less than `KEPT` of the gain, one more change is put back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from tuner.analysis.effects.knob_effects import changes_of, unreliable
from tuner.analysis.effects.reverted import (
    KEPT,
    Changes,
    Interval,
    dispensable,
    kept_shares,
    spreads_of,
    without_effect,
)
from tuner.analysis.recommendation import beats_default
from tuner.analysis.surrogate import fit_surrogate
from tuner.config.groups.space import ENGINE, Value
from tuner.config.resolve import trial_config, unscreened
from tuner.config.study import StudyConfig
from tuner.confirm.candidates import RaceCandidate
from tuner.confirm.repeat import RepeatProposal, repeat_config
from tuner.confirm.results import RemeasuredCandidate, RemeasuredTier, remeasured
from tuner.confirm.rounds import RepeatProposer
from tuner.results.ledger import Entry, Finished, Repeat, repeated, searched
from tuner.results.tiers import tier_values, utility
from tuner.search.curve.blas import single_threaded
from tuner.search.space import SearchSpace
from tuner.trial.result import Completed, TrialResult

TRIALS_MAX = 3  # of one candidate


@dataclass(frozen=True, slots=True)
class MeasuredChanges:
    """Of a tier's best: `paths`, which this trial changed alone, and the share of the gain that it kept;
    None: it did not meet the SLO."""

    entry: Finished
    paths: tuple[str, ...]
    keeps: Interval | None

    @property
    def doubtful(self) -> bool:
        """Whether a level of the trial is not valid, so that it may keep more than was measured."""
        result = self.entry.result
        return isinstance(result, Completed) and not all(p.valid for p in result.points)

    @property
    def enough(self) -> bool:
        """Whether they keep most of the gain."""
        return self.keeps is not None and self.keeps.median >= KEPT


def measured_changes(
    study: StudyConfig, entries: Sequence[Entry], tiers: Mapping[str, RemeasuredTier]
) -> dict[str, MeasuredChanges]:
    """Tier → its last ablation, or the last that keeps enough. `entries`: the whole ledger."""
    found: dict[str, MeasuredChanges] = {}
    for entry in entries:
        if not isinstance(entry, Finished) or not is_ablation(entry):
            continue
        values = tier_values(study.slo, study.objective, entry.result)
        for name, tier in tiers.items():
            best = tier.chosen
            if best is None or entry.repeat is None or best.candidate.of != entry.repeat.of:
                continue
            paths = tuple(path for path in entry.point if path != ENGINE)
            keeps = _kept(study, tier, best, values[name])
            each = MeasuredChanges(entry, paths, keeps)
            if each.enough or name not in found or not found[name].enough:
                found[name] = each
    return found


def is_ablation(entry: Entry) -> bool:
    """Whether a line is of a trial that takes changes back."""
    return entry.repeat is not None and entry.repeat.role == "ablation"


def _kept(
    study: StudyConfig, tier: RemeasuredTier, best: RemeasuredCandidate, value: float
) -> Interval | None:
    """The share of the gain, with the uncertainty of one start."""
    whole, default = gain_of(study, tier, best)
    if not value or whole is None:
        return None
    spread = 0.0
    standing = best.standing
    if (
        standing.low and standing.high and standing.high > 0
    ):  # of a mean: that of one start is wider
        good = standing.repeats - standing.failed
        spread = abs(log(standing.high / standing.low)) / 2 * sqrt(good + 1)
    values = [value * exp(-spread), value, value * exp(spread)]
    return Interval(*(float(kept_shares(whole, default, each)) for each in values))


def gain_of(
    study: StudyConfig, tier: RemeasuredTier, best: RemeasuredCandidate
) -> tuple[float | None, float]:
    """The re-measured utilities of a tier's best and of its engine's default; of this 0 outside the tier."""
    target, engine = study.objective.target, best.candidate.engine
    default = next(
        (row for row in tier.rows if row.candidate.is_default and row.candidate.engine == engine),
        None,
    )
    means = [None if row is None else row.standing.mean for row in (best, default)]
    whole, plain = (None if mean is None else utility(target, mean) for mean in means)
    return whole, plain or 0.0


@dataclass(slots=True)
class _Target:
    """A candidate that is best in `tiers`: → the utilities of it and of the default.

    `idle`: changes without effect, which are taken back in any case. `dropped`: others that are taken back, the
    last one to be put back first.
    """

    candidate: RaceCandidate
    tiers: dict[str, tuple[float, float]]
    changes: Changes
    idle: list[str]
    dropped: list[str]
    tried: int = 0
    running: bool = False
    over: bool = False


class Ablations:
    """Proposes ablations as trials, numbered from `first` on."""

    def __init__(self, study: StudyConfig, entries: Sequence[Entry], first: int) -> None:
        self._study, self._next = study, first
        self._live: dict[int, _Target] = {}
        self._space = SearchSpace.of(study)
        self._targets = _targets(study, self._space, entries)

    def ask(self) -> RepeatProposal | None:
        """The next one; None while results are due, and when there is none any more."""
        free = (each for each in self._targets if not each.running and not each.over)
        target = next(free, None)
        return None if target is None else self._proposal(target)

    def adopt(self, entry: Entry) -> RepeatProposal | None:
        """The one that a line of the ledger is of, with the changes that it made."""
        of = None if entry.repeat is None else entry.repeat.of
        target = next((each for each in self._targets if each.candidate.of == of), None)
        if target is None:
            return None
        made = [*target.dropped, *target.changes.made]  # in the model's order, where it has one
        missing = dict.fromkeys(path for path in made if path not in entry.point)
        target.dropped = [path for path in missing if path not in target.idle]
        self._next = entry.number
        return self._proposal(target)

    def tell(self, number: int, result: TrialResult) -> None:
        """The result of the proposal of that number."""
        target = self._live.pop(number)
        target.running = False
        values = tier_values(self._study.slo, self._study.objective, result)
        enough = all(
            float(kept_shares(whole, default, values[tier])) >= KEPT
            for tier, (whole, default) in target.tiers.items()
        )
        if not enough:
            _put_back(target, self._space)
        target.over = enough or not target.dropped or target.tried >= TRIALS_MAX

    @property
    def remaining(self) -> int:
        """Trials that are not finished yet, at most."""
        return sum(
            TRIALS_MAX - each.tried + each.running for each in self._targets if not each.over
        )

    def _proposal(self, target: _Target) -> RepeatProposal:
        point, confirm = _point(target, self._space), self._study.search.confirm
        whole = trial_config(unscreened(self._study), point)
        round_number = confirm.repeats_max + target.tried  # prompts that no repeat had
        config = repeat_config(whole, target.candidate.loads, confirm.seed, round_number)
        repeat, number = Repeat(target.candidate.of, target.tried, "ablation"), self._next
        self._live[number] = target
        target.running, target.tried, self._next = True, target.tried + 1, number + 1
        return RepeatProposal(number, point, config, repeat=repeat)


def _point(target: _Target, space: SearchSpace) -> dict[str, Value]:
    return target.changes.point(space, [*target.idle, *target.dropped])


def _put_back(target: _Target, space: SearchSpace) -> None:
    """The change that was taken back last, and more as long as the point is impossible."""
    target.dropped.pop()
    while target.dropped and not space.possible(_point(target, space)):
        target.dropped.pop()


def _targets(study: StudyConfig, space: SearchSpace, entries: Sequence[Entry]) -> list[_Target]:
    """The candidates that are better than the default, with the changes that the model takes back."""
    search, found = searched(entries), dict[int, _Target]()
    with single_threaded():
        repeats = [entry for entry in repeated(entries) if not is_ablation(entry)]
        surrogate = fit_surrogate(study, search, repeats)
        if surrogate is None:
            return []
        quality, spreads = surrogate.fit_quality(), spreads_of(surrogate)
        for tier in remeasured(study, entries):
            best, place = tier.chosen, surrogate.tiers.index(tier.tier)
            why_not = unreliable(quality[tier.tier], spreads[place])
            values = None if best is None else _gains(study, tier, best)
            if best is None or best.candidate.of is None or values is None or why_not:
                continue
            number = best.candidate.of
            winner = next(entry for entry in search if entry.number == number)
            changes = changes_of(study, surrogate, winner)
            idle = without_effect(surrogate, changes)
            dropped = [p for p in dispensable(surrogate, place, changes) if p not in idle]
            target = found.setdefault(
                number, _Target(best.candidate, {}, changes, idle, list(dropped))
            )
            target.tiers[tier.tier] = values
            target.dropped = [path for path in target.dropped if path in dropped]
    for target in found.values():
        if target.dropped and not space.possible(_point(target, space)):
            _put_back(target, space)
    return [target for target in found.values() if target.dropped]


def _gains(
    study: StudyConfig, tier: RemeasuredTier, best: RemeasuredCandidate
) -> tuple[float, float] | None:
    """`gain_of`, where the best is significantly better than the default."""
    whole, default = gain_of(study, tier, best)
    if whole is None or whole <= default or not beats_default(tier, best):
        return None
    return whole, default


class Remeasurement:
    """What follows the search: repeats in rounds, then ablations.

    `entries`: of the ledger, as it stands.
    """

    def __init__(
        self, config: StudyConfig, entries: Callable[[], Sequence[Entry]], first: int
    ) -> None:
        self._config, self._entries = config, entries
        self._repeats = RepeatProposer(config, searched(entries()), first)
        self._ablations: Ablations | None = None
        self._numbers: set[int] = set()  # of ablations

    def ask(self, running: int) -> RepeatProposal | None:
        """The next trial; None while others have to end first, and when there is none any more."""
        proposal = self._repeats.ask()
        if proposal is not None or not self._repeats.over:
            return proposal
        if self._ablations is None and running:
            return None
        return self._ablate()

    def ask_again(self, entry: Entry) -> RepeatProposal | None:
        """The trial that a line of the ledger is of, as far as it is the next one."""
        return self._ablate(entry) if is_ablation(entry) else self._repeats.ask_again(entry)

    def tell(self, number: int, result: TrialResult) -> None:
        """The result of the proposal of that number."""
        if number in self._numbers and self._ablations is not None:
            self._ablations.tell(number, result)
        else:
            self._repeats.tell(number, result)

    @property
    def remaining(self) -> int:
        """Trials that are not finished yet, at most."""
        if self._ablations is not None:
            return self._ablations.remaining
        return self._repeats.remaining + max_ablations(self._config)

    def _ablate(self, entry: Entry | None = None) -> RepeatProposal | None:
        if self._ablations is None:
            first = self._repeats.next_number
            self._ablations = Ablations(self._config, self._entries(), first)
        ablations = self._ablations
        proposal = ablations.ask() if entry is None else ablations.adopt(entry)
        if proposal is not None:
            self._numbers.add(proposal.number)
        return proposal


def max_ablations(config: StudyConfig) -> int:
    """The most ablations of a study."""
    return TRIALS_MAX * len(config.slo.tiers) if config.search.confirm.candidates else 0
