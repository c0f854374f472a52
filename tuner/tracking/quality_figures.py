"""What the quality gate says of a trial, as tags and metrics of its run. Pure."""

from tuner.trial.result import Completed

EVIDENCE_LENGTH = 500  # a tag is one cell of a table; the whole log is an artifact


def quality_tags(result: Completed) -> dict[str, str]:
    """What the answers of a trial are worth; empty where they were not compared."""
    verdict = result.quality
    if verdict is None:
        return {}
    why = {"quality_because": verdict.why[:EVIDENCE_LENGTH]} if verdict.why else {}
    return {"quality": verdict.kind, **why}


def quality_metrics(result: Completed) -> dict[str, float]:
    """How far the answers of a trial differ from the reference's."""
    verdict = result.quality
    if verdict is None:
        return {}
    tasks = {f"quality_task_{each.task}": each.score for each in verdict.tasks}
    if not verdict.positions:
        return tasks
    drift = {} if verdict.drift_nats is None else {"quality_drift_nats": verdict.drift_nats}
    return {"quality_disagreement": verdict.disagreement, **drift, **tasks}
