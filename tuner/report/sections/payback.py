"""The section of cost and gain: what a study took, and when its best configurations pay for it."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tuner.analysis.payback import FLEETS, Gain, gains, payback_h
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier
from tuner.metrics.catalogue import CATALOGUE
from tuner.metrics.notation import UNKNOWN, counted, duration, number, usd
from tuner.report.console import say, show, table, words
from tuner.results.ledger import Entry, Finished, searched
from tuner.study.learning.budget import Spent, exhausted, spent

NEGLIGIBLE = 0.001  # share of devices saved, below which no pay-back is shown
ONCE = "one run each"  # in place of a gain


def show_payback(
    study: StudyConfig,
    lines: Sequence[Entry],
    remeasured: Mapping[str, RemeasuredTier],
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
    # One trial more than there are, so that running all of them is no reason to end.
    most = study.search.trials + 1
    if why := stopped or exhausted(study.search.budget, spent(search, price), most):
        say(console, f"The search ended: {why}.")
    found = gains(study, entries, remeasured)
    if any(gain.best is not None for gain in found):
        _show_gains(study, found, took, console)
    console.print()


def _show_cost(
    study: StudyConfig, entries: Sequence[Finished], took: Spent, console: Console
) -> None:
    device, repeats = study.hardware.device, took.trials - len(entries)
    failed = sum(entry.result.status == "failed" for entry in entries)
    parts = [counted(len(entries), "trial") + (f" ({failed} failed)" if failed else "")]
    parts += [f"{counted(repeats, 'repeat')} of the best"] if repeats else []
    parts += [f"{number(took.device_hours)} {device}-hours"]
    parts += [usd(took.usd)] if took.usd is not None else []
    parts += [duration(took.wall_s)]
    emulated = study.hardware.twin is not None
    note = f" The {device}-hours are those of the emulated {device}s." if emulated else ""
    mark = " (modelled)" if any(entry.modelled for entry in entries) else ""
    say(console, f"Cost and gain of the study{mark}", "bold")
    say(console, f"It took {', '.join(parts)}.{note}")


def _show_gains(study: StudyConfig, found: Sequence[Gain], took: Spent, console: Console) -> None:
    gained = [gain for gain in found if gain.share is not None and gain.best is not None]
    known = [gain for gain in gained if gain.remeasured]
    countable = CATALOGUE[study.objective.metric].saves_devices
    own = study.search.stop.payback_devices
    fleets = sorted({*FLEETS, *([own] if own else [])}) if countable and known else []
    if gained:
        show(console, _table(study.hardware.device, gained, took, fleets), gap=False)
    for gain in found:
        if gain.unavailable:
            say(console, f"{gain.tier}: gain unavailable: {gain.unavailable}")
        elif gain.is_default:
            say(console, f"{gain.tier}: the default is the best; there is nothing to change")
        elif not gain.beats:
            say(console, f"{gain.tier}: no gain over the default is shown")
        elif gain.interval is not None and gain.interval[0] <= 0:
            say(console, f"{gain.tier}: the best beat the default; by how much is not known yet")
    _show_once(study, [gain for gain in gained if not gain.remeasured], console)
    _show_cautions(gained, console)
    if known:
        _show_payback_rule(study, took, console, countable=countable)


def _show_once(study: StudyConfig, once: Sequence[Gain], console: Console) -> None:
    """Of values that were measured once no gain is stated."""
    tiers = ", ".join(gain.tier for gain in once if not gain.is_default)
    if not tiers:
        return
    how = "search.confirm.candidates=2 repeats both"
    if study.search.confirm.candidates:
        how = "the repeats chose none"
    say(
        console,
        f"{tiers}: one run each, so no gain is stated: the best of many single runs is biased upwards "
        f"(winner's curse); {how}.",
    )


def _show_cautions(gained: Sequence[Gain], console: Console) -> None:
    """What the gains hang on besides the best, the tiers with the same cautions in one line."""
    tiers: dict[tuple[str, ...], list[str]] = {}
    for gain in gained:
        if gain.cautions and not gain.is_default:
            tiers.setdefault(gain.cautions, []).append(gain.tier)
    for cautions, names in tiers.items():
        say(console, f"{', '.join(names)}: caution: {'; '.join(cautions)}.", "yellow")


def _show_payback_rule(
    study: StudyConfig, took: Spent, console: Console, *, countable: bool
) -> None:
    device = study.hardware.device
    if countable:
        say(
            console,
            f"A gain g = 1 − default / best serves a tier's load with g fewer {device}s; on N {device}s it has "
            f"paid back after the study's {number(took.device_hours)} {device}-hours / (g · N).",
        )
    else:
        why = f"{study.objective.metric} says nothing about the number of {device}s"
        say(console, f"Pay-back unavailable: {why}.")


def _table(device: str, gained: Sequence[Gain], took: Spent, fleets: Sequence[int]) -> Table:
    """`fleets`: numbers of devices to show the pay-back for; none if there is none to show."""
    headers = ["default", "best", "gain"]
    if fleets:
        headers += [f"{device}s\nsaved", f"pays back\non {fleets[0]}"]
        headers += [f"\non {count}" for count in fleets[1:]]
    rows = []
    for gain in gained:
        cells = [gain.tier, number(gain.default, 4), number(gain.best, 4), _gain(gain)]
        rows.append(cells + (_payback(gain, took, fleets) if fleets else []))
    return table("", [words("tier"), *headers], rows)


def _gain(gain: Gain) -> str:
    """Of values that were measured again, with its interval."""
    if not gain.remeasured and not gain.is_default:
        return ONCE
    assert gain.share is not None
    lines = [_more(gain.share)]
    lines += [" to ".join(_more(share) for share in gain.interval)] if gain.interval else []
    return "\n".join(lines)


def _more(share: float) -> str:
    """The share of devices saved as a share of the default's value."""
    return f"{1 / (1 - share) - 1:+.1%}" if share < 1 else UNKNOWN


def _payback(gain: Gain, took: Spent, fleets: Sequence[int]) -> list[str]:
    share, between = gain.share or 0.0, gain.interval
    if not gain.remeasured and not gain.is_default:
        return [UNKNOWN, *(UNKNOWN for _ in fleets)]
    saved = f"{share:.1%}"
    if share < NEGLIGIBLE or (between and between[0] <= 0):
        return [saved, *(UNKNOWN for _ in fleets)]
    hours = (payback_h(took.device_hours, share, n) for n in fleets)
    return [saved, *(UNKNOWN if each is None else duration(3600 * each) for each in hours)]
