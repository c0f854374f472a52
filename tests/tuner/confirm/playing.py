"""Plays a study with a confirmation, without measuring."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from loadgen import Closed
from tests.tuner.samples.study import POINTS, sample_config, sample_result
from tuner.config.groups.search import ConfirmConfig, SearchConfig
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.results.ledger import Ledger
from tuner.search import Proposal
from tuner.study.study import Study
from tuner.trial.result import Failed, Measured

CONFIRM = ConfirmConfig(candidates=2, repeats_min=3, repeats_max=5, seed=1)
Measure = Callable[[Proposal], Measured]


def config_of(confirm: ConfirmConfig = CONFIRM, **search: object) -> StudyConfig:
    points = tuple(dict(point) for point in POINTS[2:])
    kind = SearchConfig(kind="list", trials=len(POINTS), points=points, confirm=confirm)
    return sample_config().model_copy(update={"search": kind.model_copy(update=search)})


CONFIG = config_of()


def measured(proposal: Proposal) -> Measured:
    """What the sample study measures of a point, 2 % off by the trial's seed, at the loads asked for."""
    config, number = proposal.config, POINTS.index(proposal.point)
    result = sample_result(config, number)
    if isinstance(result, Failed):
        return Measured(result, {})
    seed = (config.workload.seed, number)
    factor = math.exp(np.random.default_rng(seed).normal(0, 0.02))
    assert isinstance(config.workload.arrival, Closed)
    loads = {f"closed {users}" for users in config.workload.arrival.concurrency}
    points = tuple(
        replace(
            point,
            metrics={
                name: value * factor if value and name.startswith("throughput") else value
                for name, value in point.metrics.items()
            },
        )
        for point in result.points
        if point.load in loads
    )
    return Measured(replace(result, points=points), {})


def play(
    folder: Path,
    config: StudyConfig = CONFIG,
    *,
    at_once: int = 1,
    most: int | None = None,
    measure: Measure = measured,
) -> list[Proposal]:
    """Runs the study, several trials at once, which end in an order of their own; up to `most` results."""
    random, asked, running = np.random.default_rng(3), list[Proposal](), list[Proposal]()
    with Ledger.open(folder) as ledger:
        study, ended = Study(config, ledger, []), 0
        while most is None or ended < most:
            while len(running) < at_once and (proposal := study.ask()):
                asked.append(proposal)
                running.append(proposal)
            if not running:
                assert study.remaining() == 0
                break
            done = running.pop(int(random.integers(len(running))))
            assert study.remaining() >= len(running) + 1
            study.finished(done.number, measure(done))
            ended += 1
    return asked


def repeats(asked: list[Proposal]) -> list[RepeatProposal]:
    return [proposal for proposal in asked if isinstance(proposal, RepeatProposal)]


def by_round(asked: list[Proposal]) -> dict[int, list[RepeatProposal]]:
    found: dict[int, list[RepeatProposal]] = {}
    for proposal in repeats(asked):
        found.setdefault(proposal.repeat.round, []).append(proposal)
    return found
