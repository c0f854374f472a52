"""Which knobs moved each tier, and what to change from the default: the section of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tuner.analysis.knob_effects import Explained, Knob, explained
from tuner.analysis.surrogate import MATTERS
from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Finished

LEAST = 0.005  # of importance, below which a knob that was left alone is not listed
UNLIKELY = 0.05
NAME = 30  # columns that a knob's name gets whole, in 80
WHOLE = 999.5  # from here on a difference is written without decimals, never as 2e+03
AS_SET = "engine's own"  # of a knob that nobody sets


def show_explained(
    study: StudyConfig,
    entries: Sequence[Finished],
    again: Mapping[str, ConfirmedTier],
    console: Console,
) -> None:
    """`entries`: the finished trials of the search. Silent for a study that varies nothing."""
    if not isinstance(study, StudyConfig) or not study.space.parameters or len(entries) < 2:
        return
    found = explained(study, entries, _chosen(again))
    if reasons := {each.unknown for each in found if each.fit is None and each.unknown}:
        _say(console, f"Which knobs matter can't be told: {'; '.join(sorted(reasons))}.\n")
        return
    for each in found:
        _show_tier(study, each, console)
    told = [each for each in found if not each.unknown]
    if told:
        _say(
            console,
            "importance: the share of the variance over the space that goes when all else is known "
            "(total effect; shares overlap). brings: by the model, the mean over all orders in which "
            "the changes can be made.",
        )
    console.print()


def _chosen(again: Mapping[str, ConfirmedTier]) -> dict[str, int]:
    found = {}
    for name, tier in again.items():
        of = None if tier.chosen is None else tier.chosen.contender.of
        if of is not None:
            found[name] = of
    return found


def _show_tier(study: StudyConfig, each: Explained, console: Console) -> None:
    if each.unknown:
        _say(console, f"{each.tier}: what moved it can't be told: {each.unknown}.")
    else:
        console.print()
        console.print(_table(study, each, console.width))
        _say(console, _changed_text(study, each))
        _say(console, _fit_text(each))
    if each.improved:
        _say(console, _more_text(each))


def _table(study: StudyConfig, each: Explained, columns: int) -> Table:
    title = f"What moved {each.tier}: {study.objective.throughput}"
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    listed = [knob for knob in each.knobs if knob.changed is not None or knob.importance >= LEAST]
    names = [knob.path.removeprefix(f"{ENGINE}.") for knob in listed]
    widest = min(max(map(len, names), default=0), max(NAME, columns // 3))
    table.add_column("knob", overflow="fold", width=widest)
    table.add_column("importance", justify="right", no_wrap=True)
    mark = " modelled" if each.modelled else ""
    table.add_column(f"default → trial {each.winner}{mark}", overflow="fold")
    table.add_column("brings", justify="right", no_wrap=True)
    for name, knob in zip(names, listed, strict=True):
        cells = f"{min(knob.importance, 1):.0%}", _change(knob), _brings(study, each, knob)
        table.add_row(escape(name), cells[0], escape(cells[1]), cells[2])
    return table


def _change(knob: Knob) -> str:
    if knob.changed is None:
        return "left alone"
    before, after = map(_plain, knob.changed)
    return f"{before} → {after}"


def _plain(value: Any) -> str:
    if value is None:
        return AS_SET
    return str(value).lower() if isinstance(value, bool) else str(value)


def _brings(study: StudyConfig, each: Explained, knob: Knob) -> str:
    return "" if knob.brings is None else _difference(study, knob.brings, each)


def _difference(study: StudyConfig, difference: float, each: Explained) -> str:
    return _relative(study, difference, each, each.default)


def _relative(study: StudyConfig, difference: float, each: Explained, base: float) -> str:
    share = difference / base if base else None
    told = "" if share is None else f"{share:+.1%}"
    if not _in_unit(study):
        return told or (f"{difference / each.best:+.0%} of the best" if each.best else "–")
    digits = ",.0f" if abs(difference) >= WHOLE else ".3g"
    return f"{difference:+{digits}}" + (f" ({told})" if told else "")


def _in_unit(study: StudyConfig) -> bool:
    """Whether worth is the figure itself."""
    sold = study.objective.sold
    return sold.direction == "max" and sold.metric not in SIGNED


def _changed_text(study: StudyConfig, each: Explained) -> str:
    changed = sum(knob.changed is not None for knob in each.knobs)
    if not changed:
        return f"{each.tier}: its best is the default: nothing is to be changed."
    total = _difference(study, each.best - each.default, each)
    outside = "" if each.default else ", from a default that is not inside the tier"
    verb = "brings" if changed == 1 else "s together bring"
    said = (
        f"{each.tier}: {changed} change{' ' * (changed == 1)}{verb} {total}{outside}, by the model"
    )
    if each.measured is not None:
        before, after = each.measured
        how = "emulated" if each.modelled else "measured"
        said += f"; {how} were {_relative(study, after - before, each, before)}"
        if (after - before) * (each.best - each.default) < 0:
            said += " (the model does not reproduce it: do not trust how it splits it)"
    if each.outside:
        beside = ", ".join(path.removeprefix(f"{ENGINE}.") for path in each.outside)
        said += f", with {beside}, which the space does not vary"
    return f"{said}."


def _fit_text(each: Explained) -> str:
    assert each.fit is not None
    fit = each.fit
    error = "" if fit.median_error is None else f", median error {fit.median_error:.1%}"
    return (
        f"The model foretells trials that it has not seen with rank correlation "
        f"{fit.correlation:.2f}{error} ({fit.trials} trials, one left out at a time)."
    )


def _more_text(each: Explained) -> str:
    found = f"{each.tier}: the {_ordinal(each.improved)} of {each.trials} trials found its best"
    if each.further is None:
        return f"{found}."
    chance, median = each.further.probability, each.further.median
    if chance < UNLIKELY:
        return (
            f"{found}; one more would hardly better it (by the model, chance below {UNLIKELY:.0%})."
        )
    told = f"{found}; by the model, one more betters it by {MATTERS:.0%} or more with chance {chance:.0%}"
    return f"{told}, as likely as not by {median:.0%} or more." if median >= MATTERS else f"{told}."


def _ordinal(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
