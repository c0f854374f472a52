"""The command line in this process: what it prints and its exit codes, short of running a study."""

from pathlib import Path

import psutil
import pytest
import yaml

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line, study
from tests.tuner.samples.loaded import load
from tuner.cli.parser import main
from tuner.config.study import StudyConfig
from tuner.report.plan import LISTED
from tuner.study.planning.estimate import known_trials, unknown_trials

PLANNED = ("laptop", "laptop_frameworks", pytest.param("b300_vllm", marks=pytest.mark.thorough))
__all__ = ["bare_machine", "study"]


def ray_processes() -> set[int]:
    names = ("raylet", "gcs_server")
    ours = psutil.Process().children(recursive=True)
    return {p.pid for p in ours if p.is_running() and p.name() in names}


@pytest.mark.parametrize(
    ("override", "path", "hint"),
    [
        ("nosuch=1", "nosuch", "keys: cluster, economics, engine"),
        ("engine.llamacpp.paralel=4", "engine.llamacpp.paralel", "did you mean parallel?"),
        ("search.trials=0", "search.trials", "must be ≥ 1, ≤ 1,000,000, not 0"),
        ("engine=nosuch", "engine=nosuch", "vllm_cpu"),
        ("experiment=laptpo", "experiment=laptpo", "did you mean laptop"),
        ("engine.llamacpp.parallel=1,2", "engine.llamacpp.parallel", "--multirun"),
        ("topology.cpus", "topology.cpus", "key=value"),
    ],
)
@pytest.mark.parametrize("command", ["tune", "plan"])
def test_a_mistake_in_the_configuration_is_one_line(
    command: str, override: str, path: str, hint: str, capsys: Captured
) -> None:
    assert main([command, override]) == 2
    line = one_line(capsys)
    assert path in line
    assert hint in line


@pytest.mark.parametrize(
    ("override", "code", "why"),
    [
        (
            "tracking.uri='odd://host'",
            2,
            "tracking.uri: odd: unknown scheme; schemes: databricks, file",
        ),
        ("tracking.uri=nowhere", 2, "tracking.uri: nowhere: unknown scheme"),
        ("tracking.uri='http://host:99999'", 2, "tracking.uri: Port out of range"),
        ("tracking.uri='postgresql://host/db'", 4, "postgresql:// needs the driver psycopg2"),
        ("tracking.uri='mysql+pymysql://host/db'", 4, "mysql+pymysql:// needs the driver pymysql"),
        ("output_dir='q?x'", 2, "holds ?, which a database's URI can't"),
        ("output_dir='p%20q#'", 2, "holds # %, which a database's URI can't"),
    ],
)
@pytest.mark.parametrize("command", ["tune", "plan"])
def test_where_results_are_mirrored_is_judged_first(
    command: str, override: str, code: int, why: str, bare_machine: Path, capsys: Captured
) -> None:
    assert main([command, "experiment=laptop", override]) == code
    assert why in one_line(capsys)
    assert not list(bare_machine.iterdir())


def test_data_sets_are_judged_before_a_study(bare_machine: Path, capsys: Captured) -> None:
    (bare_machine / "trace").write_text('{"timestamp": NaN, "input_length": 8, "output_length": 4}')
    dataset = "workload.dataset={kind: mooncake, path: trace}"
    words = ["experiment=laptop", "~workload.input_tokens", "~workload.output_tokens", dataset]
    assert main(["bench", *words]) == 2
    assert "trace:1: the time is nan s" in one_line(capsys)


def test_the_printed_configuration_composes_again(bare_machine: Path, capsys: Captured) -> None:
    overrides = ["experiment=laptop_frameworks", "search.trials=5", "name='tab:smile:[b]le'"]
    assert main(["tune", *overrides, "--cfg", "job"]) == 0
    printed = capsys.readouterr().out
    assert StudyConfig.model_validate(yaml.safe_load(printed)) == load(overrides)
    private = bare_machine / "mine"
    private.mkdir()
    (private / "again.yaml").write_text(printed)
    assert main(["plan", "-c", "job", "-cn", "again", "--config-dir", "mine"]) == 0
    again = capsys.readouterr().out
    assert yaml.safe_load(again) == yaml.safe_load(printed)


@pytest.mark.parametrize("experiment", PLANNED)
def test_a_plan_names_everything_and_starts_nothing(
    experiment: str,
    bare_machine: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    before = ray_processes()
    assert main(["plan", f"experiment={experiment}"]) == 0
    text = capsys.readouterr().out
    assert main(["tune", "--dry-run", f"experiment={experiment}"]) == 0
    assert capsys.readouterr().out == text
    assert ray_processes() <= before
    assert list(bare_machine.iterdir()) == []
    config = load([f"experiment={experiment}"])
    known = known_trials(config)
    certain, _, later = text.replace(" \\\n   ", "").partition("# The next ones")
    commands_shown = [line for line in certain.splitlines() if " --port $PORT" in line]
    assert len(commands_shown) == len(known)
    assert len(set(commands_shown)) == len(known)
    assert bool(later) == (unknown_trials(config, known) > 0 and len(known) < LISTED)
    for proposal in known:
        assert f"# trial {proposal.number}\n" in text
    assert f"{config.search.trials} trials, " in text
    assert " at a time" in text
    assert "time: " in text


def test_a_plan_on_cpus_has_no_dollars(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    assert main(["plan", "experiment=laptop_frameworks"]) == 0
    text = capsys.readouterr().out
    assert "2 cores" in text
    assert "host-hours: about 0." in text
    assert (
        "dollars: unavailable: hardware laptop has no price (hardware.usd_per_device_hour)" in text
    )
    text = text.replace(" \\\n   ", "")
    assert "llama-server --model smollm2-135m-instruct" in text
    assert "vllm serve smollm2-135m-instruct" in text
    assert "which tpe chooses by the results" in text


@pytest.mark.thorough
def test_a_plan_on_gpus_shows_devices_hours_and_dollars(capsys: Captured) -> None:
    assert main(["plan", "experiment=b300_vllm", "cluster.nodes=4"]) == 0
    text = capsys.readouterr().out
    assert "8 GPUs" in text
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in text
    assert "planned for 4 nodes of 8 GPUs" in text
    assert "GPU-hours: " in text
    (dollars,) = [line for line in text.splitlines() if line.startswith("dollars: ")]
    assert "$2.52 per GPU-hour" in dollars
    assert "2026-08-14" in text


def test_multirun_plans_each_combination(capsys: Captured) -> None:
    sweep = [
        "-m",
        "experiment=laptop",
        "engine.llamacpp.parallel=2,4",
        "workload=laptop,smoke",
        "search.trials=1",
    ]
    assert main(["tune", "--dry-run", *sweep]) == 0
    heads = [row for row in capsys.readouterr().out.splitlines() if row.startswith("# experiment")]
    assert heads == [
        f"# experiment=laptop engine.llamacpp.parallel={slots} workload={load} search.trials=1"
        for slots in (2, 4)
        for load in ("laptop", "smoke")
    ]


def test_multirun_prints_each_configuration(capsys: Captured) -> None:
    assert main(["tune", "-m", "--cfg", "job", "search.trials=1,2"]) == 0
    text = capsys.readouterr().out
    assert "\n  trials: 1\n" in text
    assert "\n  trials: 2\n" in text


def test_multirun_finds_the_last_mistake_before_the_first_study(capsys: Captured) -> None:
    assert main(["tune", "-m", "--dry-run", "experiment=laptop", "search.trials=1,0"]) == 2
    assert "search.trials" in one_line(capsys)


def test_a_private_experiment(bare_machine: Path, capsys: Captured) -> None:
    private = bare_machine / "mine" / "experiment"
    private.mkdir(parents=True)
    (private / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - laptop\n  - override /workload: smoke\nname: ours\n"
        "search:\n  trials: 1\nengine:\n  llamacpp:\n    parallel: 7\n"
    )
    assert main(["plan", "experiment=ours", "--config-dir", "mine"]) == 0
    text = capsys.readouterr().out
    assert "1 trial, " in text
    assert "--parallel 7" in text
    assert main(["plan", "experiment=ours"]) == 2
    assert "experiment=ours" in one_line(capsys)
    assert main(["plan", "--config-dir", "nosuch"]) == 2
    assert "nosuch" in one_line(capsys)


def test_a_report_finds_a_study_by_name_or_path(study: Path, capsys: Captured) -> None:
    assert main(["report", "laptop-1"]) == 0
    text = capsys.readouterr().out
    assert "Pareto front" in text
    assert "MLflow: open http://127.0.0.1:9" in text
    assert main(["report", str(study)]) == 0
    assert capsys.readouterr().out == text.replace("studies/laptop-1", str(study))


def test_a_broken_ledger_is_one_line(study: Path, capsys: Captured) -> None:
    (study / "ledger.jsonl").write_text('{"status": "asked"}\n')
    assert main(["report", "laptop-1"]) == 4
    assert "ledger.jsonl:1: the line lacks 'number'" in one_line(capsys)


# mlflow's own dependencies warn when it is imported
@pytest.mark.process
@pytest.mark.filterwarnings("ignore::Warning")
def test_an_mlflow_that_is_gone_is_one_line_after_the_report(study: Path, capsys: Captured) -> None:
    assert main(["report", "laptop-1", "--to-mlflow"]) == 4
    output, errors = capsys.readouterr()
    assert "Pareto front" in output
    assert len(errors.splitlines()) == 1
    assert errors.startswith("wattfront: MLflow: ")


@pytest.mark.parametrize("command", ["tune", "bench"])
def test_everything_missing_is_listed_before_anything_starts(
    command: str, bare_machine: Path, capsys: Captured
) -> None:
    assert main([command, "experiment=laptop_frameworks"]) == 4
    output, errors = capsys.readouterr()
    assert output == ""
    for line in (
        "wattfront engines install llamacpp",
        "wattfront engines install vllm-cpu",
        "wattfront engines install sglang-cpu",
        "wattfront models fetch smollm2-135m-instruct --format gguf",
        "wattfront models fetch smollm2-135m-instruct --format safetensors",
    ):
        assert f"`{line}`" in errors
    assert len(errors.splitlines()) == 5
    assert list(bare_machine.iterdir()) == []
