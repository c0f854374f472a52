"""What a person reads of a confirmation: who is best when measured again, how surely, and what luck added."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier, Row
from tuner.results.ledger import Finished, knobs
from tuner.results.tiers import Winner, best_per_tier

HEADERS = (
    "contender",
    "search",
    "measured\nagain",
    "repeats",
    "P(best)",
    "against\nthe default",
    "gap",
)


def show_confirmed(
    study: StudyConfig, tiers: Mapping[str, ConfirmedTier], console: Console
) -> None:
    for tier in tiers.values():
        _show_tier(tier, study, console)
    if tiers:
        confidence = study.search.confirm.confidence
        _say(
            console,
            f"Measured again: each repeat on a fresh start with other prompts and arrivals; geometric "
            f"means, intervals at {confidence:.0%}, those of differences all at once. gap: what the "
            "search's score was above the mean.\n",
        )


def chosen_winners(
    study: StudyConfig, measured: Sequence[Finished], tiers: Mapping[str, ConfirmedTier]
) -> dict[str, Winner]:
    """Tier → the trial whose repeats were best, as the search measured it."""
    found = {}
    places = {entry.number: index for index, entry in enumerate(measured)}
    for name, tier in tiers.items():
        of = None if tier.chosen is None else tier.chosen.contender.of
        place = None if of is None else places.get(of)
        if place is None:
            continue
        best = best_per_tier(study.slo, study.objective, [measured[place].result])[name]
        if isinstance(best, Winner):
            found[name] = replace(best, index=place)
    return found


def again_text(tier: ConfirmedTier | None) -> Text | None:
    """For the table of tiers; None where nothing was decided."""
    row = None if tier is None else tier.chosen
    if tier is None or row is None:
        return None
    kind = "best" if tier.verdict.kind == "best" else "no difference to others"
    told = f"  {row.contender.name}{_mark(row)}, {row.contender.engine}: {kind} when measured again"
    return Text.assemble((_mean(row), "bold green"), told)


def _show_tier(tier: ConfirmedTier, study: StudyConfig, console: Console) -> None:
    table = Table(
        title=f"Confirmed, {escape(tier.tier)}: {study.objective.throughput}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for header in HEADERS:
        left = header == "contender"
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    for row in tier.rows:
        table.add_row(*_cells(row), style="bold" if row is tier.chosen else "")
    console.print(table)
    style = "green" if tier.verdict.kind == "best" else "yellow"
    _say(console, f"{tier.tier}: {tier.verdict.text}", style)
    for row in tier.rows:
        told = f"{row.contender.name}{_mark(row)}, {row.contender.engine}"
        _say(console, f"{told}: {knobs(row.contender.point)}")
    console.print()


def _cells(row: Row) -> list[str]:
    each, over = row.standing, row.standing.over_default
    repeats = [str(each.repeats)]
    repeats += [f"{each.failed} failed"] if each.failed else []
    repeats += [f"out in {each.out_after}"] if each.out_after else []
    against = "" if over is None else f"{over.share:+.1%}\n{over.low:+.1%} to {over.high:+.1%}"
    return [
        escape(f"{row.contender.name}{_mark(row)}".replace(" (", "\n(").replace(" m", "\nm")),
        _number(each.searched),
        "\n".join(_mean(row).replace(")", "").split(" (")),
        "\n".join(repeats),
        "–" if each.chance is None else _chance(each.chance),
        against,
        "–" if each.gap is None else f"{each.gap:+.1%}",
    ]


def _mean(row: Row) -> str:
    mean, low, high = row.standing.mean, row.standing.low, row.standing.high
    interval = "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
    return f"{_number(mean)}{interval}"


def _mark(row: Row) -> str:
    return " modelled" if row.example.provenance.get("modelled") else ""


def _chance(chance: float) -> str:
    """No simulated draw is certainty."""
    if chance < 0.005:
        return "< 1%"
    return "> 99%" if chance > 0.995 else f"{chance:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(
        text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal
    )
