"""Which measured operating points can serve a fleet's demand, each as a replica. Pure."""

from collections.abc import Sequence

from tuner.config.groups.fleet import Candidate, FleetConfig
from tuner.config.study import StudyConfig
from tuner.metrics.efficiency import watts
from tuner.results.ledger import Finished
from tuner.results.tiers import in_tier
from tuner.trial.result import Completed, OperatingPoint


class NoCandidate(Exception):
    """No measured point can serve any of the demand. One line."""


def fleet_candidates(
    config: FleetConfig, study: StudyConfig, entries: Sequence[Finished]
) -> list[Candidate]:
    """Every valid point that meets the SLO of a tier in demand, once per tier. Raises NoCandidate."""
    found, unknown = [], ""
    for entry in entries:
        for point in entry.result.points if isinstance(entry.result, Completed) else ():
            inside = [
                t for t in config.demand if point.valid and in_tier(study.slo.tiers[t], point)
            ]
            drawn_w, why = _watts_per_device(config, study, entry, point)
            rate = point.metrics.get("throughput_output_tok_s")
            if inside and drawn_w is None:
                unknown = why
            elif drawn_w is not None and rate:
                label, devices = f"{entry.engine} {point.load}", entry.result.config.devices
                replica = (
                    entry.number, label, devices, drawn_w * devices, rate, bool(entry.modelled),
                )  # fmt: skip
                found += [Candidate(tier, *replica) for tier in inside]
    if found:
        return found
    why = (
        f"{config.boundary} power is unavailable: {unknown}"
        if unknown
        else "no point meets the SLO"
    )
    raise NoCandidate(
        f"fleet.demand: no operating point can serve {', '.join(config.demand)}: {why}"
    )


def _watts_per_device(
    config: FleetConfig, study: StudyConfig, entry: Finished, point: OperatingPoint
) -> tuple[float | None, str]:
    """Inside the boundary of the fleet; None with the reason where it is not known."""
    drawn, unknown = watts(point.metrics, entry.result.config.hardware, study.economics.facility)
    return drawn[config.boundary], unknown.get(config.boundary, "")
