"""The configuration of a repeat: a fresh start with other prompts and arrivals, at the loads that matter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.workload.arrivals import Adaptive, Arrival, Closed, Constant, Gamma, Poisson
from tuner.config.trial import TrialConfig
from tuner.results.ledger import Repeat
from tuner.search.base import Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatProposal(Proposal):
    """A trial that repeats an earlier one, or a default: not a new point of the search."""

    repeat: Repeat


def repeat_config(
    config: TrialConfig, loads: Sequence[float], seed: int, number: int, tried: int = 0
) -> TrialConfig:
    """The trial as it is measured in round `number`. `loads`: users or requests/s; empty: all.

    All repeats of a round get the same prompts and arrivals: their effect cancels within it. One that was
    `tried` before in this round gets others.
    """
    own, twin = config.workload.seed, config.hardware.twin
    drawn = np.random.SeedSequence([own, seed, number, *[tried] * (tried > 0)]).generate_state(2)
    arrival = at_loads(config.workload.arrival, loads)
    hardware = config.hardware
    if twin is not None:  # an emulated start differs by its seed alone
        other = twin.model_copy(update={"seed": twin.seed + int(drawn[1])})
        hardware = hardware.model_copy(update={"twin": other})
    workload = config.workload.model_copy(update={"seed": int(drawn[0]), "arrival": arrival})
    parts = {name: getattr(config, name) for name in TrialConfig.model_fields}
    return TrialConfig(**{**parts, "hardware": hardware, "workload": workload})


def at_loads(arrival: Arrival, loads: Sequence[float]) -> Arrival:
    """The same kind of load, at these levels alone. A load without levels stays as it is."""
    rising = tuple(sorted(set(loads)))
    if not rising:
        return arrival
    users = tuple(max(1, round(load)) for load in rising)
    match arrival:
        case Closed():
            return arrival.model_copy(update={"concurrency": users})
        case Constant() | Poisson() | Gamma():
            return arrival.model_copy(update={"rate_per_s": rising})
        case Adaptive(loop="closed"):
            return Closed(concurrency=users)
        case Adaptive(loop=loop):
            open_loop = Constant if loop == "constant" else Poisson
            return open_loop(rate_per_s=rising, max_concurrency=arrival.max_concurrency)
        case other:
            return other
