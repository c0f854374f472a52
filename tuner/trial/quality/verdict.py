"""Whether the answers of a configuration are close enough to the reference's. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tuner.config.groups.quality import QualityConfig
from tuner.trial.quality.answers import Answers
from tuner.trial.quality.comparison import CONFIDENCE, Comparison, compare
from tuner.trial.quality.paired import paired_interval, pairs_of
from tuner.trial.quality.task_scores import TaskScore, TaskScores

MIN_POSITIONS = 100  # tokens: the interval of a share of 5 % is then 10 points wide
Kind = Literal["reference", "passed", "rejected", "unknown"]


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """A task on the same documents: shares of right answers, of the `reference` and of the trial (`score`).

    `low` to `high`: the interval of score − reference, 95 % for all tasks together.
    """

    task: str
    metric: str
    documents: int
    reference: float
    score: float
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """`reference`: the trial whose answers are the reference. `unknown`: `why` there is no comparison.

    Shares of tokens: `disagreement` with the interval `low` to `high`; `own`: of the reference when it answers
    again; `repeat`: of the trial itself when it answers again, which decides nothing. In nats: `drift_nats`,
    `own_drift_nats`, `margin_nats` (`comparison.Comparison`).
    """

    kind: Kind
    reference: int | None = None
    why: str = ""
    positions: int = 0
    disagreement: float = 0.0
    low: float = 0.0
    high: float = 1.0
    own: float = 0.0
    repeat: float = 0.0
    drift_nats: float | None = None
    own_drift_nats: float | None = None
    margin_nats: float | None = None
    tasks: tuple[TaskDifference, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether its trial is off the front."""
        return self.kind == "rejected"


def of_reference(number: int, answers: Answers) -> QualityVerdict:
    """The reference's own repeatability: its first answers against its second ones."""
    own = compare(answers.first, answers.again)
    share = own.disagreement
    figures = _figures("reference", number, own)
    return replace(figures, own=share, repeat=share, own_drift_nats=own.drift_nats)


def judge(
    config: QualityConfig, number: int, reference: Answers, answers: Answers
) -> QualityVerdict:
    """The verdict on answers by those of trial `number`.

    Rejected: the share of differing tokens is above the limit plus the reference's own share; likewise the
    drift, where a limit is set.
    """
    if reference.prompts != answers.prompts or len(reference.first) != len(answers.first):
        return QualityVerdict("unknown", number, "its prompts are not those of the reference")
    own, found = compare(reference.first, reference.again), compare(reference.first, answers.first)
    limit = config.max_disagreement + own.disagreement
    verdict = replace(
        _figures("passed", number, found),
        own=own.disagreement,
        repeat=compare(answers.first, answers.again).disagreement,
        own_drift_nats=own.drift_nats,
    )
    known = found.positions >= MIN_POSITIONS
    # Answers that differ at once give few tokens to compare, and no doubt.
    if found.disagreement > limit and (known or verdict.low > limit):
        return replace(verdict, kind="rejected", why=_too_many(found, number, limit))
    if not known and verdict.high > limit:
        why = f"only {found.positions} tokens to compare, {MIN_POSITIONS} are needed: raise quality.prompts"
        return replace(verdict, kind="unknown", why=why)
    return _by_drift(config, verdict)


def _by_drift(config: QualityConfig, passed: QualityVerdict) -> QualityVerdict:
    if config.max_drift_nats is None:
        return passed
    if passed.drift_nats is None:
        why = "its server reports no log-probabilities, and quality.max_drift_nats is set"
        return replace(passed, kind="unknown", why=why)
    most = config.max_drift_nats + (passed.own_drift_nats or 0.0)
    if passed.drift_nats <= most:
        return passed
    said = (
        f"log-probabilities differ from trial {passed.reference}'s by {passed.drift_nats:.3g} nats"
    )
    return replace(passed, kind="rejected", why=f"{said} (limit {most:.3g})")


def _too_many(found: Comparison, number: int, limit: float) -> str:
    low, high = found.interval
    return (
        f"{found.disagreement:.1%} of greedy tokens differ from trial {number}'s "
        f"(95 %: {low:.1%} to {high:.1%}; limit {limit:.1%})"
    )


def _figures(kind: Kind, number: int, found: Comparison) -> QualityVerdict:
    low, high = found.interval
    return QualityVerdict(
        kind,
        number,
        positions=found.positions,
        disagreement=found.disagreement,
        low=low,
        high=high,
        drift_nats=found.drift_nats,
        margin_nats=found.margin_nats,
    )


def with_tasks(
    config: QualityConfig,
    verdict: QualityVerdict,
    reference: TaskScores | str,
    found: TaskScores | str,
) -> QualityVerdict:
    """The verdict, also on tasks. `str`: why there are no scores.

    Rejected: even the upper end of the interval of a difference is below −`max_task_loss`. Several tasks share
    the chance to reject what is as good (Bonferroni).
    """
    missing = reference if isinstance(reference, str) else found
    if isinstance(reference, str) or isinstance(found, str):
        return _doubted(verdict, f"tasks: {missing}")
    if verdict.kind == "reference":
        return replace(verdict, tasks=_own(config.tasks, reference))
    if different := [name for name in config.tasks if not _comparable(reference, found, name)]:
        why = f"tasks: {', '.join(different)}: not the reference's documents or metric"
        return _doubted(verdict, why)
    differences = tuple(
        _difference(name, reference.tasks[name], found.tasks[name], len(config.tasks))
        for name in config.tasks
    )
    verdict = replace(verdict, tasks=differences)
    lost = [each for each in differences if each.high < -config.max_task_loss]
    if not lost or verdict.rejected:
        return verdict
    return replace(verdict, kind="rejected", why="; ".join(map(_lost, lost)))


def _doubted(verdict: QualityVerdict, why: str) -> QualityVerdict:
    """What passed otherwise is unknown; what is rejected stays so."""
    if verdict.rejected:
        return verdict
    kind: Kind = verdict.kind if verdict.kind == "reference" else "unknown"
    return replace(verdict, kind=kind, why="; ".join(filter(None, [verdict.why, why])))


def _own(names: Sequence[str], scores: TaskScores) -> tuple[TaskDifference, ...]:
    known = [(name, scores.tasks[name]) for name in names if name in scores.tasks]
    return tuple(
        TaskDifference(name, each.metric, len(each.right), each.share, each.share)
        for name, each in known
    )


def _comparable(reference: TaskScores, found: TaskScores, name: str) -> bool:
    one, other = reference.tasks.get(name), found.tasks.get(name)
    if one is None or other is None:
        return False
    return bool(one.documents) and (one.metric, one.documents) == (other.metric, other.documents)


def _difference(name: str, reference: TaskScore, found: TaskScore, tasks: int) -> TaskDifference:
    pairs = pairs_of(reference.right, found.right)
    low, high = paired_interval(pairs, 1 - (1 - CONFIDENCE) / tasks)
    return TaskDifference(name, found.metric, pairs.count, reference.share, found.share, low, high)


def _lost(task: TaskDifference) -> str:
    return (
        f"{task.task}: {task.score:.1%} of {task.documents:,} documents right, the reference "
        f"{task.reference:.1%} (difference {task.low:+.1%} to {task.high:+.1%})"
    )
