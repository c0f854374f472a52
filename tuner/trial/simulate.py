"""One trial on the virtual clock: the same flags, load and scoring as on the wall clock, without waiting."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

import loadgen
from loadgen import LoadReport
from loadgen.control.virtual import run_virtual
from loadgen.worker.virtual_dispatcher import VirtualExchange, ns_of, s_of
from loadgen.workload.workload import Workload
from serving.engines import External, Launch
from serving.errors import BadFlags, LaunchError, ServingError
from serving.install import models
from serving.launch import HOST, plan_command
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupTimes, startup_times
from serving.telemetry.provenance import provenance
from serving.telemetry.trace import CounterTrace
from serving.topology import Member, Role, Topology
from serving.twin import api
from serving.twin.api import Assembled, Emulation, ParsedCommand, Request, Setup
from serving.twin.config import TwinConfig
from serving.twin.errors import DeviceMemoryExhausted, EngineExit, FlagError
from tuner.config.trial import TrialConfig
from tuner.trial.metering import VIRTUAL_EVERY_S, Traces, VirtualSampler, emulated, gpu_roles
from tuner.trial.pruner import PruningBaseline, level_pruner
from tuner.trial.result import (
    VIRTUAL,
    Completed,
    Failed,
    Measured,
    Timings,
    phase_and_remedy,
)
from tuner.trial.score import cut_short, load_of, score

WORD = " tok"  # the text of one token, as the twin's server streams it
EMPTY_PAGE = MetricsPage()
SAMPLE_S = 0.1  # between two readings of the energy counters
PORT = 8000  # only part of the command line: nothing listens


def simulate_trial(config: TrialConfig, baseline: PruningBaseline | None = None) -> Measured:
    """A known failure is a result; anything else is raised. Timings are seconds of the virtual clock.

    `baseline`: prunes the trial, as in `run_trial`. Request records are not kept: the same configuration
    reproduces them.
    """
    twin = config.twin
    assert twin is not None, "checked by check_simulable"
    command = plan_command(config.engine, config.model, config.topology, twin)
    facts = {**_provenance(), "clock": VIRTUAL, "modelled": f"twin of {twin.system}"}
    startup_s, load_s, parts = 0.0, 0.0, StartupTimes()
    try:
        parsed, assembled = assemble_twin(config, twin)
        setup = parsed.setup
        facts["without_effect"] = list(parsed.without_effect)
        facts |= assumed(setup, twin, split=len(config.pools) > 1)
        startup_s = assembled.start_s
        parts = startup_times(api.startup_log(setup, assembled), config.engine.startup_lines)
        facts["modelled"] = assembled.version
        server = TwinServer(
            assembled.emulation,
            config.engine.metrics_page,
            stream_interval=setup.stream_interval,
            block_tokens=setup.block_tokens
            if setup.prefix_caching and repeats_prefixes(config.workload)
            else 0,
            chat=config.workload.endpoint == "chat",
            too_long=partial(api.length_error, setup),
        )
        report = _loaded(config, server, setup, baseline)
        load_s = server.emulation.now_s
    except (ServingError, loadgen.LoadError) as error:
        evidence = (str(error).strip().splitlines() or [""])[0]
        timings = _timings(startup_s, load_s, parts)
        failure = type(error).__name__
        said = failure, evidence, timings, command, facts
        return Measured(Failed(config, *said, *phase_and_remedy(error)), {})
    timings = _timings(startup_s, load_s, parts)
    until_ns = max(level.window.end_ns for level in report.levels)
    traces = _traces(config, server, until_ns)
    return Measured(_completed(config, report, traces, timings, command, facts), {})


def _loaded(
    config: TrialConfig, server: "TwinServer", setup: Setup, baseline: PruningBaseline | None
) -> LoadReport:
    try:
        return run_virtual(
            server,
            config.workload,
            vocabulary=config.model.vocabulary,
            first=baseline.first_load if baseline else None,
            after_level=level_pruner(baseline, config.workload, partial(score, config))
            if baseline
            else None,
        )
    except DeviceMemoryExhausted as error:
        raise config.engine.diagnose(1, api.crash_log(setup, error)) from error


def _traces(config: TrialConfig, server: "TwinServer", until_ns: int) -> Traces:
    roles = gpu_roles(config)
    traces = emulated(server.trace(until_ns), server.idle_w_device, roles)
    return replace(traces, engine=server.engine.trace())


def _timings(startup_s: float, load_s: float, parts: StartupTimes) -> Timings:
    whole_s = startup_s + load_s
    return Timings(whole_s, startup_s, load_s, parts.weight_load_s, parts.engine_warmup_s)


def _completed(
    config: TrialConfig,
    report: LoadReport,
    traces: Traces,
    timings: Timings,
    command: str,
    facts: dict[str, object],
) -> Completed:
    levels = sorted(report.levels, key=load_of)
    points = tuple(score(config, level, traces) for level in levels)
    ended = cut_short(report), report.ended_because
    return Completed(config, points, timings, command, facts, *ended)


def assumed(setup: Setup, twin: TwinConfig, *, split: bool = False) -> dict[str, list[str]]:
    """What the figures of an emulated engine rest on, for the provenance of its trial."""
    return {
        "assumes": api.assumptions(setup, twin, split=split),
        "known_wrong": api.known_wrong(setup, twin),
    }


def assemble_twin(config: TrialConfig, twin: TwinConfig) -> tuple[ParsedCommand, Assembled]:
    """The emulation that the engine's command line describes. Raises the ServingError of the real engine."""
    *others, pool = config.pools
    parsed = read_flags(config, pool.layout, pool.role)
    prefill = read_flags(config, others[0].layout, "prefill").setup if others else None
    try:
        return parsed, api.build_emulation(
            parsed.setup,
            twin,
            prefill,
            engines=pool.engines,
            prefill_engines=others[0].engines if others else 1,
        )
    except EngineExit as ended:
        raise config.engine.diagnose(ended.exit_code, ended.output) from ended


def read_flags(config: TrialConfig, topology: Topology, role: Role = "") -> ParsedCommand:
    """The command line of an engine in that role, parsed. Raises the ServingError of the real engine."""
    engine, model, twin = config.engine, config.model, config.hardware.twin
    assert twin is not None, "checked by check_simulable"
    if isinstance(engine, External):
        raise LaunchError("an external endpoint has no twin")
    launch = Launch(
        engine.default_executable,
        models.locate_or_name(model.source, engine.model_format),
        model.name,
        HOST,
        PORT,
        topology,
        model.context_tokens,
        tuple(map(str, range(topology.gpus))),
    )
    if role == "prefill":  # how the caches travel is the emulation's own
        alone = engine.as_member(Member(role, 0, topology))
        engine = alone.model_copy(update={"kv_transfer": None})
    try:
        return api.read_command(engine.command(launch), twin)
    except EngineExit as ended:
        raise engine.diagnose(ended.exit_code, ended.output) from ended
    except FlagError as error:
        raise BadFlags(str(error)) from error


def repeats_prefixes(workload: Workload) -> bool:
    """Whether a prefix cache can hit: only these workloads repeat prefixes, synthetic prompts never do."""
    parts = workload.mixture or (workload,)
    return any(part.shared_prefix or part.conversation or part.dataset for part in parts)


@cache
def _provenance() -> dict[str, object]:
    return provenance()


class TwinServer:
    """An emulation behind the interface that `loadgen.worker.virtual_dispatcher` drives.

    `page`: the metrics that `engine` samples. `stream_interval`: tokens per streamed event after the first.
    `block_tokens`: block size of the prefix cache; 0 where it can't hit. `too_long`: (prompt, output) tokens →
    why the engine refuses them; empty if it does not. `ahead`: take all steps between two arrivals or
    completions at once.
    """

    def __init__(
        self,
        emulation: Emulation,
        page: MetricsPage = EMPTY_PAGE,
        *,
        stream_interval: int = 1,
        block_tokens: int = 0,
        chat: bool = False,
        too_long: Callable[[int, int], str] = lambda prompt, output: "",
        ahead: bool = True,
    ) -> None:
        self.emulation, self._ahead = emulation, ahead
        self.engine = VirtualSampler(emulation, page)
        self._chat, self._too_long = chat, too_long
        self._interval, self._block_tokens = stream_interval, block_tokens
        self._sent: dict[Request, VirtualExchange] = {}
        self._requests: dict[VirtualExchange, Request] = {}
        self._count = 0
        self._energy: list[tuple[float, list[float]]] = [(0.0, emulation.energy_j(0.0))]
        self.idle_w_device = sum(emulation.watts()) / emulation.gpus  # before the first request

    @property
    def now_s(self) -> float:
        """Seconds on the virtual clock."""
        return self.emulation.now_s

    @property
    def next_s(self) -> float | None:
        """When the engine does something next; None while it is idle."""
        return self.emulation.next_s

    def send(self, sent: VirtualExchange, at_s: float) -> None:
        """A request arrives."""
        asked, tokens = sent.request, sent.request.input_tokens
        blocks: Sequence[int] = ()
        if tokens is None or self._block_tokens:
            tokens, blocks = api.read_prompt(
                asked.prompt, chat=self._chat, block_tokens=self._block_tokens
            )
        request = Request(self._count, tokens, asked.output_tokens, blocks)
        request.rejection = self._too_long(tokens, asked.output_tokens)
        self._count += 1
        self._sent[request], self._requests[sent] = sent, request
        sent.input_tokens = tokens
        self.emulation.submit(request, at_s)

    def advance(self, until_s: float) -> list[VirtualExchange]:
        """Runs until a request completes or `until_s` is reached; returns those completed, filled in."""
        emulation = self.emulation
        emulation.undisturbed_until_s = until_s if self._ahead else 0.0
        while (next_s := emulation.next_s) is not None and next_s <= until_s:
            self.engine.reach(next_s)
            event = emulation.advance()
            at_s = emulation.now_s  # the engine may have run ahead of what it reports
            self.engine.reach(at_s)
            if at_s - self._energy[-1][0] >= SAMPLE_S:
                self._energy.append((at_s, emulation.energy_j(at_s)))
            if event.done and (answered := self._answered(event.done)):
                return answered
        return []

    def _answered(self, done: Sequence[Request]) -> list[VirtualExchange]:
        answered = []
        for request in done:
            sent = self._sent.pop(request, None)
            if sent is not None:
                del self._requests[sent]
                self._fill(sent, request)
                answered.append(sent)
        return answered

    def abandon(self, sent: VirtualExchange) -> None:
        """The client gives up waiting: the request leaves the engine, with the output it has."""
        request = self._requests.pop(sent)
        del self._sent[request]
        self.emulation.abort(request)
        self._fill(sent, request)

    def trace(self, until_ns: int) -> CounterTrace:
        """The energy counters of all GPUs in joules, up to now or `until_ns`, whichever is later."""
        now_s = max(self.emulation.now_s, s_of(until_ns))
        self.engine.reach(now_s + VIRTUAL_EVERY_S)  # one sample after the last window
        samples = [*self._energy, (now_s, self.emulation.energy_j(now_s))]
        gpus = tuple(f"twin-{index}" for index in range(self.emulation.gpus))
        at_ns = np.array([ns_of(at_s) for at_s, _ in samples], np.int64)
        return CounterTrace(at_ns, np.array([joules for _, joules in samples]), gpus, "twin")

    def _fill(self, sent: VirtualExchange, request: Request) -> None:
        times_s, tokens = request.output()
        if self._interval > 1 and len(times_s) > 1:
            times_s, tokens = coalesced(times_s, tokens, self._interval)
        sent.times_s, sent.tokens = times_s, tokens
        sent.end_s = self.emulation.now_s
        sent.error = request.rejection
        sent.text = WORD * request.generated


def coalesced(
    times_s: NDArray[np.float64], tokens: NDArray[np.int32], interval: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Events of `interval` tokens: the first output is its own event, a remainder the last one."""
    total = np.cumsum(tokens)
    group = (total - total[0]) // interval
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(tokens) - 1)
    ends = np.unique(np.concatenate(([0], ends)))
    counts = np.diff(total[ends], prepend=0)
    return times_s[ends], counts.astype(np.int32)
