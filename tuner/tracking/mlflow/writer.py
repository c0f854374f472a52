"""Writes runs with their tags, parameters and metrics: trials with their points, many at a time."""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuner.tracking.runs import RunData

PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
NAME_LENGTH = 250


@dataclass(frozen=True, slots=True)
class TrialRuns:
    """The run of a trial and those of its points, with its files, and texts under their names.

    `status`: of the finished run.
    """

    trial: RunData
    points: Sequence[RunData]
    files: Sequence[Path]
    texts: Mapping[str, str]
    status: str


class Writer(Protocol):
    """A trial's run is closed last: one that a crash leaves open is not complete."""

    def write(self, parent_id: str, trials: Sequence[TrialRuns]) -> list[list[str]]:
        """Writes trials. Returns the ids of each one's run and of its points."""


def writer_of(client: Any, experiment_id: str) -> Writer:
    """The quickest one for the client's store."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    if isinstance(store, SqlAlchemyStore):
        location = client.get_experiment(experiment_id).artifact_location
        return DatabaseWriter(client, store, experiment_id, location)
    return ClientWriter(client, experiment_id)


class ClientWriter:
    """By calls of MLflow's client, three a run."""

    def __init__(self, client: Any, experiment_id: str) -> None:
        self._client, self._experiment = client, experiment_id

    def write(self, parent_id: str, trials: Sequence[TrialRuns]) -> list[list[str]]:
        """See `Writer`."""
        return [self._write(parent_id, each) for each in trials]

    def _write(self, parent_id: str, runs: TrialRuns) -> list[str]:
        run_ids = [self._begin(runs.trial, parent_id)]
        for point in runs.points:
            run_ids.append(self._begin(point, run_ids[0]))
            self._client.set_terminated(run_ids[-1], "FINISHED", point.end_ms)
        for name, text in runs.texts.items():
            self._client.log_text(run_ids[0], text, name)
        for path in runs.files:
            self._client.log_artifact(run_ids[0], str(path))
        self._client.set_terminated(run_ids[0], runs.status, runs.trial.end_ms)
        return run_ids

    def _begin(self, data: RunData, parent_id: str) -> str:
        from mlflow.entities import Metric, Param

        tags = {**data.tags, PARENT: parent_id}
        run = self._client.create_run(
            self._experiment, start_time=data.start_ms, tags=tags, run_name=data.name
        )
        params = [Param(name, value) for name, value in data.params.items()]
        metrics = [Metric(name, value, data.end_ms, 0) for name, value in data.metrics.items()]
        self._client.log_batch(run.info.run_id, metrics, params)
        return str(run.info.run_id)


class DatabaseWriter(ClientWriter):
    """Into MLflow's own tables, many trials in one transaction.

    Its client takes 19 transactions for a trial of four points, its interface has no call for several runs.
    Files come first, so that a run that is there is complete.
    """

    def __init__(self, client: Any, store: Any, experiment_id: str, location: str) -> None:
        super().__init__(client, experiment_id)
        self._store, self._location = store, location.rstrip("/")

    def write(self, parent_id: str, trials: Sequence[TrialRuns]) -> list[list[str]]:
        """See `Writer`."""
        every: list[_Row] = []
        found = list[list[str]]()
        for runs in trials:
            run_ids = [uuid.uuid4().hex for _ in range(1 + len(runs.points))]
            self._store_artifacts(run_ids[0], runs)
            every.append((run_ids[0], parent_id, runs.status, runs.trial))
            every += [
                (run_id, run_ids[0], "FINISHED", point)
                for run_id, point in zip(run_ids[1:], runs.points, strict=True)
            ]
            found.append(run_ids)
        self._insert(every)
        return found

    def _insert(self, every: Sequence["_Row"]) -> None:
        from mlflow.store.tracking.dbmodels import models

        metrics = [
            {
                "run_uuid": run_id,
                "key": key,
                "value": value,
                "timestamp": data.end_ms,
                "step": 0,
                "is_nan": False,
            }
            for run_id, _, _, data in every
            for key, value in data.metrics.items()
        ]
        rows: dict[Any, list[dict[str, Any]]] = {
            models.SqlRun: [self._run(run_id, state, data) for run_id, _, state, data in every],
            models.SqlTag: [
                {"run_uuid": run_id, "key": key, "value": value}
                for run_id, parent, _, data in every
                for key, value in {**data.tags, PARENT: parent, NAME: _name(data)}.items()
            ],
            models.SqlParam: [
                {"run_uuid": run_id, "key": key, "value": value}
                for run_id, _, _, data in every
                for key, value in data.params.items()
            ],
            models.SqlMetric: metrics,
            models.SqlLatestMetric: metrics,
        }
        with self._store.ManagedSessionMaker(read_only=False) as session:
            for table, values in rows.items():
                if values:
                    session.execute(table.__table__.insert(), values)

    def _store_artifacts(self, run_id: str, runs: TrialRuns) -> None:
        """Local files need not ask the database where they go."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository: Any = get_artifact_repository(self._artifacts(run_id))
        with tempfile.TemporaryDirectory() as folder:
            for name, text in runs.texts.items():
                (Path(folder) / name).write_text(text)
            repository.log_artifacts(folder)
        for path in runs.files:
            repository.log_artifact(str(path))

    def _artifacts(self, run_id: str) -> str:
        return f"{self._location}/{run_id}/artifacts"

    def _run(self, run_id: str, status: str, data: RunData) -> dict[str, Any]:
        return {
            "run_uuid": run_id,
            "name": _name(data),
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": status,
            "start_time": data.start_ms,
            "end_time": data.end_ms,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": self._artifacts(run_id),
            "experiment_id": int(self._experiment),
        }


_Row = tuple[str, str, str, RunData]  # a run: id, parent, status


def _name(data: RunData) -> str:
    return data.name[:NAME_LENGTH]
