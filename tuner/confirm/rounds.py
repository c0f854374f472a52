"""Measures the best trials of a search again, round by round, until each tier's race has ended. Pure.

A round holds one repeat of each candidate that is still in a race, and of each default, in random order. The
next repeat follows from what was asked and answered before, so that a ledger replays to the same state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.config.groups.search import ConfirmConfig
from tuner.config.resolve import trial_config, unscreened
from tuner.config.study import StudyConfig
from tuner.confirm.candidates import RaceCandidate, race_candidates
from tuner.confirm.race import Race, after_round
from tuner.confirm.repeat import RepeatProposal, repeat_config
from tuner.results.ledger import Finished, Repeat
from tuner.results.tiers import tier_values
from tuner.trial.result import TrialResult

AHEAD = 2  # rounds that may be open at once, so that no device idles while a round ends


@dataclass(frozen=True, slots=True)
class Turn:
    """One repeat that is due: a candidate, in a round (from 0)."""

    candidate: RaceCandidate
    round: int

    @property
    def repeat(self) -> Repeat:
        """As the ledger records it."""
        return Repeat(self.candidate.of, self.round)


@dataclass(frozen=True, slots=True)
class _Round:
    order: tuple[str, ...]
    asked: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)


class Confirmation:
    """The state of all rounds and races.

    `races`: tier → its race. `values`: tier → candidate → round → utility; None: the repeat gave no value.
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
        self._rounds: list[_Round] = []
        self._whole = 0

    def next(self) -> Turn | None:
        """The next turn; None while a round must end first, and when all races are over."""
        if self.over:
            return None
        open_rounds, most = len(self._rounds) - self._whole, self.config.repeats_max
        if not self._waiting() and open_rounds < AHEAD and len(self._rounds) < most:
            self._begin()
        waiting = self._waiting()
        return Turn(self.candidates[waiting[0]], len(self._rounds) - 1) if waiting else None

    def asked(self, turn: Turn) -> None:
        """The turn was handed out."""
        if turn.round == len(self._rounds):
            self._begin()
        self._rounds[turn.round].asked.add(turn.candidate.name)

    def finished(self, turn: Turn, result: TrialResult) -> None:
        """The result of a turn; the races advance by each round that it completes."""
        name = turn.candidate.name
        utilities = tier_values(self._slo, self._objective, result)
        for tier in turn.candidate.tiers:
            self.values[tier][name][turn.round] = utilities[tier] or None
        self._rounds[turn.round].finished.add(name)
        while self._whole < len(self._rounds) and self._is_whole(self._rounds[self._whole]):
            self._whole += 1
            for tier, race in self.races.items():
                self.races[tier] = after_round(race, self.values[tier], self.config)

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
        running = sum(len(each.asked - each.finished) for each in self._rounds)
        if self.over:
            return running
        later = self.config.repeats_max - len(self._rounds)
        return running + len(self._waiting()) + later * len(self._members())

    def _waiting(self) -> list[str]:
        last = self._rounds[-1] if self._rounds else _Round(())
        return [name for name in last.order if name not in last.asked]

    def _members(self) -> list[str]:
        races = [race for race in self.races.values() if not race.ended]
        racing = {name for race in races for name in race.remaining}
        present = {name for race in races for name in race.names}
        return [
            name
            for name, each in self.candidates.items()
            if name in racing or (each.is_default and name in present)
        ]

    def _begin(self) -> None:
        members = self._members()
        random = np.random.default_rng((self.config.seed, len(self._rounds)))
        order = tuple(members[place] for place in random.permutation(len(members)))
        self._rounds.append(_Round(order))

    @staticmethod
    def _is_whole(each: _Round) -> bool:
        return each.finished >= set(each.order)


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
        self._confirmation.asked(turn)
        number, self._next = self._next, self._next + 1
        self._turns[number] = turn
        whole = trial_config(unscreened(self._config), turn.candidate.point)
        seed = self._config.search.confirm.seed
        config = repeat_config(whole, turn.candidate.loads, seed, turn.round)
        return RepeatProposal(number, turn.candidate.point, config, repeat=turn.repeat)

    def tell(self, number: int, result: TrialResult) -> None:
        """The result of the proposal of that number."""
        self._confirmation.finished(self._turns.pop(number), result)

    @property
    def remaining(self) -> int:
        """Repeats that are not finished yet, at most."""
        return self._confirmation.remaining


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
    return (others + len(config.engine)) * confirm.repeats_max
