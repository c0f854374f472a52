"""The section of energy and money: what operating points draw, cost and earn."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tuner.analysis.goldilocks import GoldilocksZone, Spot, TierEarnings, knee, tier_earnings, zone
from tuner.config.groups.economics import Economics
from tuner.config.study import StudyConfig
from tuner.metrics.catalogue import axis_label
from tuner.metrics.catalogue.efficiency import joules_per_token, tok_s_per_megawatt
from tuner.metrics.derive import derive
from tuner.metrics.efficiency import watts
from tuner.metrics.notation import UNKNOWN, counted, number, stated
from tuner.metrics.sensitivity import Band
from tuner.report.console import Column, say, show, table, words
from tuner.report.plots.zone import PNG, zone_png
from tuner.report.points import trial_name
from tuner.results.durable import replace
from tuner.results.ledger import Finished
from tuner.trial.result import Completed, OperatingPoint

SWINGS = 5  # inputs in the sensitivity table; the figure depends less on the others
NEAR = 0.05  # a best point less than this share above a price step is flagged
HEADER = 14  # columns that a long header is wrapped to


def show_economics(
    folder: Path, study: StudyConfig, measured: Sequence[Finished], console: Console
) -> None:
    """What is earned where; without prices only the knee. Writes the picture into `folder`."""
    results = [entry.result for entry in measured]
    _show_boundaries(study, measured, console)
    if study.economics.prices is None:
        _show_knee(measured, console)
        return
    found = zone(results, study.economics)
    if found is None:
        figure = study.economics.zone.figure
        points = (p for each in results if isinstance(each, Completed) for p in each.points)
        why = next((f": {why}" for p in points if (why := p.reasons.get(figure))), "")
        nothing = f"no point can be priced by {figure} (economics.zone.figure){why}"
        say(console, f"Goldilocks zone unavailable: {nothing}", "yellow")
        return
    tiers = tier_earnings(results, study.slo, study.economics)
    _show_tiers(study, measured, tiers, console)
    _show_zone(study, measured, found, console)
    economics = study.economics.name
    say(console, f"economics: {economics}; sources of all inputs: economics in study.yaml")
    path = folder / PNG
    replace(path, zone_png(study, measured, found, tiers))
    say(console, f"zone:    {path}", whole=True)
    console.print()


def _show_knee(measured: Sequence[Finished], console: Console) -> None:
    found = knee([entry.result for entry in measured])
    if found is None:
        return
    entry, (user, rate) = measured[found.index], found.values
    say(console, "Knee of the front", "bold")
    say(
        console,
        f"{_where(entry, found.point)}: {number(user)} tok/s/user at {number(rate)} output tok/s per "
        "device. No prices are configured (economics), so the knee stands in for the point that earns most.",
    )
    console.print()


def _show_boundaries(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    """A row for each boundary, for the point with the fewest measured joules per token."""
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
    how = "modelled" if entry.modelled else "metered"
    counts = {
        "board": f"GPU boards, {how}",
        "node": f"whole node, {how}",
        "provisioned": "all-in constant",
        "facility": "" if facility is None else _facility(study.economics),
    }
    rows = []
    for boundary, watt in drawn.items():
        if watt is not None:
            names = [joules_per_token(boundary, tokens) for tokens in ("output", "total")]
            names += [tok_s_per_megawatt(boundary, tokens) for tokens in ("output", "total")]
            shown = [number(figures.get(name)) for name in names]
            rows.append([boundary, number(watt), *shown, counts[boundary]])
    headers = (
        "W per\ndevice",
        "J/output\ntok",
        "J/total\ntok",
        "output\ntok/s/MW",
        "total\ntok/s/MW",
    )
    what = words("what is counted", wraps=True)
    columns: tuple[Column | str, ...] = (words("boundary"), *headers, what)
    title = f"Energy by boundary: {_where(entry, point)}"
    show(console, table(title, columns, rows), gap=False)
    for boundary, why in unknown.items():
        say(console, f"{boundary}: unavailable: {why}")
    console.print()


def _facility(economics: Economics) -> str:
    facility = economics.facility
    assert facility is not None
    host = facility.host_w_per_device
    inner = "node" if host is None else f"board + {stated(host.value)} W"
    return f"PUE {stated(facility.pue.value)} × ({inner})"


def _show_tiers(
    study: StudyConfig,
    measured: Sequence[Finished],
    tiers: dict[str, TierEarnings | None],
    console: Console,
) -> None:
    figure, device = study.economics.zone.figure, study.hardware.device
    names = (
        figure,
        "margin_usd_device_hour",
        "cost_usd_per_m_output_tok",
        "break_even_utilisation",
    )
    rows = []
    for name, found in tiers.items():
        if found is None:
            rows.append([name, "no configuration meets the SLO", *[""] * len(names)])
            continue
        entry, spot = measured[found.spot.index], found.spot
        where = f"{_where(entry, spot.point)}: {number(spot.tok_s_user)} tok/s/user, "
        where += f"{number(spot.tok_s_device)} tok/s/{device}"
        rows.append([name, where, *(_band(found.bands[each]) for each in names)])
    headers = (
        "\n".join(textwrap.wrap(axis_label(figure, device), HEADER)),
        f"margin\n$/{device}-h",
        "cost\n$/M output",
        "break-even\nutilisation",
    )
    point = words("point that earns most", wraps=True)
    columns: tuple[Column | str, ...] = (words("tier"), point, *headers)
    show(console, table(f"What each tier earns, by {figure}", columns, rows), gap=False)
    say(
        console,
        "each figure: with inputs as stated; below it, with all inputs at their worst and at their best ends",
    )
    console.print()


def _show_zone(
    study: StudyConfig, measured: Sequence[Finished], found: GoldilocksZone, console: Console
) -> None:
    device, (slow, fast) = study.hardware.device, found.speeds
    say(console, "The Goldilocks zone", "bold")
    say(console, f"best by {found.figure}: {_spot(measured, found.best, device)}")
    if found.band is not None:
        say(console, f"{axis_label(found.figure, device)}: {_inline(found.band)}")
    points = counted(len(found.members), "point")
    trials = counted(len({spot.index for spot in found.members}), "trial")
    say(
        console,
        f"within {found.within:.0%} of the best: {points} of {trials}, {number(slow)} to {number(fast)} "
        "tok/s/user",
    )
    if edge := _edge(study.economics, found.best.tok_s_user):
        say(console, edge)
    low, high = found.reach
    moves = [
        f"{name} at {stated(value)} → {number(spot.tok_s_user)}"
        for name, value, spot in found.moves
    ]
    if moves:
        say(
            console,
            "with one price or cost at an end of its range, the best point is at "
            f"{number(low)} to {number(high)} tok/s/user: {'; '.join(moves)}",
        )
    else:
        say(console, "no single price or cost at an end of its range moves the best point")
    console.print()
    if found.band is not None and found.band.swings:
        _show_sensitivity(found, console)


def _edge(economics: Economics, tok_s_user: float) -> str:
    """Whether the best point is just above a step of the price."""
    prices = economics.prices
    for step in () if prices is None or prices.between == "linear" else prices.premium:
        above = tok_s_user / step.from_tok_s_user - 1 if step.from_tok_s_user else NEAR
        if 0 <= above < NEAR:
            return (
                f"the best point is {above:.1%} above the price step at {stated(step.from_tok_s_user)} "
                "tok/s/user; below the step it earns the lower price"
            )
    return ""


def _show_sensitivity(found: GoldilocksZone, console: Console) -> None:
    assert found.band is not None
    columns = words("input"), "low", "high", "figure\nat low", "figure\nat high"
    rows = [
        (
            swing.input,
            stated(swing.low),
            stated(swing.high),
            number(swing.at_low),
            number(swing.at_high),
        )
        for swing in found.band.swings[:SWINGS]
    ]
    show(console, table(f"Sensitivity of {found.figure}", columns, rows))


def _where(entry: Finished, point: OperatingPoint) -> str:
    return f"trial {trial_name(entry)}, {entry.engine}, {point.load}"


def _spot(measured: Sequence[Finished], spot: Spot, device: str) -> str:
    entry = measured[spot.index]
    return (
        f"{_where(entry, spot.point)}: {number(spot.tok_s_user)} tok/s/user, "
        f"{number(spot.tok_s_device)} output tok/s/{device}; {entry.knobs}"
    )


def _band(found: Band | None) -> str:
    if found is None:
        return UNKNOWN
    return f"{number(found.base)}\n{number(found.low)}…{number(found.high)}"


def _inline(found: Band) -> str:
    return f"{number(found.base)} ({number(found.low)} to {number(found.high)})"
