"""One trial: its configuration, its result, and the plain function that leads from one to the other."""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Protocol

import loadgen
from loadgen import Level, LoadReport, Progress
from loadgen.results.records import concat, to_parquet_bytes
from loadgen.results.stats import summarize
from loadgen.worker.group import local_links
from loadgen.worker.ray_link import links_apart
from loadgen.workload.workload import Workload
from serving.endpoint import Endpoint
from serving.engines import Engine, External
from serving.errors import ServingError
from serving.launch import Order, shell_command
from serving.telemetry import power_file
from serving.telemetry.provenance import provenance
from serving.telemetry.sources import PowerConfig
from serving.telemetry.trace import CounterTrace
from serving.telemetry.twin import LATE, STEPS
from serving.topology import Model, Strict, Topology
from serving.twin.config import TwinConfig
from tuner.metrics.derive import Economics, Hardware, derive
from tuner.metrics.energy import energy_figures
from tuner.trial.looks import looker
from tuner.trial.metering import Traces, load_metered, prepared
from tuner.trial.pruner import Hurdle

_STEADY_LOAD = re.compile(r"(?:closed|constant|poisson|gamma) ([0-9.e+-]+)(?:/s)?")
LATE_SHARE_MAX = 0.1
VIRTUAL = "virtual"  # in the provenance of a result: its times are not those that it took
LOG_BYTES = 4 << 20  # of an engine's log, its end is kept: that is where it died


class TrialConfig(Strict):
    """Everything that decides what is measured, and nothing that does not (no path, no port)."""

    engine: Engine
    model: Model
    topology: Topology
    hardware: Hardware
    workload: Workload
    power: PowerConfig = PowerConfig()  # how it meters is no part of the fingerprint
    economics: Economics = Economics()  # judges what was measured: no part of the fingerprint

    @property
    def devices(self) -> int:
        """What figures per device divide by: all that the trial takes."""
        twin = self.hardware.twin
        if twin is None or twin.pools is None:
            return self.topology.devices
        return twin.pools.devices(self.topology)

    @property
    def twin(self) -> TwinConfig | None:
        """The emulation under the trial's power limit; None on real hardware."""
        twin, limit_w = self.hardware.twin, self.power.limit_w
        if twin is None or limit_w is None:
            return twin
        return twin.model_copy(update={"power": twin.power.model_copy(update={"cap_w": limit_w})})

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        data = self.model_dump(mode="json", exclude={"economics", "power"})
        limits = self.power.model_dump(include={"limit_w", "sm_clock_mhz"}, exclude_none=True)
        if limits:
            data["power"] = limits
        if self.hardware.twin is None:
            del data["hardware"]["twin"]  # as it was before there were twins
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One load level of one trial. A metric that can't be trusted is None, and `reasons` says why.

    `predicted`: some of the metrics as they were foretold, by what the study takes for a prior.
    """

    level: int
    load: str  # "closed 8" or "poisson 2.5/s"
    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    invalid_because: tuple[str, ...] = ()
    predicted: Mapping[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return not self.invalid_because

    @property
    def load_value(self) -> float | None:
        """Users, or requests per second; None where the rate changes inside the level."""
        found = _STEADY_LOAD.fullmatch(self.load)
        return float(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. `overhead_s` = wall − engine start-up − load."""

    wall_s: float
    startup_s: float
    load_s: float

    @property
    def overhead_s(self) -> float:
        return max(0.0, self.wall_s - self.startup_s - self.load_s)


@dataclass(frozen=True, slots=True)
class Completed:
    """`points` rise with the load, in whatever order they were measured.

    `given_up`: after how many levels, and why, the study wanted no more of them; no failure.
    """

    config: TrialConfig
    points: tuple[OperatingPoint, ...]
    timings: Timings
    command: str  # the launch command, as a person would type it
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cut_short: str = ""  # what ended the load before its last level
    given_up: str = ""
    status: Literal["completed"] = "completed"


@dataclass(frozen=True, slots=True)
class Failed:
    config: TrialConfig
    failure: str  # the class of the error: OutOfMemory, StartTimeout, …
    evidence: str  # one line of the log
    timings: Timings
    command: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    status: Literal["failed"] = "failed"


TrialResult = Completed | Failed


@dataclass(frozen=True, slots=True)
class Measured:
    """A result on its way to the study: with the files it leaves (name → bytes) in the trial's folder."""

    result: TrialResult
    files: Mapping[str, bytes]


class Application(Protocol):
    """Where engines stand: `serving.deployment.SlotApplication`, or a double of it."""

    def devices(self) -> tuple[str, ...]: ...  # the GPUs on which engines will stand

    def engine(self, order: Order) -> AbstractContextManager[Endpoint]: ...

    def confirm(self, endpoint: Endpoint) -> None: ...


def run_trial(
    config: TrialConfig,
    application: Application,
    on_progress: Callable[[Progress], None],
    hurdle: Hurdle | None = None,
) -> Measured:
    """Stand up, load, confirm, tear down, score. A known failure is a result; anything else is raised.

    `hurdle`: what the trial has to get over, or it is given up.
    """
    began, startup_s, load_s, command = time.monotonic(), 0.0, 0.0, ""
    with tempfile.TemporaryDirectory(prefix="wattfront-") as folder:
        log = Path(folder) / "engine.log"
        try:
            order = Order(config.engine, config.model, config.topology, log, config.twin)
            gpus, twin = _gpus(config, application), config.twin is not None
            with (
                prepared(config.power, gpus) as idle,
                application.engine(order) as endpoint,
                load_metered(config.power, gpus, endpoint, idle, twin=twin) as meters,
            ):
                startup_s, command = endpoint.startup_s, shell_command(endpoint)
                load_began = time.monotonic()
                report = _load(config, application, endpoint, on_progress, hurdle)
                load_s = time.monotonic() - load_began
        except (ServingError, loadgen.LoadError) as error:
            timings = Timings(time.monotonic() - began, startup_s, load_s)
            evidence = str(error).strip().splitlines()[0] if str(error).strip() else ""
            facts = {**provenance(), **_modelled(config, None)}
            failed = Failed(config, type(error).__name__, evidence, timings, command, facts)
            return Measured(failed, _files(log, None))
        timings = Timings(time.monotonic() - began, startup_s, load_s)
        stood = {"engine_version": endpoint.engine_version, "devices": list(endpoint.devices)}
        traces = meters()
        metered = {"power": traces.told()}
        facts = {**provenance(), **stood, **metered, **_modelled(config, endpoint)}
        points = tuple(score(config, level, traces) for level in sorted(report.levels, key=load_of))
        ended = cut_short(report), report.ended_because
        completed = Completed(config, points, timings, command, facts, *ended)
        return Measured(completed, _files(log, report, traces))


def _load(
    config: TrialConfig,
    application: Application,
    endpoint: Endpoint,
    on_progress: Callable[[Progress], None],
    hurdle: Hurdle | None,
) -> LoadReport:
    """An engine that died under load is the cause, and the client's errors only its symptom."""
    try:
        report = loadgen.run(
            endpoint.base_url,
            endpoint.model,
            config.workload,
            vocabulary=config.model.vocabulary,
            links=local_links if config.workload.placement == "beside" else links_apart(),
            on_progress=on_progress,
            first=hurdle.first_load if hurdle else None,
            # Energy is known after the load only: by it no trial is given up.
            after_level=looker(hurdle, config.workload, partial(score, config)) if hurdle else None,
        )
    except loadgen.LoadError:
        application.confirm(endpoint)
        raise
    application.confirm(endpoint)
    return report


def _gpus(config: TrialConfig, application: Application) -> tuple[str, ...]:
    """The real ones, that can be metered and set before an engine is on them."""
    ours = config.topology.gpus and config.twin is None and not isinstance(config.engine, External)
    return application.devices() if ours else ()


def _modelled(config: TrialConfig, endpoint: Endpoint | None) -> dict[str, str]:
    """What an emulated figure rests on. Empty for a measured one."""
    twin = config.hardware.twin
    if twin is None:
        return {}
    told = endpoint.modelled if endpoint is not None else None
    return {"modelled": told or f"twin of {twin.system}"}


def load_of(level: Level) -> tuple[float, int]:
    """By which levels are put in order: the load, then when it was measured."""
    return level.load_value or 0.0, level.index


def cut_short(report: LoadReport) -> str:
    """What ended a load before its last level; empty if nothing did."""
    error = report.failure
    return "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


def score(config: TrialConfig, level: Level, traces: Traces | None = None) -> OperatingPoint:
    """One load level as an operating point: the load's metrics, and those per device, MW, $ and J."""
    stats, traces = summarize(level), traces or Traces()
    devices = config.devices
    window, per_node = level.window, config.hardware.devices_per_node
    metering = traces.within(window.start_ns, window.end_ns, devices)
    energy, unknown = energy_figures(stats.metrics, metering, window.seconds, devices, per_node)
    measured = {**stats.metrics, **energy}
    derived, missing = derive(measured, devices, config.hardware, config.economics)
    doubts = [*stats.invalid_because, *_late(_grown(traces.lateness, level))]
    return OperatingPoint(
        level.index,
        level.load,
        {**measured, **derived},
        {**stats.reasons, **missing, **unknown},
        tuple(doubts),
    )


def _grown(trace: CounterTrace | None, level: Level) -> dict[str, float] | None:
    start_ns, end_ns = level.window.start_ns, level.window.end_ns
    if trace is None or not trace.covers(start_ns, end_ns):
        return None
    return trace.grown(start_ns, end_ns)


def _late(counted: Mapping[str, float] | None) -> list[str]:
    """An emulation that can't keep its own schedule shows this machine's limits, not the emulated one's."""
    if counted is None or not counted[STEPS]:
        return []
    share = counted[LATE] / counted[STEPS]
    if share <= LATE_SHARE_MAX:
        return []
    return [f"the emulation was late in {share:.0%} of its steps: this machine is too slow for it"]


def _files(log: Path, report: LoadReport | None, traces: Traces | None = None) -> dict[str, bytes]:
    files = {}
    if log.exists():
        files["engine.log"] = log.read_bytes()[-LOG_BYTES:]
    if report is not None:
        files["records.parquet"] = to_parquet_bytes(
            concat([level.records for level in report.levels])
        )
    if traces is not None and any(each.devices for each in traces.power):
        files[power_file.FILE] = power_file.to_bytes(traces.power)
    return files


def with_wall(measured: Measured, wall_s: float) -> Measured:
    """The same, with the wall time that the study saw: Serve, Ray and hand-over included."""
    timings = replace(measured.result.timings, wall_s=wall_s)
    return replace(measured, result=replace(measured.result, timings=timings))
