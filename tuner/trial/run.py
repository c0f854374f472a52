"""One trial on the wall clock: the plain function from its configuration to its result."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
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
from serving.engines.ready import STUCK
from serving.errors import EngineHung, ServingError
from serving.gpu.used import check_used
from serving.launch import LaunchSpec, shell_command
from serving.process.environ import redacted, secret_values
from serving.telemetry import engine_file, power_file
from serving.telemetry.engine_metrics.startup import startup_times
from serving.telemetry.engine_progress import ProgressWatch
from serving.telemetry.engine_sampler import engine_metered
from serving.telemetry.provenance import provenance
from tuner.config.trial import TrialConfig
from tuner.trial.metering import Traces, load_metered, prepared
from tuner.trial.pruner import PruningBaseline, level_pruner
from tuner.trial.quality.after_load import answered
from tuner.trial.quality.prefix_cache import PrefixCache, prefix_cache_of
from tuner.trial.result import (
    Completed,
    Failed,
    Measured,
    Timings,
    phase_and_remedy,
)
from tuner.trial.score import cut_short, load_of, score
from tuner.trial.simulate import assumed, read_flags

LOG_BYTES = 4 << 20  # the end of an engine's log is kept: it says why an engine died


class Application(Protocol):
    """Starts engines on one node: `serving.deployment.SlotApplication`, or a test double."""

    def devices(self) -> tuple[str, ...]:
        """The GPUs that its engines get."""

    def engine(self, spec: LaunchSpec) -> AbstractContextManager[Endpoint]:
        """A running engine, stopped at the end of the block. Raises ServingError."""

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None:
        """Raises ServingError unless the engine is still the process that was started; `canary`: and works."""


def run_trial(
    config: TrialConfig,
    application: Application,
    on_progress: Callable[[Progress], None],
    baseline: PruningBaseline | None = None,
) -> Measured:
    """Stand up, load, confirm, tear down, score. A known failure is a result; anything else is raised.

    `baseline`: prunes the trial once its remaining levels can't improve on it; None measures all levels.
    """
    began, startup_s, load_s, command = time.monotonic(), 0.0, 0.0, ""
    cache = prefix_cache_of(config)
    with tempfile.TemporaryDirectory(prefix="wattfront-") as folder:
        log = Path(folder) / "engine.log"
        try:
            spec = _spec(config, cache, log)
            gpus = _gpus(config, application)
            with (
                prepared(config.power, gpus) as idle,
                application.engine(spec) as endpoint,
            ):
                engines = endpoint.members or (endpoint,)
                if gpus:
                    for each in engines:
                        check_used(each.devices, each.pid)
                with (
                    load_metered(config, gpus, endpoint, idle) as meters,
                    engine_metered(
                        config.engine.metrics_page,
                        engines[0].base_url,
                        endpoint.api_key,
                        more_urls=tuple(each.base_url for each in engines[1:]),
                    ) as scraper,
                ):
                    startup_s, command = endpoint.startup_s, shell_command(cache.closed(endpoint))
                    load_began = time.monotonic()
                    watch = ProgressWatch(config.engine.hang_after_s, scraper)
                    run = application, endpoint, on_progress, baseline, cache
                    report = _load(config, watch, *run)
                    load_s = time.monotonic() - load_began
                answers = answered(endpoint, config.quality)
        except (ServingError, loadgen.LoadError) as error:
            timings = _timings(config, log, time.monotonic() - began, startup_s, load_s)
            evidence = str(error).strip().splitlines()[0] if str(error).strip() else ""
            facts = {**provenance(), **_modelled(config, None)}
            said = type(error).__name__, evidence, timings, command, facts
            failed = Failed(config, *said, *phase_and_remedy(error))
            return Measured(failed, _files(config, log, None))
        timings = _timings(config, log, time.monotonic() - began, startup_s, load_s)
        timings = replace(timings, answers_s=answers.seconds)
        traces = replace(meters(), engine=scraper.trace())
        metered = {"power": traces.summary(), "engine_metrics": scraper.summary()}
        prompts = {"prompt_salt": report.prompt_salt, **answers.facts, **cache.facts()}
        own = {**provenance(), **_engine_facts(endpoint)}
        facts = {**own, **metered, **prompts, **_modelled(config, endpoint)}
        points = tuple(score(config, level, traces) for level in sorted(report.levels, key=load_of))
        ended = cut_short(report), report.ended_because
        completed = Completed(config, points, timings, command, facts, *ended)
        files = _files(config, log, report, traces)
        return Measured(completed, {**files, **answers.files})


def _engine_facts(endpoint: Endpoint) -> dict[str, object]:
    """What ran, and on which devices."""
    devices = list(endpoint.devices)
    facts: dict[str, object] = {"engine_version": endpoint.engine_version, "devices": devices}
    facts |= {"engine_lock": endpoint.engine_lock} if endpoint.engine_lock else {}
    return facts | ({"image_digest": endpoint.image_digest} if endpoint.image_digest else {})


def _load(
    config: TrialConfig,
    watch: ProgressWatch,
    application: Application,
    endpoint: Endpoint,
    on_progress: Callable[[Progress], None],
    baseline: PruningBaseline | None,
    cache: PrefixCache,
) -> LoadReport:
    """An engine that died or hangs under load is the failure; the client's errors are its symptom."""
    load = ""

    def progressed(progress: Progress) -> None:
        nonlocal load
        load = progress.load
        watch.look(progress.silent_s)
        on_progress(progress)

    try:
        report = loadgen.run(
            endpoint.base_url,
            endpoint.model,
            config.workload,
            vocabulary=config.model.vocabulary,
            api_key=endpoint.api_key,
            links=local_links if config.workload.placement == "beside" else links_apart(),
            on_progress=progressed,
            stop=lambda: bool(watch.stuck),
            first=baseline.first_load if baseline else None,
            before_level=cache.emptied(endpoint),
            # Energy is known only after the load, so it prunes no trial.
            after_level=level_pruner(baseline, config.workload, partial(score, config))
            if baseline
            else None,
        )
    except loadgen.LoadError:
        application.confirm(endpoint, canary=True)
        raise
    if watch.stuck:
        raise _hung(application, endpoint, f"{load}: {watch.stuck}")
    # A measured curve is not put at risk by another request: only a load that ended early asks for one.
    application.confirm(endpoint, canary=report.failure is not None)
    return report


def _hung(application: Application, endpoint: Endpoint, why: str) -> EngineHung:
    """Of an engine whose load was ended as it hangs. Raises ServingError where its log names another cause."""
    try:
        application.confirm(endpoint, canary=True)
    except EngineHung as hung:
        evidence = f"{why}; {hung.evidence}"
        return EngineHung(evidence, hung.log, phase=hung.phase, remedy=hung.remedy)
    alone = f"{why}; without the load it answers a request of one token"
    return EngineHung(alone, phase="under load", remedy=STUCK)


def _spec(config: TrialConfig, cache: PrefixCache, log: Path) -> LaunchSpec:
    engine, apart = cache.opened(config.engine), config.workload.placement == "apart"
    return LaunchSpec(engine, config.model, config.topology, log, config.twin, apart=apart)


def _gpus(config: TrialConfig, application: Application) -> tuple[str, ...]:
    """The real GPUs, which can be metered and set before the engine starts on them."""
    ours = config.topology.gpus and config.twin is None and not isinstance(config.engine, External)
    return application.devices() if ours else ()


def _modelled(config: TrialConfig, endpoint: Endpoint | None) -> dict[str, object]:
    """The provenance of emulated figures; empty for measured ones."""
    twin = config.hardware.twin
    if twin is None:
        return {}
    reported = endpoint.modelled if endpoint is not None else None
    facts: dict[str, object] = {"modelled": reported or f"twin of {twin.system}"}
    if endpoint is None:
        return facts
    return {**facts, **assumed(read_flags(config, config.pools[-1].layout).setup, twin)}


def _files(
    config: TrialConfig, log: Path, report: LoadReport | None, traces: Traces | None = None
) -> dict[str, bytes]:
    files = {}
    if log.exists():
        files["engine.log"] = _without_secrets(config, log.read_bytes()[-LOG_BYTES:])
    if report is not None:
        files["records.parquet"] = to_parquet_bytes(
            concat([level.records for level in report.levels])
        )
    if traces is not None and any(each.devices for each in traces.power):
        files[power_file.FILE] = power_file.to_bytes(traces.power)
    if traces is not None and traces.engine is not None and len(traces.engine.at_ns):
        files[engine_file.FILE] = engine_file.to_bytes(traces.engine)
    return files


def _timings(
    config: TrialConfig, log: Path, wall_s: float, startup_s: float, load_s: float
) -> Timings:
    """With the parts of the start-up that the engine's log times."""
    text = log.read_bytes()[:LOG_BYTES].decode(errors="replace") if log.exists() else ""
    times = startup_times(text, config.engine.startup_lines)
    return Timings(wall_s, startup_s, load_s, times.weight_load_s, times.engine_warmup_s)


def _without_secrets(config: TrialConfig, log: bytes) -> bytes:
    """Some engines print their arguments and their environment."""
    secrets = secret_values(os.environ, config.engine.env_passthrough)
    text = redacted(log.decode(errors="surrogateescape"), secrets)
    return text.encode(errors="surrogateescape")
