"""The result of a trial: operating points, or a failure with its evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from serving.errors import DOMAINS, FaultDomain, ServingError
from tuner.config.trial import TrialConfig
from tuner.trial.quality.verdict import QualityVerdict

MICROSECONDS = 6  # digits of a time in seconds
ANSWERED = "quality"  # in a result's provenance: how it answered the fixed prompts
REJECTED = "rejected by the quality gate"
VIRTUAL = "virtual"  # in a result's provenance: its timings are simulated seconds


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One load level of one trial. A metric that can't be trusted is None, and `reasons` says why.

    `predicted`: metric → the value that the study's prior predicted before the trial. `load_value`: users,
    or requests per second; None where the rate changes inside the level.
    """

    level: int
    load: str  # "closed 8" or "poisson 2.5/s"
    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    invalid_because: tuple[str, ...] = ()
    predicted: Mapping[str, float] = field(default_factory=dict)
    load_value: float | None = None

    @property
    def valid(self) -> bool:
        """Whether the level may decide anything: no reason against it was found."""
        return not self.invalid_because


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. `overhead_s` = wall − engine start-up − load − answers to the quality gate's prompts.

    `weight_load_s`, `engine_warmup_s`: of the start-up, by the engine's log; None where it does not say.
    `answers_s`: None where none were asked for.
    """

    wall_s: float
    startup_s: float
    load_s: float
    weight_load_s: float | None = None
    engine_warmup_s: float | None = None
    answers_s: float | None = None

    @property
    def overhead_s(self) -> float:
        """Ray, Serve, hand-over and teardown."""
        known_s = self.startup_s + self.load_s + (self.answers_s or 0.0)
        return max(0.0, round(self.wall_s - known_s, MICROSECONDS))


@dataclass(frozen=True, slots=True)
class Completed:
    """A measured curve. `points` are in rising order of load, whatever order they were measured in.

    `pruned`: after how many levels the trial was pruned, and why; not a failure. `quality`: what its answers
    are worth; None: nobody asked. Points of a rejected trial are not valid.
    """

    config: TrialConfig
    points: tuple[OperatingPoint, ...]
    timings: Timings
    command: str  # the launch command, as a person would type it
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cut_short: str = ""  # what ended the load before its last level
    pruned: str = ""
    status: Literal["completed"] = "completed"
    quality: QualityVerdict | None = None

    @property
    def awaits_verdict(self) -> bool:
        """Whether its answers are not compared yet."""
        return self.quality is None and ANSWERED in self.provenance


@dataclass(frozen=True, slots=True)
class Failed:
    """A known failure: it is a result, and is never dropped.

    `phase`: what the engine was doing; empty: unknown. `remedy`: what to change, in one sentence.
    """

    config: TrialConfig
    failure: str  # the class of the error: OutOfMemory, StartTimeout, …
    evidence: str  # one line of the log
    timings: Timings
    command: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    remedy: str = ""
    status: Literal["failed"] = "failed"


TrialResult = Completed | Failed


@dataclass(frozen=True, slots=True)
class Measured:
    """A result with the files (name → bytes) that the study writes into the trial's folder."""

    result: TrialResult
    files: Mapping[str, bytes]


def with_verdict(result: Completed, verdict: QualityVerdict) -> Completed:
    """The same with a verdict on its answers; the points of a rejected trial decide nothing any more."""
    if not verdict.rejected:
        return replace(result, quality=verdict)
    points = tuple(
        point
        if REJECTED in point.invalid_because
        else replace(point, invalid_because=(*point.invalid_because, REJECTED))
        for point in result.points
    )
    return replace(result, quality=verdict, points=points)


def with_wall(measured: Measured, wall_s: float) -> Measured:
    """The same with the wall time seen by the study: Ray, Serve and hand-over included."""
    timings = replace(measured.result.timings, wall_s=wall_s)
    return replace(measured, result=replace(measured.result, timings=timings))


# Failures that no class of serving/errors.py stands for. Any other belongs to the configuration.
OTHERS: dict[str, FaultDomain] = {
    "ModelMissing": "node",
    "ShardLost": "node",
    "WorkerDied": "node",
    "NodeLost": "machine",
}


def fault_domain(failure: str) -> FaultDomain:
    """To what a failure of this class belongs."""
    return OTHERS.get(failure) or DOMAINS.get(failure, "configuration")


def host_of(result: TrialResult) -> str:
    """The node that a trial ran on; empty: unknown."""
    return str(result.provenance.get("host") or "")


def phase_and_remedy(error: Exception) -> tuple[str, str]:
    """What the engine was doing when it failed, and what to change; empty: the error does not say."""
    return (error.phase, error.remedy) if isinstance(error, ServingError) else ("", "")
