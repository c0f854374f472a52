"""A cluster in virtual time: the real study and the real admission of trials, with invented results."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from tests.tuner.samples.made import VLLM, made_measured, made_study
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger
from tuner.search import Proposal
from tuner.study.capacity import Capacity
from tuner.study.slots.searcher import StudySearcher
from tuner.study.study import Study
from tuner.trial.result import Measured, TrialResult

NODE_GPUS = 8


@dataclass(frozen=True, slots=True)
class Use:
    """Until the search had no more trials to start. `driver_s`: that the study took, the devices' time too.

    `busy`: the share of the devices' time in which a trial had them; `at_once`: the most trials.
    """

    trials: int
    at_once: int
    seconds: float
    driver_s: float
    busy: float


class _Started:
    """An observer that keeps the trials by number."""

    def __init__(self) -> None:
        self.proposals: dict[int, Proposal] = {}

    def started(self, proposal: Proposal) -> None:
        self.proposals[proposal.number] = proposal

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        pass

    def retried(self, proposal: Proposal, result: TrialResult, attempt: int) -> None:
        pass

    def closing(self) -> None:
        pass

    def ended(self, why: str) -> None:
        pass


def whole_nodes(trials: int) -> StudyConfig:
    """A search on curves of which each trial takes a whole node."""
    return made_study(
        trials,
        (
            *VLLM,
            "space=[vllm_gpu]",
            "space.parameters.topology.tensor_parallel.choices=[8]",
            "space.parameters.engine.vllm.gpu_memory_utilization.step=0.01",
        ),
    )


def run(config: StudyConfig, folder: Path, nodes: int, driver_clock: Callable[[], float]) -> Use:
    """`driver_clock`: seconds that the study has computed so far: while it computes, virtual time goes on."""
    started = _Started()
    with Ledger.open(folder) as ledger:
        return _run(Study(config, ledger, [started]), started.proposals, nodes, driver_clock)


def _run(
    study: Study, proposals: dict[int, Proposal], nodes: int, driver_clock: Callable[[], float]
) -> Use:
    searcher = StudySearcher(study, Capacity(nodes=((NODE_GPUS, 1),) * nodes))
    ends: list[tuple[float, int, str, int, Measured]] = []
    spans: list[tuple[float, float, int]] = []
    now_s = driver_s = last_s = 0.0
    at_once = 0
    for trial in count():
        given, took_s = _timed(lambda name=f"t{trial}": searcher.suggest(name), driver_clock)
        now_s, driver_s = now_s + took_s, driver_s + took_s
        if isinstance(given, dict):
            proposal = proposals[given["number"]]
            measured = made_measured(proposal)
            end_s = now_s + measured.result.timings.wall_s
            heapq.heappush(ends, (end_s, trial, f"t{trial}", proposal.number, measured))
            spans.append((now_s, end_s, proposal.config.devices))
            at_once, last_s = max(at_once, len(ends)), now_s
        elif given == Searcher.FINISHED:
            break
        else:
            end_s, _, name, number, measured = heapq.heappop(ends)
            now_s = max(now_s, end_s)
            _, took_s = _timed(lambda m=measured, n=number: study.finished(n, m), driver_clock)
            now_s, driver_s = now_s + took_s, driver_s + took_s
            searcher.on_trial_complete(name)
    held = sum((min(end, last_s) - begin) * devices for begin, end, devices in spans)
    return Use(len(spans), at_once, last_s, driver_s, held / (last_s * nodes * NODE_GPUS))


def _timed(call: Callable[[], Any], driver_clock: Callable[[], float]) -> tuple[Any, float]:
    began_s = driver_clock()
    given = call()
    return given, driver_clock() - began_s
