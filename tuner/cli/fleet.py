"""The command `wattfront fleet`: plans how measured configurations serve a day's demand on a budget."""

import argparse
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ValidationError
from rich.console import Console

from tuner.analysis.fleet import plan
from tuner.analysis.fleet_alternatives import alternatives
from tuner.analysis.fleet_candidates import NoCandidate, fleet_candidates
from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.folders import find_study
from tuner.config.compose import compose
from tuner.config.errors import ConfigError, explain, suggestion
from tuner.config.groups.fleet import FleetConfig
from tuner.config.load import load_saved
from tuner.config.study import StudyConfig
from tuner.metrics.notation import counted
from tuner.report.console import say
from tuner.report.fleet import show_fleet_plan, write_fleet_plan
from tuner.results.ledger import LedgerError, results

ROOT = "fleet_plan"


class FleetRoot(BaseModel):
    """What `conf/fleet_plan.yaml` composes."""

    fleet: FleetConfig


def fleet(arguments: argparse.Namespace) -> int:
    """Plans the day, prints the plan and writes it beside the study's ledger."""
    folder = find_study(arguments.study)
    study, console = load_saved(folder), Console()
    config = load_fleet(arguments.overrides, arguments.config_dir)
    check_tiers(config, study)
    try:
        found = fleet_candidates(config, study, results(folder))
    except (LedgerError, NoCandidate) as error:
        raise Missing(str(error)) from error
    import_module("scipy.optimize")  # takes longer than the plan
    began = time.perf_counter()
    made = plan(config, found)
    took_s = time.perf_counter() - began
    show_fleet_plan(config, made, found, alternatives(config, found), console)
    say(console, f"planned in {took_s:.2f} s from {counted(len(found), 'operating point')}")
    for name, path in write_fleet_plan(folder, study, config, made).items():
        say(console, f"{name + ':':<8} {path}", whole=True)
    return ExitCode.DONE


def load_fleet(overrides: Sequence[str], config_dir: Path | None = None) -> FleetConfig:
    """Composes conf/fleet_plan.yaml. Raises ConfigError with a line for each mistake."""
    data = compose(overrides, config_dir, ROOT)
    try:
        return FleetRoot.model_validate(data).fleet
    except ValidationError as error:
        raise explain(error, data, FleetRoot) from error


def check_tiers(config: FleetConfig, study: StudyConfig) -> None:
    """Raises ConfigError for each tier in demand that the study's SLO does not have."""
    unknown = [tier for tier in config.demand if tier not in study.slo.tiers]
    if unknown:
        raise ConfigError(
            "\n".join(
                f"fleet.demand.{tier}: the study has no such tier; "
                f"{suggestion(tier, study.slo.tiers, 'tiers')}"
                for tier in unknown
            )
        )
