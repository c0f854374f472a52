"""The client of a tracking server or database: quick to give up, and one process at a time migrates."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.process.environ import redacted, secret_values
from tuner.tracking.artifacts import ForeignFileError

DATABASES = ("postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"
MIGRATION_S = 300.0  # how long another process may take to prepare a database
POLL_S = 0.2


class TrackingError(Exception):
    """MLflow can't be written. One line; the ledger holds everything."""


@contextmanager
def reported() -> Iterator[None]:
    """Raises TrackingError for every error of MLflow, the network or the disk."""
    import mlflow.exceptions
    import requests
    import sqlalchemy.exc

    refusals = (
        mlflow.exceptions.MlflowException,
        requests.RequestException,
        sqlalchemy.exc.SQLAlchemyError,
        OSError,
        ForeignFileError,
    )
    try:
        yield
    except refusals as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TrackingError(redacted(lines[0], secret_values(os.environ))[:300]) from error


def quiet_client(uri: str) -> Any:
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
    return MlflowClient(tracking_uri=with_password(uri, os.environ))


def with_password(uri: str, environ: Mapping[str, str]) -> str:
    """A database's URI with user and password from the variables that MLflow reads for servers."""
    if not uri.startswith(DATABASES):
        return uri
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    user, password = (
        environ.get("MLFLOW_TRACKING_USERNAME"),
        environ.get("MLFLOW_TRACKING_PASSWORD"),
    )
    if password and not url.password:
        url = url.set(username=url.username or user, password=password)
    return url.render_as_string(hide_password=False)


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Waits for its turn to open a SQLite database: MLflow's migrations fail where two run at once."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    lock = os.open(
        path.with_name(f".{path.name}.lock"),
        os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
    )
    try:
        _wait_for(lock, path)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, path: Path) -> None:
    deadline = time.monotonic() + MIGRATION_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TrackingError(
                    f"another process has been preparing {path} for {MIGRATION_S:.0f} s"
                ) from error
            time.sleep(POLL_S)
        else:
            return
