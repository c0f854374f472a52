"""A trial on the twin's virtual clock: the same flags, the same load, the same score, and no waiting."""

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

import loadgen
from loadgen import LoadReport
from loadgen.control.virtual import Sent, ns_of, run_virtual, s_of
from loadgen.workload.workload import Workload
from serving.engines import External, Launch
from serving.errors import BadFlags, LaunchError, ServingError
from serving.install import models
from serving.launch import HOST, plan_command
from serving.telemetry.provenance import provenance
from serving.telemetry.trace import CounterTrace
from serving.topology import Topology
from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import (
    Assembled,
    TwinOutOfMemory,
    assemble,
    assemble_disaggregated,
)
from serving.twin.engine.emulation import Emulation
from serving.twin.engine.engine import DeviceMemoryExhausted
from serving.twin.engine.request import Request
from serving.twin.frameworks.faces import FACES, Face
from serving.twin.frameworks.flags import Parsed, Refused, read
from serving.twin.server.asks import prompt_of
from serving.twin.setup import FlagError, Setup
from serving.twin.tables.catalog import SYSTEMS
from tuner.config.trial import TrialConfig
from tuner.trial.looks import looker
from tuner.trial.metering import Traces, emulated, pool_roles
from tuner.trial.pruner import Hurdle
from tuner.trial.result import VIRTUAL, Completed, Failed, Measured, Timings
from tuner.trial.score import cut_short, load_of, score

WORD = " tok"  # as the twin on the wall clock says it
SAMPLE_S = 0.1  # between two readings of the energy counters
PORT = 8000  # nobody listens there


def simulate_trial(config: TrialConfig, hurdle: Hurdle | None = None) -> Measured:
    """A known failure is a result; anything else is raised. Its times are those on the virtual clock.

    `hurdle`: what the trial has to get over, or it is given up. The records are not kept: the same
    configuration gives the same ones again.
    """
    twin = config.twin
    assert twin is not None, "judged before"
    command = plan_command(config.engine, config.model, config.topology, twin)
    facts = {**_provenance(), "clock": VIRTUAL, "modelled": f"twin of {twin.system}"}
    startup_s = load_s = 0.0
    try:
        parsed, assembled = stand(config, twin)
        setup = parsed.setup
        facts["without_effect"] = list(parsed.without_effect)
        startup_s = assembled.start_s
        facts["modelled"] = assembled.version
        server = TwinServer(
            assembled.emulation,
            stream_interval=setup.stream_interval,
            block_tokens=setup.block_tokens if _repeats(config.workload, setup) else 0,
            chat=config.workload.endpoint == "chat",
            too_long=partial(_face(setup).too_long, setup),
        )
        report = _loaded(config, server, setup, hurdle)
        load_s = server.emulation.now_s
    except (ServingError, loadgen.LoadError) as error:
        evidence = (str(error).strip().splitlines() or [""])[0]
        timings = Timings(startup_s + load_s, startup_s, load_s)
        failure = type(error).__name__
        return Measured(Failed(config, failure, evidence, timings, command, facts), {})
    timings = Timings(startup_s + load_s, startup_s, load_s)
    until_ns = max(level.window.end_ns for level in report.levels)
    traces = _traces(config, server, until_ns)
    return Measured(_completed(config, report, traces, timings, command, facts), {})


def _loaded(
    config: TrialConfig, server: "TwinServer", setup: Setup, hurdle: Hurdle | None
) -> LoadReport:
    try:
        return run_virtual(
            server,
            config.workload,
            vocabulary=config.model.vocabulary,
            first=hurdle.first_load if hurdle else None,
            after_level=looker(hurdle, config.workload, partial(score, config)) if hurdle else None,
        )
    except DeviceMemoryExhausted as error:
        said = _face(setup).died_under_load(error)
        raise config.engine.diagnose(1, said) from error


def _traces(config: TrialConfig, server: "TwinServer", until_ns: int) -> Traces:
    roles = pool_roles(config.twin, config.topology)
    return emulated(server.trace(until_ns), server.idle_w_device, roles)


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


def stand(config: TrialConfig, twin: TwinConfig) -> tuple[Parsed, Assembled]:
    """The engine's own command line, read by its twin. Raises ServingError as the engine would fail."""
    parsed, pools = read_flags(config, config.topology), twin.pools
    setup = parsed.setup
    try:
        if pools is None:
            return parsed, assemble(setup, twin)
        first = read_flags(config, pools.prefill_topology or config.topology).setup
        pair = assemble_disaggregated(
            first, setup, twin, prefill_engines=pools.prefill, decode_engines=pools.decode
        )
        return parsed, pair
    except FlagError as error:
        raise config.engine.diagnose(2, _face(setup).bad_flag(str(error))) from error
    except TwinOutOfMemory as error:
        raise config.engine.diagnose(1, _face(setup).died(setup, error)) from error


def read_flags(config: TrialConfig, topology: Topology) -> Parsed:
    """Raises ServingError as the engine would."""
    engine, model, twin = config.engine, config.model, config.hardware.twin
    assert twin is not None, "judged before"
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
    try:
        return read(engine.command(launch), SYSTEMS[twin.system].memory_bytes)
    except Refused as refused:
        raise engine.diagnose(refused.exit_code, str(refused)) from refused
    except FlagError as error:
        raise BadFlags(str(error)) from error


def _face(setup: Setup) -> Face:
    return FACES[setup.framework]


def _repeats(workload: Workload, setup: Setup) -> bool:
    """Whether a prefix cache may find anything: drawn prompts never begin alike."""
    parts = workload.mixture or (workload,)
    return setup.prefix_caching and any(
        part.shared_prefix or part.conversation or part.dataset for part in parts
    )


@cache
def _provenance() -> dict[str, object]:
    return provenance()


class TwinServer:
    """An emulation as `loadgen.control.virtual` drives it. `stream_interval`: tokens an event, after the first.

    `block_tokens`: of the prefix cache; 0 where it can know nothing. `too_long`: of a prompt and an output,
    why the engine would not take them. `ahead`: steps between two requests that come or go are taken at once.
    """

    def __init__(
        self,
        emulation: Emulation,
        *,
        stream_interval: int = 1,
        block_tokens: int = 0,
        chat: bool = False,
        too_long: Callable[[int, int], str] = lambda prompt, output: "",
        ahead: bool = True,
    ) -> None:
        self.emulation, self._ahead = emulation, ahead
        self._chat, self._too_long = chat, too_long
        self._interval, self._block_tokens = stream_interval, block_tokens
        self._sent: dict[Request, Sent] = {}
        self._requests: dict[Sent, Request] = {}
        self._count = 0
        self._energy: list[tuple[float, list[float]]] = [(0.0, emulation.energy_j(0.0))]
        self.idle_w_device = sum(emulation.watts()) / emulation.gpus  # nothing has been asked yet

    @property
    def now_s(self) -> float:
        return self.emulation.now_s

    @property
    def next_s(self) -> float | None:
        return self.emulation.next_s

    def send(self, sent: Sent, at_s: float) -> None:
        ask, tokens = sent.ask, sent.ask.input_tokens
        blocks: Sequence[int] = ()
        if tokens is None or self._block_tokens:
            tokens, blocks = prompt_of(ask.prompt, chat=self._chat, block_tokens=self._block_tokens)
        request = Request(self._count, tokens, ask.output_tokens, blocks)
        request.refused = self._too_long(tokens, ask.output_tokens)
        self._count += 1
        self._sent[request], self._requests[sent] = sent, request
        sent.input_tokens = tokens
        self.emulation.submit(request, at_s)

    def advance(self, until_s: float) -> list[Sent]:
        emulation = self.emulation
        emulation.ahead_s = until_s if self._ahead else 0.0
        while (next_s := emulation.next_s) is not None and next_s <= until_s:
            turn = emulation.advance()
            at_s = emulation.now_s  # the engine may have run ahead of what it tells
            if at_s - self._energy[-1][0] >= SAMPLE_S:
                self._energy.append((at_s, emulation.energy_j(at_s)))
            if turn.done and (answered := self._answered(turn.done)):
                return answered
        return []

    def _answered(self, done: Sequence[Request]) -> list[Sent]:
        answered = []
        for request in done:
            sent = self._sent.pop(request, None)
            if sent is not None:
                del self._requests[sent]
                self._fill(sent, request)
                answered.append(sent)
        return answered

    def abandon(self, sent: Sent) -> None:
        request = self._requests.pop(sent)
        del self._sent[request]
        self.emulation.abandon(request)
        self._fill(sent, request)

    def trace(self, until_ns: int) -> CounterTrace:
        """The energy counters of all GPUs, up to now and at least to that moment."""
        now_s = max(self.emulation.now_s, s_of(until_ns))
        samples = [*self._energy, (now_s, self.emulation.energy_j(now_s))]
        gpus = tuple(f"twin-{index}" for index in range(self.emulation.gpus))
        at_ns = np.array([ns_of(at_s) for at_s, _ in samples], np.int64)
        return CounterTrace(at_ns, np.array([joules for _, joules in samples]), gpus, "twin")

    def _fill(self, sent: Sent, request: Request) -> None:
        times_s, tokens = request.output()
        if self._interval > 1 and len(times_s) > 1:
            times_s, tokens = coalesced(times_s, tokens, self._interval)
        sent.times_s, sent.tokens = times_s, tokens
        sent.end_s = self.emulation.now_s
        sent.error = request.refused
        sent.text = WORD * request.made


def coalesced(
    times_s: NDArray[np.float64], tokens: NDArray[np.int32], interval: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Events of `interval` tokens: the first output goes out at once, what is left over at the end."""
    total = np.cumsum(tokens)
    group = (total - total[0]) // interval
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(tokens) - 1)
    ends = np.unique(np.concatenate(([0], ends)))
    counts = np.diff(total[ends], prepend=0)
    return times_s[ends], counts.astype(np.int32)
