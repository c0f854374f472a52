"""What a study's repeats showed, tier by tier, from its ledger. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.config.groups.objective import ObjectiveConfig
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.candidates import Contender, contenders
from tuner.confirm.ranking import Ratio, Standing, Verdict, standings, verdict
from tuner.confirm.rounds import Confirmation
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Entry, searched
from tuner.results.tiers import unworth
from tuner.trial.result import TrialResult


@dataclass(frozen=True, slots=True)
class Row:
    """A contender of a tier; its standing in the unit of what is sold, not as worth."""

    contender: Contender
    standing: Standing
    example: TrialResult  # of what it repeats; of an untried default, one of its repeats


@dataclass(frozen=True, slots=True)
class ConfirmedTier:
    """`rows`: best first. `rounds`: whole ones."""

    tier: str
    rows: tuple[Row, ...]
    verdict: Verdict
    rounds: int

    @property
    def chosen(self) -> Row | None:
        name = self.verdict.chosen
        return next((row for row in self.rows if row.contender.name == name), None)


def confirmed(study: StudyConfig, entries: Sequence[Entry]) -> list[ConfirmedTier]:
    """Of all lines of a ledger; empty where nothing was measured again."""
    if not any(entry.repeat for entry in entries):
        return []
    confirm, engines = study.search.confirm, list(study.engine)
    found = searched(entries)
    chosen = contenders(found, study.slo, study.objective, confirm, engines)
    confirmation = Confirmation(chosen, study.slo, study.objective, confirm)
    examples = _retraced(confirmation, entries, engines[0])
    examples |= {c.name: e.result for c in chosen for e in found if e.number == c.of}
    return [_tier(confirmation, tier, study, examples) for tier in confirmation.races]


def _retraced(
    confirmation: Confirmation, entries: Sequence[Entry], only_engine: str
) -> dict[str, TrialResult]:
    """Through the repeats as they were; for each contender one of its results."""
    found: dict[str, TrialResult] = {}
    for entry in entries:
        if entry.repeat is None:
            continue
        turn = confirmation.turn_of(entry.repeat, str(entry.point.get(ENGINE, only_engine)))
        if turn is None:
            continue
        if entry.result is None:
            confirmation.asked(turn)
        else:
            confirmation.finished(turn, entry.result)
            found[turn.contender.name] = entry.result
    return found


def _tier(
    confirmation: Confirmation, tier: str, study: StudyConfig, examples: Mapping[str, TrialResult]
) -> ConfirmedTier:
    race, values = confirmation.races[tier], confirmation.values[tier]
    own = {name: each for name, each in confirmation.contenders.items() if name in race.names}
    of_engine = {each.engine: name for name, each in own.items() if each.is_default}
    defaults = {
        name: of_engine[each.engine] for name, each in own.items() if each.engine in of_engine
    }
    standing = standings(
        race,
        values,
        confirmation.config,
        {name: each.scores[tier] for name, each in own.items() if tier in each.scores},
        defaults,
    )
    judged = verdict(race, values, confirmation.config, list(of_engine.values()))
    means = {each.name: each.mean for each in standing}
    rows = tuple(
        Row(
            own[each.name],
            in_unit(each, study.objective, means.get(defaults.get(each.name, ""))),
            examples[each.name],
        )
        for each in standing
        if each.name in examples
    )
    return ConfirmedTier(tier, rows, judged, race.rounds)


def in_unit(
    standing: Standing, objective: ObjectiveConfig, default: float | None = None
) -> Standing:
    """Worth turned back into what it was made of: tokens a joule into joules a token.

    `default`: the worth that `over_default` is held against.
    """
    sold = objective.sold

    def value(worth: float | None) -> float | None:
        return None if worth is None else unworth(sold, worth)

    low, high = value(standing.low), value(standing.high)
    return replace(
        standing,
        mean=value(standing.mean),
        low=high if sold.direction == "min" else low,
        high=low if sold.direction == "min" else high,
        searched=value(standing.searched),
        over_default=_over(standing.over_default, objective, default),
    )


def _over(over: Ratio | None, objective: ObjectiveConfig, default: float | None) -> Ratio | None:
    """A share of worth is one of the figure, but for margins; of a margin at or below 0 there is none."""
    sold = objective.sold
    if sold.metric not in SIGNED or over is None or default is None:
        return over
    base = unworth(sold, default)
    if base <= 0:
        return None
    ends = (unworth(sold, default * (1 + each)) for each in (over.share, over.low, over.high))
    return Ratio(*(end / base - 1 for end in ends))
