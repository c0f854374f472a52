"""A study: takes trials from the search, hands them out, and records their results."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.confirm.rounds import RepeatProposer, max_repeats
from tuner.results.ledger import Entry, Ledger, Repeat
from tuner.results.tiers import tier_values
from tuner.search import Outcome, Proposal
from tuner.search.factory import SearchSetup
from tuner.search.pruning_baseline import pruning_baseline
from tuner.search.stopping import GainMonitor, low_gain
from tuner.study.budget import exhausted, spent, trial_hours
from tuner.trial.result import Completed, Failed, Measured, Timings, TrialResult

# Caused by the machine or the network, not by the configuration.
TRANSIENT_FAILURES = {"WorkerDied", "ShardLost", "EngineRestarted"}


class Observer(Protocol):
    """Is notified as a study goes on: the progress display, the MLflow tracker."""

    def started(self, proposal: Proposal) -> None:
        """A trial was handed out."""

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        """A trial has a result; `folder` holds its files."""

    def closing(self) -> None:
        """The study proposes no more trials; running ones finish."""

    def ended(self, why: str) -> None:
        """The search stopped before its last trial; the confirmation still follows."""


class ResumeError(Exception):
    """The ledger does not belong to this configuration. One line."""


def outcome_of(config: StudyConfig, result: TrialResult) -> Outcome:
    """What the search learns from a result."""
    device_s = result.timings.wall_s * result.config.devices
    if isinstance(result, Failed):
        transient = result.failure in TRANSIENT_FAILURES
        return Outcome(None, failure=result.failure, transient=transient, device_s=device_s)
    values = tier_values(config.slo, config.objective, result)
    # Above the error rate of every tier a level is not part of the curve.
    most_errors = max(tier.error_rate for tier in config.slo.tiers.values())
    points = tuple(p for p in result.points if (p.metrics.get("error_rate") or 0.0) <= most_errors)
    return Outcome(values, points, device_s=device_s)


class Study:
    """The source of trials and the sink of their results: ledger first, then search, then observers.

    `search`: the parts of its search, if somebody has built them already.
    """

    def __init__(
        self,
        config: StudyConfig,
        ledger: Ledger,
        observers: Sequence[Observer],
        search: SearchSetup | None = None,
    ) -> None:
        self._config, self._ledger, self._observers = config, ledger, observers
        search = search or SearchSetup(config)
        self._proposer, self._recorder = search.proposer(), search.recorder()
        self._repeats: RepeatProposer | None = None
        self._live: dict[int, Proposal] = {}
        self._again: list[Proposal] = []
        self._finished = 0
        self._walls_s: list[float] = []  # of trials that completed
        self._gains = GainMonitor(config.search.stop)
        self.ended = ""  # why the search is over
        self.closed = False
        self._replay()

    def ask(self) -> Proposal | None:
        """The next trial to run; None if there is none now, or none any more."""
        if self.closed:
            return None
        if self._again:
            proposal = self._again.pop(0)
        else:
            asked = self._propose()
            if asked is None:
                return None
            proposal = asked
            known = proposal.number, proposal.point, proposal.config.fingerprint
            self._ledger.asked(*known, _repeat(proposal))
        proposal = self._with_baseline(proposal)
        self._live[proposal.number] = proposal
        for observer in self._observers:
            observer.started(proposal)
        return proposal

    def finished(self, number: int, measured: Measured) -> None:
        """Records the result of a running trial."""
        proposal = self._live.pop(number)
        measured = self._recorder.recorded(proposal.point, measured)
        folder = self._ledger.finished(number, proposal.point, measured, _repeat(proposal))
        self._learn(proposal, measured.result)
        for observer in self._observers:
            observer.finished(proposal, measured.result, folder)

    def died(self, number: int, evidence: str) -> None:
        """Records that the worker of a running trial died."""
        config = self._live[number].config
        result = Failed(config, "WorkerDied", evidence, Timings(0.0, 0.0, 0.0))
        self.finished(number, Measured(result, {}))

    def remaining(self) -> int:
        """Trials that are not finished; for the confirmation an upper bound."""
        if self._repeats is not None:
            return self._repeats.remaining
        running = len(self._live) + len(self._again)
        left = running if self.ended else self._config.search.trials - self._finished
        return left + max_repeats(self._config)

    def close(self) -> None:
        """Proposes no more trials; running ones finish."""
        if not self.closed:
            self.closed = True
            for observer in self._observers:
                observer.closing()

    def _with_baseline(self, proposal: Proposal) -> Proposal:
        """Lets the search's trials be pruned, but not defaults and repeats, which others are compared with."""
        risk, point = self._config.search.prune_risk, set(proposal.point) - {ENGINE}
        if risk is None or not point or isinstance(proposal, RepeatProposal):
            return proposal
        found = [entry.result for entry in self._ledger.results()]
        baseline = pruning_baseline(found, self._config.slo, self._config.objective, risk)
        return replace(proposal, baseline=baseline)

    def _propose(self) -> Proposal | None:
        """The search's next trial; after its last one has finished, the confirmation's."""
        if self._repeats is None:
            running = len(self._live) + len(self._again)
            if not self.ended and (proposal := self._search(running)):
                return proposal
            if running or not self._config.search.confirm.candidates:
                return None
            self._repeats = self._new_repeats()
        return self._repeats.ask()

    def _search(self, running: int) -> Proposal | None:
        """The search's next trial; None if it is over, or the budget has no room beside the running trials."""
        search, price = self._config.search, self._config.hardware.usd_per_device_hour
        lines = [entry for entry in self._ledger.entries() if entry.repeat is None]
        so_far = spent(lines, None if price is None else price.value)
        if why := exhausted(search.budget, so_far, search.trials, running):
            if not running:
                self._end(why)
            return None
        proposal = self._proposer.ask()
        if proposal is None:
            self._end("every point of the space has been tried")
            return None
        if why := self._stopped_by_rule(proposal):
            done = self._finished + running
            self._end(f"stopped after {done} of {search.trials} trials: {why}")
            self._ledger.ended(self.ended)
            return None
        return proposal

    def _stopped_by_rule(self, proposal: Proposal) -> str:
        """Why the stopping rule ends the search at this proposal; empty while it does not."""
        gain, rule = self._proposer.expected_gain, self._config.search.stop
        hours = trial_hours(self._walls_s, proposal.config.devices)
        self._gains = self._gains.after(gain, hours)
        return low_gain(rule, gain, hours) if self._gains.stops else ""

    def _end(self, why: str) -> None:
        self.ended = why
        if self._finished < self._config.search.trials:
            for observer in self._observers:
                observer.ended(why)

    def _new_repeats(self) -> RepeatProposer:
        numbers = [entry.number for entry in self._ledger.entries() if entry.repeat is None]
        return RepeatProposer(self._config, self._ledger.results(), max(numbers, default=-1) + 1)

    def _learn(self, proposal: Proposal, result: TrialResult) -> None:
        if isinstance(proposal, RepeatProposal):
            assert self._repeats is not None
            self._repeats.tell(proposal.number, result)
        else:
            self._finished += 1
            if isinstance(result, Completed):
                self._walls_s.append(result.timings.wall_s)
            self._proposer.tell(proposal.number, outcome_of(self._config, result))

    def _replay(self) -> None:
        """Replays the ledger in its order, which restores the state of search and confirmation."""
        open_trials: dict[int, Proposal] = {}
        for entry in self._ledger.entries():
            if entry.result is None:
                open_trials[entry.number] = self._asked_before(entry)
            else:
                self._learn(open_trials.pop(entry.number), entry.result)
        self._again = list(open_trials.values())
        if self._config.search.stop.on:
            self.ended = self._ledger.why_ended

    def _asked_before(self, entry: Entry) -> Proposal:
        if entry.repeat is None:
            proposal = self._proposer.ask()
            if proposal is not None:
                self._stopped_by_rule(proposal)
        else:
            self._repeats = self._repeats or self._new_repeats()
            proposal = self._repeats.ask()
        if proposal is None or proposal.config.fingerprint != entry.fingerprint:
            raise ResumeError(
                f"trial {entry.number} of the ledger is {entry.fingerprint}, but this configuration "
                f"would try {proposal.config.fingerprint if proposal else 'nothing'} there: "
                "resume with the configuration and version that began the study"
            )
        return proposal


def _repeat(proposal: Proposal) -> Repeat | None:
    return proposal.repeat if isinstance(proposal, RepeatProposal) else None


@contextmanager
def interruptible(study: Study) -> Iterator[None]:
    """The first Ctrl-C closes the study; the second, or SIGTERM, raises KeyboardInterrupt at once."""

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
