"""Meters the power of one trial: idle, engine ready, and under load, from the configured sources."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.worker.virtual_dispatcher import ns_of
from serving.endpoint import Endpoint
from serving.gpu.settings import gpus_set
from serving.process.generation import parent
from serving.telemetry.base import SW_POWER_CAP, Boundary, Device, Role
from serving.telemetry.engine_metrics.page import MetricsPage, Quantity
from serving.telemetry.engine_metrics.trace import EngineTrace
from serving.telemetry.meter import metered
from serving.telemetry.sources.config import Nvml, PowerConfig, Source, Twin
from serving.telemetry.sources.factory import Place, metered_source
from serving.telemetry.sources.twin import lateness_reader
from serving.telemetry.trace import CounterTrace, PowerTrace, energy_counter_trace
from serving.telemetry.validity import Verdict, judged
from serving.twin.api import Emulation, EngineCounts
from tuner.config.trial import TrialConfig
from tuner.metrics.catalogue.power import STATE
from tuner.metrics.energy import NOT_ASKED, NOT_METERED, UNMETERED, Idle, Metering

VIRTUAL_EVERY_S = 0.25  # between two samples of the engine's metrics on the virtual clock
NO_IDLE_TWIN = "an emulated GPU draws no power before its engine is ready"


@dataclass(frozen=True, slots=True)
class Traces:
    """What was metered beside the load. `lateness`: steps that an emulated engine took late.

    `engine`: the engine's own metrics.
    """

    power: tuple[PowerTrace, ...] = ()
    idle: Idle = UNMETERED
    loaded: Idle = UNMETERED
    lateness: CounterTrace | None = None
    unmetered_because: str = NOT_METERED
    engine: EngineTrace | None = None

    def within(self, begin_ns: int, end_ns: int, devices: int) -> Metering:
        """The verdict on each boundary for one window. `devices`: how many boards must have been metered."""
        verdicts: dict[Boundary, Verdict] = {}
        state: dict[str, float | None] = {}
        for trace in self.power:
            for boundary in sorted(trace.boundaries - set(verdicts)):
                expected = devices if boundary == "gpu" else None
                verdicts[boundary] = judged(trace, boundary, begin_ns, end_ns, expected)
                if boundary == "gpu" and trace.power_kind != "modelled":
                    state = _state(trace, begin_ns, end_ns)
        return Metering(verdicts, self.idle, self.loaded, state, self.unmetered_because)

    def summary(self) -> list[str]:
        """How each source metered, for the provenance: `nvml: instant power`, or why it did not."""
        return [f"{each.source}: {_how(each)}" for each in self.power]


def _how(trace: PowerTrace) -> str:
    if not any(len(each.at_ns) for each in trace.devices):
        return trace.absent_because or "it reported nothing"
    silent = f", silent at times: {trace.absent_because}" if trace.absent_because else ""
    return f"{trace.power_kind} power{silent}"


@contextmanager
def prepared(power: PowerConfig, gpus: tuple[str, ...]) -> Iterator[Idle]:
    """GPUs before the engine starts: meters idle power, then sets limits and clocks for the block.

    Raises PowerCapDenied. Does nothing without GPUs, as for an emulated engine.
    """
    idle = _idle(power, Place(gpus)) if gpus else Idle()
    with gpus_set(gpus, power.limit_w, power.sm_clock_mhz):
        yield idle


@contextmanager
def load_metered(
    config: TrialConfig, gpus: tuple[str, ...], endpoint: Endpoint, idle: Idle
) -> Iterator[Callable[[], Traces]]:
    """Meters the load of an engine that is ready. The yielded function returns the traces after the load."""
    power = config.power
    if config.twin is not None:
        with _twin_metered(endpoint) as traces:
            yield traces
        return
    pids = [each.pid for each in endpoint.members or (endpoint,) if each.pid]
    roots = tuple(root for pid in pids if (root := parent(pid)) is not None)
    roles = gpu_roles(config) if gpus else ()
    url, key = endpoint.base_url, endpoint.api_key
    place = Place(gpus, roles, base_url=url, api_key=key, roots=roots)
    loaded = _idle(power, place) if gpus else Idle()
    sources = [each for each in power.sources.values() if gpus or not isinstance(each, Nvml)]
    if not endpoint.pid:  # an engine that runs elsewhere draws its power there
        sources = []
    because = (
        NOT_METERED if endpoint.pid else "the engine runs elsewhere: its power can't be metered"
    )
    with ExitStack() as stack:
        recorders = [stack.enter_context(metered_source(each, place)) for each in sources]
        yield lambda: Traces(
            tuple(each.trace() for each in recorders), idle, loaded, unmetered_because=because
        )


@contextmanager
def _twin_metered(endpoint: Endpoint) -> Iterator[Callable[[], Traces]]:
    """Power as the emulated engine reports it; before the load it reports its idle power."""
    url, key = endpoint.base_url, endpoint.api_key
    with (
        metered_source(Twin(), Place(base_url=url, api_key=key)) as energy,
        metered(lateness_reader(url, key), "twin") as lateness,
    ):
        watts = [each.power_w for each in energy.readings if each.power_w is not None]
        loaded = Idle(sum(watts) / len(watts), "") if watts else Idle()
        yield lambda: Traces((energy.trace(),), Idle(None, NO_IDLE_TWIN), loaded, lateness.trace())


def gpu_roles(config: TrialConfig) -> tuple[Role, ...]:
    """The role of each GPU, prefill first; empty where every engine does both."""
    if len(config.pools) == 1:
        return ()
    return tuple(
        each.role for each in config.pools for _ in range(each.engines * each.layout.devices)
    )


def emulated(counters: CounterTrace, idle_w_device: float, roles: tuple[Role, ...] = ()) -> Traces:
    """Traces from the energy counters of an emulation on the virtual clock.

    The counters are exact at any moment, so the interval between readings does not matter.
    """
    part: Sequence[Role] = roles or [""] * len(counters.names)
    devices = tuple(
        energy_counter_trace(Device(name, "gpu", role), counters.at_ns, joules)
        for name, role, joules in zip(counters.names, part, counters.values.T, strict=True)
    )
    trace = PowerTrace(counters.source, "modelled", np.inf, devices, "", frozenset({"gpu"}))
    return Traces((trace,), Idle(None, NO_IDLE_TWIN), Idle(idle_w_device, ""))


class VirtualSampler:
    """An emulation's metrics on the virtual clock, every `VIRTUAL_EVERY_S`, as `page` would have them."""

    def __init__(self, emulation: Emulation, page: MetricsPage) -> None:
        self._emulation, self._page = emulation, page
        self._counts: list[EngineCounts] = []
        self._times: list[int] = []  # samples at which each was the state
        self._taken = 0

    def reach(self, at_s: float) -> None:
        """The engines are until `at_s` as they are now: takes the samples that are due by then."""
        due = int(at_s / VIRTUAL_EVERY_S) + 1
        if due > self._taken:
            self._counts.append(self._emulation.counts())
            self._times.append(due - self._taken)
            self._taken = due

    def trace(self) -> EngineTrace:
        """All samples."""
        columns = {
            name: column for name, column in _columns(self._counts) if name in self._page.series
        }
        if "drafts" in self._page.series:
            columns.pop("acceptance", None)
        at_ns = ns_of(0.0) + (np.arange(self._taken) * VIRTUAL_EVERY_S * 1e9).astype(np.int64)
        values = {name: np.repeat(column, self._times) for name, column in columns.items()}
        return EngineTrace(at_ns, values, "twin", VIRTUAL_EVERY_S)


def _columns(counts: Sequence[EngineCounts]) -> Iterator[tuple[Quantity, NDArray[np.float64]]]:
    def column(name: str) -> NDArray[np.float64]:
        values = [getattr(each, name) for each in counts]
        return np.array([np.nan if value is None else value for value in values], np.float64)

    same: tuple[Quantity, ...] = (
        "running", "waiting", "preemptions", "prefix_hits", "prefix_queries", "drafts", "accepted_drafts",
        "prefill_queue", "decode_queue",
    )  # fmt: skip
    yield from ((name, column(name)) for name in same)
    yield "kv_cache_share", column("used_blocks") / column("total_blocks")
    drafts = column("drafts")
    yield "acceptance", column("accepted_drafts") / np.where(drafts, drafts, np.inf)


def _idle(power: PowerConfig, place: Place) -> Idle:
    """Watts per GPU over `power.idle_s`, unavailable if another process uses them."""
    source = _boards(power)
    if source is None:
        return Idle()
    if not power.idle_s:
        return Idle(None, NOT_ASKED)
    with metered_source(source, place) as recorder:
        begin_ns = time.monotonic_ns()
        time.sleep(power.idle_s)
        end_ns = time.monotonic_ns()
    verdict = judged(recorder.trace(), "gpu", begin_ns, end_ns, len(place.gpus))
    if verdict.total_j is None:
        return Idle(None, "; ".join(verdict.reasons))
    return Idle(verdict.total_j / ((end_ns - begin_ns) / 1e9) / len(place.gpus), "")


def _boards(power: PowerConfig) -> Source | None:
    """The NVML source, if there is one: a recording can't show idle boards."""
    return next((each for each in power.sources.values() if isinstance(each, Nvml)), None)


def _state(trace: PowerTrace, begin_ns: int, end_ns: int) -> dict[str, float | None]:
    """Clocks, temperature and throttling over the window, by the names in `STATE`."""
    columns = ("sm_clock_mhz", "temperature_c", "throttle")
    found = [
        np.concatenate([np.empty(0), *(d.inside(name, begin_ns, end_ns) for d in trace.devices)])
        for name in columns
    ]
    clocks, heat, bits = found
    figures = (
        float(clocks.mean()) if len(clocks) else None,
        float(heat.max()) if len(heat) else None,
        float((bits.astype(np.int64) & SW_POWER_CAP > 0).mean()) if len(bits) else None,
    )
    return dict(zip(STATE, figures, strict=True))
