"""Writes to MLflow what the ledger has and the server lacks. The only file that imports mlflow."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.config.study import StudyConfig
from tuner.report.plots.pareto import write_plots
from tuner.results.ledger import LEDGER, Finished, read, searched
from tuner.tracking.runs import (
    RunData,
    confirmed_metrics,
    confirmed_tags,
    point_run,
    repeat_run,
    study_metrics,
    study_tags,
    trial_run,
    verdicts,
)
from tuner.trial.result import Completed


class TrackingError(Exception):
    """MLflow can't be written. One line; the ledger holds everything."""


class Mirror:
    """One study in MLflow: a run with a child run per trial, each with a child run per operating point.

    A trial's run is closed once it is complete; one left open by a crash is replaced. Raises TrackingError
    for every error of MLflow, the network or the disk.
    """

    def __init__(
        self, study: StudyConfig, folder: Path, uri: str, experiment: str, artifacts: str | None
    ) -> None:
        """`artifacts`: the artifact location of a new experiment; None leaves it to the server."""
        self._study, self._folder, self._name = study, folder, folder.absolute().name
        with _reported():
            self._client = _client(uri)
            self._experiment = self._experiment_id(experiment, artifacts)
            self._run_id = self._study_run_id()
            self._trials = self._mirrored_trials()
            self._points = self._mirrored_points()

    def catch_up(self) -> None:
        """Writes the trials that MLflow lacks, and updates which points are on the front."""
        with _reported():
            lines = read(self._folder)
            for entry in lines:
                if isinstance(entry, Finished) and entry.number not in self._trials:
                    self._write_trial(entry)
            for key, tags in verdicts(self._study, searched(lines)).items():
                run_id, known = self._points[key]
                if known != tags:
                    self._client.log_batch(run_id, tags=_tags(tags))
                    self._points[key] = (run_id, tags)

    def conclude(self) -> None:
        """Catches up, then closes the study's run with its metrics, plots, ledger and configuration."""
        self.catch_up()
        with _reported():
            lines = read(self._folder)
            entries = searched(lines)
            metrics = study_metrics(self._study, entries) | confirmed_metrics(self._study, lines)
            tags = _tags(confirmed_tags(self._study, lines))
            self._client.log_batch(self._run_id, metrics=_metrics(metrics, _now_ms()), tags=tags)
            plots = write_plots(self._study, entries, self._folder)
            for path in (*plots, self._folder / LEDGER, self._folder / "study.yaml"):
                if path.exists():
                    self._client.log_artifact(self._run_id, str(path))
            self._client.set_terminated(self._run_id, "FINISHED")

    def _experiment_id(self, name: str, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        kind = {
            "mlflow.experimentKind": "custom_model_development"
        }  # the UI opens such an experiment at its runs
        return str(self._client.create_experiment(name, artifact_location=artifacts, tags=kind))

    def _study_run_id(self) -> str:
        for run in self._search("study"):
            return str(run.info.run_id)
        tags = study_tags(self._study, self._name)
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        return str(run.info.run_id)

    def _mirrored_trials(self) -> set[int]:
        whole, points = set[int](), list(self._search("point"))
        for run in (*self._search("trial"), *self._search("repeat")):
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
        as_run = trial_run if entry.repeat is None else repeat_run
        data = as_run(self._study, self._name, entry)
        run_id = self._begin(data, self._run_id)
        result, alone = entry.result, entry.repeat is not None
        for point in result.points if isinstance(result, Completed) and not alone else ():
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
    """A quiet client that gives up quickly: the ledger holds everything."""
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


def _metrics(metrics: Mapping[str, float], at_ms: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at_ms, 0) for name, value in metrics.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
