"""Who follows a study while it runs."""

from pathlib import Path
from typing import Protocol

from tuner.search import Proposal
from tuner.trial.result import TrialResult


class Observer(Protocol):
    """Is notified as a study goes on: the progress display, the MLflow tracker."""

    def started(self, proposal: Proposal) -> None:
        """A trial was handed out."""

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        """A trial has a result; `folder` holds its files."""

    def retried(self, proposal: Proposal, result: TrialResult, attempt: int) -> None:
        """A trial failed for a reason that is not its own, for the `attempt`th time, and runs again."""

    def closing(self) -> None:
        """The study proposes no more trials; running ones finish."""

    def ended(self, why: str) -> None:
        """The search stopped before its last trial; the confirmation still follows."""
