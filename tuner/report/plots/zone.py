"""Draws what operating points earn: the front with the Goldilocks zone. matplotlib alone."""

import io
from collections.abc import Sequence
from math import log10
from typing import Any

from tuner.analysis.goldilocks import AXES, GoldilocksZone, Spot, TierEarnings
from tuner.config.study import StudyConfig
from tuner.report.plots.pareto import ENGINE_COLOURS, GRID, INK, MUTED
from tuner.results.ledger import Finished
from tuner.results.pareto import pareto_set

PNG = "goldilocks.png"
GOLD, PALE = "#f59e0b", "#fef3c7"
LOSS = "#fee2e2"


def zone_picture(
    study: StudyConfig,
    measured: Sequence[Finished],
    found: GoldilocksZone,
    tiers: dict[str, TierEarnings | None],
) -> bytes:
    """Above: speed against throughput, the front bold. Below: what each point earns, on the same speeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
    names = list(dict.fromkeys(entry.engine for entry in measured))
    colours = {name: ENGINE_COLOURS[i % len(ENGINE_COLOURS)] for i, name in enumerate(names)}
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
    """The zone gold; paler where single prices can move the best point to."""
    low, high = found.reach
    slow, fast = found.speeds
    axes.axvspan(min(low, slow) * 0.985, max(high, fast) * 1.015, color=PALE, zorder=0)
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
            textcoords="offset points", ha="right", va="top", color="#b91c1c", fontsize=9,
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
    """What the best point of each speed earns: of every stretch of equal width on the logarithmic axis."""
    best: dict[int, Spot] = {}
    for spot in spots:
        stretch = int(log10(spot.tok_s_user) * 16)
        if stretch not in best or spot.earns > best[stretch].earns:
            best[stretch] = spot
    return [best[stretch] for stretch in sorted(best)]


def _mark_tiers(axes: Any, found: GoldilocksZone, tiers: dict[str, TierEarnings | None]) -> None:
    """What each tier's best earns at the tier's own price, with its band."""
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
    sign, size = "−" if value < 0 else "", abs(value)
    return f"{sign}${size / 1e6:.3g}M" if size >= 1e5 else f"{sign}${size:.3g}"


def _mark_prices(axes: Any, study: StudyConfig) -> None:
    """From which speed on tokens sell at how many times the list price."""
    prices = study.economics.prices
    for step in () if prices is None else prices.premium:
        left, right = axes.get_xlim()
        start = max(step.from_tok_s_user, left)
        if start >= right:
            continue
        if step.from_tok_s_user > left:
            axes.axvline(start, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
        axes.annotate(
            f"× {step.factor.value:g}", (start, 1), xycoords=("data", "axes fraction"), xytext=(4, -4),
            textcoords="offset points", va="top", color=MUTED, fontsize=9,
        )  # fmt: skip


def _scale(found: GoldilocksZone) -> float:
    return 1e6 if found.figure.endswith("mw_year") else 1.0


def _label(
    figure: Any,
    both: tuple[Any, Any],
    study: StudyConfig,
    measured: Sequence[Finished],
    found: GoldilocksZone,
) -> None:
    upper, lower = both
    slow, fast = found.speeds
    figure.suptitle(
        f"{study.model.name} on {study.hardware.name}: where it pays to be",
        x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK,
    )  # fmt: skip
    modelled = any(entry.modelled for entry in measured)
    kind = "MODELLED by an emulator, not measured · " if modelled else ""
    upper.set_title(
        f"{kind}{study.economics.name}\n"
        f"gold: within {found.within:.0%} of the best, {slow:.3g} to {fast:.3g} tok/s/user; "
        "pale: where the best goes when one price or cost is at an end of its range",
        loc="left", fontsize=9.5, color=MUTED,
    )  # fmt: skip
    upper.set_ylabel(f"output tok/s per {study.hardware.device}", color=INK)
    kind = "margin" if "margin" in found.figure else "revenue"
    per = (
        f"$M {kind} a year per {found.figure.partition('_')[0]} MW"
        if found.figure.endswith("mw_year")
        else f"$ {kind} per {study.hardware.device}-hour"
    )
    lower.set_ylabel(per, color=INK)
    lower.set_xlabel("tok/s per user  (more is better)", color=INK)
    speeds = [spot.tok_s_user for spot in found.spots]
    lower.set_xscale("log")
    lower.set_xlim(min(speeds) * 0.93, max(speeds) * 1.07)
    ticks = [
        t
        for t in (2, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500)
        if min(speeds) <= t <= max(speeds)
    ]
    lower.set_xticks(ticks, [str(t) for t in ticks])
    lower.set_xticks([], minor=True)


def _legend(figure: Any, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker="o", linestyle="none", markersize=5, label=name)
        for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color=INK, linewidth=2.2, label="front; best of each speed"),
        Line2D(
            [], [], color=GOLD, marker="*", linestyle="none", markersize=14, markeredgecolor=INK,
            label="earns most",
        ),
        Patch(color=GOLD, alpha=0.5, label="Goldilocks zone"),
        Line2D(
            [], [], color="white", marker="D", linestyle="none", markersize=6, markeredgecolor=INK,
            label="tier at its own price, and band",
        ),
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9.5
    )


def frame(axes: Any) -> None:
    """As all pictures here look."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED)


def png(figure: Any) -> bytes:
    """The figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
