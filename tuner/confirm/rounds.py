"""Measures the best trials of a search again, round by round, until each tier's race has ended. Pure.

A round holds one repeat of each candidate that is still in a race, and of each default (`schedule`). The next
repeat follows from what was asked and answered before, so that a ledger replays to the same state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.config.groups.search import ConfirmConfig
from tuner.config.groups.space import ENGINE
from tuner.config.resolve import trial_config, unscreened
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.confirm.candidates import RaceCandidate, is_censored, race_candidates
from tuner.confirm.race import Race, after_round
from tuner.confirm.repeat import RepeatProposal, repeat_config
from tuner.confirm.schedule import TRIES, Schedule, is_outlier
from tuner.results.ledger import Entry, Finished, Repeat
from tuner.results.tiers import tier_values
from tuner.trial.result import TrialResult


@dataclass(frozen=True, slots=True)
class Turn:
    """One repeat that is due: a candidate, in a round (from 0)."""

    candidate: RaceCandidate
    round: int

    @property
    def repeat(self) -> Repeat:
        """As the ledger records it."""
        return Repeat(self.candidate.of, self.round)


class Confirmation:
    """The state of all rounds and races.

    `races`: tier → its race. `values`: tier → candidate → round → utility; None: both tries gave no value.
    `failures`: tier → candidate → round → tries without a value.
    """

    def __init__(
        self,
        candidates: Sequence[RaceCandidate],
        slo: Slo,
        objective: ObjectiveConfig,
        config: ConfirmConfig,
    ) -> None:
        self.candidates = {each.name: each for each in candidates}
        self.config, self._slo, self._objective = config, slo, objective
        self.races: dict[str, Race] = {}
        for tier in slo.tiers:
            if names := frozenset(each.name for each in candidates if tier in each.tiers):
                self.races[tier] = Race(names)
        self.values: dict[str, dict[str, dict[int, float | None]]] = {
            tier: {name: {} for name in race.names} for tier, race in self.races.items()
        }
        self.failures: dict[str, dict[str, dict[int, int]]] = {
            tier: {name: {} for name in race.names} for tier, race in self.races.items()
        }
        self._schedule = Schedule(config.seed, config.repeats_max, self._members)
        self._whole = 0  # rounds that the races have seen
        self._tries: dict[tuple[str, str], list[float]] = {}  # of a candidate in a tier, all values

    def next(self) -> Turn | None:
        """The next turn; None while a round must end first, and when all races are over."""
        due = None if self.over else self._schedule.next()
        return None if due is None else Turn(self.candidates[due[0]], due[1])

    def asked(self, turn: Turn) -> int:
        """The turn was handed out. Returns how often it was tried before."""
        return self._schedule.asked(turn.candidate.name, turn.round)

    def finished(self, turn: Turn, result: TrialResult) -> None:
        """The result of a turn; the races advance by each round that it completes."""
        name = turn.candidate.name
        utilities = tier_values(self._slo, self._objective, result)
        doubts = [self._take(turn, tier, utilities[tier], result) for tier in utilities]
        if self._schedule.finished(name, turn.round, good=not any(doubts)):
            for tier in turn.candidate.tiers:
                self.values[tier][name].setdefault(turn.round, None)
        self._advance()

    def close(self) -> None:
        """No further repeat is asked for: second tries that are due are given up."""
        self._schedule.drop_retries()
        self._advance()

    def turn_of(self, repeat: Repeat, engine: str) -> Turn | None:
        """The turn that a ledger's entry records; an untried default is identified by its engine."""
        for each in self.candidates.values():
            if each.of == repeat.of and (repeat.of is not None or each.engine == engine):
                return Turn(each, repeat.round)
        return None

    @property
    def over(self) -> bool:
        """Whether all races have ended."""
        return all(race.ended for race in self.races.values())

    @property
    def remaining(self) -> int:
        """Repeats that are not finished yet, at most."""
        if self.over:
            return self._schedule.running
        later = self.config.repeats_max - self._schedule.begun
        return self._schedule.left + later * len(self._members()) * TRIES

    def _take(self, turn: Turn, tier: str, value: float | None, result: TrialResult) -> bool:
        """Keeps the value of a repeat in a tier. Returns whether it is to be tried again."""
        candidate, name = turn.candidate, turn.candidate.name
        if tier not in candidate.tiers:
            return False
        values, failures = self.values[tier][name], self.failures[tier][name]
        if not value or is_censored(candidate, tier, self._slo, result):
            failures[turn.round] = failures.get(turn.round, 0) + 1
            return not values.get(turn.round) and self._is_doubtful(candidate, tier, result)
        values[turn.round] = value
        tries = self._tries.setdefault((tier, name), [])
        doubtful = is_outlier(value, tries, self.config.noise)
        tries.append(value)
        return doubtful and name in self.races[tier].remaining

    def _is_doubtful(self, candidate: RaceCandidate, tier: str, result: TrialResult) -> bool:
        """Whether a repeat without a value is tried again: not if measured, and never in the tier before."""
        name, race = candidate.name, self.races[tier]
        if race.ended or name in race.out:
            return False
        measured = result.status == "completed" and any(point.valid for point in result.points)
        return not measured or tier in candidate.scores or any(self.values[tier][name].values())

    def _advance(self) -> None:
        while self._whole < self._schedule.whole:
            self._whole += 1
            for tier, race in self.races.items():
                self.races[tier] = after_round(
                    race, self.values[tier], self.config, self.failures[tier]
                )

    def _members(self) -> list[str]:
        races = [race for race in self.races.values() if not race.ended]
        racing = {name for race in races for name in race.remaining}
        present = {name for race in races for name in race.names}
        return [
            name
            for name, each in self.candidates.items()
            if name in racing or (each.is_default and name in present)
        ]


class RepeatProposer:
    """Proposes the repeats of a confirmation as trials.

    `searched`: all finished trials of the search. Repeats are numbered from `first` on. Given the same results
    in the same order it proposes the same repeats.
    """

    def __init__(self, config: StudyConfig, searched: Sequence[Finished], first: int) -> None:
        self._config, self._next, self._turns = config, first, dict[int, Turn]()
        self._confirmation = confirmation_of(config, searched)

    def ask(self) -> RepeatProposal | None:
        """The next repeat; None while a round must end first, and when all races are over."""
        turn = self._confirmation.next()
        if turn is None:
            return None
        tried = self._confirmation.asked(turn)
        return self._proposal(self._next, turn, self._trial(turn, tried))

    def ask_again(self, entry: Entry) -> RepeatProposal | None:
        """The repeat that a line of the ledger is of, in whatever order they are: lines may be lost.

        Where the study would not try that, the one that it would try there.
        """
        engine = str(entry.point.get(ENGINE, next(iter(self._config.engine))))
        turn = self._confirmation.turn_of(entry.repeat, engine) if entry.repeat else None
        if turn is None:
            return self.ask()
        tried = self._confirmation.asked(turn)
        trials = [self._trial(turn, each) for each in (tried, *range(TRIES))]
        mine = (each for each in trials if each.fingerprint == entry.fingerprint)
        return self._proposal(entry.number, turn, next(mine, trials[0]))

    def _trial(self, turn: Turn, tried: int) -> TrialConfig:
        whole = trial_config(unscreened(self._config), turn.candidate.point)
        seed = self._config.search.confirm.seed
        known = whole.model_copy(update={"quality": None})  # the search's trial has answered
        return repeat_config(known, turn.candidate.loads, seed, turn.round, tried)

    def _proposal(self, number: int, turn: Turn, config: TrialConfig) -> RepeatProposal:
        self._next, self._turns[number] = max(self._next, number + 1), turn
        return RepeatProposal(number, turn.candidate.point, config, repeat=turn.repeat)

    def tell(self, number: int, result: TrialResult) -> None:
        """The result of the proposal of that number."""
        self._confirmation.finished(self._turns.pop(number), result)

    @property
    def remaining(self) -> int:
        """Repeats that are not finished yet, at most."""
        return self._confirmation.remaining

    @property
    def over(self) -> bool:
        """Whether all races have ended."""
        return self._confirmation.over

    @property
    def next_number(self) -> int:
        """The number that the next repeat would have."""
        return self._next


def confirmation_of(config: StudyConfig, searched: Sequence[Finished]) -> Confirmation:
    """The confirmation of a search, at its beginning. `searched`: all finished trials of the search."""
    confirm, engines = config.search.confirm, list(config.engine)
    chosen = race_candidates(searched, config.slo, config.objective, confirm, engines)
    return Confirmation(chosen, config.slo, config.objective, confirm)


def max_repeats(config: StudyConfig) -> int:
    """The most repeats that a confirmation may take, before the search has ended."""
    confirm, tiers = config.search.confirm, len(config.slo.tiers)
    if not confirm.candidates:
        return 0
    others = min(confirm.candidates * tiers, config.search.trials)
    return (others + len(config.engine)) * confirm.repeats_max * TRIES
