"""What a study took and what it brought: the section of the report."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tuner.analysis.payback import FLEETS, Gain, counts_devices, gains, payback_h
from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier
from tuner.results.ledger import Entry, Finished, searched
from tuner.study.budget import Spent, exhausted, spent

WORTH_IT = 0.001  # a share below it is rounding


def show_payback(
    study: StudyConfig,
    lines: Sequence[Entry],
    again: Mapping[str, ConfirmedTier],
    stopped: str,
    console: Console,
) -> None:
    """`lines`: the whole ledger. `stopped`: why the search ended early by its own rule."""
    entries = searched(lines)
    if not entries:
        return
    constant = study.hardware.usd_per_device_hour
    price = None if constant is None else constant.value
    took = spent(lines, price)
    _show_cost(study, entries, took, console)
    search = [line for line in lines if line.repeat is None]
    if why := stopped or exhausted(study.search.budget, spent(search, price), _more(study)):
        _say(console, f"The search ended: {why}.")
    measured = [entry for entry in entries if entry.result.status == "completed"]
    found = gains(study, measured, again)
    if any(gain.best is not None for gain in found):
        _show_gains(study, found, took, console)
    console.print()


def _more(study: StudyConfig) -> int:
    """So that a search which made all its trials has no other reason to end."""
    return study.search.trials + 1


def _show_cost(
    study: StudyConfig, entries: Sequence[Finished], took: Spent, console: Console
) -> None:
    device, repeats = study.hardware.device, took.trials - len(entries)
    failed = sum(entry.result.status == "failed" for entry in entries)
    parts = [f"{len(entries)} trials" + (f" ({failed} failed)" if failed else "")]
    parts += [f"{repeats} repeats to confirm the best"] if repeats else []
    parts += [f"{took.device_hours:.3g} {device}-hours"]
    parts += [f"${took.usd:,.2f}"] if took.usd is not None else []
    parts += [time_text(took.wall_s / 3600)]
    emulated = study.hardware.twin is not None
    note = f" The {device}-hours are those of the emulated {device}s." if emulated else ""
    mark = " (modelled)" if any(entry.modelled for entry in entries) else ""
    console.print(f"What the study took, and what it brought{mark}", style="bold")
    _say(console, f"It took {', '.join(parts)}.{note}")


def _show_gains(study: StudyConfig, found: Sequence[Gain], took: Spent, console: Console) -> None:
    device, own = study.hardware.device, study.search.stop.payback_devices
    fleets = sorted({*FLEETS, *([own] if own else [])})
    countable = counts_devices(study.objective.throughput)
    table = _table(device, fleets if countable else [])
    for gain in found:
        if gain.share is not None and gain.best is not None:
            cells = [escape(gain.tier), _number(gain.default), _number(gain.best), _better(gain)]
            cells += _payback(gain, took, fleets) if countable else []
            table.add_row(*cells)
    if table.row_count:
        console.print(table)
    for gain in found:
        if gain.unknown:
            _say(console, f"{gain.tier}: no gain can be told: {gain.unknown}")
        elif gain.is_default:
            _say(console, f"{gain.tier}: the default is the best: there is nothing to change")
    if not table.row_count:
        return
    once = not any(gain.confirmed for gain in found)
    how = " Each was measured once: the best is high by luck too (search.confirm)." if once else ""
    if countable:
        _say(
            console,
            f"A gain g = 1 − default / best serves a tier's load with g fewer {device}s; it has paid back on N "
            f"{device}s after the study's {took.device_hours:.3g} {device}-hours / (g · N).{how}",
        )
    else:
        metric = study.objective.throughput
        _say(console, f"{metric} counts no {device}s: no pay-back is told.{how}")


def _table(device: str, fleets: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    headers = ["tier", "default", "best", "better"]
    if fleets:
        headers += [f"{device}s\nsaved", f"pays back\non {fleets[0]}"]
        headers += [f"\non {count}" for count in fleets[1:]]
    for header in headers:
        table.add_column(header, justify="left" if header == "tier" else "right", no_wrap=True)
    return table


def _better(gain: Gain) -> str:
    assert gain.share is not None
    return f"{1 / (1 - gain.share) - 1:+.1%}" if gain.share < 1 else "–"


def _payback(gain: Gain, took: Spent, fleets: Sequence[int]) -> list[str]:
    share = gain.share or 0.0
    between = gain.interval
    saved = f"{share:.1%}"
    saved += f"\n{between[0]:.1%} to {between[1]:.1%}" if between else ""
    if share < WORTH_IT:
        return [saved, *("–" for _ in fleets)]
    hours = (payback_h(took.device_hours, share, n) for n in fleets)
    return [saved, *("–" if each is None else time_text(each) for each in hours)]


def time_text(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1.5:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
