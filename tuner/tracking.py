"""Mirrors the ledger to MLflow. The only file that imports mlflow."""

import logging
import os
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from rich.console import Console

from serving.topology import Strict
from tuner.ledger import LEDGER, Finished, LedgerError, results
from tuner.picture import Judged
from tuner.plots import write_plots
from tuner.runs import (
    RunData,
    point_run,
    study_metrics,
    study_tags,
    trial_run,
    verdicts,
)
from tuner.search import Proposal
from tuner.trial import Completed, TrialResult

LAST_S = 120.0  # how long the end of a study waits for MLflow
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


class TrackingConfig(Strict):
    """`uri` None: SQLite beside the studies. An http(s) URI: a tracking server."""

    kind: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None
    experiment: str = "wattfront"


class Tracked(Judged, Protocol):
    """A study that says where it is mirrored to."""

    @property
    def tracking(self) -> TrackingConfig: ...


class TrackingError(Exception):
    """MLflow can't be written to. One line; the ledger has everything."""


class Tracker:
    """An observer of a study: mirrors each result from a thread of its own.

    Opening MLflow can take ten seconds (a new database is migrated): that is done at once, before
    trials start. Whatever fails is said once, in one line; a study never waits and never stops for it.
    """

    def __init__(self, study: Tracked, folder: Path, console: Console | None = None) -> None:
        self._study, self._folder, self._console = study, folder, console or Console(stderr=True)
        self._todo: queue.Queue[bool] = queue.Queue()
        self._broken = False
        self._mirror: Mirror | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> Self:
        if self._study.tracking.kind == "mlflow":
            self._attempt(self._open)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._thread.is_alive():
            return
        self._todo.put(False)
        self._thread.join(LAST_S)
        if self._thread.is_alive():
            self._warn(f"it has not taken everything in {LAST_S:.0f} s")

    def started(self, proposal: Proposal) -> None:
        """Nothing is mirrored before there is a result."""

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        self._todo.put(True)

    def closing(self) -> None:
        """What still runs is mirrored when it is finished."""

    def _work(self) -> None:
        """Any number of results waiting are one job: the ledger says which MLflow lacks."""
        while self._todo.get():
            if self._todo.empty():
                self._attempt(self._catch_up)
        self._attempt(self._conclude)

    def _open(self) -> None:
        self._mirror = Mirror(self._study, self._folder)

    def _catch_up(self) -> None:
        if self._mirror is not None:
            self._mirror.catch_up()

    def _conclude(self) -> None:
        if self._mirror is not None:
            self._mirror.conclude()

    def _attempt(self, job: Callable[[], None]) -> None:
        """The first failure is the last attempt: each would cost a dead server's timeout."""
        if self._broken:
            return
        try:
            job()
        except (TrackingError, LedgerError) as error:
            self._broken = True
            self._warn(str(error))

    def _warn(self, what: str) -> None:
        again = shlex.join(["wattfront", "report", str(self._folder), "--to-mlflow"])
        self._console.print(
            f"MLflow: {what}. Nothing is lost; later: {again}",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def mirror(folder: Path, study: Tracked) -> None:
    """Writes what MLflow does not have yet of a study. Raises TrackingError."""
    if study.tracking.kind == "mlflow":
        Mirror(study, folder).conclude()


def tracking_uri(tracking: TrackingConfig, folder: Path) -> str:
    """The server, or the database beside the study's folder."""
    return tracking.uri or f"sqlite:///{folder.absolute().parent / DATABASE}"


def ui_command(study: Tracked, folder: Path) -> str:
    """The one command that opens MLflow, or where it is open already."""
    if study.tracking.kind == "none":
        return "not used (tracking=none)"
    uri = tracking_uri(study.tracking, folder)
    if uri.startswith(("http://", "https://")):
        return f"open {uri}"
    program = Path(sys.executable).parent / "mlflow"
    name = str(program) if program.exists() else "mlflow"
    if program.is_relative_to(Path.cwd()):
        name = str(program.relative_to(Path.cwd()))
    return shlex.join([name, "ui", "--workers", "1", "--backend-store-uri", uri])


class Mirror:
    """One study in MLflow: its run, under it its trials', under each of them its points'.

    A run is written whole and then closed, so that one left open by a crash is known, and replaced.
    Raises TrackingError for whatever MLflow, the network or the disk refuses.
    """

    def __init__(self, study: Tracked, folder: Path) -> None:
        self._study, self._folder, self._name = study, folder, folder.absolute().name
        with _reported():
            self._client = _client(tracking_uri(study.tracking, folder))
            self._experiment = self._experiment_id()
            self._run_id = self._study_run_id()
            self._trials = self._mirrored_trials()
            self._points = self._mirrored_points()

    def catch_up(self) -> None:
        """Writes the trials that MLflow lacks, and who is on the front now."""
        with _reported():
            entries = results(self._folder)
            for entry in entries:
                if entry.number not in self._trials:
                    self._write_trial(entry)
            for key, tags in verdicts(self._study, entries).items():
                run_id, known = self._points[key]
                if known != tags:
                    self._client.log_batch(run_id, tags=_tags(tags))
                    self._points[key] = (run_id, tags)

    def conclude(self) -> None:
        """Catches up, then closes the study's run with its metrics, plots, ledger and configuration."""
        self.catch_up()
        with _reported():
            entries = results(self._folder)
            metrics = study_metrics(self._study, entries)
            self._client.log_batch(self._run_id, metrics=_metrics(metrics, _now_ms()))
            plots = write_plots(self._study, entries, self._folder)
            for path in (*plots, self._folder / LEDGER, self._folder / "study.yaml"):
                if path.exists():
                    self._client.log_artifact(self._run_id, str(path))
            self._client.set_terminated(self._run_id, "FINISHED")

    def _experiment_id(self) -> str:
        tracking = self._study.tracking
        found = self._client.get_experiment_by_name(tracking.experiment)
        if found is not None:
            return str(found.experiment_id)
        here = None if tracking.uri else (self._folder.absolute().parent / ARTIFACTS).as_uri()
        return str(self._client.create_experiment(tracking.experiment, artifact_location=here))

    def _study_run_id(self) -> str:
        for run in self._search("study"):
            return str(run.info.run_id)
        tags = study_tags(self._study, self._name)
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        return str(run.info.run_id)

    def _mirrored_trials(self) -> set[int]:
        whole, points = set[int](), list(self._search("point"))
        for run in self._search("trial"):
            if run.info.status != "RUNNING":
                whole.add(int(run.data.tags["trial"]))
                continue
            for point in points:
                if point.data.tags.get("mlflow.parentRunId") == run.info.run_id:
                    self._client.delete_run(point.info.run_id)
            self._client.delete_run(run.info.run_id)
        return whole

    def _mirrored_points(self) -> dict[tuple[int, int], tuple[str, dict[str, str]]]:
        found = {}
        for run in self._search("point"):
            tags = run.data.tags
            known = {name: tags[name] for name in ("pareto", "tier_best") if name in tags}
            found[int(tags["trial"]), int(tags["level"])] = (str(run.info.run_id), known)
        return found

    def _search(self, kind: str) -> Iterator[Any]:
        quote = '"' if "'" in self._name else "'"
        wanted = f"tags.kind = '{kind}' and tags.study = {quote}{self._name}{quote}"
        token = None
        while True:
            page = self._client.search_runs([self._experiment], wanted, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _write_trial(self, entry: Finished) -> None:
        data = trial_run(self._study, self._name, entry)
        run_id = self._begin(data, self._run_id)
        for point in entry.result.points if isinstance(entry.result, Completed) else ():
            each = point_run(self._study, self._name, entry, point)
            point_id = self._begin(each, run_id)
            self._client.set_terminated(point_id, "FINISHED", each.end_ms)
            self._points[entry.number, point.level] = (point_id, {})
        config = entry.result.config.model_dump_json(indent=2, exclude_none=True)
        self._client.log_text(run_id, config, "config.json")
        self._client.log_text(run_id, entry.result.command + "\n", "command.sh")
        if entry.folder.is_dir():
            self._client.log_artifacts(run_id, str(entry.folder))
        status = "FINISHED" if isinstance(entry.result, Completed) else "FAILED"
        self._client.set_terminated(run_id, status, data.end_ms)
        self._trials.add(entry.number)

    def _begin(self, data: RunData, parent_id: str) -> str:
        from mlflow.entities import Param

        tags = {**data.tags, "mlflow.parentRunId": parent_id}
        run = self._client.create_run(
            self._experiment, start_time=data.start_ms, tags=tags, run_name=data.name
        )
        params = [Param(name, value) for name, value in data.params.items()]
        self._client.log_batch(run.info.run_id, _metrics(data.metrics, data.end_ms), params)
        return str(run.info.run_id)


@contextmanager
def _reported() -> Iterator[None]:
    import mlflow.exceptions
    import requests
    import sqlalchemy.exc

    refusals = (
        mlflow.exceptions.MlflowException,
        requests.RequestException,
        sqlalchemy.exc.SQLAlchemyError,
        OSError,
    )
    try:
        yield
    except refusals as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TrackingError(lines[0][:300]) from error


def _client(uri: str) -> Any:
    """Quiet, and quick to give up: the ledger has everything, so a dead server is no reason to wait."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _tags(tags: dict[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def _metrics(metrics: Any, at_ms: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at_ms, 0) for name, value in metrics.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
