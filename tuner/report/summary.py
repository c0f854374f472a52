"""What a person reads at the end of a study, from its ledger alone: tables, commands, paths."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tuner.analysis.recommendation import shares_of_best
from tuner.config.groups.objective import Tier
from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier, confirmed
from tuner.report.plots.pareto import write_plots
from tuner.report.points import LEFT, MODELLED, cells, footnotes, headers, number, trial_name
from tuner.report.sections.confirmation import again_text, chosen_winners, show_confirmed
from tuner.report.sections.economics import show_economy
from tuner.report.sections.importance import show_explained
from tuner.report.sections.payback import show_payback
from tuner.report.sections.predictions import show_predictions
from tuner.results.ledger import LEDGER, Finished, read, searched, why_ended
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Closest, Winner, best_per_tier
from tuner.trial.result import Completed, Failed


def show_report(folder: Path, study: StudyConfig, console: Console) -> bool:
    """Prints the report and draws the plots. False if no configuration is fit for any tier."""
    lines = read(folder)
    entries, again = searched(lines), {each.tier: each for each in confirmed(study, lines)}
    measured = [entry for entry in entries if isinstance(entry.result, Completed)]
    console.print()
    if sources := sorted({entry.modelled for entry in entries if entry.modelled}):
        console.print(
            f"Figures marked {MODELLED} come from an emulator, not from a machine: "
            f"{'; '.join(sources)}.",
            style="bold red",
            soft_wrap=not console.is_terminal,
        )
    without_effect = dict.fromkeys(
        flag for entry in entries for flag in entry.result.provenance.get("without_effect", ())
    )
    if without_effect:
        _say(console, f"without effect in the emulator: {', '.join(without_effect)}")
    if measured:
        _show_front(study, measured, console)
    _show_failures(entries, folder, console)
    feasible = _show_tiers(study, measured, again, console)
    show_confirmed(study, again, console)
    show_explained(study, entries, again, console)
    show_predictions(study, entries, console)
    if measured:
        show_economy(folder, study, measured, console)
    else:
        console.print("Nothing was measured: no trial came to its end.", style="bold red")
    show_payback(study, lines, again, why_ended(folder), console)
    _show_timings(entries, console)
    _show_paths(folder, study, entries, console)
    return feasible


def _show_front(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    """The operating points on the front; then the configurations that they come from."""
    found = [entry.result for entry in measured]
    front = pareto_set(found, study.objective.axes)
    table = _table(f"Pareto front: {' × '.join(axis.metric for axis in study.objective.axes)}")
    for header in headers(study):
        table.add_column(header, justify="left" if header in LEFT else "right", no_wrap=True)
    for each in front:
        entry = measured[each.index]
        table.add_row(*cells(entry, each.point, study))
    console.print(table)
    console.print()
    if len(measured) == 1:
        _show_curve(measured[0], {each.point.level for each in front}, study, console)
    _show_left_out(measured, console)
    configurations = _table("Configurations on it")
    configurations.add_column("trial", justify="right")
    configurations.add_column("engine")
    configurations.add_column("knobs", overflow="fold")
    for index in sorted({each.index for each in front}, key=lambda i: measured[i].number):
        entry = measured[index]
        configurations.add_row(trial_name(entry), entry.engine, escape(entry.knobs))
    console.print(configurations)
    console.print()
    for line in footnotes(study, modelled=any(entry.modelled for entry in measured)):
        _say(console, line)
    console.print()


def _show_curve(entry: Finished, front: set[int], study: StudyConfig, console: Console) -> None:
    """All levels of the only trial, as its load rises."""
    table = _table("All levels")
    for header in (*headers(study)[2:], "on the front"):
        table.add_column(header, justify="left" if header in LEFT else "right", no_wrap=True)
    for point in entry.result.points if isinstance(entry.result, Completed) else ():
        verdict = "yes" if point.level in front else "no" if point.valid else "not valid"
        table.add_row(*cells(entry, point, study)[2:], verdict)
    console.print(table)
    console.print()


def _show_left_out(measured: Sequence[Finished], console: Console) -> None:
    """A point that can't be trusted is on no front; that it was left out is said."""
    points = [p for e in measured if isinstance(e.result, Completed) for p in e.result.points]
    reasons = Counter(reason for point in points for reason in point.invalid_because)
    left_out = sum(not point.valid for point in points)
    if left_out:
        told = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
        _say(console, f"{left_out} of {len(points)} points left out as not valid: {told}")
    for entry in measured:
        if isinstance(entry.result, Completed) and entry.result.cut_short:
            levels, why = len(entry.result.points), entry.result.cut_short
            _say(console, f"trial {trial_name(entry)}: the load ended after {levels} levels: {why}")
    given_up = [entry for entry in measured if _given_up(entry)]
    if given_up:
        _say(console, f"{len(given_up)} of {len(measured)} measured trials were given up early")
    for entry in given_up:
        _say(console, f"trial {trial_name(entry)}: given up {_given_up(entry)}")


def _given_up(entry: Finished) -> str:
    return entry.result.given_up if isinstance(entry.result, Completed) else ""


def _show_failures(entries: Sequence[Finished], folder: Path, console: Console) -> None:
    failed = [entry for entry in entries if isinstance(entry.result, Failed)]
    if not failed:
        return
    table = _table(f"Failed: {len(failed)} of {len(entries)} trials")
    table.add_column("trial", justify="right")
    table.add_column("engine")
    table.add_column("why", no_wrap=True)
    table.add_column("evidence, knobs, log", overflow="fold")
    for entry in failed:
        assert isinstance(entry.result, Failed)
        log = entry.folder / "engine.log"
        lines = [entry.result.evidence or "no evidence", entry.knobs]
        lines += [str(log.relative_to(folder))] if log.exists() else []
        why = Text(entry.result.failure, style="red")
        table.add_row(trial_name(entry), entry.engine, why, Text("\n".join(lines)))
    console.print(table)
    console.print()


def _show_tiers(
    study: StudyConfig,
    measured: Sequence[Finished],
    again: Mapping[str, ConfirmedTier],
    console: Console,
) -> bool:
    """By what was measured again where something was: that chooses, whatever the search scored."""
    found = [entry.result for entry in measured]
    best = best_per_tier(study.slo, study.objective, found)
    best |= chosen_winners(study, measured, again)
    table = _table(f"Best of each tier, by {study.objective.throughput}")
    table.add_column("tier")
    table.add_column("promises", overflow="fold")
    table.add_column("best", overflow="fold", ratio=1)
    for name, tier in study.slo.tiers.items():
        verdict = again_text(again.get(name)) or _verdict(best[name], measured)
        table.add_row(escape(name), _promise(tier), verdict)
    console.print(table)
    console.print()
    winners = {name: each for name, each in best.items() if isinstance(each, Winner)}
    if winners:
        _show_recommended(
            measured, winners, shares_of_best(study, measured, winners, again), console
        )
    else:
        unknown = any(isinstance(each, Closest) and each.unknown for each in best.values())
        told = (
            "No tier can be judged"
            if unknown
            else "No configuration keeps the promises of any tier"
        )
        console.print(f"{told}.\n", style="bold red")
    return bool(winners)


def _promise(tier: Tier) -> str:
    limits = tier.limits().items()
    told = [f"{name} ≤ {limit:g}" for name, limit in limits if name != "error_rate" or limit]
    return "\n".join(told) or "no errors"


def _verdict(best: Winner | Closest, measured: Sequence[Finished]) -> Text:
    if isinstance(best, Closest):
        of = "" if best.index is None else f" (trial {trial_name(measured[best.index])})"
        return Text(f"{best}{of}", style="yellow")
    entry = measured[best.index]
    return Text.assemble(
        (number(best.throughput), "bold green"),
        f"  trial {trial_name(entry)}, {entry.engine}, {best.point.load}",
    )


def _show_recommended(
    measured: Sequence[Finished],
    winners: dict[str, Winner],
    shares: Sequence[dict[str, float]],
    console: Console,
) -> None:
    """One for all: the trial that comes nearest, over all tiers, to each tier's best."""
    chosen = max(range(len(measured)), key=lambda i: (sum(shares[i].values()), -i))
    told = ", ".join(f"{tier} {share:.0%}" for tier, share in shares[chosen].items())
    told += " of the best"
    console.print("Recommended for all tiers together", style="bold")
    _say_command(measured[chosen], told, console)
    others = {w.index: tier for tier, w in reversed(winners.items()) if w.index != chosen}
    for index in sorted(others):
        tiers = ", ".join(tier for tier, winner in winners.items() if winner.index == index)
        console.print(f"Best for {tiers} alone", style="bold", markup=False)
        _say_command(measured[index], "", console)


def _say_command(entry: Finished, told: str, console: Console) -> None:
    detail = f" ({told})" if told else ""
    _say(console, f"trial {trial_name(entry)}, {entry.engine}: {entry.knobs}{detail}")
    console.print(entry.result.command, style="cyan", soft_wrap=True, markup=False, highlight=False)
    console.print()


def _show_timings(entries: Sequence[Finished], console: Console) -> None:
    times = [entry.result.timings for entry in entries if isinstance(entry.result, Completed)]
    if not times:
        return
    later = [each.overhead_s for each in times[1:]]
    parts = [
        f"engine start {median(each.startup_s for each in times):.1f} s",
        f"load {median(each.load_s for each in times):.1f} s",
        f"overhead {median(later or [times[0].overhead_s]):.1f} s",
    ]
    first = f"; the first trial's overhead was {times[0].overhead_s:.1f} s" if later else ""
    _say(console, f"A trial took, by the median, {', '.join(parts)}{first}.")


def _show_paths(
    folder: Path, study: StudyConfig, entries: Sequence[Finished], console: Console
) -> None:
    page, png = write_plots(study, entries, folder)
    for name, path in {"plot": page, "picture": png, "ledger": folder / LEDGER}.items():
        _say(console, f"{name + ':':<8} {path}")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
