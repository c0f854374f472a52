"""The report of a study, from its ledger alone: tables, commands to copy, paths."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.text import Text

from serving.twin.api import accuracy
from tuner.analysis.effects.ablation import measured_changes
from tuner.config.groups.objective import Tier
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier, remeasured
from tuner.metrics.notation import counted, number, stated
from tuner.report.console import say, show, table, words
from tuner.report.plots.pareto import write_plots
from tuner.report.points import (
    KNOWN_WRONG,
    MODELLED,
    cells,
    footnotes,
    model_notes,
    point_columns,
    trial_name,
)
from tuner.report.sections.bottlenecks import show_bottlenecks
from tuner.report.sections.confirmation import chosen_winners, remeasured_text, show_remeasured
from tuner.report.sections.economics import show_economics
from tuner.report.sections.failures import show_attempts, show_failures, show_quarantined
from tuner.report.sections.importance import show_importance
from tuner.report.sections.payback import show_payback
from tuner.report.sections.predictions import show_predictions
from tuner.report.sections.quality import show_quality
from tuner.report.sections.recommendation import show_recommended
from tuner.results.ledger import LEDGER, Finished, repeated, searched
from tuner.results.pareto import pareto_set
from tuner.results.reader import contents
from tuner.results.tiers import Closest, Winner, best_per_tier
from tuner.trial.result import Completed, OperatingPoint

LISTED = 50  # failures, or pruned trials, that are listed one by one


def show_report(folder: Path, study: StudyConfig, console: Console) -> bool:
    """Prints the report and draws the plots. False if no configuration meets the SLO of any tier."""
    ledger = contents(folder)
    lines, entries = ledger.entries, searched(ledger.entries)
    by_tier = {tier.tier: tier for tier in remeasured(study, lines)}
    measured = [entry for entry in entries if isinstance(entry.result, Completed)]
    console.print()
    _show_modelled(study, entries, console)
    if measured:
        _show_front(study, measured, console)
    show_failures(entries, folder, console)
    show_attempts(lines, console)
    show_quarantined(lines, console)
    show_quality(study, measured, console)
    ablated = measured_changes(study, lines, by_tier)
    fewest = {tier: each.entry for tier, each in ablated.items() if each.enough}
    feasible, equal = _show_tiers(study, measured, by_tier, fewest, console)
    show_remeasured(study, by_tier, console)
    show_importance(study, entries, repeated(lines), by_tier, ablated, console, equal)
    show_predictions(study, entries, console)
    if measured:
        show_economics(folder, study, measured, console)
    else:
        say(console, "There is nothing to compare: no trial completed.", "bold red")
    show_payback(study, lines, by_tier, ledger.why_ended, console)
    _show_timings(entries, console)
    _show_paths(folder, study, entries, console)
    return feasible


def _show_modelled(study: StudyConfig, entries: Sequence[Finished], console: Console) -> None:
    """Where modelled figures come from, what is wrong with them, and what they assume."""
    twin, sources = study.hardware.twin, sorted({each.modelled for each in entries} - {""})
    if sources:
        text = f"Figures marked {MODELLED} come from an emulator, not from a machine"
        say(console, f"{text}: {'; '.join(sources)}.", "bold red")
    notes = model_notes(entries)
    for note in notes:
        say(console, note.text, "bold red" if note.wrong else "")
    if notes and twin is not None:
        say(console, accuracy(twin.system))
    ignored = dict.fromkeys(
        flag for entry in entries for flag in entry.result.provenance.get("without_effect", ())
    )
    if ignored:
        say(console, f"flags without effect in the emulator: {', '.join(ignored)}")


def _show_front(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    """The operating points on the front, then their configurations."""
    front = pareto_set([entry.result for entry in measured], study.objective.axes)
    rows = [cells(measured[each.index], each.point, study) for each in front]
    title = f"Pareto front: {' × '.join(axis.metric for axis in study.objective.axes)}"
    show(console, table(title, point_columns(study), rows))
    if len(measured) == 1:
        _show_levels(measured[0], {each.point.level for each in front}, study, console)
        show_bottlenecks(_levels(measured[0]), console)
    else:
        show_bottlenecks(((measured[each.index], each.point) for each in front), console)
    _show_left_out(measured, console)
    ordered = sorted({each.index for each in front}, key=lambda i: measured[i].number)
    on_front = [measured[index] for index in ordered]
    columns = ("trial", words("engine"), words("knobs", wraps=True))
    rows = [[trial_name(entry), entry.engine, entry.knobs] for entry in on_front]
    show(console, table("Configurations on the front", columns, rows))
    for line in footnotes(study, modelled=any(entry.modelled for entry in measured)):
        say(console, line)
    console.print()


def _show_levels(entry: Finished, front: set[int], study: StudyConfig, console: Console) -> None:
    """All load levels of the only trial."""
    rows = []
    for point in entry.result.points if isinstance(entry.result, Completed) else ():
        on_front = "yes" if point.level in front else "no" if point.valid else "not valid"
        rows.append([*cells(entry, point, study)[2:], on_front])
    show(console, table("All levels", [*point_columns(study)[2:], words("on the front")], rows))


def _levels(entry: Finished) -> Iterator[tuple[Finished, OperatingPoint]]:
    points = entry.result.points if isinstance(entry.result, Completed) else ()
    yield from ((entry, point) for point in points)


def _show_left_out(measured: Sequence[Finished], console: Console) -> None:
    """Why points are missing from the front: not valid, or not measured."""
    if lines := [*_invalid(measured), *_cut_short(measured), *_pruned(measured)]:
        for line in lines:
            say(console, line)
        console.print()


def _invalid(measured: Sequence[Finished]) -> Iterator[str]:
    points = [p for e in measured if isinstance(e.result, Completed) for p in e.result.points]
    reasons = Counter(reason for point in points for reason in point.invalid_because)
    left_out = sum(not point.valid for point in points)
    if left_out:
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
        yield f"{left_out} of {len(points)} points left out as not valid: {why}"


def _cut_short(measured: Sequence[Finished]) -> Iterator[str]:
    lines = []
    for entry in measured:
        if isinstance(entry.result, Completed) and entry.result.cut_short:
            levels = counted(len(entry.result.points), "level")
            why = f"the load ended after {levels}: {entry.result.cut_short}"
            lines.append(f"trial {trial_name(entry)}: {why}")
    yield from _first(lines)


def _pruned(measured: Sequence[Finished]) -> Iterator[str]:
    pruned = [
        f"trial {trial_name(entry)}: pruned {entry.result.pruned}"
        for entry in measured
        if isinstance(entry.result, Completed) and entry.result.pruned
    ]
    if pruned:
        verb = "was" if len(pruned) == 1 else "were"
        yield f"{len(pruned)} of {counted(len(measured), 'completed trial')} {verb} pruned"
        yield from _first(pruned)


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"and {len(lines) - LISTED} more, which are in the ledger"


def _show_tiers(
    study: StudyConfig,
    measured: Sequence[Finished],
    by_tier: Mapping[str, RemeasuredTier],
    fewest: Mapping[str, Finished],
    console: Console,
) -> tuple[bool, frozenset[str]]:
    """Whether a tier has a best, and the tiers in which nothing beats the default.

    Where candidates were re-measured, those values decide, not the search's scores.
    """
    found = [entry.result for entry in measured]
    best = best_per_tier(study.slo, study.objective, found)
    best |= chosen_winners(study, measured, by_tier)
    rows = [
        (
            name,
            _slo_text(tier),
            remeasured_text(by_tier.get(name)) or _best_text(best[name], measured),
        )
        for name, tier in study.slo.tiers.items()
    ]
    columns = words("tier"), words("SLO"), words("best", wraps=True)
    show(console, table(f"Best of each tier, by {study.objective.metric}", columns, rows))
    _show_wrong(best, console)
    winners = {name: each for name, each in best.items() if isinstance(each, Winner)}
    if winners:
        return True, show_recommended(study, measured, winners, by_tier, fewest, console)
    if any(isinstance(each, Closest) and each.unknown for each in best.values()):
        why = f"No tier has a best: {study.objective.metric} is unavailable"
    else:
        why = "No configuration meets the SLO of any tier"
    say(console, f"{why}.\n", "bold red")
    return False, frozenset()


def _show_wrong(best: Mapping[str, Winner | Closest], console: Console) -> None:
    """The tiers whose answer hangs on step times that are known to be wrong."""
    wrong = [
        name
        for name, each in best.items()
        if each.result is not None and each.result.provenance.get(KNOWN_WRONG)
    ]
    if wrong:
        text = "the answer hangs on step times that are known to be wrong (see above)"
        say(console, f"{', '.join(wrong)}: {text}.\n", "bold red")


def _slo_text(tier: Tier) -> str:
    limits = tier.limits().items()
    shown = [f"{name} ≤ {stated(limit)}" for name, limit in limits if name != "error_rate" or limit]
    return "\n".join(shown) or "no errors"


def _best_text(best: Winner | Closest, measured: Sequence[Finished]) -> Text:
    if isinstance(best, Closest):
        of = "" if best.index is None else f" (trial {trial_name(measured[best.index])})"
        return Text(f"{best}{of}", style="yellow")
    entry = measured[best.index]
    return Text.assemble(
        (number(best.value), "bold green"),
        f"  trial {trial_name(entry)}, {entry.engine}, {best.point.load}",
    )


def _show_timings(entries: Sequence[Finished], console: Console) -> None:
    times = [entry.result.timings for entry in entries if isinstance(entry.result, Completed)]
    if not times:
        return
    later = [each.overhead_s for each in times[1:]]
    parts = [
        f"engine start {number(median(each.startup_s for each in times))} s",
        f"load {number(median(each.load_s for each in times))} s",
        f"overhead {number(median(later or [times[0].overhead_s]))} s",
    ]
    first = f"; overhead of the first trial: {number(times[0].overhead_s)} s" if later else ""
    say(console, f"Median time of a trial: {', '.join(parts)}{first}.")


def _show_paths(
    folder: Path, study: StudyConfig, entries: Sequence[Finished], console: Console
) -> None:
    page, png = write_plots(study, entries, folder)
    for name, path in {"plot": page, "picture": png, "ledger": folder / LEDGER}.items():
        say(console, f"{name + ':':<8} {path}", whole=True)
