"""A study of four trials; the answers of the two with a key cache of 8 bits differ by a known share."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tuner.samples.landscape import landscape, result_of
from tests.tuner.trial.quality.answering import answered, flipped, reference
from tuner.config.groups.quality import QualityConfig
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger
from tuner.search import Proposal
from tuner.study.study import Study
from tuner.trial.quality import task_scores
from tuner.trial.quality.answers import FILE, to_bytes
from tuner.trial.quality.task_scores import TaskScore, TaskScores
from tuner.trial.result import ANSWERED, Completed, Measured, Timings, TrialResult

KEY = "engine.llamacpp.cache_type_k"
TRUTH = reference()
POINTS: tuple[Point, ...] = (
    {"engine.llamacpp.threads": 4, KEY: "q8_0"},
    {"engine.llamacpp.threads": 3},
    {"engine.llamacpp.threads": 2, KEY: "q8_0"},
)


def study_config(**quality: Any) -> StudyConfig:
    search = SearchConfig(kind="list", trials=4, points=POINTS)
    return landscape(search, quality=QualityConfig(**quality))


def scored(share: float, documents: int = 400, seed: int = 0) -> TaskScore:
    """Half are right; of these the share is lost, at random."""
    rng = random.Random(seed)
    right = [each % 2 == 0 and rng.random() >= share for each in range(documents)]
    hashes = [f"{each:016x}" for each in range(documents)]
    return TaskScore(metric="exact_match,none", documents=hashes, right=right)


def measured(config: StudyConfig, proposal: Proposal, share: float) -> Measured:
    """Keys of 8 bits flip each token with the chance `share`."""
    result = result_of(config, proposal.point)
    result = Completed(proposal.config, result.points, Timings(9.0, 1.0, 8.0), "serve", {})
    if proposal.config.quality is None:
        return Measured(result, {})
    chance = share if proposal.config.engine.cache_type_k == "q8_0" else 0.0
    told = to_bytes(answered(flipped(TRUTH, chance, proposal.number)))
    facts, files = {ANSWERED: {"prompts": 64}}, {FILE: told}
    if names := proposal.config.quality.tasks:
        scores = {name: scored(chance, seed=proposal.number) for name in names}
        files[task_scores.FILE] = task_scores.to_bytes(TaskScores(tasks=scores))
    return Measured(
        Completed(proposal.config, result.points, result.timings, "serve", facts), files
    )


class Watcher:
    """The trials that were learned of, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, TrialResult]] = []

    def started(self, proposal: Proposal) -> None: ...

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        self.seen.append((proposal.number, result))

    def retried(self, proposal: Proposal, result: TrialResult, attempt: int) -> None: ...

    def closing(self) -> None: ...

    def ended(self, why: str) -> None: ...


def run(
    folder: Path, config: StudyConfig, order: Sequence[int], share: float = 0.3
) -> list[tuple[int, TrialResult]]:
    """All trials at once; they end in the order given."""
    watcher = Watcher()
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [watcher])
        proposals = {p.number: p for _ in range(4) if (p := study.ask())}
        for number in order:
            if number in proposals:
                study.finished(number, measured(config, proposals[number], share))
        study.conclude()
    return watcher.seen
