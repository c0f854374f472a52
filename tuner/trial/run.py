"""One trial: its configuration, its result, and the plain function that leads from one to the other."""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import loadgen
from loadgen import LoadReport, Progress
from loadgen.results.records import concat, to_parquet_bytes
from loadgen.worker.group import local_links
from loadgen.worker.ray_link import links_apart
from serving.endpoint import Endpoint
from serving.engines import External
from serving.errors import ServingError
from serving.launch import Order, shell_command
from serving.telemetry import power_file
from serving.telemetry.provenance import provenance
from tuner.config.trial import TrialConfig
from tuner.trial.looks import looker
from tuner.trial.metering import Traces, load_metered, prepared
from tuner.trial.pruner import Hurdle
from tuner.trial.result import Completed, Failed, Measured, Timings
from tuner.trial.score import cut_short, load_of, score

LOG_BYTES = 4 << 20  # of an engine's log, its end is kept: that is where it died


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
