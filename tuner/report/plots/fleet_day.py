"""Draws a fleet's day: GPUs by configuration and hour, tokens demanded and served, with matplotlib."""

from typing import Any

from tuner.analysis.fleet import Plan
from tuner.config.groups.fleet import Candidate, FleetConfig
from tuner.metrics.notation import stated
from tuner.report.plots.style import (
    INK,
    LIMIT,
    MUTED,
    SUBTITLE,
    frame,
    new_figure,
    png,
    tier_colours,
    title,
)


def fleet_day_png(fleet: FleetConfig, plan: Plan, heading: str, subtitle: str) -> bytes:
    """Above: GPUs by configuration and hour, against the budget. Below: tokens demanded and served by tier."""
    figure = new_figure(11, 7.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    colours = tier_colours(fleet.demand)
    _draw_fleet(upper, fleet, plan, colours)
    _draw_demand(lower, fleet, plan, colours)
    for axes in (upper, lower):
        frame(axes)
    title(figure, heading)
    upper.set_title(subtitle, loc="left", fontsize=SUBTITLE, color=MUTED, parse_math=False)
    lower.set_xlabel("hour of day", color=INK)
    lower.set_xticks(range(0, 25, 3))
    lower.set_xlim(0, 24)
    return png(figure)


def _draw_fleet(axes: Any, fleet: FleetConfig, plan: Plan, colours: dict[str, str]) -> None:
    """One layer for each configuration that runs; those of a tier in shades of its colour."""
    used = [i for i in range(len(plan.candidates)) if any(h.replicas[i] for h in plan.hours)]
    used.sort(key=lambda i: list(fleet.demand).index(plan.candidates[i].tier))
    edges, base, seen = list(range(25)), [0.0] * 24, dict.fromkeys(fleet.demand, 0)
    for i in used:
        each = plan.candidates[i]
        top = [b + h.replicas[i] * each.devices for b, h in zip(base, plan.hours, strict=True)]
        shade = max(0.35, 0.9 - 0.22 * seen[each.tier])
        seen[each.tier] += 1
        axes.stairs(
            top, edges, baseline=base, fill=True, color=colours[each.tier], alpha=shade,
            label=_layer(each), linewidth=0,
        )  # fmt: skip
        base = top
    full = [(hour, each.devices) for hour, each in enumerate(plan.hours) if each.usd_per_mw > 0]
    if full:
        hours, tops = zip(*full, strict=True)
        label = f"all {stated(fleet.megawatts)} MW in use"
        axes.hlines(tops, hours, [h + 1 for h in hours], color=LIMIT, linewidth=2.4, label=label)
    axes.axhline(fleet.devices, color=INK, linewidth=1.6, linestyle="--", zorder=6)
    axes.annotate(
        f"{fleet.devices:,} GPUs", (0.1, fleet.devices), xytext=(0, 4), textcoords="offset points",
        fontsize=9, color=INK,
    )  # fmt: skip
    axes.set_ylim(0, fleet.devices * 1.12)
    axes.set_ylabel("GPUs serving", color=INK)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        names[::-1],
        loc="center left",
        bbox_to_anchor=(1.005, 0.5),
        frameon=False,
        fontsize=9,
    )


def _layer(each: Candidate) -> str:
    return f"{each.tier}: trial {each.trial}\n{each.label}"


def _draw_demand(axes: Any, fleet: FleetConfig, plan: Plan, colours: dict[str, str]) -> None:
    edges = list(range(25))
    for tier in fleet.demand:
        served = [hour.served[tier] / 1e6 for hour in plan.hours]
        demanded = [(hour.served[tier] + hour.unserved[tier]) / 1e6 for hour in plan.hours]
        axes.stairs(
            demanded, edges, color=colours[tier], linewidth=1.8, linestyle="--", baseline=None
        )
        axes.stairs(served, edges, color=colours[tier], linewidth=2.4, label=tier, baseline=None)
        axes.stairs(demanded, edges, baseline=served, fill=True, color=colours[tier], alpha=0.2)
    axes.set_ylim(0, None)
    axes.set_ylabel("M output tok/s: served, and\ndemanded (dashed)", color=INK)
    axes.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=9)
