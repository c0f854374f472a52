"""What the entries of a study so far mean for its next trial: costs, pruning, and whether it pays."""

from dataclasses import replace

from tuner.config.groups.space import ENGINE
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.results.ledger import Entry, Finished
from tuner.search import Proposal
from tuner.search.pruning_baseline import PruningHistory
from tuner.search.stopping import GainMonitor, low_gain
from tuner.study.learning.budget import Spending, Spent, exhausted, trial_hours
from tuner.trial.result import Completed


class Accounts:
    """Takes a ledger's entries one after the other. Asking it costs the same however many there are."""

    def __init__(self, config: StudyConfig) -> None:
        self._config, risk = config, config.search.prune_risk
        self._spending, self._gains = Spending(), GainMonitor(config.search.stop)
        slo, objective = config.slo, config.objective
        self._history = None if risk is None else PruningHistory(slo, objective, risk)
        self._wall_s, self._completed = 0.0, 0

    def add(self, entry: Entry) -> None:
        """The next line of the ledger. Repeats are not of the search, and left out."""
        self.spend(entry)
        self.learn(entry)

    def spend(self, entry: Entry) -> None:
        """What a line costs."""
        if entry.repeat is None:
            self._spending.add(entry)

    def learn(self, entry: Entry) -> None:
        """What a line says of later trials."""
        if entry.repeat is not None or not isinstance(entry, Finished):
            return
        if isinstance(entry.result, Completed):
            self._wall_s += entry.result.timings.wall_s
            self._completed += 1
        if self._history is not None:
            self._history.add(entry.result)

    @property
    def spent(self) -> Spent:
        """The cost of the search so far."""
        price = self._config.hardware.usd_per_device_hour
        return self._spending.spent(None if price is None else price.value)

    def exhausted(self, running: int) -> str:
        """Why the budget has no room for a trial beside the running ones; empty if it has."""
        search = self._config.search
        return exhausted(search.budget, self.spent, search.trials, running)

    def with_baseline(self, proposal: Proposal) -> Proposal:
        """Lets the search's trials be pruned, but not defaults and repeats, which others are compared with."""
        default = not set(proposal.point) - {ENGINE}
        if self._history is None or default or isinstance(proposal, RepeatProposal):
            return proposal
        return replace(proposal, baseline=self._history.baseline())

    def stopped_by_rule(self, proposal: Proposal, gain: float | None) -> str:
        """Why the stopping rule ends the search at this proposal; empty while it does not. Once a proposal."""
        mean_s = self._wall_s / self._completed if self._completed else None
        hours = trial_hours(mean_s, proposal.config.devices)
        self._gains = self._gains.after(gain, hours)
        return low_gain(self._config.search.stop, gain, hours) if self._gains.stops else ""
