"""Draws what operating points earn: the front with the Goldilocks zone, with matplotlib."""

from collections.abc import Sequence
from math import log10
from typing import Any

from tuner.analysis.goldilocks import AXES, GoldilocksZone, Spot, TierEarnings
from tuner.config.study import StudyConfig
from tuner.metrics.catalogue import CATALOGUE, axis_label
from tuner.metrics.catalogue.earnings import USD_MW_YEAR
from tuner.metrics.notation import number, stated
from tuner.report.plots.style import (
    GOLD,
    INK,
    LOSS,
    LOSS_TEXT,
    MUTED,
    PALE_GOLD,
    SUBTITLE,
    engine_colours,
    frame,
    new_figure,
    png,
    title,
)
from tuner.results.ledger import Finished
from tuner.results.pareto import pareto_set

PNG = "goldilocks.png"
TICKS = (2, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)  # tok/s per user


def zone_png(
    study: StudyConfig,
    measured: Sequence[Finished],
    found: GoldilocksZone,
    tiers: dict[str, TierEarnings | None],
) -> bytes:
    """Above: throughput over speed, the front in bold. Below: what each point earns, over the same speeds."""
    figure = new_figure(11, 8.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
    colours = engine_colours(entry.engine for entry in measured)
    for axes in (upper, lower):
        _shade(axes, found)
        frame(axes)
    _draw_front(upper, measured, found, colours)
    _draw_earnings(lower, measured, found, colours)
    _mark_tiers(lower, found, tiers)
    _label(figure, (upper, lower), study, measured, found)
    _mark_prices(lower, study)
    _legend(figure, colours)
    return png(figure)


def _shade(axes: Any, found: GoldilocksZone) -> None:
    """The zone in gold; in pale gold where a single price or cost can move the best point to."""
    low, high = found.reach
    slow, fast = found.speeds
    axes.axvspan(min(low, slow) * 0.985, max(high, fast) * 1.015, color=PALE_GOLD, zorder=0)
    axes.axvspan(slow * 0.985, fast * 1.015, color=GOLD, alpha=0.32, zorder=0.5, linewidth=0)


def _draw_front(
    axes: Any, measured: Sequence[Finished], found: GoldilocksZone, colours: dict[str, str]
) -> None:
    _scatter(axes, measured, found.spots, [spot.tok_s_device for spot in found.spots], colours)
    front = pareto_set([entry.result for entry in measured], AXES)
    pairs = sorted(each.values for each in front)
    axes.step(
        [x for x, _ in pairs],
        [y for _, y in pairs],
        where="pre",
        color=INK,
        linewidth=2.2,
        zorder=5,
    )
    for each in front:
        colour = colours[measured[each.index].engine]
        axes.scatter(*each.values, s=46, color=colour, edgecolors=INK, linewidths=1.2, zorder=6)
    best = found.best
    axes.scatter(
        best.tok_s_user, best.tok_s_device, marker="*", s=330, color=GOLD, edgecolors=INK,
        linewidths=1.2, zorder=8,
    )  # fmt: skip
    axes.set_ylim(0, max(spot.tok_s_device for spot in found.spots) * 1.1)


def _draw_earnings(
    axes: Any, measured: Sequence[Finished], found: GoldilocksZone, colours: dict[str, str]
) -> None:
    scale = _scale(found)
    _scatter(axes, measured, found.spots, [spot.earns / scale for spot in found.spots], colours)
    top = _envelope(found.spots)
    axes.plot(
        [s.tok_s_user for s in top], [s.earns / scale for s in top], color=INK, linewidth=1.5,
        marker="o", markersize=3.5, zorder=5,
    )  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8, zorder=2)
    best = found.best
    axes.scatter(
        best.tok_s_user, best.earns / scale, marker="*", s=330, color=GOLD, edgecolors=INK,
        linewidths=1.2, zorder=8,
    )  # fmt: skip
    low = min(0.0, *(spot.earns for spot in top)) / scale
    high = max(0.0, best.earns) / scale
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.12 * room, high + 0.3 * room)
    if low < 0:
        axes.axhspan(low - 0.12 * room, 0, color=LOSS, alpha=0.45, zorder=0.1, linewidth=0)
        axes.annotate(
            "a loss", (0.995, 0), xycoords=("axes fraction", "data"), xytext=(0, -5),
            textcoords="offset points", ha="right", va="top", color=LOSS_TEXT, fontsize=9,
        )  # fmt: skip


def _scatter(
    axes: Any,
    measured: Sequence[Finished],
    spots: Sequence[Spot],
    heights: Sequence[float],
    colours: dict[str, str],
) -> None:
    axes.scatter(
        [spot.tok_s_user for spot in spots],
        heights,
        s=11,
        color=[colours[measured[spot.index].engine] for spot in spots],
        alpha=0.35,
        linewidths=0,
        zorder=3,
    )


def _envelope(spots: Sequence[Spot]) -> list[Spot]:
    """The point that earns most in each of 16 equal bins per decade of speed."""
    best: dict[int, Spot] = {}
    for spot in spots:
        bucket = int(log10(spot.tok_s_user) * 16)
        if bucket not in best or spot.earns > best[bucket].earns:
            best[bucket] = spot
    return [best[bucket] for bucket in sorted(best)]


def _mark_tiers(axes: Any, found: GoldilocksZone, tiers: dict[str, TierEarnings | None]) -> None:
    """What the best point of each tier earns at the tier's own price, with its range."""
    scale = _scale(found)
    low, high = axes.get_ylim()
    for name, tier in tiers.items():
        band = None if tier is None else tier.bands[found.figure]
        if tier is None or band is None:
            continue
        x, y = tier.spot.tok_s_user, tier.spot.earns / scale
        ends = max(band.low / scale, low), min(band.high / scale, high)
        axes.plot(
            [x, x], ends, color=MUTED, linewidth=5, alpha=0.35, zorder=4, solid_capstyle="butt"
        )
        axes.scatter(
            x, y, marker="D", s=44, color="white", edgecolors=INK, linewidths=1.4, zorder=7
        )
        axes.annotate(
            f"{name}: {_usd(tier.spot.earns)}\n({_usd(band.low)} to {_usd(band.high)})",
            (x, y), xytext=(9, 14), textcoords="offset points", fontsize=9, color=INK, zorder=9,
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.85},
        )  # fmt: skip


def _usd(value: float) -> str:
    return f"{'−' if value < 0 else ''}${number(abs(value))}"


def _mark_prices(axes: Any, study: StudyConfig) -> None:
    """The speeds from which tokens sell at a multiple of the list price."""
    prices = study.economics.prices
    for step in () if prices is None else prices.premium:
        left, right = axes.get_xlim()
        start = max(step.from_tok_s_user, left)
        if start >= right:
            continue
        if step.from_tok_s_user > left:
            axes.axvline(start, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
        axes.annotate(
            f"× {stated(step.factor.value)}", (start, 1), xycoords=("data", "axes fraction"), xytext=(4, -4),
            textcoords="offset points", va="top", color=MUTED, fontsize=9,
        )  # fmt: skip


def _scale(found: GoldilocksZone) -> float:
    return 1e6 if CATALOGUE[found.figure].unit == USD_MW_YEAR else 1.0


def _label(
    figure: Any,
    both: tuple[Any, Any],
    study: StudyConfig,
    measured: Sequence[Finished],
    found: GoldilocksZone,
) -> None:
    upper, lower = both
    slow, fast = found.speeds
    title(figure, f"{study.model.name} on {study.hardware.name}: the Goldilocks zone")
    modelled = any(entry.modelled for entry in measured)
    mark = "MODELLED by an emulator, not measured · " if modelled else ""
    upper.set_title(
        f"{mark}{study.economics.name}\n"
        f"gold: within {found.within:.0%} of the best, {number(slow)} to {number(fast)} tok/s/user; "
        "pale: where the best point moves with one price or cost at an end of its range",
        loc="left", fontsize=SUBTITLE, color=MUTED,
    )  # fmt: skip
    upper.set_ylabel(f"output tok/s per {study.hardware.device}", color=INK)
    label = axis_label(found.figure, study.hardware.device)
    lower.set_ylabel(label.replace("$", "$M") if _scale(found) > 1 else label, color=INK)
    lower.set_xlabel("tok/s per user  (more is better)", color=INK)
    speeds = [spot.tok_s_user for spot in found.spots]
    lower.set_xscale("log")
    lower.set_xlim(min(speeds) * 0.93, max(speeds) * 1.07)
    ticks = [tick for tick in TICKS if min(speeds) <= tick <= max(speeds)]
    lower.set_xticks(ticks, [str(tick) for tick in ticks])
    lower.set_xticks([], minor=True)


def _legend(figure: Any, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker="o", linestyle="none", markersize=5, label=name)
        for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color=INK, linewidth=2.2, label="front; most at each speed"),
        Line2D(
            [], [], color=GOLD, marker="*", linestyle="none", markersize=14, markeredgecolor=INK,
            label="earns most",
        ),
        Patch(color=GOLD, alpha=0.5, label="Goldilocks zone"),
        Line2D(
            [], [], color="white", marker="D", linestyle="none", markersize=6, markeredgecolor=INK,
            label="tier at its own price",
        ),
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9.5
    )
