"""Runs lm-eval's tasks against a running engine, in lm-eval's own environment, and reads what was right."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.endpoint import Endpoint
from serving.engines.deaths.diagnosis import Log, last_words
from serving.errors import LaunchError, ServingError
from serving.process.environ import HUB_TOKENS
from serving.process.process import supervised
from tuner.config.groups.quality import LmEval, QualityPrompts
from tuner.trial.quality.collect import NoAnswers
from tuner.trial.quality.task_scores import TaskScore, TaskScores

POLL_S, GRACE_S = 0.2, 5.0
LOG_BYTES = 64 << 10
HASH = 16  # hex digits of a document's that are kept
# Right or wrong: the metrics that are taken where none is configured, in this order.
METRICS = ("exact_match", "acc", "acc_norm", "pass@1")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
CACHES = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ENDPOINT")


class _Sample(BaseModel):
    """A line of lm-eval's samples; the value of each metric is beside these."""

    model_config = ConfigDict(frozen=True, extra="allow")

    doc_hash: str = Field(pattern="^[0-9a-f]{16,64}$")
    filter: str = "none"
    metrics: list[str]


class _Results(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    group_subtasks: dict[str, list[str]] = {}
    lm_eval_version: str = ""


def executable(settings: LmEval) -> str:
    """The path of lm-eval's command. Raises LaunchError."""
    found = shutil.which(settings.executable)
    if found is None:
        raise LaunchError(
            f"quality.lm_eval.executable: there is no {settings.executable} on this node: install lm-eval[api] "
            "in an environment of its own, and give the path of its command"
        )
    return found


def run_tasks(endpoint: Endpoint, asked: QualityPrompts) -> TaskScores:
    """The scores of all tasks. Raises NoAnswers: lm-eval is not there, fails, or is not done in time."""
    settings = asked.lm_eval
    with tempfile.TemporaryDirectory(prefix="wattfront-tasks-") as folder:
        out, log = Path(folder, "out"), Path(folder, "lm_eval.log")
        try:
            argv = command(executable(settings), endpoint, asked, out)
            with supervised(
                argv,
                _environ(endpoint, settings),
                log,
                grace_s=GRACE_S,
                inherits=(*CACHES, *(HUB_TOKENS if settings.fetch else ())),
            ) as process:
                deadline = time.monotonic() + settings.timeout_s
                while process.alive():
                    if time.monotonic() > deadline:
                        raise NoAnswers(
                            f"tasks were not over in {settings.timeout_s:g} s (quality.lm_eval.timeout_s)"
                        )
                    time.sleep(POLL_S)
                while (code := process.exit_code()) is None and process.supervised():
                    time.sleep(POLL_S)
        except ServingError as error:
            raise NoAnswers(error.evidence) from error
        if code != 0:
            raise NoAnswers(f"lm-eval failed: {last_words(Log.of(_tail(log)))}")
        return scores_in(out, asked.tasks, settings.metric)


def command(path: str, endpoint: Endpoint, asked: QualityPrompts, out: Path) -> list[str]:
    """lm-eval's arguments; the API key is in none of them."""
    settings = asked.lm_eval
    route = "chat/completions" if settings.chat else "completions"
    model_args = {
        "model": endpoint.model,
        "base_url": f"{endpoint.base_url}/v1/{route}",
        "num_concurrent": asked.concurrency,
        "max_retries": 3,
        "tokenizer_backend": "None",
        "tokenized_requests": False,
        **settings.model_args,
    }
    model = "local-chat-completions" if settings.chat else "local-completions"
    words = [path, "run", "--model", model, "--model_args", json.dumps(model_args)]
    words += ["--tasks", ",".join(asked.tasks), "--output_path", str(out), "--log_samples"]
    if settings.include_path is not None:
        words += ["--include_path", settings.include_path]
    if settings.limit is not None:
        words += ["--limit", str(settings.limit)]
    return [*words, *(["--apply_chat_template"] if settings.chat else []), *settings.args]


def _environ(endpoint: Endpoint, settings: LmEval) -> dict[str, str]:
    key = {"OPENAI_API_KEY": endpoint.api_key or "none"}
    return key if settings.fetch else {**key, **OFFLINE}


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_BYTES:].decode(errors="replace") if log.exists() else ""


def scores_in(out: Path, tasks: Sequence[str], metric: str | None) -> TaskScores:
    """The scores that lm-eval wrote into a folder. Raises NoAnswers."""
    try:
        results = _results(out)
        found = {task: _score(task, list(_samples(out, task, results)), metric) for task in tasks}
    except OSError as error:
        raise NoAnswers(f"lm-eval's output can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise NoAnswers(f"lm-eval's output is damaged: {error.errors()[0]['msg']}") from error
    return TaskScores(tasks=found, lm_eval=results.lm_eval_version)


def _results(out: Path) -> _Results:
    paths = sorted(out.rglob("results_*.json"))
    if not paths:
        raise NoAnswers("lm-eval wrote no results")
    return _Results.model_validate_json(paths[-1].read_bytes())


def _samples(out: Path, task: str, results: _Results) -> Iterator[_Sample]:
    """Of a task, or of all tasks of a group."""
    inner = results.group_subtasks.get(task, [])
    if inner:
        for each in inner:
            yield from _samples(out, each, results)
        return
    paths = sorted(out.rglob(f"samples_{task}_[0-9]*.jsonl"))
    if not paths:
        raise NoAnswers(f"lm-eval wrote no samples of {task}")
    with paths[-1].open() as lines:
        for line in lines:
            yield _Sample.model_validate_json(line)


def _score(task: str, samples: Sequence[_Sample], wanted: str | None) -> TaskScore:
    """`wanted`: a metric, or a metric and a filter: `exact_match,strict-match`."""
    there = [f"{name},{each.filter}" for each in samples for name in each.metrics]
    names = list(dict.fromkeys(there))
    chosen = next((each for each in _preferred(names, wanted)), None)
    if chosen is None:
        known = ", ".join(names) or "none"
        raise NoAnswers(f"{task} has no metric {wanted or 'of right or wrong'}: it has {known}")
    metric, _, its_filter = chosen.partition(",")
    mine = [each for each in samples if each.filter == its_filter and metric in each.metrics]
    values = [_value(each, metric) for each in mine]
    if any(value not in (0.0, 1.0) for value in values):
        raise NoAnswers(f"{task}: {chosen} is not right or wrong: set quality.lm_eval.metric")
    documents = [each.doc_hash[:HASH] for each in mine]
    return TaskScore(metric=chosen, documents=documents, right=[value == 1.0 for value in values])


def _preferred(names: Sequence[str], wanted: str | None) -> Iterator[str]:
    for metric in METRICS if wanted is None else (wanted,):
        yield from (name for name in names if metric in (name, name.partition(",")[0]))


def _value(sample: _Sample, metric: str) -> float | None:
    value: Any = (sample.model_extra or {}).get(metric)
    return float(value) if isinstance(value, int | float) else None
