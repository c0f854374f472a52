"""Writes runs with their tags, parameters and metrics: a trial and its points at a time."""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tuner.tracking.runs import RunData

PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
NAME_LENGTH = 250


class Writer(Protocol):
    """A trial's run is open until `close`: one that a crash leaves open is not complete."""

    def write(self, parent_id: str, trial: RunData, points: Sequence[RunData]) -> list[str]:
        """Writes a run and its children, which are closed. Returns their ids."""

    def artifacts(self, run_id: str, files: Sequence[Path], texts: Mapping[str, str]) -> None:
        """Adds files, and texts under these names."""

    def close(self, run_id: str, status: str, end_ms: int) -> None:
        """Ends the run."""


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

    def write(self, parent_id: str, trial: RunData, points: Sequence[RunData]) -> list[str]:
        """See `Writer`."""
        run_ids = [self._begin(trial, parent_id)]
        for point in points:
            run_ids.append(self._begin(point, run_ids[0]))
            self.close(run_ids[-1], "FINISHED", point.end_ms)
        return run_ids

    def artifacts(self, run_id: str, files: Sequence[Path], texts: Mapping[str, str]) -> None:
        """See `Writer`."""
        for name, text in texts.items():
            self._client.log_text(run_id, text, name)
        for path in files:
            self._client.log_artifact(run_id, str(path))

    def close(self, run_id: str, status: str, end_ms: int) -> None:
        """See `Writer`."""
        self._client.set_terminated(run_id, status, end_ms)

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
    """Into MLflow's own tables, a trial and its points in one transaction.

    Its client takes 19 transactions for a trial of four points, its interface has no call for several runs.
    """

    def __init__(self, client: Any, store: Any, experiment_id: str, location: str) -> None:
        super().__init__(client, experiment_id)
        self._store, self._location = store, location.rstrip("/")

    def write(self, parent_id: str, trial: RunData, points: Sequence[RunData]) -> list[str]:
        """See `Writer`."""
        from mlflow.store.tracking.dbmodels import models

        run_ids = [uuid.uuid4().hex for _ in range(1 + len(points))]
        parents = [parent_id, *[run_ids[0]] * len(points)]
        states = ["RUNNING", *["FINISHED"] * len(points)]
        every = list(zip(run_ids, parents, states, [trial, *points], strict=True))
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
        }
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
        rows |= {models.SqlMetric: metrics, models.SqlLatestMetric: metrics}
        with self._store.ManagedSessionMaker(read_only=False) as session:
            for table, values in rows.items():
                if values:
                    session.execute(table.__table__.insert(), values)
        return run_ids

    def artifacts(self, run_id: str, files: Sequence[Path], texts: Mapping[str, str]) -> None:
        """See `Writer`. Local files need not ask the database where they go."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository: Any = get_artifact_repository(self._artifacts(run_id))
        with tempfile.TemporaryDirectory() as folder:
            for name, text in texts.items():
                written = Path(folder) / name
                written.write_text(text)
                repository.log_artifact(str(written))
        for path in files:
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
            "end_time": None if status == "RUNNING" else data.end_ms,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": self._artifacts(run_id),
            "experiment_id": int(self._experiment),
        }


def _name(data: RunData) -> str:
    return data.name[:NAME_LENGTH]
