"""Mirrors a study to MLflow while it runs, from a thread of its own."""

import shlex
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from serving.process.environ import redacted
from tuner.config.groups.tracking import TrackingConfig
from tuner.config.study import StudyConfig
from tuner.report.console import say
from tuner.results.appender import in_use
from tuner.results.durable import PRIVATE_FOLDER, create_private
from tuner.results.ledger import LEDGER, LedgerError, searched
from tuner.results.reader import contents
from tuner.search import Proposal
from tuner.tracking.mlflow import Mirror, TrackingError
from tuner.tracking.relocation import experiment_id, relocate
from tuner.tracking.view import ui_base, view_link
from tuner.trial.result import TrialResult

RETRY_MIN_S, RETRY_MAX_S = 5.0, 300.0  # between attempts to reach an MLflow that failed
OPEN_TIMEOUT_S = 60.0  # the first trial waits at most this long for MLflow to open
CLOSE_TIMEOUT_S = 120.0  # the end of a study waits at most this long for MLflow
INTERRUPTED_TIMEOUT_S = 5.0  # the end of an interrupted one
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


class Tracker:
    """A study's observer that mirrors each result to MLflow.

    Opening MLflow can take ten seconds of CPU (a new database is migrated). It starts at once, while the
    study prepares, and the first trial waits for it so that it runs undisturbed. A failure never stops the
    study: it is printed in one line, and tried again at growing intervals until the study ends.
    """

    def __init__(self, study: StudyConfig, folder: Path, console: Console | None = None) -> None:
        self._study, self._folder, self._console = study, folder, console or Console(stderr=True)
        self._news, self._over, self._ready = (threading.Event() for _ in range(3))
        self._failed: type[BaseException] | None = None  # how the study ended
        self._retry_s, self._retry_at = 0.0, 0.0  # 0: MLflow answers
        self._mirror: Mirror | None = None
        self.link = ""  # the page of MLflow that shows the study; empty while MLflow is not open
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
        self._failed = kind
        self._over.set()
        self._news.set()
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
        """The ledger has one more result."""
        self._news.set()

    def retried(self, proposal: Proposal, result: TrialResult, attempt: int) -> None:
        """Nothing to do: a failed attempt is no run."""

    def closing(self) -> None:
        """Nothing to do: running trials are mirrored when they finish."""

    def ended(self, why: str) -> None:
        """Nothing to do: the reason is in the ledger."""

    def _work(self) -> None:
        """Mirrors all waiting results at once: the ledger says which ones MLflow lacks."""
        self._attempt(lambda mirror: self._say_link(mirror.link))
        self._ready.set()
        while not self._over.is_set():
            self._news.wait(max(0.0, self._retry_at - time.monotonic()) if self._retry_s else None)
            self._news.clear()
            if not self._over.is_set() and time.monotonic() >= self._retry_at:
                self._attempt(Mirror.catch_up)
        self._attempt(lambda mirror: mirror.conclude(self._status()))

    def _say_link(self, link: str) -> None:
        self.link = link
        first = "" if self._study.tracking.uri else ", once `mlflow ui` runs"
        say(self._console, f"MLflow: this study's points{first}: {link}", "dim", whole=True)

    def _attempt(self, job: Callable[[Mirror], object]) -> None:
        """Opens MLflow if it is not, and does the job. What failed is done by a later attempt."""
        try:
            self._mirror = self._mirror or _opened(self._study, self._folder)
            job(self._mirror)
        except (TrackingError, LedgerError) as error:
            if not self._retry_s:
                self._warn(str(error))
            self._retry_s = min(max(2 * self._retry_s, RETRY_MIN_S), RETRY_MAX_S)
            self._retry_at = time.monotonic() + self._retry_s
        else:
            self.link = self._mirror.link
            if self._retry_s:
                self._retry_s = self._retry_at = 0.0
                say(self._console, "MLflow: reached again; nothing is missing", "green")

    def _status(self) -> str:
        if self._failed is not None and not issubclass(self._failed, KeyboardInterrupt):
            return "FAILED"
        return _status_of(self._study, self._folder)

    def _warn(self, what: str) -> None:
        again = shlex.join(["wattfront", "report", str(self._folder), "--to-mlflow"])
        text = f"MLflow: {what}. Nothing is lost; it is tried again while the study runs; later: {again}"
        say(self._console, text, "yellow", whole=True)


def mirror(folder: Path, study: StudyConfig) -> str:
    """Writes everything that MLflow lacks of a study. Returns the page that shows it. Raises TrackingError."""
    if study.tracking.kind == "none":
        return ""
    status = "RUNNING" if in_use(folder / LEDGER) else _status_of(study, folder)
    opened = _opened(study, folder)
    opened.conclude(status)
    return opened.link


def _status_of(study: StudyConfig, folder: Path) -> str:
    """FINISHED: the study ran to its end; KILLED: it was stopped. Ledgers of 0.1.0 do not say it."""
    found = contents(folder)
    older = found.why_ended or len(searched(found.entries)) >= study.search.trials
    return "FINISHED" if found.complete or older else "KILLED"


def tracking_uri(tracking: TrackingConfig, folder: Path) -> str:
    """The tracking server, or the SQLite database beside the study's folder."""
    return tracking.uri or f"sqlite:///{folder.absolute().parent / DATABASE}"


def ui_command(study: StudyConfig, folder: Path, link: str = "") -> str:
    """The command that opens the MLflow UI, and the page there that shows the study; or the server's address.

    `link`: the page, if it is known; a database is asked for it. Where the folder of studies was copied, its
    database finds the artifacts there from now on.
    """
    if study.tracking.kind == "none":
        return "not used (tracking=none)"
    try:
        _relocated(study.tracking, folder)
    except TrackingError as error:
        return f"not available: {error}"
    uri = redacted(tracking_uri(study.tracking, folder))
    if uri.startswith(("http://", "https://")):
        return f"open {link or ui_base(uri)}"
    program = Path(sys.executable).parent / "mlflow"
    name = str(program) if program.exists() else "mlflow"
    if program.is_relative_to(Path.cwd()):
        name = str(program.relative_to(Path.cwd()))
    command = shlex.join([name, "ui", "--workers", "1", "--backend-store-uri", uri])
    link = link or _link_in_database(study, folder)
    return f"{command}\n  then open {link}" if link else command


def _link_in_database(study: StudyConfig, folder: Path) -> str:
    if study.tracking.uri is not None:
        return ""
    try:
        found = experiment_id(folder.absolute().parent / DATABASE, study.tracking.experiment)
    except sqlite3.Error:
        return ""
    return "" if found is None else view_link("", found, folder.absolute().name)


def _relocated(tracking: TrackingConfig, folder: Path) -> None:
    if tracking.kind == "none" or tracking.uri is not None:
        return
    base = folder.absolute().parent
    try:
        relocate(base / DATABASE, tracking.experiment, base / ARTIFACTS)
    except sqlite3.Error as error:
        raise TrackingError(f"{base / DATABASE}: {error}") from error


def _opened(study: StudyConfig, folder: Path) -> Mirror:
    tracking = study.tracking
    _relocated(tracking, folder)
    if tracking.uri is None:  # SQLite's own journal gets the mode of the database
        create_private(folder.absolute().parent / DATABASE)
        (folder.absolute().parent / ARTIFACTS).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    artifacts = None if tracking.uri else (folder.absolute().parent / ARTIFACTS).as_uri()
    return Mirror(study, folder, tracking_uri(tracking, folder), tracking.experiment, artifacts)
