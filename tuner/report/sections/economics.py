"""What a study's operating points cost and earn: the section of the report, and its picture."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tuner.analysis.goldilocks import GoldilocksZone, Spot, TierEarnings, knee, tier_earnings, zone
from tuner.config.groups.economics import Economics
from tuner.config.study import StudyConfig
from tuner.metrics.derive import derive
from tuner.metrics.efficiency import joules_per_token, watts
from tuner.metrics.sensitivity import Band
from tuner.report.plots.zone import PNG, zone_picture
from tuner.results.ledger import Finished
from tuner.trial.result import Completed

SWINGS = 5  # inputs that matter less are not listed
NEAR = 0.05  # a best point this little above a price step is said to stand on it


def show_economy(
    folder: Path, study: StudyConfig, measured: Sequence[Finished], console: Console
) -> None:
    """Prints what is earned where; without prices the knee alone. Writes the picture into `folder`."""
    results = [entry.result for entry in measured]
    _show_boundaries(study, measured, console)
    if study.economics.prices is None:
        _show_knee(measured, console)
        return
    found = zone(results, study.economics)
    if found is None:
        figure = study.economics.zone.figure
        points = (p for each in results if isinstance(each, Completed) for p in each.points)
        why = next((why for p in points if (why := p.reasons.get(figure))), "")
        told = (
            f"No point can be priced by {figure} (economics.zone.figure){': ' if why else ''}{why}"
        )
        console.print(told, style="yellow", markup=False, soft_wrap=not console.is_terminal)
        return
    tiers = tier_earnings(results, study.slo, study.economics)
    _show_tiers(study, measured, tiers, console)
    _show_zone(study, measured, found, console)
    _show_inputs(study.economics, console)
    path = folder / PNG
    path.write_bytes(zone_picture(study, measured, found, tiers))
    _say(console, f"zone:    {path}")
    console.print()


def _show_knee(measured: Sequence[Finished], console: Console) -> None:
    found = knee([entry.result for entry in measured])
    if found is None:
        return
    entry, (user, rate) = measured[found.index], found.values
    console.print("Where the curve bends", style="bold")
    _say(
        console,
        f"trial {_name(entry)}, {entry.engine}, {found.point.load}: {user:.4g} tok/s/user at {rate:.4g} output "
        "tok/s per device. No prices are stated (economics): the knee of the front stands in for the "
        "point that earns most.",
    )
    console.print()


def _show_boundaries(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    """Each boundary in a row of its own, for the point of the fewest joules that was measured."""
    points = [
        (entry, point)
        for entry in measured
        if isinstance(entry.result, Completed)
        for point in entry.result.points
        if point.valid and point.metrics.get("energy_j_per_output_tok")
    ]
    if not points:
        return
    entry, point = min(points, key=lambda each: each[1].metrics["energy_j_per_output_tok"] or 0.0)
    config, facility = entry.result.config, study.economics.facility
    derived, _ = derive(point.metrics, config.devices, config.hardware, study.economics)
    figures = {**point.metrics, **derived}
    drawn, unknown = watts(point.metrics, config.hardware, facility)
    table = _table(f"Energy by boundary: trial {_name(entry)}, {entry.engine}, {point.load}")
    for header in ("boundary", "W per device", "J/output tok", "J/total tok"):
        table.add_column(header, justify="left" if header == "boundary" else "right")
    table.add_column("output\ntok/s/MW", justify="right")
    table.add_column("total\ntok/s/MW", justify="right")
    table.add_column("what it is", overflow="fold")
    how = "modelled" if entry.modelled else "metered"
    said = {
        "board": f"GPU boards, {how}",
        "node": f"the node, {how}",
        "provisioned": "constant, all-in",
        "facility": "" if facility is None else _facility(study.economics),
    }
    for boundary, watt in drawn.items():
        if watt is not None:
            names = (
                joules_per_token(boundary, "output"),
                joules_per_token(boundary, "total"),
                f"{boundary}_output_tok_s_mw",
                f"{boundary}_total_tok_s_mw",
            )
            cells = [_number(figures.get(name)) for name in names]
            table.add_row(boundary, _number(watt), *cells, said[boundary])
    console.print(table)
    for boundary, why in unknown.items():
        _say(console, f"{boundary}: {why}")
    console.print()


def _facility(economics: Economics) -> str:
    facility = economics.facility
    assert facility is not None
    host = facility.host_w_per_device
    inner = "node" if host is None else f"board + {host.value:g} W"
    return f"PUE {facility.pue.value:g} × ({inner})"


def _show_tiers(
    study: StudyConfig,
    measured: Sequence[Finished],
    tiers: dict[str, TierEarnings | None],
    console: Console,
) -> None:
    figure, device = study.economics.zone.figure, study.hardware.device
    table = _table(f"What each tier earns, by {figure}")
    table.add_column("tier")
    table.add_column("who earns most", overflow="fold", ratio=1)
    headers = (
        _unit(figure, device),
        f"margin\n$/{device}-h",
        "cost\n$/M output",
        "break-even\nutilisation",
    )
    for header in headers:
        table.add_column(header, justify="right")
    for name, found in tiers.items():
        if found is None:
            table.add_row(escape(name), "nobody keeps its promises")
            continue
        entry, spot = measured[found.spot.index], found.spot
        who = (
            f"trial {_name(entry)}, {entry.engine}, {spot.point.load}: {spot.tok_s_user:.3g} tok/s/user, "
            f"{_number(spot.tok_s_device)} tok/s/{device}"
        )
        bands = (
            found.bands[figure],
            found.bands["margin_usd_device_hour"],
            found.bands["cost_usd_per_m_output_tok"],
            found.bands["break_even_utilisation"],
        )
        table.add_row(escape(name), escape(who), *(_band(each) for each in bands))
    console.print(table)
    _say(
        console,
        "each figure: as stated, and from all inputs at once at their worst to all at their best ends",
    )
    console.print()


def _show_zone(
    study: StudyConfig, measured: Sequence[Finished], found: GoldilocksZone, console: Console
) -> None:
    device, (slow, fast) = study.hardware.device, found.speeds
    console.print("The Goldilocks zone", style="bold")
    _say(console, f"best by {found.figure}: {_spot(measured, found.best, device)}")
    if found.band is not None:
        _say(console, f"{_unit(found.figure, device).replace(chr(10), ' ')}: {_inline(found.band)}")
    _say(
        console,
        f"within {found.within:.0%} of it: {_count(len(found.members), 'point')} of "
        f"{_count(len({spot.index for spot in found.members}), 'trial')}, {slow:.3g} to {fast:.3g} "
        "tok/s/user",
    )
    if edge := _edge(study.economics, found.best.tok_s_user):
        _say(console, edge)
    low, high = found.reach
    others = [f"{name} at {value:g} → {spot.tok_s_user:.3g}" for name, value, spot in found.moves]
    if others:
        _say(
            console,
            f"with one price or cost at an end the best moves between {low:.3g} and {high:.3g} tok/s/user: "
            f"{'; '.join(others)}",
        )
    else:
        _say(console, "no single price or cost at either end moves the best point")
    console.print()
    if found.band is not None and found.band.swings:
        _show_swings(found, device, console)


def _edge(economics: Economics, tok_s_user: float) -> str:
    """What a best point owes to a step of the price that it just reaches."""
    prices = economics.prices
    for step in () if prices is None or prices.between == "linear" else prices.premium:
        above = tok_s_user / step.from_tok_s_user - 1 if step.from_tok_s_user else NEAR
        if 0 <= above < NEAR:
            return (
                f"it is {above:.1%} above the price step at {step.from_tok_s_user:g} tok/s/user: "
                "somewhat slower, and it earns the lower price"
            )
    return ""


def _show_swings(found: GoldilocksZone, device: str, console: Console) -> None:
    assert found.band is not None
    table = _table("What it hangs on")
    for header in ("input", "from", "to", "it is then", "and"):
        table.add_column(header, justify="left" if header == "input" else "right")
    for swing in found.band.swings[:SWINGS]:
        ends = f"{swing.low:g}", f"{swing.high:g}"
        table.add_row(swing.input, *ends, _number(swing.at_low), _number(swing.at_high))
    console.print(table)
    console.print()


def _show_inputs(economics: Economics, console: Console) -> None:
    _say(
        console,
        f"economics: {economics.name}; every input with its source: economics in study.yaml",
    )


def _spot(measured: Sequence[Finished], spot: Spot, device: str) -> str:
    entry = measured[spot.index]
    return (
        f"trial {_name(entry)}, {entry.engine}, {spot.point.load}: {spot.tok_s_user:.3g} tok/s/user, "
        f"{_number(spot.tok_s_device)} output tok/s/{device}; {entry.knobs}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _unit(figure: str, device: str) -> str:
    kind = next(name for name in ("revenue", "margin") if name in figure)
    if figure.endswith("usd_device_hour"):
        return f"{kind}\n$/{device}-h"
    return f"{kind}, $/year\nper {figure.partition('_')[0]} MW"


def _band(found: Band | None) -> str:
    if found is None:
        return "–"
    return f"{_number(found.base)}\n{_number(found.low)} … {_number(found.high)}"


def _inline(found: Band) -> str:
    return f"{_number(found.base)} ({_number(found.low)} to {_number(found.high)})"


def _name(entry: Finished) -> str:
    return f"{entry.number} modelled" if entry.modelled else str(entry.number)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
