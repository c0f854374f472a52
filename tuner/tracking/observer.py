"""Where a study is mirrored to, and the observer that does it while the study runs."""

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
from tuner.results.ledger import LedgerError
from tuner.search import Proposal
from tuner.tracking.mlflow import Mirror, TrackingError
from tuner.trial.result import TrialResult

OPEN_S = 60.0  # how long the first trial waits for MLflow to be opened
LAST_S = 120.0  # how long the end of a study waits for MLflow
HURRIED_S = 5.0  # and that of one that was stopped at once
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


class Tracker:
    """An observer of a study: mirrors each result from a thread of its own.

    Opening MLflow can take ten seconds of a processor (a new database is migrated): it begins at
    once, beside whatever else the study prepares, and the first trial waits for it, so as not to be
    disturbed. Whatever fails is said once, in one line; a study never stops for it.
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
        patience_s = HURRIED_S if hurried else LAST_S
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._warn(f"it has not taken everything in {patience_s:.0f} s")

    def started(self, proposal: Proposal) -> None:
        if self._thread.is_alive():
            self._ready.wait(OPEN_S)

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        self._todo.put(True)

    def closing(self) -> None:
        """What still runs is mirrored when it is finished."""

    def ended(self, why: str) -> None:
        """It is in the ledger, and no figure."""

    def _work(self) -> None:
        """Any number of results waiting are one job: the ledger says which MLflow lacks."""
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


def mirror(folder: Path, study: StudyConfig) -> None:
    """Writes what MLflow does not have yet of a study. Raises TrackingError."""
    if study.tracking.kind == "mlflow":
        _opened(study, folder).conclude()


def tracking_uri(tracking: TrackingConfig, folder: Path) -> str:
    """The server, or the database beside the study's folder."""
    return tracking.uri or f"sqlite:///{folder.absolute().parent / DATABASE}"


def ui_command(study: StudyConfig, folder: Path) -> str:
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


def _opened(study: StudyConfig, folder: Path) -> Mirror:
    tracking = study.tracking
    artifacts = None if tracking.uri else (folder.absolute().parent / ARTIFACTS).as_uri()
    return Mirror(study, folder, tracking_uri(tracking, folder), tracking.experiment, artifacts)
