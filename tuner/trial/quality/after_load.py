"""What a trial answers once its load is over: fixed prompts, and tasks where asked."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.endpoint import Endpoint
from tuner.config.groups.quality import QualityPrompts
from tuner.trial.quality import answers, task_scores
from tuner.trial.quality.collect import NoAnswers, collect
from tuner.trial.quality.task_run import run_tasks
from tuner.trial.result import ANSWERED

MISSING, TASKS_MISSING = "missing", "tasks_missing"  # why there are none, in the facts


@dataclass(frozen=True, slots=True)
class Answered:
    """What a trial says of its answers: facts for its provenance, and their files. `seconds`: that it took."""

    facts: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float | None = None


def answered(endpoint: Endpoint, asked: QualityPrompts | None) -> Answered:
    """The answers of a running engine. A curve that is measured is not lost with them."""
    if asked is None:
        return Answered()
    began = time.monotonic()
    facts: dict[str, object] = {}
    files: dict[str, bytes] = {}
    try:
        given = collect(endpoint, asked)
        facts["prompts"], files[answers.FILE] = len(given.first), answers.to_bytes(given)
    except NoAnswers as error:
        facts[MISSING] = str(error)
    if asked.tasks:
        try:
            scores = run_tasks(endpoint, asked)
            facts["tasks"] = {name: each.share for name, each in scores.tasks.items()}
            facts["lm_eval"] = scores.lm_eval
            files[task_scores.FILE] = task_scores.to_bytes(scores)
        except NoAnswers as error:
            facts[TASKS_MISSING] = str(error)
    return Answered({ANSWERED: facts}, files, time.monotonic() - began)
