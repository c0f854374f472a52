"""Tasks by lm-eval: a fake of its command at the process edge, and the real one where it is installed."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.endpoint import Endpoint
from tests.tuner.trial.quality.gated_study import scored, study_config
from tests.tuner.trial.quality.test_collect import completion, serving
from tuner.cli.exit_codes import Missing
from tuner.cli.preflight import check_machine
from tuner.config.groups.quality import LmEval, QualityConfig, QualityPrompts
from tuner.trial.quality.after_load import answered
from tuner.trial.quality.collect import NoAnswers
from tuner.trial.quality.task_run import command, run_tasks
from tuner.trial.quality.task_scores import FILE, TaskScores, read_scores, to_bytes
from tuner.trial.quality.verdict import QualityVerdict, with_tasks
from tuner.trial.result import ANSWERED

ENDPOINT = Endpoint("http://127.0.0.1:1", "m", "1", 0, (), 0.0, (), (), api_key="sekret")
# Writes what lm-eval 0.4.13 writes (seen in a run, 2026-11-30), by the folder of samples beside it.
FAKE = """#!{python}
import json, os, pathlib, shutil, sys
here = pathlib.Path({here!r})
said = {{"argv": sys.argv[1:], "environ": dict(os.environ)}}
(here / "said.json").write_text(json.dumps(said))
if (here / "fails").exists():
    print("Traceback (most recent call last):\\n  File \\"x.py\\", line 1\\nKeyError: 'sums'")
    sys.exit(1)
if (here / "hangs").exists():
    import signal
    signal.pause()
out = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1]) / "m"
shutil.copytree(here / "out", out)
"""


@pytest.fixture
def lm_eval(tmp_path: Path) -> LmEval:
    path = tmp_path / "lm_eval"
    path.write_text(FAKE.format(python=sys.executable, here=str(tmp_path)))
    path.chmod(0o755)
    (tmp_path / "out").mkdir()
    return LmEval(executable=str(path), timeout_s=60)


def sample(place: int, right: float, metric: str = "exact_match", its_filter: str = "none") -> str:
    digest = f"{place:016x}" + "0" * 48
    line = {"doc_id": place, "doc": {}, "doc_hash": digest, "filter": its_filter}
    return json.dumps({**line, "metrics": [metric], metric: right})


def wrote(folder: Path, task: str, lines: list[str], **results: Any) -> None:
    out = folder / "out"
    (out / f"samples_{task}_2026-11-30T18-49-09.796617.jsonl").write_text("\n".join(lines) + "\n")
    data = {"results": {}, "lm_eval_version": "0.4.13", "group_subtasks": {}, **results}
    (out / "results_2026-11-30T18-49-09.796617.json").write_text(json.dumps(data))


def asked(lm_eval: LmEval, *tasks: str, **changes: Any) -> QualityPrompts:
    settings = lm_eval.model_copy(update=changes)
    return QualityPrompts(tasks=tasks, lm_eval=settings, concurrency=3, timeout_s=30)


@pytest.mark.process
def test_scores_are_read_and_the_key_is_in_no_argument(tmp_path: Path, lm_eval: LmEval) -> None:
    wrote(tmp_path, "sums", [sample(0, 1.0), sample(1, 0.0), sample(2, 1.0)])
    wanted = asked(lm_eval, "sums", include_path="/tasks", limit=3, args=("--seed", "0"))
    scores = run_tasks(ENDPOINT, wanted)
    assert scores.lm_eval == "0.4.13"
    score = scores.tasks["sums"]
    assert (score.metric, score.right) == ("exact_match,none", [True, False, True])
    assert score.documents[1] == "0000000000000001"
    said = json.loads((tmp_path / "said.json").read_text())
    argv, environ = said["argv"], said["environ"]
    assert "sekret" not in " ".join(argv)
    assert environ["OPENAI_API_KEY"] == "sekret"
    assert environ["HF_HUB_OFFLINE"] == environ["HF_DATASETS_OFFLINE"] == "1"
    assert json.loads(argv[argv.index("--model_args") + 1]) == {
        "model": "m", "base_url": "http://127.0.0.1:1/v1/completions", "num_concurrent": 3, "max_retries": 3,
        "tokenizer_backend": "None", "tokenized_requests": False,
    }  # fmt: skip
    assert argv[argv.index("--include_path") + 1] == "/tasks"
    assert argv[-2:] == ["--seed", "0"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("mark", "changes", "said"),
    [
        ("fails", {}, "lm-eval failed: KeyError: 'sums'"),
        ("hangs", {"timeout_s": 1.0}, "tasks were not over in 1 s"),
        ("", {}, "lm-eval wrote no results"),
        ("", {"executable": "/no/such/lm_eval"}, "there is no /no/such/lm_eval on this node"),
    ],
)
def test_tasks_that_were_not_run_say_why(
    mark: str, changes: dict[str, Any], said: str, tmp_path: Path, lm_eval: LmEval
) -> None:
    if mark:
        (tmp_path / mark).touch()
    with pytest.raises(NoAnswers, match=re.escape(said)):
        run_tasks(ENDPOINT, asked(lm_eval, "sums", **changes))


@pytest.mark.process
@pytest.mark.parametrize(
    ("metric", "lines", "said"),
    [
        (None, [sample(0, 0.5, "acc")], "acc,none is not right or wrong"),
        (None, [sample(0, 0.5, "bleu")], "no metric of right or wrong: it has bleu,none"),
        ("exact_match,strict", [sample(0, 1.0)], "no metric exact_match,strict"),
        (None, ["{}"], "lm-eval's output is damaged"),
    ],
)
def test_output_that_is_no_score(
    metric: str | None, lines: list[str], said: str, tmp_path: Path, lm_eval: LmEval
) -> None:
    wrote(tmp_path, "sums", lines)
    with pytest.raises(NoAnswers, match=re.escape(said)):
        run_tasks(ENDPOINT, asked(lm_eval, "sums", metric=metric))


@pytest.mark.process
def test_groups_and_filters(tmp_path: Path, lm_eval: LmEval) -> None:
    lines = [sample(0, 0.0, its_filter="strict-match"), sample(0, 1.0, its_filter="flexible")]
    groups = {"all": ["one", "two"]}
    wrote(tmp_path, "one", lines, group_subtasks=groups)
    wrote(tmp_path, "two", lines, group_subtasks=groups)
    first = run_tasks(ENDPOINT, asked(lm_eval, "all")).tasks["all"]
    assert (first.metric, first.right) == ("exact_match,strict-match", [False, False])
    chosen = run_tasks(ENDPOINT, asked(lm_eval, "all", metric="exact_match,flexible"))
    assert chosen.tasks["all"].right == [True, True]


def test_chat_and_fetching(lm_eval: LmEval) -> None:
    argv = command("lm_eval", ENDPOINT, asked(lm_eval, "gsm8k", chat=True), Path("/out"))
    assert "local-chat-completions" in argv
    assert "/v1/chat/completions" in argv[argv.index("--model_args") + 1]
    assert argv[-1] == "--apply_chat_template"


@pytest.mark.process
def test_a_trial_keeps_its_answers_where_its_tasks_fail(tmp_path: Path, lm_eval: LmEval) -> None:
    with serving(lambda body: (200, completion(body["prompt"]))) as (endpoint, _):
        without = answered(endpoint, asked(lm_eval, "sums"))
        wrote(tmp_path, "sums", [sample(0, 1.0)])
        given = answered(endpoint, asked(lm_eval, "sums"))
    assert without.facts[ANSWERED] == {"prompts": 64, "tasks_missing": "lm-eval wrote no results"}
    assert set(without.files) == {"answers.json"}
    assert given.facts[ANSWERED] == {"prompts": 64, "tasks": {"sums": 1.0}, "lm_eval": "0.4.13"}
    (tmp_path / FILE).write_bytes(given.files[FILE])
    assert isinstance(read_scores(tmp_path), TaskScores)
    (tmp_path / FILE).write_text(
        '{"tasks": {"a": {"metric": "m", "documents": [], "right": [true]}}}'
    )
    assert "is damaged: tasks.a: " in str(read_scores(tmp_path))  # fmt: skip


# --- verdicts

CONFIG = QualityConfig(tasks=("sums",))
PASSED = QualityVerdict("passed", 0)


def of(*scores: Any) -> TaskScores:
    return TaskScores(tasks=dict(zip(("sums", "more"), scores, strict=False)))


@pytest.mark.parametrize(
    ("share", "limits"), [(0.0, (0.0, 0.04)), (0.01, (0.0, 0.25)), (0.15, (0.95, 1.0))]
)
def test_how_often_a_loss_is_rejected(share: float, limits: tuple[float, float]) -> None:
    """Against the truth. Both lose documents at random, the reference 2 % of those that it could get right."""
    rejected = 0
    for seed in range(100):
        ours, theirs = of(scored(0.02, seed=2 * seed)), of(scored(0.02 + share, seed=2 * seed + 1))
        rejected += with_tasks(CONFIG, PASSED, ours, theirs).rejected
    assert limits[0] <= rejected / 100 <= limits[1]


def test_what_is_better_passes_and_what_is_rejected_stays_so() -> None:
    better = with_tasks(CONFIG, PASSED, of(scored(0.3)), of(scored(0.0)))
    assert (better.kind, better.tasks[0].low > 0) == ("passed", True)
    before = QualityVerdict("rejected", 0, "answers differ")
    worse = with_tasks(CONFIG, before, of(scored(0.0)), of(scored(0.3)))
    assert (worse.kind, worse.why) == ("rejected", "answers differ")
    assert with_tasks(CONFIG, before, of(scored(0.0)), "no lm-eval").why == "answers differ"


def test_other_documents_are_not_compared() -> None:
    other = scored(0.0, documents=100)
    found = with_tasks(CONFIG, PASSED, of(scored(0.0)), of(other))
    assert (found.kind, found.why) == (
        "unknown",
        "tasks: sums: not the reference's documents or metric",
    )


def test_several_tasks_share_the_chance_of_a_mistake() -> None:
    one = with_tasks(CONFIG, PASSED, of(scored(0.0)), of(scored(0.1)))
    both = CONFIG.model_copy(update={"tasks": ("sums", "more")})
    two = with_tasks(both, PASSED, of(*[scored(0.0)] * 2), of(*[scored(0.1)] * 2))
    assert two.tasks[0].low < one.tasks[0].low


@pytest.mark.parametrize(("check", "told"), [("all", True), ("numerics", True), ("none", False)])
def test_a_missing_lm_eval_is_told_before_the_first_trial(check: str, told: bool) -> None:
    settings = LmEval(executable="/no/lm_eval")
    said = ""
    try:
        check_machine(study_config(check=check, tasks=("sums",), lm_eval=settings))
    except Missing as missing:
        said = str(missing)
    assert ("quality.lm_eval.executable: there is no /no/lm_eval" in said) == told


# --- the real one

TASK = """
task: tiny_sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


def summing() -> Callable[[dict[str, Any]], tuple[int, bytes]]:
    def reply(body: dict[str, Any]) -> tuple[int, bytes]:
        total = sum(map(int, re.findall(r"\d+", str(body["prompt"]))))
        choice = {"index": 0, "text": str(total), "finish_reason": "stop"}
        return 200, json.dumps({"choices": [choice]}).encode()

    return reply


@pytest.mark.process
@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("lm_eval") is None, reason="lm-eval is not on PATH")
def test_the_real_lm_eval_runs_a_task_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    data = tmp_path / "data.jsonl"
    rows = [{"q": f"{n}+{n}=", "a": str(2 * n + (n == 4))} for n in range(1, 7)]
    data.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny.yaml").write_text(TASK.format(data=data))
    settings = LmEval(include_path=str(tmp_path / "tasks"), timeout_s=300)
    with serving(summing()) as (endpoint, seen):
        scores = run_tasks(endpoint, QualityPrompts(tasks=("tiny_sums",), lm_eval=settings))
    assert {each["key"] for each in seen} == {"Bearer k"}
    score = scores.tasks["tiny_sums"]
    assert (score.metric, score.right.count(False), len(score.right)) == ("exact_match,none", 1, 6)
    assert to_bytes(scores)
    assert os.environ["HF_HOME"]
