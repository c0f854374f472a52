"""Studies of any number of trials, with invented results: what costs grow with, without an engine."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from loadgen import Closed
from tests.tuner.samples.loaded import load
from tuner.config.groups.space import Point
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.derive import derive
from tuner.results.ledger import Ledger
from tuner.search import Proposal
from tuner.search.even_points import even_points
from tuner.search.space import SearchSpace
from tuner.trial.result import VIRTUAL, Completed, Failed, Measured, OperatingPoint, Timings

NOISE, FAILED_SHARE = 0.03, 0.05
# A search on curves over vLLM's layouts, seven load levels, three tiers, nothing repeated.
VLLM = (
    *("experiment=b300_deepseek", "engine=vllm", "model=deepseek_r1"),
    *("space=[vllm_gpu,moe_layouts]", "search.confirm.candidates=0"),
    "workload.arrival.concurrency=[1,4,16,64,128,256,512]",
)
# Some 40,000 configurations.
CURVE = (
    *VLLM,
    "space.parameters.engine.vllm.gpu_memory_utilization.step=0.01",
)
OTHER = (*CURVE, "search.seed=5")  # a search over the same space that draws other points


def made_study(trials: int, overrides: Sequence[str] = CURVE) -> StudyConfig:
    """A study of so many trials on emulated B300 nodes."""
    return load((*overrides, f"search.trials={trials}"))


def made_measured(proposal: Proposal) -> Measured:
    """The same for the same configuration."""
    return Measured(made_result(proposal.config, proposal.point), {})


def made_result(config: TrialConfig, point: Point) -> Completed | Failed:
    """Each knob has an effect of its own; with noise, and a few failures."""
    rng = np.random.default_rng(crc32(repr(sorted(point.items())).encode()))
    wall_s = float(600 * rng.lognormal(0, 0.3))
    timings = Timings(wall_s, 0.3 * wall_s, 0.6 * wall_s)
    facts = {"host": "made", "clock": VIRTUAL, "modelled": "invented figures"}
    if rng.random() < FAILED_SHARE:
        return Failed(config, "OutOfMemory", "CUDA out of memory", timings, "serve", facts)
    arrival = config.workload.arrival
    assert isinstance(arrival, Closed)
    effect = math.exp(sum(_effect(path, value) for path, value in point.items()))
    points = tuple(
        _level(config, level, users, effect, rng) for level, users in enumerate(arrival.concurrency)
    )
    return Completed(config, points, timings, "serve --model made", facts)


def _effect(path: str, value: Any) -> float:
    """Up to 0.3 either way, of the value of a knob; the search does not know it."""
    return 0.6 * (crc32(f"{path}={value}".encode()) % 1000 / 1000 - 0.5)


def _level(
    config: TrialConfig, level: int, users: int, effect: float, rng: np.random.Generator
) -> OperatingPoint:
    devices = config.devices
    noise = np.exp(NOISE * rng.standard_normal(3))
    alone = 12 * effect * devices**0.6
    speed = alone / (1 + users / (8 * devices)) * noise[0]
    rate, ttft_ms = speed * users * noise[1], (200 + 40 * users / devices) / effect * noise[2]
    tpot_ms = 1000 / speed
    metrics: dict[str, float | None] = {
        "throughput_output_tok_s": rate,
        "throughput_total_tok_s": 9 * rate,
        "throughput_requests_s": rate / 1024,
        "interactivity_tok_s_user": speed,
        "ttft_p50_ms": ttft_ms,
        "ttft_p99_ms": 1.3 * ttft_ms,
        "tpot_p50_ms": tpot_ms,
        "tpot_p99_ms": 1.2 * tpot_ms,
        "itl_p99_ms": 1.9 * tpot_ms,
        "e2e_p50_ms": ttft_ms + 1023 * tpot_ms,
        "error_rate": 0.0,
        "requests_completed": 8.0 * users,
        "requests_failed": 0.0,
        "window_s": 60.0,
        "power_w_device": 900 + 100 * effect,
        "energy_j_per_output_tok": (900 + 100 * effect) * devices / rate,
    }
    derived, reasons = derive(metrics, devices, config.hardware)
    return OperatingPoint(
        level, f"closed {users}", {**metrics, **derived}, reasons, load_value=float(users)
    )


def distinct(study: StudyConfig, count: int) -> Iterator[Proposal]:
    """So many trials: the default, then evenly over the study's space."""
    space, known = SearchSpace.of(study), set[str]()
    for point in chain([{}], even_points(space, study.search.seed)):
        if len(known) == count:
            return
        if space.possible(point):
            config = trial_config(study, point)
            if config.fingerprint not in known:
                yield Proposal(len(known), point, config)
                known.add(config.fingerprint)


def made_ledger(folder: Path, study: StudyConfig, trials: int) -> None:
    """The ledger of a search with so many trials, all of them finished."""
    with Ledger.open(folder) as ledger:
        for proposal in distinct(study, trials):
            ledger.asked(proposal.number, proposal.point, proposal.config.fingerprint)
            ledger.finished(proposal.number, proposal.point, made_measured(proposal))
