"""Mirrors a study to MLflow while it runs, from a thread of its own."""

import queue
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from tuner.config.groups.tracking import TrackingConfig
from tuner.config.study import StudyConfig
from tuner.report.console import say
from tuner.results.ledger import LedgerError
from tuner.search import Proposal
from tuner.tracking.mlflow import Mirror, TrackingError
from tuner.trial.result import TrialResult

OPEN_TIMEOUT_S = 60.0  # the first trial waits at most this long for MLflow to open
CLOSE_TIMEOUT_S = 120.0  # the end of a study waits at most this long for MLflow
INTERRUPTED_TIMEOUT_S = 5.0  # the end of an interrupted one
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


class Tracker:
    """A study's observer that mirrors each result to MLflow.

    Opening MLflow can take ten seconds of CPU (a new database is migrated). It starts at once, while the
    study prepares, and the first trial waits for it so that it runs undisturbed. A failure is printed once,
    in one line, and never stops the study.
    """

    def __init__(self, study: StudyConfig, folder: Path, console: Console | None = None) -> None:
        self._study, self._folder, self._console = study, folder, console or Console(stderr=True)
        self._todo: queue.Queue[bool] = queue.Queue()
        self._ready = threading.Event()
        self._broken = False
        self._mirror: Mirror | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> Self:
        if self._study.tracking.kind == "mlflow":
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._thread.is_alive():
            return
        self._todo.put(False)
        hurried = kind is not None and issubclass(kind, KeyboardInterrupt)
        patience_s = INTERRUPTED_TIMEOUT_S if hurried else CLOSE_TIMEOUT_S
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._warn(f"it is not complete after {patience_s:.0f} s")

    def started(self, proposal: Proposal) -> None:
        """Waits until MLflow is open."""
        if self._thread.is_alive():
            self._ready.wait(OPEN_TIMEOUT_S)

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        """Queues the result."""
        self._todo.put(True)

    def closing(self) -> None:
        """Nothing to do: running trials are mirrored when they finish."""

    def ended(self, why: str) -> None:
        """Nothing to do: the reason is in the ledger."""

    def _work(self) -> None:
        """Mirrors all waiting results at once: the ledger says which ones MLflow lacks."""
        self._attempt(self._open)
        self._ready.set()
        while self._todo.get():
            if self._todo.empty():
                self._attempt(self._catch_up)
        self._attempt(self._conclude)

    def _open(self) -> None:
        self._mirror = _opened(self._study, self._folder)

    def _catch_up(self) -> None:
        if self._mirror is not None:
            self._mirror.catch_up()

    def _conclude(self) -> None:
        if self._mirror is not None:
            self._mirror.conclude()

    def _attempt(self, job: Callable[[], None]) -> None:
        """Gives up after the first failure: each attempt would wait for a dead server's timeout."""
        if self._broken:
            return
        try:
            job()
        except (TrackingError, LedgerError) as error:
            self._broken = True
            self._warn(str(error))

    def _warn(self, what: str) -> None:
        again = shlex.join(["wattfront", "report", str(self._folder), "--to-mlflow"])
        text = f"MLflow: {what}. Nothing is lost; later: {again}"
        say(self._console, text, "yellow", whole=True)


def mirror(folder: Path, study: StudyConfig) -> None:
    """Writes everything that MLflow lacks of a study. Raises TrackingError."""
    if study.tracking.kind == "mlflow":
        _opened(study, folder).conclude()


def tracking_uri(tracking: TrackingConfig, folder: Path) -> str:
    """The tracking server, or the SQLite database beside the study's folder."""
    return tracking.uri or f"sqlite:///{folder.absolute().parent / DATABASE}"


def ui_command(study: StudyConfig, folder: Path) -> str:
    """The command that opens the MLflow UI, or the server's address."""
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


def _opened(study: StudyConfig, folder: Path) -> Mirror:
    tracking = study.tracking
    artifacts = None if tracking.uri else (folder.absolute().parent / ARTIFACTS).as_uri()
    return Mirror(study, folder, tracking_uri(tracking, folder), tracking.experiment, artifacts)
