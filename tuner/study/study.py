"""A study: takes trials from the search, hands them out, and records their results."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tuner.analysis.effects.ablation import Remeasurement, max_ablations
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.confirm.rounds import max_repeats
from tuner.results.ledger import Attempt, Entry, Finished, Ledger, LedgerError, Repeat
from tuner.search import Proposal
from tuner.search.base import ImpossiblePoint
from tuner.search.factory import SearchSetup
from tuner.search.outcome import outcome_of
from tuner.search.retries import Quarantine, elsewhere, in_order, tried_again
from tuner.study.learning.accounts import Accounts
from tuner.study.learning.quality_gate import QualityGate
from tuner.study.learning.rounding import rounded
from tuner.study.observer import Observer
from tuner.trial.result import Failed, Measured, Timings, TrialResult


class ResumeError(Exception):
    """The ledger does not belong to this configuration. One line."""


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
        self._limits = {line.since: (line.gpus, line.cpus) for line in ledger.limits}
        first = [(line.gpus, line.cpus) for line in ledger.limits if line.since == 0][:1]
        self._largest = first[0] if first else None
        search = search or SearchSetup(config, self._largest)
        self._proposer, self._recorder = search.proposer(), search.recorder()
        self._repeats: Remeasurement | None = None
        self._live: dict[int, Proposal] = {}
        self._again: list[Proposal] = []
        self._attempts: Counter[int] = Counter()  # trial → its failures after which it ran again
        self._quarantine = Quarantine()
        self._gate = QualityGate(config, ledger.compared)
        self._proposals: dict[int, Proposal] = {}  # of trials that the gate holds back
        self._finished = 0
        self._accounts = Accounts(config)
        self.ended = ""  # why the search is over
        self.closed = False
        self.failure: LedgerError | None = None  # what can't be written: the study is closed
        self._replay()

    def ask(self) -> Proposal | None:
        """The next trial to run; None if there is none now, or none any more."""
        if self.closed:
            return None
        if self._again:  # with the baseline of its first start: an interruption changes no trial
            proposal = self._again.pop(0)
        else:
            asked = self._propose()
            if asked is None:
                return None
            proposal = self._accounts.with_baseline(asked)
            known = proposal.number, proposal.point, proposal.config.fingerprint
            with self._writing():
                self._ledger.asked(*known, _repeat(proposal))
            if self.failure is not None:
                return None
            self._accounts.add(self._ledger.entries()[-1])
        self._live[proposal.number] = proposal
        self._gate_asked(proposal)
        for observer in self._observers:
            observer.started(proposal)
        return proposal

    def finished(self, number: int, measured: Measured) -> None:
        """Records the result of a running trial, or a failed attempt at it, which runs again before others."""
        proposal = self._live.pop(number)
        if tried_again(measured.result, self._attempts[number]):
            with self._writing():
                self._ledger.attempted(number, proposal.point, measured, _repeat(proposal))
            self._attempts[number] += 1
            self._accounts.add(self._ledger.entries()[-1])
            self._quarantine.add(measured.result)
            self._again = in_order([*self._again, elsewhere(proposal, measured.result)])
            for observer in self._observers:
                observer.retried(proposal, measured.result, self._attempts[number])
            return
        self._record(proposal, measured)

    def _record(self, proposal: Proposal, measured: Measured) -> None:
        measured = rounded(self._recorder.recorded(proposal.point, measured))
        with self._writing():
            self._ledger.finished(proposal.number, proposal.point, measured, _repeat(proposal))
        entry = self._ledger.entries()[-1]
        assert isinstance(entry, Finished)
        for learned, finished in self._through_gate(proposal, entry):
            for observer in self._observers:
                observer.finished(learned, finished.result, finished.folder)

    @property
    def quarantined(self) -> Collection[str]:
        """The nodes that fail whatever runs there."""
        return self._quarantine.nodes

    def died(self, number: int, evidence: str, wall_s: float = 0.0, host: str = "") -> None:
        """Records that the worker of a running trial died."""
        config, timings = self._live[number].config, Timings(wall_s, 0.0, 0.0)
        facts = {"host": host} if host else {}
        result = Failed(config, "WorkerDied", evidence, timings, provenance=facts)
        self.finished(number, Measured(result, {}))

    def unplaced(self, number: int, evidence: str) -> None:
        """Records that no node can hold a trial any more. It is not tried again."""
        proposal = self._live.pop(number)
        result = Failed(proposal.config, "NodeLost", evidence, Timings(0.0, 0.0, 0.0))
        self._record(proposal, Measured(result, {}))

    def limit(self, largest: tuple[int, int]) -> None:
        """From now on proposes only layouts that a node with so many (GPUs, CPU cores) holds."""
        if largest != self._largest:
            self._largest = largest
            self._ledger.limited(self._proposer.asked, *largest)
            self._proposer.limit(largest)

    def remaining(self) -> int:
        """Trials that are not finished; for the confirmation an upper bound."""
        if self._repeats is not None:
            return self._repeats.remaining
        running = len(self._live) + len(self._again)
        left = running if self.ended else self._config.search.trials - self._finished
        return left + max_repeats(self._config) + max_ablations(self._config)

    def close(self) -> None:
        """Proposes no more trials; running ones finish."""
        if not self.closed:
            self.closed = True
            for observer in self._observers:
                observer.closing()

    def _propose(self) -> Proposal | None:
        """The search's next trial; after its last one has finished, the confirmation's."""
        running = len(self._live) + len(self._again)
        if self._repeats is None:
            if not self.ended and (proposal := self._search(running)):
                return proposal
            if running or not self._config.search.confirm.candidates:
                return None
            self._repeats = self._new_repeats()
        return self._repeats.ask(running)

    def _search(self, running: int) -> Proposal | None:
        """The search's next trial; None if it is over, or the budget has no room beside the running trials."""
        if why := self._accounts.exhausted(running):
            if not running:
                self._end(why)
            return None
        proposal = self._proposer.ask()
        if proposal is None:
            self._end("every point of the space has been tried" + self._that_fits())
            return None
        if why := self._accounts.stopped_by_rule(proposal, self._proposer.expected_gain):
            done = self._finished + running
            self._end(f"stopped after {done} of {self._config.search.trials} trials: {why}")
            with self._writing():
                self._ledger.ended(self.ended)
            return None
        return proposal

    def _that_fits(self) -> str:
        if self._largest is None:
            return ""
        gpus, cpus = self._largest
        return f" that fits the cluster's largest node ({gpus} GPUs, {cpus} CPU cores)"

    def _end(self, why: str) -> None:
        self.ended = why
        if self._finished < self._config.search.trials:
            for observer in self._observers:
                observer.ended(why)

    def _new_repeats(self) -> Remeasurement:
        numbers = [entry.number for entry in self._ledger.entries() if entry.repeat is None]
        return Remeasurement(self._config, self._ledger.entries, max(numbers, default=-1) + 1)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Closes the study at the first line that can't be written; the ledger keeps it in memory."""
        try:
            yield
        except LedgerError as error:
            self.failure = self.failure or error
            self.close()

    def conclude(self) -> None:
        """Marks the ledger complete if the study ran to its end. Raises LedgerError if it can't be written."""
        if self.failure is not None:
            raise self.failure
        if not self.closed:
            self._ledger.complete()

    def _gate_asked(self, proposal: Proposal) -> None:
        if not isinstance(proposal, RepeatProposal):
            self._gate.asked(proposal.number, proposal.point)

    def _through_gate(
        self, proposal: Proposal, entry: Finished
    ) -> Sequence[tuple[Proposal, Finished]]:
        """Learns what the quality gate lets through: the trial, none, or also those that it held back."""
        self._proposals[entry.number] = proposal
        self._accounts.spend(entry)
        passed = list[tuple[Proposal, Finished]]()
        with self._writing():
            for each in self._gate.take(entry):
                passed.append((self._proposals.pop(each.number), each))
        for waited, each in passed:
            self._learn(waited, each, each.result)
        return passed

    def _learn(self, proposal: Proposal, entry: Entry, result: TrialResult) -> None:
        self._accounts.learn(entry)
        self._quarantine.add(result)
        if isinstance(proposal, RepeatProposal):
            assert self._repeats is not None
            self._repeats.tell(proposal.number, result)
        else:
            self._finished += 1
            attempts = self._attempts[proposal.number]
            self._proposer.tell(proposal.number, outcome_of(self._config, result, attempts))

    def _replay(self) -> None:
        """Replays the ledger in its order, which restores the state of search and confirmation.

        A ledger that lost lines is replayed as far as it goes: trials that it lacks run again.
        """
        entries = self._ledger.entries()
        done = {entry.number for entry in entries if isinstance(entry, Finished)}
        asked = max((e.number for e in entries if e.repeat is None), default=-1) + 1
        stop = self._config.search.stop
        self._proposer.replays(asked, stop.patience if stop.on else 0)
        open_trials: dict[int, Proposal] = {}
        known = set[int]()
        for entry in entries:
            if entry.number not in known:
                known.add(entry.number)
                for proposal in self._asked_before(entry, open_trials):
                    lost = proposal.number not in done
                    self._gate_asked(proposal)
                    open_trials[proposal.number] = (
                        self._accounts.with_baseline(proposal) if lost else proposal
                    )
            if entry.result is None:
                self._accounts.add(entry)
            elif isinstance(entry, Attempt):
                self._attempts[entry.number] += 1
                self._accounts.add(entry)
                self._quarantine.add(entry.result)
                open_trials[entry.number] = elsewhere(open_trials[entry.number], entry.result)
            elif isinstance(entry, Finished):
                self._through_gate(open_trials.pop(entry.number), entry)
        self._again = sorted(open_trials.values(), key=lambda each: each.number)
        if self._config.search.stop.on:
            self.ended = self._ledger.why_ended

    def _asked_before(self, entry: Entry, asked: Mapping[int, Proposal]) -> Iterator[Proposal]:
        """The proposal that an entry is of, after those that the ledger has lost."""
        proposal = asked.get(entry.number)
        while proposal is None or proposal.number < entry.number:
            proposal = self._proposed_before(entry)
            missing = 0 if proposal is None else entry.number - proposal.number
            if not 0 < missing <= self._config.search.trials or entry.repeat is not None:
                break
            assert proposal is not None
            yield proposal
        mine = proposal and (proposal.number, proposal.config.fingerprint)
        if proposal is None or mine != (entry.number, entry.fingerprint):
            proposal = self._adopted(entry, proposal)
        yield proposal

    def _proposed_before(self, entry: Entry) -> Proposal | None:
        if entry.repeat is not None:
            self._repeats = self._repeats or self._new_repeats()
            return self._repeats.ask_again(entry)
        if limit := self._limits.get(self._proposer.asked):
            self._largest = limit
            self._proposer.limit(limit)
        proposal = self._proposer.ask(entry.point if self._proposer.asked == entry.number else None)
        if proposal is not None:
            self._accounts.stopped_by_rule(proposal, self._proposer.expected_gain)
        return proposal

    def _adopted(self, entry: Entry, instead: Proposal | None) -> Proposal:
        """The ledger's trial, where the search would now propose another. Raises ResumeError."""
        if entry.repeat is None:
            try:
                proposal = self._proposer.adopt(entry.number, entry.point)
            except ImpossiblePoint as error:
                raise ResumeError(
                    f"trial {entry.number} of the ledger is impossible: {error}"
                ) from error
            if proposal.config.fingerprint == entry.fingerprint:
                return proposal
        raise ResumeError(
            f"trial {entry.number} of the ledger is {entry.fingerprint}, but this configuration "
            f"would try {instead.config.fingerprint if instead else 'nothing'} there: "
            "resume with the configuration and version that began the study"
        )


def _repeat(proposal: Proposal) -> Repeat | None:
    return proposal.repeat if isinstance(proposal, RepeatProposal) else None
