"""How long a fleet plan takes: `python -m tests.benchmarks.bench_fleet`. Invented candidates, seeded."""

import random
import time
from statistics import median

from rich.console import Console
from rich.table import Table

from tuner.analysis.fleet import of_one_trial, plan
from tuner.cli.fleet import load_fleet
from tuner.config.groups.fleet import Candidate, FleetConfig

SPEEDS = {"premium": 0.15, "standard": 0.7, "bulk": 1.0}  # of the most that a configuration serves
REPEATS = 5


def candidates(trials: int, seed: int = 0) -> list[Candidate]:
    """Four loads for each tier of each trial: faster ones draw more watts."""
    rng = random.Random(seed)
    found = []
    for trial in range(trials):
        gpus = rng.choice([1, 2, 4, 8])
        for tier, share in SPEEDS.items():
            for _ in range(4):
                watts = rng.uniform(900, 1900)
                rate = share * rng.uniform(1000, 4000) * (watts / 1900) ** 0.5
                found.append(
                    Candidate(tier, trial, f"trial {trial}", gpus, gpus * watts, gpus * rate)
                )
    return found


def scaled(fleet: FleetConfig, devices: int) -> FleetConfig:
    """The same day, budget and demand grown alike."""
    times = devices / fleet.devices
    demand = {
        tier: each.model_copy(update={"peak_output_tok_s": each.peak_output_tok_s * times})
        for tier, each in fleet.demand.items()
    }
    budget = {"devices": devices, "megawatts": fleet.megawatts * times, "demand": demand}
    return fleet.model_copy(update=budget)


def main() -> None:
    day = load_fleet([])
    table = Table("GPUs", "candidates", "plan, s", "one for all, s", "under the bound")
    plan(day, candidates(2))  # scipy is loaded
    for devices in (100, 1_000, 10_000, 100_000):
        for trials in (20, 200):
            fleet, able, walls_s = scaled(day, devices), candidates(trials), []
            for _ in range(REPEATS):
                began = time.perf_counter()
                made = plan(fleet, able)
                walls_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            of_one_trial(fleet, able)
            single_s = time.perf_counter() - began
            lost = 1 - made.usd_day / made.bound_usd_day
            cells = f"{devices:,}", f"{len(able):,}", f"{median(walls_s):.3f}"
            table.add_row(*cells, f"{single_s:.3f}", f"{lost:.5%}")
    Console().print(table)


if __name__ == "__main__":
    main()
