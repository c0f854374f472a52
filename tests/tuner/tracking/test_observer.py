"""The mirror against a real MLflow: in SQLite, and behind a real server."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import mlflow
import pytest
from rich.console import Console

from tests.tuner.samples.study import POINTS, sample_config, sample_study
from tests.tuner.tracking import mlflow_server
from tuner.config.load import save
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger, results
from tuner.search import Proposal
from tuner.tracking.mlflow import TrackingError
from tuner.tracking.mlflow.writer import ClientWriter
from tuner.tracking.observer import Tracker, mirror, tracking_uri, ui_command

# mlflow's own dependencies, not ours
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::Warning")]


def client(config: StudyConfig, folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=tracking_uri(config.tracking, folder))


def runs(config: StudyConfig, folder: Path, wanted: str) -> list[Any]:
    seen = client(config, folder)
    experiment = seen.get_experiment_by_name("wattfront")
    assert experiment is not None
    return list(seen.search_runs([experiment.experiment_id], wanted))


def artifacts(config: StudyConfig, folder: Path, run: Any) -> set[str]:
    return {each.path for each in client(config, folder).list_artifacts(run.info.run_id)}


def observe(config: StudyConfig, folder: Path, numbers: range) -> str:
    """Plays the study: each result is in the ledger when the tracker hears of it."""
    said = io.StringIO()
    with Tracker(config, folder, Console(file=said, width=300)) as tracker:
        for number in numbers:
            sample_study(folder, config, range(number, number + 1))
            entry = results(folder)[-1]
            proposal = Proposal(number, POINTS[number], entry.result.config)
            tracker.started(proposal)
            tracker.finished(proposal, entry.result, entry.folder)
        tracker.closing()
    return said.getvalue()


def test_study_trial_and_point_runs_hang_together(folder: Path) -> None:
    config = sample_config()
    assert len(observe(config, folder, range(10)).splitlines()) == 1  # the link
    (study,) = runs(config, folder, "tags.kind = 'study'")
    trials = runs(config, folder, "tags.kind = 'trial'")
    points = runs(config, folder, "tags.kind = 'point'")
    assert (len(trials), len(points)) == (10, 32)
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    whole = {run.info.run_id for run in trials if run.data.tags["status"] == "completed"}
    assert {run.data.tags["mlflow.parentRunId"] for run in points} == whole
    assert {run.info.status for run in [study, *points]} == {"FINISHED"}
    assert study.data.metrics["trials_failed"] == 2
    assert study.data.metrics["throughput_output_tok_s_device_in_instant"] == 0
    wanted = {"pareto.html", "pareto.png", "ledger.jsonl", "study.yaml"}
    assert artifacts(config, folder, study) == wanted


def test_runs_carry_what_they_are_compared_by(folder: Path) -> None:
    config = sample_config()
    observe(config, folder, range(10))
    (trial,) = runs(config, folder, "tags.kind = 'trial' and tags.trial = '003'")
    assert trial.info.run_name == "003 vllm max_num_seqs=16 enable_prefix_caching=false"
    assert trial.data.params["max_num_seqs"] == "16"
    assert trial.data.params["enable_prefix_caching"] == "False"
    assert trial.data.metrics["overhead_s"] == pytest.approx(1.9)
    names = {"config.json", "command.sh", "engine.log", "records.parquet"}
    assert artifacts(config, folder, trial) == names
    entry = results(folder)[3]
    assert trial.info.end_time == round(entry.time.timestamp() * 1000)
    (point,) = runs(
        config, folder, "tags.kind = 'point' and tags.trial = '003' and tags.level = '2'"
    )
    assert point.data.params["load"] == "closed 4"
    assert point.data.params["engine"] == "vllm"
    expected = {k: v for k, v in entry.result.points[2].metrics.items() if v is not None}  # type: ignore[union-attr]
    assert point.data.metrics == pytest.approx(expected)
    (failed,) = runs(config, folder, "tags.failure = 'OutOfMemory'")
    assert failed.info.status == "FAILED"
    assert "failed to allocate" in failed.data.tags["evidence"]


def test_the_front_and_the_best_of_tiers_can_be_searched_for(folder: Path) -> None:
    config = sample_config()
    observe(config, folder, range(10))
    front = runs(config, folder, "tags.kind = 'point' and tags.pareto = 'yes'")
    assert {(r.data.tags["trial"], r.data.tags["load"]) for r in front} == {
        ("008", "closed 1"), ("006", "closed 2"), ("002", "closed 4"), ("002", "closed 8"),
    }  # fmt: skip
    (best,) = runs(config, folder, "tags.tier_best = 'bulk,standard'")
    assert best.data.tags["trial"] == "002"


def test_a_point_that_is_overtaken_leaves_the_front(folder: Path) -> None:
    config = sample_config()
    observe(config, folder, range(2))
    assert len(runs(config, folder, "tags.pareto = 'yes'")) == 3
    observe(config, folder, range(2, 10))
    front = runs(config, folder, "tags.pareto = 'yes'")
    assert "000" not in {run.data.tags["trial"] for run in front}


def test_mirroring_again_changes_nothing(folder: Path) -> None:
    config = sample_config()
    sample_study(folder, config)
    mirror(folder, config)
    before = {run.info.run_id: run.data.tags for run in runs(config, folder, "")}
    mirror(folder, config)
    assert {run.info.run_id: run.data.tags for run in runs(config, folder, "")} == before
    assert len(before) == 1 + 10 + 32


def test_a_trial_that_was_half_written_is_written_anew(folder: Path) -> None:
    config = sample_config()
    sample_study(folder, config, range(2))
    mirror(folder, config)
    (torn,) = runs(config, folder, "tags.kind = 'trial' and tags.trial = '001'")
    client(config, folder).update_run(torn.info.run_id, status="RUNNING")
    mirror(folder, config)
    trials = runs(config, folder, "tags.kind = 'trial'")
    points = runs(config, folder, "tags.kind = 'point'")
    assert (len(trials), len(points)) == (2, 8)
    assert torn.info.run_id not in {run.info.run_id for run in trials}


def test_two_studies_share_an_experiment(folder: Path) -> None:
    config, other = sample_config(), folder.parent / "laptop-2"
    sample_study(folder, config, range(2))
    sample_study(other, config, range(1))
    mirror(folder, config)
    mirror(other, config)
    assert len(runs(config, folder, "tags.kind = 'point' and tags.study = 'laptop-1'")) == 8
    assert len(runs(config, folder, "tags.kind = 'point' and tags.study = 'laptop-2'")) == 4


def test_a_server_that_is_down_is_one_line_and_no_more(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = sample_config(f"http://127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        said = observe(config, folder, range(3))
    assert time.monotonic() - began < 30
    assert len(said.splitlines()) == 1
    assert f"wattfront report {folder} --to-mlflow" in said
    assert len(results(folder)) == 3
    with pytest.raises(TrackingError):
        mirror(folder, config)
    mirror(folder, sample_config())
    assert len(runs(sample_config(), folder, "tags.kind = 'trial'")) == 3


def test_a_database_that_breaks_in_the_middle_stops_nothing(folder: Path) -> None:
    config, said = sample_config(), io.StringIO()
    with Tracker(config, folder, Console(file=said, width=300)) as tracker:
        sample_study(folder, config, range(1))
        entry = results(folder)[0]
        proposal = Proposal(0, POINTS[0], entry.result.config)
        tracker.started(proposal)
        (folder.parent / "mlflow.db").write_bytes(b"no database any more" * 1000)
        tracker.finished(proposal, entry.result, entry.folder)
    opened, lost = said.getvalue().splitlines()
    assert "/#/experiments/" in opened
    assert "Nothing is lost" in lost


def test_a_study_stopped_at_once_does_not_wait_for_mlflow(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes the connection and says nothing."""
    monkeypatch.setattr("tuner.tracking.observer.INTERRUPTED_TIMEOUT_S", 0.2)
    said = io.StringIO()
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        config = sample_config(f"http://127.0.0.1:{mute.getsockname()[1]}")
        tracker = Tracker(config, folder, Console(file=said, width=300))
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), tracker:
            raise KeyboardInterrupt
        took_s = time.monotonic() - began
    tracker._thread.join()  # the server is gone: it gives up
    assert took_s < 20
    assert "it is not complete after" in said.getvalue().splitlines()[0]
    assert f"wattfront report {folder} --to-mlflow" in said.getvalue()


def test_tracking_none_touches_nothing(tmp_path: Path) -> None:
    config = sample_config(kind="none")
    assert observe(config, tmp_path / "study", range(2)) == ""
    mirror(tmp_path / "study", config)
    assert not (tmp_path / "mlflow.db").exists()
    assert "not used" in ui_command(config, tmp_path / "study")


def test_one_command_opens_mlflow(tmp_path: Path) -> None:
    command = ui_command(sample_config(), tmp_path / "my studies" / "a")  # not mirrored yet
    assert command.endswith(f"'sqlite:///{tmp_path}/my studies/mlflow.db'")
    assert ui_command(sample_config("http://host:5000"), tmp_path) == "open http://host:5000"


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[str]:
    shutil.copy(empty_database, tmp_path / "server.db")
    with mlflow_server.server(tmp_path, mlflow_server.free_port()) as url:
        yield url


def test_a_server_gets_the_same_runs_and_artifacts(server: str, tmp_path: Path) -> None:
    config, folder = sample_config(server), tmp_path / "laptop-1"
    (said,) = observe(config, folder, range(3)).splitlines()
    assert said.startswith(f"MLflow: this study's points: {server}/#/experiments/")
    (study,) = runs(config, folder, "tags.kind = 'study'")
    assert {"pareto.html", "pareto.png", "ledger.jsonl"} <= artifacts(config, folder, study)
    assert len(runs(config, folder, "tags.kind = 'point'")) == 12
    (trial,) = runs(config, folder, "tags.kind = 'trial' and tags.trial = '001'")
    assert "records.parquet" in artifacts(config, folder, trial)


def test_a_server_that_went_away_gets_everything_once_it_is_back(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the same study: it stops in the middle, and starts again on the same port."""
    monkeypatch.setattr("tuner.tracking.observer.RETRY_MIN_S", 0.2)
    monkeypatch.setattr("tuner.tracking.observer.RETRY_MAX_S", 0.5)
    shutil.copy(empty_database, tmp_path / "server.db")
    port, folder, said = mlflow_server.free_port(), tmp_path / "laptop-1", io.StringIO()
    config = sample_config(f"http://127.0.0.1:{port}")
    folder.mkdir()
    save(config, folder)

    def trial(number: int) -> None:
        sample_study(folder, config, range(number, number + 1))
        entry = results(folder)[-1]
        proposal = Proposal(number, POINTS[number], entry.result.config)
        tracker.started(proposal)
        tracker.finished(proposal, entry.result, entry.folder)

    def mirrored() -> int:
        return len(runs(config, folder, "tags.kind = 'trial'"))

    def until(reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not reached():
            assert time.monotonic() < deadline, said.getvalue()
            time.sleep(0.1)

    first, tracker = ExitStack(), Tracker(config, folder, Console(file=said, width=300))
    first.enter_context(mlflow_server.server(tmp_path, port))
    with first, tracker:
        trial(0)
        until(lambda: mirrored() == 1)
        first.close()
        trial(1)
        until(lambda: "Nothing is lost" in said.getvalue())
        trial(2)
        with mlflow_server.server(tmp_path, port):  # no trial ends any more: it is tried again
            until(lambda: "reached again" in said.getvalue())
            assert mirrored() == 3
            trial(3)
            tracker.__exit__(None, None, None)
            assert mirrored() == 4
            (study,) = runs(config, folder, "tags.kind = 'study'")
            assert study.info.status == "KILLED"  # of ten trials
            assert len(runs(config, folder, "tags.kind = 'point'")) == 16
    assert len(said.getvalue().splitlines()) == 3


@pytest.mark.parametrize(
    ("end", "status"),
    [(None, "KILLED"), (KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")],
)
@pytest.mark.parametrize("trials", [0, 2])
def test_only_a_study_that_ran_to_its_end_is_finished(
    folder: Path, end: type[BaseException] | None, status: str, trials: int
) -> None:
    config = sample_config()
    sample_study(folder, config, range(trials))
    with suppress(RuntimeError, KeyboardInterrupt), Tracker(config, folder) as tracker:
        tracker._ready.wait(60)
        if end is not None:
            raise end
    tracker._thread.join()
    (study,) = runs(config, folder, "tags.kind = 'study'")
    assert study.info.status == status
    sample_study(folder, config, range(trials, 10))
    with Ledger.open(folder) as ledger:
        mirror(folder, config)
        (study,) = runs(config, folder, "tags.kind = 'study'")
        assert study.info.status == "RUNNING"
        ledger.complete()
    mirror(folder, config)
    (study,) = runs(config, folder, "tags.kind = 'study'")
    assert study.info.status == "FINISHED"


def test_a_copied_folder_of_studies_is_whole(folder: Path, tmp_path: Path) -> None:
    config = sample_config()
    sample_study(folder, config, range(2))
    mirror(folder, config)
    copy = tmp_path / "elsewhere" / "my studies"
    shutil.copytree(folder.parent, copy, ignore=shutil.ignore_patterns("elsewhere"))
    shutil.rmtree(folder)
    shutil.rmtree(folder.parent / "mlartifacts")
    moved = copy / folder.name
    assert "mlflow.db" in ui_command(config, moved)  # as `report` prints it
    (trial,) = runs(config, moved, "tags.kind = 'trial' and tags.trial = '001'")
    found = client(config, moved).download_artifacts(trial.info.run_id, "engine.log")
    assert Path(found).read_text() == "log of trial 1\n"
    sample_study(moved, config, range(2, 4))
    mirror(moved, config)
    assert len(runs(config, moved, "tags.kind = 'trial'")) == 4
    assert len(list((copy / "mlartifacts").iterdir())) == 5


def test_several_studies_may_begin_in_a_new_folder_at_once(tmp_path: Path) -> None:
    """MLflow's own migrations fail where two run at once: one process migrates, the others wait."""
    config, code = (
        sample_config(),
        (
            "import sys\nfrom pathlib import Path\nfrom tuner.config.load import load_saved\n"
            "from tuner.tracking.observer import mirror\nf = Path(sys.argv[1])\nmirror(f, load_saved(f))"
        ),
    )
    studies = [tmp_path / f"laptop-{number}" for number in range(3)]
    for study in studies:
        study.mkdir()
        save(config, study)
        sample_study(study, config, range(1))
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(study)],
            env=environ, stderr=subprocess.PIPE, text=True,
        )
        for study in studies
    ]  # fmt: skip
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert len(runs(config, studies[0], "tags.kind = 'trial'")) == 3


def test_the_database_holds_what_mlflow_s_client_would_write(folder: Path) -> None:
    config, other = sample_config(), folder.parent / "laptop-2"
    for study in (folder, other):
        sample_study(study, config, range(2))
    mirror(folder, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.tracking.mlflow.mirror.writer_of", ClientWriter)
        mirror(other, config)
    seen = []
    for study in (folder, other):
        rows = []
        for run in runs(config, study, f"tags.study = '{study.name}' and tags.kind != 'study'"):
            info, data = dict(run.info), run.data
            tags = {k: v for k, v in data.tags.items() if not k.startswith("mlflow.")}
            names = {"mlflow.runName": data.tags["mlflow.runName"].replace(study.name, "NAME")}
            tags |= {"study": "NAME", **names, "parent": str("mlflow.parentRunId" in data.tags)}
            for own in ("run_id", "run_uuid", "artifact_uri", "run_name", "start_time", "end_time"):
                info.pop(own, None)
            rows.append((sorted(tags.items()), data.params, data.metrics, sorted(info.items()),
                         sorted(artifacts(config, study, run))))  # fmt: skip
        seen.append(sorted(rows, key=repr))
    assert seen[0] == seen[1]
