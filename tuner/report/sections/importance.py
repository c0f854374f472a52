"""The section of effects: what each change from the default does in each tier, and which are enough."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tuner.analysis.effects.ablation import MeasuredChanges
from tuner.analysis.effects.knob_effects import KnobEffect, TierEffects, knob_effects
from tuner.analysis.effects.reverted import Interval
from tuner.analysis.surrogate import LEVEL, MIN_GAIN
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier
from tuner.metrics.catalogue import SIGNED
from tuner.metrics.notation import counted, number
from tuner.report.console import Column, say, show, table, words
from tuner.report.points import MODELLED
from tuner.results.ledger import Finished
from tuner.results.tiers import from_utility

LEAST = 0.005  # importance below which an unchanged parameter is not listed
UNLIKELY = 0.05
WHOLE = 0.1  # a share from which on no decimals are shown
NAME = 30  # columns that a parameter's name gets before it wraps, on 80
NOT_SHOWN = "no effect shown"
ENGINE_DEFAULT = "engine default"  # of a parameter that is not set


def show_importance(
    study: StudyConfig,
    entries: Sequence[Finished],
    repeats: Sequence[Finished],
    remeasured: Mapping[str, RemeasuredTier],
    measured: Mapping[str, MeasuredChanges],
    console: Console,
    equal: Collection[str] = (),
) -> None:
    """Silent for a study that varies nothing.

    `entries`: the finished trials of the search; `repeats`: those after it. `measured`: tier → its ablation.
    `equal`: tiers in which nothing beats the default.
    """
    if not isinstance(study, StudyConfig) or not study.space.parameters or len(entries) < 2:
        return
    found = knob_effects(study, entries, _chosen(remeasured), repeats)
    if reasons := {each.unavailable for each in found if each.fit is None and each.unavailable}:
        say(console, f"Effects are not shown: {'; '.join(sorted(reasons))}.")
        console.print()
        return
    for each in found:
        _show_tier(study, each, measured.get(each.tier), console, equal)
    if any(not each.unavailable for each in found):
        say(
            console,
            "without it: how the metric changes where this parameter alone returns to the default and all "
            f"others stay, with an interval at {LEVEL:.0%}, from a model of the trials. importance: "
            "total-effect Sobol index, the share of the variance over the space that involves the parameter "
            "(shares overlap).",
        )
        console.print()


def _chosen(remeasured: Mapping[str, RemeasuredTier]) -> dict[str, int]:
    """Tier → the trial that is best when re-measured."""
    found = {}
    for name, tier in remeasured.items():
        of = None if tier.chosen is None else tier.chosen.candidate.of
        if of is not None:
            found[name] = of
    return found


def _show_tier(
    study: StudyConfig,
    each: TierEffects,
    measured: MeasuredChanges | None,
    console: Console,
    equal: Collection[str],
) -> None:
    if each.unavailable:
        say(console, f"{each.tier}: effects are not shown: {each.unavailable}.")
    else:
        made = _table(study, each, console.width)
        if made.row_count:  # none where the default is best and no parameter matters
            show(console, made, gap=False)
    enough = "" if each.tier in equal else _enough_text(each, measured)
    for line in (_without_effect_text(each), _outside_text(each), enough):
        if line:
            say(console, line)
    if each.fit is not None and not each.unavailable:
        say(console, _fit_text(each))
    if each.best_after:
        say(console, _more_text(each))
    console.print()


def _table(study: StudyConfig, each: TierEffects, width: int) -> Table:
    """`width`: columns of the screen."""
    listed = [knob for knob in each.knobs if knob.changed is not None or knob.importance >= LEAST]
    names = [_name(knob.path) for knob in listed]
    widest = min(max(map(len, names), default=0), max(NAME, width // 3))
    rows = [
        (name, f"{min(knob.importance, 1):.0%}", _change(knob), _without(study, each, knob))
        for name, knob in zip(names, listed, strict=True)
    ]
    mark = f" {MODELLED}" if each.modelled else ""
    columns = (
        Column("parameter", left=True, wraps=True, width=widest),
        "importance",
        words(f"default → trial {each.winner}{mark}", wraps=True),
        "without it",
    )
    return table(f"Effect of each change, {each.tier}: {study.objective.metric}", columns, rows)


def _name(path: str) -> str:
    return path.removeprefix(f"{ENGINE}.")


def _change(knob: KnobEffect) -> str:
    if knob.changed is None:
        return "unchanged"
    before, after = map(_plain, knob.changed)
    return f"{before} → {after}"


def _plain(value: Any) -> str:
    if value is None:
        return ENGINE_DEFAULT
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without(study: StudyConfig, each: TierEffects, knob: KnobEffect) -> str:
    """The change of the target metric; named an effect only where its sign is known."""
    if knob.changed is None:
        return ""
    if knob.without is None:
        return "not possible alone"
    low, middle, high = (
        _difference(study, each, share)
        for share in (knob.without.low, knob.without.median, knob.without.high)
    )
    return f"{middle if knob.without.excludes_zero else NOT_SHOWN}\n{low} to {high}"


def _difference(study: StudyConfig, each: TierEffects, share: float) -> str:
    """A share of the best trial's utility as a difference of the target metric."""
    target = study.objective.target
    if share <= -1:
        return "outside the SLO"
    if target.metric in SIGNED:
        after, before = (from_utility(target, u) for u in (each.value * (1 + share), each.value))
        return number(after - before, signed=True)
    share = 1 / (1 + share) - 1 if target.direction == "min" else share
    return f"{share:+.0%}" if abs(share) >= WHOLE else f"{share:+.1%}"


def _without_effect_text(each: TierEffects) -> str:
    if not each.without_effect:
        return ""
    names = ", ".join(map(_name, each.without_effect))
    return f"{each.tier}: without any effect, the engine runs the same: {names}."


def _outside_text(each: TierEffects) -> str:
    if not each.outside:
        return ""
    names = ", ".join(map(_name, each.outside))
    return f"{each.tier}: the trial also differs in {names}, which the space does not vary."


def _enough_text(each: TierEffects, measured: MeasuredChanges | None) -> str:
    """The smallest set of changes, measured or by the model."""
    if measured is not None:
        return measured_text(each, measured)
    changes = each.changes
    if each.unavailable or (changes and each.enough_keeps is None):
        return ""
    if not changes:
        return f"{each.tier}: the default is the best; there is nothing to change."
    few, total = _settings(each, each.enough), counted(len(changes), "change")
    if len(each.enough) == len(changes):
        return f"{each.tier}: what to change, by the model all of it: {few}."
    assert each.enough_keeps is not None
    return (
        f"{each.tier}: what to change, {len(each.enough)} of {total}: {few}. By the model they keep "
        f"{_kept(each.enough_keeps)} of the gain; search.confirm confirms it."
    )


def measured_text(each: TierEffects, measured: MeasuredChanges) -> str:
    """What a trial of some of the changes showed: whether they are enough."""
    few = _settings(each, measured.paths)
    which = f"trial {measured.entry.number}{f' {MODELLED}' if each.modelled else ''}"
    if measured.doubtful and not measured.enough:
        return f"{each.tier}: {few} alone: unknown, as a level of {which} is not valid."
    if measured.keeps is None:
        return f"{each.tier}: {few} alone do not meet the SLO ({which}): all changes are needed."
    keeps = f"{_kept(measured.keeps)} of the gain ({which}, one start)"
    if not measured.enough:
        return f"{each.tier}: {few} alone keep only {keeps}: all changes are needed."
    if measured.keeps.low > 1:
        return (
            f"{each.tier}: what to change: {few} alone, which do better than all changes together: they have "
            f"{keeps}. No race has tried them: add them to search.points."
        )
    return f"{each.tier}: what to change, confirmed: {few}. They keep {keeps}."


def _settings(each: TierEffects, paths: Sequence[str]) -> str:
    return ", ".join(f"{_name(path)}={_plain(each.best.get(path))}" for path in paths)


def _kept(share: Interval) -> str:
    return f"{share.median:.0%} ({max(0.0, share.low):.0%} to {share.high:.0%})"


def _fit_text(each: TierEffects) -> str:
    assert each.fit is not None
    fit = each.fit
    error = "" if fit.median_error is None else f", median error {fit.median_error:.1%}"
    some = ""
    if fit.fitted < fit.trials:
        some = (
            f" The model is fitted to {fit.fitted} of them: the best, and an even sample of the others; "
            "those left out are predicted as they are."
        )
    return (
        f"Leave-one-out check of the model over {counted(fit.trials, 'trial')}: "
        f"rank correlation {fit.correlation:.2f}{error}.{some}"
    )


def _more_text(each: TierEffects) -> str:
    found = f"{each.tier}: the {_ordinal(each.best_after)} of {each.trials} trials found the best"
    if each.next_trial is None:
        return f"{found}."
    chance, median = each.next_trial.probability, each.next_trial.median
    likely = f"with probability {chance:.0%}"
    if chance < UNLIKELY:
        likely = f"with a probability below {UNLIKELY:.0%}"
    text = f"{found}; by the model, one more trial improves it by {MIN_GAIN:.0%} or more {likely}"
    if chance >= UNLIKELY and median >= MIN_GAIN:
        text += f", and by {median:.0%} or more with probability 50%"
    return f"{text}."


def _ordinal(place: int) -> str:
    teen = place % 100 in (11, 12, 13)
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
