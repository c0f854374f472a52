"""The section of parameter importance: what matters in each tier, and what to change from the default."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tuner.analysis.knob_effects import KnobEffect, TierEffects, knob_effects
from tuner.analysis.surrogate import MIN_GAIN
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier
from tuner.metrics.catalogue import SIGNED
from tuner.metrics.notation import UNKNOWN, counted, number
from tuner.report.console import Column, say, show, table, words
from tuner.report.points import MODELLED
from tuner.results.ledger import Finished

LEAST = 0.005  # importance below which an unchanged parameter is not listed
UNLIKELY = 0.05
NAME = 30  # columns that a parameter's name gets before it wraps, on 80
ENGINE_DEFAULT = "engine default"  # of a parameter that is not set


def show_importance(
    study: StudyConfig,
    entries: Sequence[Finished],
    remeasured: Mapping[str, RemeasuredTier],
    console: Console,
) -> None:
    """`entries`: the finished trials of the search. Silent for a study that varies nothing."""
    if not isinstance(study, StudyConfig) or not study.space.parameters or len(entries) < 2:
        return
    found = knob_effects(study, entries, _chosen(remeasured))
    if reasons := {each.unavailable for each in found if each.fit is None and each.unavailable}:
        say(console, f"Parameter importance unavailable: {'; '.join(sorted(reasons))}.")
        console.print()
        return
    for each in found:
        _show_tier(study, each, console)
    if any(not each.unavailable for each in found):
        say(
            console,
            "importance: total-effect Sobol index, the share of the variance over the space that involves the "
            "parameter (shares overlap). contribution: Shapley value of the change by the surrogate model, the "
            "mean over all orders in which the changes can be made.",
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


def _show_tier(study: StudyConfig, each: TierEffects, console: Console) -> None:
    if each.unavailable:
        say(console, f"{each.tier}: parameter importance unavailable: {each.unavailable}.")
    else:
        made = _table(study, each, console.width)
        if made.row_count:  # none where the default is best and no parameter matters
            show(console, made, gap=False)
        say(console, _changes_text(study, each))
        say(console, _fit_text(each))
    if each.best_after:
        say(console, _more_text(each))
    console.print()


def _table(study: StudyConfig, each: TierEffects, width: int) -> Table:
    """`width`: columns of the screen."""
    listed = [knob for knob in each.knobs if knob.changed is not None or knob.importance >= LEAST]
    names = [knob.path.removeprefix(f"{ENGINE}.") for knob in listed]
    widest = min(max(map(len, names), default=0), max(NAME, width // 3))
    rows = []
    for name, knob in zip(names, listed, strict=True):
        share = "" if knob.effect is None else _difference(study, knob.effect, each, each.default)
        rows.append((name, f"{min(knob.importance, 1):.0%}", _change(knob), share))
    mark = f" {MODELLED}" if each.modelled else ""
    columns = (
        Column("parameter", left=True, wraps=True, width=widest),
        "importance",
        words(f"default → trial {each.winner}{mark}", wraps=True),
        "contribution",
    )
    return table(f"Parameter importance, {each.tier}: {study.objective.metric}", columns, rows)


def _change(knob: KnobEffect) -> str:
    if knob.changed is None:
        return "unchanged"
    before, after = map(_plain, knob.changed)
    return f"{before} → {after}"


def _plain(value: Any) -> str:
    if value is None:
        return ENGINE_DEFAULT
    return str(value).lower() if isinstance(value, bool) else str(value)


def _difference(study: StudyConfig, difference: float, each: TierEffects, base: float) -> str:
    """In the unit of the target metric where the model has it, and relative to `base`."""
    relative = f"{difference / base:+.1%}" if base else ""
    if not _in_unit(study):
        return relative or (f"{difference / each.best:+.0%} of the best" if each.best else UNKNOWN)
    return number(difference, signed=True) + (f" ({relative})" if relative else "")


def _in_unit(study: StudyConfig) -> bool:
    """Whether the utility that the model predicts is the target metric itself."""
    target = study.objective.target
    return target.direction == "max" and target.metric not in SIGNED


def _changes_text(study: StudyConfig, each: TierEffects) -> str:
    changed = sum(knob.changed is not None for knob in each.knobs)
    if not changed:
        return f"{each.tier}: the default is the best; there is nothing to change."
    total = _difference(study, each.best - each.default, each, each.default)
    verb = "contributes" if changed == 1 else "together contribute"
    text = f"{each.tier}: {counted(changed, 'change')} {verb} {total} by the model"
    if not each.default:
        text += ", from a default that does not meet the SLO"
    if each.measured is not None:
        before, after = each.measured
        how = "emulated" if each.modelled else "measured"
        text += f"; {how}: {_difference(study, after - before, each, before)}"
        if (after - before) * (each.best - each.default) < 0:
            text += " (the model does not reproduce this: its contributions are unreliable)"
    if each.outside:
        beside = ", ".join(path.removeprefix(f"{ENGINE}.") for path in each.outside)
        text += f"; the trial also differs in {beside}, which the space does not vary"
    return f"{text}."


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
