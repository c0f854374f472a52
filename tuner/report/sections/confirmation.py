"""The section of the candidates that were re-measured: who is best, how surely, and the selection bias."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredCandidate, RemeasuredTier
from tuner.metrics.notation import UNKNOWN, number
from tuner.report.console import say, show, table, words
from tuner.report.points import MODELLED
from tuner.results.ledger import Finished, knobs
from tuner.results.tiers import Winner, best_per_tier

DEFAULT = " (default)"  # ends the name of a default configuration
COLUMNS = (
    words("candidate"),
    "search",
    "mean of\nrepeats",
    "repeats",
    "P(best)",
    "against\nthe default",
    "bias",
)


def show_remeasured(
    study: StudyConfig, tiers: Mapping[str, RemeasuredTier], console: Console
) -> None:
    """Silent where nothing was re-measured."""
    for tier in tiers.values():
        _show_tier(tier, study, console)
    if tiers:
        confidence = study.search.confirm.confidence
        say(
            console,
            "Repeats: each on a fresh server start with other prompts and arrivals; geometric "
            f"means with intervals at {confidence:.0%}, those of differences simultaneous. bias: how far the "
            "search's score is above the mean of the repeats (selection bias, the winner's curse). out in N: "
            "eliminated after round N.",
        )
        console.print()


def chosen_winners(
    study: StudyConfig, measured: Sequence[Finished], tiers: Mapping[str, RemeasuredTier]
) -> dict[str, Winner]:
    """Tier → the trial that is best when re-measured, with the point that the search measured."""
    found = {}
    places = {entry.number: index for index, entry in enumerate(measured)}
    for name, tier in tiers.items():
        of = None if tier.chosen is None else tier.chosen.candidate.of
        place = None if of is None else places.get(of)
        if place is None:
            continue
        best = best_per_tier(study.slo, study.objective, [measured[place].result])[name]
        if isinstance(best, Winner):
            found[name] = replace(best, index=place)
    return found


def remeasured_text(tier: RemeasuredTier | None) -> Text | None:
    """A tier's best for the table of tiers; None where nothing was decided."""
    row = None if tier is None else tier.chosen
    if tier is None or row is None:
        return None
    kind = "best" if tier.verdict.kind == "best" else "no difference to others"
    mean = " ".join([number(row.standing.mean, 4), *(f"({each})" for each in _interval(row))])
    return Text.assemble((mean, "bold green"), f"  {_name(row)}: {kind} of the repeated")


def _show_tier(tier: RemeasuredTier, study: StudyConfig, console: Console) -> None:
    rows = []
    for row in tier.rows:
        style = "bold" if row is tier.chosen else ""
        rows.append([Text(cell, style=style) for cell in _cells(row)])
    title = f"Candidates repeated, {tier.tier}: {study.objective.metric}"
    show(console, table(title, COLUMNS, rows), gap=False)
    style = "green" if tier.verdict.kind == "best" else "yellow"
    say(console, f"{tier.tier}: {tier.verdict.text}", style)
    for row in tier.rows:
        say(console, f"{_name(row)}: {knobs(row.candidate.point)}")
    console.print()


def _cells(row: RemeasuredCandidate) -> list[str]:
    each, over = row.standing, row.standing.over_default
    repeats = [f"{each.repeats}"]
    repeats += [f"{each.failed} failed"] if each.failed else []
    repeats += [f"out in {each.out_after}"] if each.out_after else []
    against = "" if over is None else f"{over.share:+.1%}\n{over.low:+.1%} to {over.high:+.1%}"
    return [
        _name_lines(row),
        number(each.searched, 4),
        "\n".join([number(each.mean, 4), *_interval(row)]),
        "\n".join(repeats),
        UNKNOWN if each.p_best is None else _probability(each.p_best),
        against,
        UNKNOWN if each.selection_bias is None else f"{each.selection_bias:+.1%}",
    ]


def _interval(row: RemeasuredCandidate) -> list[str]:
    """Of the mean; empty where it is not known."""
    low, high = row.standing.low, row.standing.high
    return [] if low is None or high is None else [f"{number(low, 4)} to {number(high, 4)}"]


def _name(row: RemeasuredCandidate) -> str:
    mark = f" {MODELLED}" if _modelled(row) else ""
    return f"{row.candidate.name}{mark}, {row.candidate.engine}"


def _name_lines(row: RemeasuredCandidate) -> str:
    """The name on lines of its own parts, for a narrow column."""
    name = row.candidate.name
    default = [DEFAULT.strip()] if name.endswith(DEFAULT) else []
    mark = [MODELLED] if _modelled(row) else []
    return "\n".join([name.removesuffix(DEFAULT), *default, *mark])


def _modelled(row: RemeasuredCandidate) -> bool:
    return bool(row.example.provenance.get("modelled"))


def _probability(share: float) -> str:
    """Estimated from random draws, so none is shown as certain."""
    if share < 0.005:
        return "< 1%"
    return "> 99%" if share > 0.995 else f"{share:.0%}"
