"""A study: asks the search for trials, has them run, and keeps what they measured."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import default_points, fixed_values, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.confirm.confirmer import Confirmer, most_repeats
from tuner.confirm.repeat import RepeatProposal
from tuner.results.ledger import Entry, Ledger, Repeat
from tuner.results.tiers import tier_values
from tuner.search import ImpossiblePoint, Outcome, Proposal, Proposer, Sampler
from tuner.search.factory import curve_sampler
from tuner.search.optuna_samplers import Stock
from tuner.search.priors.recorder import foreteller
from tuner.search.pruning_baseline import hurdle_of
from tuner.study.budget import Doubt, exhausted, spent, too_little, trial_hours
from tuner.trial.result import Completed, Failed, Measured, Timings, TrialResult

# Of the machine or the network, not of the configuration.
BY_CHANCE = {"WorkerDied", "ShardLost", "EngineRestarted"}


class Observer(Protocol):
    """Whoever wants to know how a study goes: the display, the tracker."""

    def started(self, proposal: Proposal) -> None: ...

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None: ...

    def closing(self) -> None:
        """No more trials will be asked for; those that run are finished."""

    def ended(self, why: str) -> None:
        """The search ends before it has made all its trials; what confirms its best still comes."""


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
    if config.search.kind == "curve":
        return curve_sampler(config)
    engines, fixed = list(config.engine), fixed_values(config)
    return Stock(config.search, config.space, engines, fixed, list(config.slo.tiers))


def outcome_of(config: StudyConfig, result: TrialResult) -> Outcome:
    device_s = result.timings.wall_s * result.config.devices
    if isinstance(result, Failed):
        chance = result.failure in BY_CHANCE
        return Outcome(None, failure=result.failure, chance=chance, device_s=device_s)
    values = tier_values(config.slo, config.objective, result)
    # No tier keeps its promise there: such a level is no part of the curve.
    most_errors = max(tier.error_rate for tier in config.slo.tiers.values())
    points = tuple(p for p in result.points if (p.metrics.get("error_rate") or 0.0) <= most_errors)
    return Outcome(values, points, device_s=device_s)


class Study:
    """The source of trials, and where their results go: ledger first, then search, then observers."""

    def __init__(self, config: StudyConfig, ledger: Ledger, observers: Sequence[Observer]) -> None:
        self._config, self._ledger, self._observers = config, ledger, observers
        self._proposer, self._foreteller = proposer(config), foreteller(config)
        self._confirmer: Confirmer | None = None
        self._live: dict[int, Proposal] = {}
        self._again: list[Proposal] = []
        self._finished = 0
        self._walls_s: list[float] = []  # of trials that completed
        self._doubt = Doubt(config.search.stop)
        self.ended = ""  # why the search is over
        self.closed = False
        self._replay()

    def ask(self) -> Proposal | None:
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
        proposal = self._with_hurdle(proposal)
        self._live[proposal.number] = proposal
        for observer in self._observers:
            observer.started(proposal)
        return proposal

    def finished(self, number: int, measured: Measured) -> None:
        proposal = self._live.pop(number)
        measured = self._foreteller.beside(proposal.point, measured)
        folder = self._ledger.finished(number, proposal.point, measured, _repeat(proposal))
        self._learn(proposal, measured.result)
        for observer in self._observers:
            observer.finished(proposal, measured.result, folder)

    def died(self, number: int, evidence: str) -> None:
        config = self._live[number].config
        result = Failed(config, "WorkerDied", evidence, Timings(0.0, 0.0, 0.0))
        self.finished(number, Measured(result, {}))

    def remaining(self) -> int:
        """Trials that are not finished; of a confirmation, that many at most."""
        if self._confirmer is not None:
            return self._confirmer.remaining
        running = len(self._live) + len(self._again)
        left = running if self.ended else self._config.search.trials - self._finished
        return left + most_repeats(self._config)

    def close(self) -> None:
        """Ask for no more trials. Those that run are finished."""
        if not self.closed:
            self.closed = True
            for observer in self._observers:
                observer.closing()

    def _with_hurdle(self, proposal: Proposal) -> Proposal:
        """What the search chose need not be measured to its end; what others are compared with is."""
        risk, point = self._config.search.give_up_risk, set(proposal.point) - {ENGINE}
        if risk is None or not point or isinstance(proposal, RepeatProposal):
            return proposal
        found = [entry.result for entry in self._ledger.results()]
        hurdle = hurdle_of(found, self._config.slo, self._config.objective, risk)
        return replace(proposal, hurdle=hurdle)

    def _propose(self) -> Proposal | None:
        """The search until it has no more; once all of it is finished, its best again."""
        if self._confirmer is None:
            running = len(self._live) + len(self._again)
            if not self.ended and (proposal := self._search(running)):
                return proposal
            if running or not self._config.search.confirm.contenders:
                return None
            self._confirmer = self._confirming()
        return self._confirmer.ask()

    def _search(self, running: int) -> Proposal | None:
        """None: it is over; or, with trials running, it may be that there is no room for more."""
        search, price = self._config.search, self._config.hardware.usd_per_device_hour
        lines = [entry for entry in self._ledger.entries() if entry.repeat is None]
        so_far = spent(lines, None if price is None else price.value)
        if why := exhausted(search.budget, so_far, search.trials, running):
            if not running:
                self._end(why)
            return None
        proposal = self._proposer.ask()
        if proposal is None:
            self._end("nothing is left to try")
            return None
        if why := self._doubted(proposal):
            done, kept = self._finished + running, f"stopped after {{}} of {search.trials} trials"
            self._end(f"{kept.format(done)}: {why}")
            self._ledger.ended(self.ended)
            return None
        return proposal

    def _doubted(self, proposal: Proposal) -> str:
        """Why the proposal is not worth it; only after as many such in a row as the rule asks for."""
        gain, rule = self._proposer.expected_gain, self._config.search.stop
        hours = trial_hours(self._walls_s, proposal.config.devices)
        self._doubt = self._doubt.after(gain, hours)
        return too_little(rule, gain, hours) if self._doubt.ends else ""

    def _end(self, why: str) -> None:
        self.ended = why
        if self._finished < self._config.search.trials:
            for observer in self._observers:
                observer.ended(why)

    def _confirming(self) -> Confirmer:
        numbers = [entry.number for entry in self._ledger.entries() if entry.repeat is None]
        return Confirmer(self._config, self._ledger.results(), max(numbers, default=-1) + 1)

    def _learn(self, proposal: Proposal, result: TrialResult) -> None:
        if isinstance(proposal, RepeatProposal):
            assert self._confirmer is not None
            self._confirmer.tell(proposal.number, result)
        else:
            self._finished += 1
            if isinstance(result, Completed):
                self._walls_s.append(result.timings.wall_s)
            self._proposer.tell(proposal.number, outcome_of(self._config, result))

    def _replay(self) -> None:
        """Asks and tells again, in the order in which they were: the study is where it was."""
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
                self._doubted(proposal)
        else:
            self._confirmer = self._confirmer or self._confirming()
            proposal = self._confirmer.ask()
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
