"""What the fleet command prints and writes: replicas by hour, tokens served, dollars, picture, JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tuner.analysis.fleet import Plan
from tuner.analysis.fleet_alternatives import FleetAlternatives
from tuner.config.groups.fleet import HOURS, Candidate, FleetConfig
from tuner.config.study import StudyConfig
from tuner.metrics.notation import number, stated, usd
from tuner.report.console import say, show, table, words
from tuner.report.plots.fleet_day import fleet_day_png
from tuner.results.durable import replace

PNG, JSON = "fleet.png", "fleet.json"
SHOWN = range(0, HOURS, 3)  # hours of the table; the file has all of them
HOUR_S = 3600


def show_fleet_plan(
    config: FleetConfig,
    made: Plan,
    found: Sequence[Candidate],
    others: FleetAlternatives,
    console: Console,
) -> None:
    """`found`: all candidates that the plan chose from."""
    console.print()
    if any(each.modelled for each in made.candidates):
        text = "The operating points are modelled by an emulator, not measured on a machine."
        say(console, text, "bold red")
    _show_replicas(config, made, console)
    _show_tiers(config, made, found, console)
    _show_money(made, others, console)


def _show_replicas(config: FleetConfig, made: Plan, console: Console) -> None:
    tiers = list(config.demand)
    used = [i for i in range(len(made.candidates)) if any(h.replicas[i] for h in made.hours)]
    rows = []
    for i in sorted(used, key=lambda i: tiers.index(made.candidates[i].tier)):
        each = made.candidates[i]
        counts = (made.hours[hour].replicas[i] for hour in SHOWN)
        where = f"{each.trial}, {each.label}"
        rows.append(
            [each.tier, where, f"{each.devices}", *(f"{n:,}" if n else "·" for n in counts)]
        )
    rows.append(["", "GPUs", "", *(f"{made.hours[hour].devices:,}" for hour in SHOWN)])
    rows.append(["", "MW", "", *(number(made.hours[hour].megawatts) for hour in SHOWN)])
    title = (
        f"Replicas by hour of {config.name}: {stated(config.megawatts)} MW ({config.boundary}), "
        f"{config.devices:,} GPUs"
    )
    first = words("tier"), words("trial, engine, load", wraps=True), "GPUs\neach"
    show(console, table(title, [*first, *(f"{hour:02d}h" for hour in SHOWN)], rows))


def _show_tiers(
    config: FleetConfig, made: Plan, found: Sequence[Candidate], console: Console
) -> None:
    rows = []
    for tier, demand in config.demand.items():
        served = [hour.served[tier] for hour in made.hours]
        demanded = [s + hour.unserved[tier] for s, hour in zip(served, made.hours, strict=True)]
        shares = [1 - s / a for s, a in zip(served, demanded, strict=True) if a]
        tokens = sum(served) * HOUR_S
        rows.append((
            tier,
            number(sum(demanded) * HOUR_S),
            number(tokens),
            f"{1 - sum(served) / sum(demanded) if sum(demanded) else 0:.1%}",
            f"{max(shares, default=0):.1%}",
            usd(tokens / 1e6 * demand.usd_per_m_output_tok.value),
        ))  # fmt: skip
    headers = "tokens\ndemanded", "tokens\nserved", "unserved", "worst\nhour", "revenue\na day"
    show(console, table("Served over the day", [words("tier"), *headers], rows))
    for tier in config.demand:
        if not any(each.tier == tier for each in found):
            say(console, f"{tier}: no point meets the SLO")
    unserved = any(sum(hour.unserved.values()) > 0 for hour in made.hours)
    if unserved and not any(hour.devices for hour in made.hours):
        budget = f"{stated(config.megawatts)} MW and {config.devices:,} GPUs"
        say(console, f"nothing is served: no replica that fits {budget} earns its electricity")


def _show_money(made: Plan, others: FleetAlternatives, console: Console) -> None:
    say(
        console,
        f"earns {usd(made.usd_day)} a day after electricity; {usd(others.low_usd_day)} to "
        f"{usd(others.high_usd_day)} with all prices at their worst and best ends",
    )
    lost = 1 - made.usd_day / made.bound_usd_day if made.bound_usd_day else 0.0
    say(
        console,
        f"upper bound for whole replicas: {usd(made.bound_usd_day)} a day; this plan is {lost:.3%} below it",
    )
    say(
        console,
        f"one more megawatt would earn {usd(made.usd_per_mw_year)} a year, one more GPU "
        f"{usd(made.usd_per_device_year)}, all else unchanged",
    )
    single = others.single.usd_day
    say(
        console,
        f"one configuration for all tiers (trial {others.single_trial}) would earn {usd(single)} a day: "
        f"{1 - single / made.usd_day if made.usd_day else 0:.1%} less",
    )


def write_fleet_plan(
    folder: Path, study: StudyConfig, config: FleetConfig, made: Plan
) -> dict[str, Path]:
    """Writes the picture, and the plan of every hour as JSON. Returns what was written, by its name."""
    modelled = any(each.modelled for each in made.candidates)
    head = "MODELLED by an emulator, not measured · " if modelled else ""
    subtitle = f"{head}{stated(config.megawatts)} MW ({config.boundary}), {usd(made.usd_day)} a day"
    title = f"{study.model.name} on {study.hardware.name}: {config.name}"
    replace(folder / PNG, fleet_day_png(config, made, title, subtitle))
    hours = [
        {
            "hour": hour,
            "replicas": [
                {
                    "tier": each.tier,
                    "trial": each.trial,
                    "load": each.label,
                    "gpus_each": each.devices,
                    "count": count,
                }
                for each, count in zip(made.candidates, plan.replicas, strict=True)
                if count
            ],
            "served_output_tok_s": plan.served,
            "unserved_output_tok_s": plan.unserved,
            "gpus": plan.devices,
            "megawatts": plan.megawatts,
            "usd": plan.usd,
            "usd_per_more_mw": plan.usd_per_mw,
        }
        for hour, plan in enumerate(made.hours)
    ]
    whole = {"modelled": modelled, "fleet": config.model_dump(mode="json"), "hours": hours}
    replace(folder / JSON, (json.dumps(whole, indent=1) + "\n").encode())
    return {"picture": folder / PNG, "plan": folder / JSON}
