"""Real engines through the whole path: Hydra, Tune, Serve, load, ledger, MLflow."""

import math
import stat

import mlflow
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Wattfront
from tuner.results.ledger import results
from tuner.trial.quality.answers import Answers, read_answers
from tuner.trial.result import Completed

pytestmark = [
    pytest.mark.process,
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::Warning"),  # MLflow's own
]

LENGTHS = ("workload.input_tokens=8", "workload.output_tokens=8")


def completed(wattfront: Wattfront) -> list[Completed]:
    found = [entry.result for entry in results(wattfront.study())]
    assert all(isinstance(result, Completed) for result in found), found
    return [result for result in found if isinstance(result, Completed)]


def loads(trial: Completed) -> list[str]:
    """Each once: on a busy machine a level may contradict another, and is measured again."""
    return list(dict.fromkeys(point.load for point in trial.points))


def test_llama_cpp_and_mlflow(wattfront: Wattfront) -> None:
    asked = ("quality=quick", "quality.check=all")
    code, output = wattfront.run("tune", "experiment=smoke", *LENGTHS, *asked)
    assert code in (0, 3), output
    trials = completed(wattfront)
    assert len(trials) == 2
    assert "Quality gate: greedy answers against trial 0's" in output
    for trial in trials:
        assert loads(trial) == ["closed 1", "closed 2"]
        for point in trial.points:
            assert point.metrics["output_tokens_mean"] == trial.config.workload.output_tokens
            assert point.metrics["input_tokens_mean"] == trial.config.workload.input_tokens
            assert point.metrics["error_rate"] == 0
            assert math.isclose(
                point.metrics["interactivity_tok_s_user"] or 0,
                1000 / (point.metrics["tpot_p50_ms"] or math.inf),
            )
        assert "llama-server" in trial.command
        assert trial.provenance["engine_metrics"].startswith("/metrics read ")
    for entry in results(wattfront.study()):
        samples = entry.folder / "engine_metrics.parquet"
        assert stat.S_IMODE(samples.stat().st_mode) == 0o600
        running = pq.read_table(samples)["running"].to_pylist()
        assert max(running) >= 1
        answers = read_answers(entry.folder)
        assert isinstance(answers, Answers), answers
        assert isinstance(entry.result, Completed)
        verdict = entry.result.quality
        assert verdict is not None
        # Other batches round otherwise: how far this one's answers differ is not fixed.
        kinds = {"reference"} if entry.number == 0 else {"passed", "rejected", "unknown"}
        assert verdict.kind in kinds
        assert 20 <= verdict.positions <= 200
        assert verdict.drift_nats is not None
    client = mlflow.MlflowClient(f"sqlite:///{wattfront.folder}/studies/mlflow.db")
    experiment = client.get_experiment_by_name("wattfront")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    kinds = sorted(run.data.tags["kind"] for run in runs)
    judged = {run.data.tags.get("quality") for run in runs if run.data.tags["kind"] == "trial"}
    assert "reference" in judged
    assert (
        kinds == ["point"] * sum(len(trial.points) for trial in trials) + ["study"] + ["trial"] * 2
    )


def test_vllm_on_the_cpu(wattfront: Wattfront) -> None:
    code, output = wattfront.run("tune", "experiment=smoke_vllm", "tracking=none", *LENGTHS)
    assert code in (0, 3), output
    (trial,) = completed(wattfront)
    assert loads(trial) == ["closed 1", "closed 2"]
    for point in trial.points:
        assert point.metrics["output_tokens_mean"] == trial.config.workload.output_tokens
        assert point.metrics["input_tokens_mean"] == trial.config.workload.input_tokens
        assert point.metrics["error_rate"] == 0
    assert "vllm serve" in trial.command
    assert trial.provenance["engine_metrics"].startswith("/metrics read ")
    assert 0 < (trial.timings.engine_warmup_s or 0) < trial.timings.startup_s
    assert trial.provenance["engine_version"].startswith("0.32")
