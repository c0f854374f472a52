"""A study: asks the search for trials, has them run, and keeps what they measured."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from tuner.config import ConfigError, StudyConfig, default_points, fixed_values, trial_config
from tuner.ledger import Ledger
from tuner.objective import tier_values
from tuner.search import ImpossiblePoint, Outcome, Proposal, Proposer, Sampler
from tuner.search.stock import Stock
from tuner.space import Point
from tuner.trial import Failed, Measured, Timings, TrialConfig, TrialResult


class Observer(Protocol):
    """Whoever wants to know how a study goes: the display, the tracker."""

    def started(self, proposal: Proposal) -> None: ...

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None: ...

    def closing(self) -> None:
        """No more trials will be asked for; those that run are finished."""


class ResumeError(Exception):
    """The ledger is not of this study. One line."""


def proposer(config: StudyConfig) -> Proposer:
    """The search over the study's space, at its beginning."""

    def resolve(point: Point) -> TrialConfig:
        try:
            return trial_config(config, point)
        except ConfigError as error:
            raise ImpossiblePoint(str(error)) from error

    return Proposer(
        config.search,
        config.space,
        default_points(config),
        fixed_values(config),
        resolve,
        sampler_of(config),
    )


def sampler_of(config: StudyConfig) -> Sampler | None:
    """None for a search whose points are all listed."""
    if config.search.kind in ("list", "grid"):
        return None
    engines, fixed = list(config.engine), fixed_values(config)
    return Stock(config.search, config.space, engines, fixed, list(config.slo.tiers))


def outcome_of(config: StudyConfig, result: TrialResult) -> Outcome:
    device_s = result.timings.wall_s * result.config.devices
    if isinstance(result, Failed):
        return Outcome(None, failure=result.failure, device_s=device_s)
    values = tier_values(config.slo, config.objective, result)
    return Outcome(values, result.points, device_s=device_s)


class Study:
    """The source of trials, and where their results go: ledger first, then search, then observers."""

    def __init__(self, config: StudyConfig, ledger: Ledger, observers: Sequence[Observer]) -> None:
        self._config, self._ledger, self._observers = config, ledger, observers
        self._proposer = proposer(config)
        self._live: dict[int, Proposal] = {}
        self._again: list[Proposal] = []
        self._finished = 0
        self.closed = False
        self._replay()

    def ask(self) -> Proposal | None:
        if self.closed or not self.remaining() - len(self._live):
            return None
        if self._again:
            proposal = self._again.pop(0)
        else:
            asked = self._proposer.ask()
            if asked is None:
                return None
            proposal = asked
            self._ledger.asked(proposal.number, proposal.point, proposal.config.fingerprint)
        self._live[proposal.number] = proposal
        for observer in self._observers:
            observer.started(proposal)
        return proposal

    def finished(self, number: int, measured: Measured) -> None:
        proposal = self._live.pop(number)
        folder = self._ledger.finished(number, proposal.point, measured)
        self._learn(number, measured.result)
        for observer in self._observers:
            observer.finished(proposal, measured.result, folder)

    def died(self, number: int, evidence: str) -> None:
        config = self._live[number].config
        result = Failed(config, "WorkerDied", evidence, Timings(0.0, 0.0, 0.0))
        self.finished(number, Measured(result, {}))

    def remaining(self) -> int:
        return self._config.search.trials - self._finished

    def close(self) -> None:
        """Ask for no more trials. Those that run are finished."""
        if not self.closed:
            self.closed = True
            for observer in self._observers:
                observer.closing()

    def _learn(self, number: int, result: TrialResult) -> None:
        self._finished += 1
        self._proposer.tell(number, outcome_of(self._config, result))

    def _replay(self) -> None:
        """Asks and tells again, in the order in which they were: the search is where it was."""
        open_trials: dict[int, Proposal] = {}
        for entry in self._ledger.entries():
            if entry.result is None:
                proposal = self._proposer.ask()
                if proposal is None or proposal.config.fingerprint != entry.fingerprint:
                    raise ResumeError(
                        f"trial {entry.number} of the ledger is {entry.fingerprint}, but this configuration "
                        f"would try {proposal.config.fingerprint if proposal else 'nothing'} there: "
                        "resume with the configuration and version that began the study"
                    )
                open_trials[entry.number] = proposal
            else:
                del open_trials[entry.number]
                self._learn(entry.number, entry.result)
        self._again = list(open_trials.values())


@contextmanager
def interruptible(study: Study) -> Iterator[None]:
    """Ctrl-C once closes the study; a second time, or SIGTERM, raises KeyboardInterrupt at once."""

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, now)
        study.close()

    def now(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, once)
    signal.signal(signal.SIGTERM, now)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
