"""The results of a confirmation, tier by tier, from the study's ledger. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.config.groups.objective import ObjectiveConfig
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.candidates import RaceCandidate
from tuner.confirm.ranking import Ratio, Standing, Verdict, standings, verdict
from tuner.confirm.rounds import Confirmation, confirmation_of
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Attempt, Entry, searched
from tuner.results.tiers import from_utility
from tuner.trial.result import TrialResult


@dataclass(frozen=True, slots=True)
class RemeasuredCandidate:
    """A candidate of a tier. Its standing is in the unit of the target metric, not a utility.

    `example`: the result of the trial that it repeats; of an untried default, of one of its repeats.
    """

    candidate: RaceCandidate
    standing: Standing
    example: TrialResult


@dataclass(frozen=True, slots=True)
class RemeasuredTier:
    """The race of a tier. `rows`: best first. `rounds`: whole ones."""

    tier: str
    rows: tuple[RemeasuredCandidate, ...]
    verdict: Verdict
    rounds: int

    @property
    def chosen(self) -> RemeasuredCandidate | None:
        """The candidate whose mean is published; None where the race decided nothing."""
        name = self.verdict.chosen
        return next((row for row in self.rows if row.candidate.name == name), None)


def remeasured(study: StudyConfig, entries: Sequence[Entry]) -> list[RemeasuredTier]:
    """The tiers' races, from all entries of a ledger; empty where nothing was measured again."""
    if not any(entry.repeat for entry in entries):
        return []
    found = searched(entries)
    confirmation = confirmation_of(study, found)
    examples = _replayed(confirmation, entries, next(iter(study.engine)))
    chosen = confirmation.candidates.values()
    examples |= {c.name: e.result for c in chosen for e in found if e.number == c.of}
    return [_tier(confirmation, tier, study, examples) for tier in confirmation.races]


def _replayed(
    confirmation: Confirmation, entries: Sequence[Entry], only_engine: str
) -> dict[str, TrialResult]:
    """Replays the repeats in their order. Candidate → one of its results.

    Lines may be lost: a result whose repeat was never asked for, and a repeat that was asked for again.
    """
    found: dict[str, TrialResult] = {}
    asked, ended = set[int](), set[int]()
    for entry in entries:
        if isinstance(entry, Attempt) or entry.repeat is None or entry.repeat.role != "confirm":
            continue
        turn = confirmation.turn_of(entry.repeat, str(entry.point.get(ENGINE, only_engine)))
        if turn is None:
            continue
        if entry.number not in asked:
            confirmation.asked(turn)
            asked.add(entry.number)
        if entry.result is not None and entry.number not in ended:
            confirmation.finished(turn, entry.result)
            ended.add(entry.number)
            found[turn.candidate.name] = entry.result
    confirmation.close()
    return found


def _tier(
    confirmation: Confirmation, tier: str, study: StudyConfig, examples: Mapping[str, TrialResult]
) -> RemeasuredTier:
    race, values = confirmation.races[tier], confirmation.values[tier]
    own = {name: each for name, each in confirmation.candidates.items() if name in race.names}
    of_engine = {each.engine: name for name, each in own.items() if each.is_default}
    defaults = {
        name: of_engine[each.engine] for name, each in own.items() if each.engine in of_engine
    }
    failures = confirmation.failures[tier]
    standing = standings(
        race,
        values,
        confirmation.config,
        {name: each.scores[tier] for name, each in own.items() if tier in each.scores},
        defaults,
        failures,
    )
    judged = verdict(race, values, confirmation.config, list(of_engine.values()), failures)
    means = {each.name: each.mean for each in standing}
    rows = tuple(
        RemeasuredCandidate(
            own[each.name],
            in_unit(each, study.objective, means.get(defaults.get(each.name, ""))),
            examples[each.name],
        )
        for each in standing
        if each.name in examples
    )
    return RemeasuredTier(tier, rows, judged, race.rounds)


def in_unit(
    standing: Standing, objective: ObjectiveConfig, default: float | None = None
) -> Standing:
    """Utilities turned back into the unit of the target metric, such as joules a token.

    `default`: the utility that `over_default` is relative to.
    """
    target = objective.target

    def value(utility: float | None) -> float | None:
        return None if utility is None else from_utility(target, utility)

    low, high = value(standing.low), value(standing.high)
    return replace(
        standing,
        mean=value(standing.mean),
        low=high if target.direction == "min" else low,
        high=low if target.direction == "min" else high,
        searched=value(standing.searched),
        over_default=_over(standing.over_default, objective, default),
    )


def _over(over: Ratio | None, objective: ObjectiveConfig, default: float | None) -> Ratio | None:
    """A share of the utility is a share of the metric, except for margins; of a margin ≤ 0 there is none."""
    target = objective.target
    if target.metric not in SIGNED or over is None or default is None:
        return over
    base = from_utility(target, default)
    if base <= 0:
        return None
    ends = (
        from_utility(target, default * (1 + each)) for each in (over.share, over.low, over.high)
    )
    return Ratio(*(end / base - 1 for end in ends))
