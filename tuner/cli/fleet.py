"""The command `wattfront fleet`: a day's demand on a budget, served by what a study has measured."""

import argparse
import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from tuner.analysis.fleet import Plan, of_one_trial, plan
from tuner.cli.studies import Missing, find_study
from tuner.config.compose import compose
from tuner.config.errors import ConfigError, explain, suggestion
from tuner.config.groups.fleet import HOURS, Candidate, Demand, FleetConfig
from tuner.config.groups.hardware import Estimate
from tuner.config.load import load_saved
from tuner.config.study import StudyConfig
from tuner.metrics.efficiency import watts
from tuner.report.plots.fleet_day import day_picture
from tuner.results.ledger import Finished, LedgerError, results
from tuner.results.tiers import in_tier
from tuner.trial.result import Completed, OperatingPoint

PNG, JSON = "fleet.png", "fleet.json"
ROOT = "fleet_plan"
SHOWN = range(0, HOURS, 3)  # hours of the table; the file has them all


class FleetPlan(BaseModel):
    """What `conf/fleet_plan.yaml` composes."""

    fleet: FleetConfig


def fleet(arguments: argparse.Namespace) -> int:
    folder = find_study(arguments.study)
    study, console = load_saved(folder), Console()
    config = load_fleet(arguments.overrides, arguments.config_dir)
    check_tiers(config, study)
    try:
        entries = results(folder)
    except LedgerError as error:
        raise Missing(str(error)) from error
    found = candidates(config, study, entries)
    import_module("scipy.optimize")  # takes longer than the plan
    began = time.perf_counter()
    made = plan(config, found)
    took_s = time.perf_counter() - began
    show_plan(config, made, found, console)
    _say(console, f"planned in {took_s:.2f} s from {len(found)} operating points")
    for name, path in write(folder, study, config, made).items():
        _say(console, f"{name + ':':<8} {path}")
    return 0


def load_fleet(overrides: Sequence[str], config_dir: Path | None = None) -> FleetConfig:
    """Composes conf/fleet_plan.yaml. Raises ConfigError with a line for each thing that is wrong."""
    data = compose(overrides, config_dir, ROOT)
    try:
        return FleetPlan.model_validate(data).fleet
    except ValidationError as error:
        raise explain(error, data, FleetPlan) from error


def check_tiers(config: FleetConfig, study: StudyConfig) -> None:
    strange = [tier for tier in config.demand if tier not in study.slo.tiers]
    if strange:
        raise ConfigError(
            "\n".join(
                f"fleet.demand.{tier}: the study sells no such tier; "
                f"{suggestion(tier, study.slo.tiers, 'tiers')}"
                for tier in strange
            )
        )


def candidates(
    config: FleetConfig, study: StudyConfig, entries: Sequence[Finished]
) -> list[Candidate]:
    """Every valid point inside a tier in demand, as a replica of it. Raises Missing if there is none."""
    found, unknown = [], ""
    for entry in entries:
        for point in entry.result.points if isinstance(entry.result, Completed) else ():
            inside = [
                t for t in config.demand if point.valid and in_tier(study.slo.tiers[t], point)
            ]
            drawn, why = _watts(config, study, entry, point)
            rate = point.metrics.get("throughput_output_tok_s")
            if inside and drawn is None:
                unknown = why
            elif drawn is not None and rate:
                label = f"{entry.engine} {point.load}"
                devices = entry.result.config.devices
                shared = (entry.number, label, devices, drawn * devices, rate, bool(entry.modelled))
                found += [Candidate(tier, *shared) for tier in inside]
    if found:
        return found
    why = f"{config.boundary} power is not known: {unknown}" if unknown else "no point is inside"
    raise Missing(f"fleet.demand: no measured point can serve {', '.join(config.demand)}: {why}")


def _watts(
    config: FleetConfig, study: StudyConfig, entry: Finished, point: OperatingPoint
) -> tuple[float | None, str]:
    drawn, unknown = watts(point.metrics, entry.result.config.hardware, study.economics.facility)
    return drawn[config.boundary], unknown.get(config.boundary, "")


def show_plan(
    config: FleetConfig, made: Plan, found: Sequence[Candidate], console: Console
) -> None:
    console.print()
    if any(each.modelled for each in made.candidates):
        text = "The operating points are modelled by an emulator, not measured on a machine."
        console.print(text, style="bold red")
    _show_replicas(config, made, console)
    _show_tiers(config, made, found, console)
    _show_money(config, made, found, console)


def _show_replicas(config: FleetConfig, made: Plan, console: Console) -> None:
    table = _table(
        f"Replicas by hour of {config.name}: {config.megawatts:g} MW ({config.boundary}), "
        f"{config.devices:,} GPUs"
    )
    for header in ("tier", "trial, at", "GPUs\neach"):
        table.add_column(header, justify="right" if "GPU" in header else "left")
    for hour in SHOWN:
        table.add_column(f"{hour:02d}h", justify="right")
    order = list(config.demand)
    used = [i for i in range(len(made.candidates)) if any(h.replicas[i] for h in made.hours)]
    for i in sorted(used, key=lambda i: order.index(made.candidates[i].tier)):
        each = made.candidates[i]
        counts = (made.hours[hour].replicas[i] for hour in SHOWN)
        who = f"{each.trial}, {each.label}"
        table.add_row(each.tier, who, str(each.devices), *(f"{n:,}" if n else "·" for n in counts))
    table.add_section()
    table.add_row("", "GPUs", "", *(f"{made.hours[h].devices:,}" for h in SHOWN))
    table.add_row("", "MW", "", *(f"{made.hours[h].megawatts:.3g}" for h in SHOWN))
    console.print(table)
    console.print()


def _show_tiers(
    config: FleetConfig, made: Plan, found: Sequence[Candidate], console: Console
) -> None:
    table = _table("Served over the day")
    for header in ("tier", "asked, G tok", "served, G tok", "unserved", "worst hour", "$ a day"):
        table.add_column(header, justify="left" if header == "tier" else "right")
    for tier, demand in config.demand.items():
        served = [hour.served[tier] for hour in made.hours]
        asked = [s + hour.unserved[tier] for s, hour in zip(served, made.hours, strict=True)]
        shares = [1 - s / a for s, a in zip(served, asked, strict=True) if a]
        tokens = sum(served) * 3600
        table.add_row(
            tier,
            f"{sum(asked) * 3600 / 1e9:,.1f}",
            f"{tokens / 1e9:,.1f}",
            f"{1 - sum(served) / sum(asked) if sum(asked) else 0:.1%}",
            f"{max(shares, default=0):.1%}",
            f"{tokens / 1e6 * demand.usd_per_m_output_tok.value:,.0f}",
        )
    console.print(table)
    for tier in config.demand:
        if not any(each.tier == tier for each in found):
            _say(console, f"{tier}: no measured point keeps its promises")
    asked_for = any(sum(hour.unserved.values()) > 0 for hour in made.hours)
    if asked_for and not any(hour.devices for hour in made.hours):
        budget = f"{config.megawatts:g} MW and {config.devices:,} GPUs"
        _say(console, f"nothing is served: no replica that fits {budget} earns its electricity")
    console.print()


def _show_money(
    config: FleetConfig, made: Plan, found: Sequence[Candidate], console: Console
) -> None:
    low, high = (plan(at_ends(config, end), found).usd_day for end in (0, 1))
    _say(
        console,
        f"earns ${made.usd_day:,.0f} a day less electricity; ${low:,.0f} to ${high:,.0f} with all prices at "
        "their worst and best ends",
    )
    lost = 1 - made.usd_day / made.bound_usd_day if made.bound_usd_day else 0.0
    _say(
        console,
        f"whole replicas: no plan earns more than ${made.bound_usd_day:,.0f} a day ({lost:.3%} above)",
    )
    _say(
        console,
        f"one more megawatt would earn ${made.usd_per_mw_year:,.0f} a year, one more GPU "
        f"${made.usd_per_device_year:,.0f}, all else as it is",
    )
    single = of_one_trial(config, found)
    each = single.candidates[0]
    _say(
        console,
        f"one configuration for all tiers (trial {each.trial}) would earn ${single.usd_day:,.0f} a day: "
        f"{1 - single.usd_day / made.usd_day if made.usd_day else 0:.1%} less",
    )


def at_ends(config: FleetConfig, end: int) -> FleetConfig:
    """All prices at their worst (0) or best (1) ends: electricity the other way round."""

    def at(estimate: Estimate, side: int) -> Estimate:
        return estimate.model_copy(update={"value": estimate.ends[side]})

    def priced(demand: Demand) -> Demand:
        return demand.model_copy(
            update={"usd_per_m_output_tok": at(demand.usd_per_m_output_tok, end)}
        )

    return config.model_copy(
        update={
            "power_usd_per_kwh": at(config.power_usd_per_kwh, 1 - end),
            "demand": {tier: priced(each) for tier, each in config.demand.items()},
        }
    )


def write(folder: Path, study: StudyConfig, config: FleetConfig, made: Plan) -> dict[str, Path]:
    """The picture, and the plan of every hour as JSON."""
    modelled = any(each.modelled for each in made.candidates)
    head = "MODELLED by an emulator, not measured · " if modelled else ""
    subtitle = f"{head}{config.megawatts:g} MW ({config.boundary}), ${made.usd_day:,.0f} a day"
    title = f"{study.model.name} on {study.hardware.name}: {config.name}"
    (folder / PNG).write_bytes(day_picture(config, made, title, subtitle))
    hours = [
        {
            "hour": number,
            "replicas": [
                {
                    "tier": c.tier,
                    "trial": c.trial,
                    "load": c.label,
                    "gpus_each": c.devices,
                    "count": n,
                }
                for c, n in zip(made.candidates, hour.replicas, strict=True)
                if n
            ],
            "served_output_tok_s": hour.served,
            "unserved_output_tok_s": hour.unserved,
            "gpus": hour.devices,
            "megawatts": hour.megawatts,
            "usd": hour.usd,
            "usd_per_more_mw": hour.usd_per_mw,
        }
        for number, hour in enumerate(made.hours)
    ]
    whole = {"modelled": modelled, "fleet": config.model_dump(mode="json"), "hours": hours}
    (folder / JSON).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return {"picture": folder / PNG, "plan": folder / JSON}


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
