"""Measures the contenders of a search again, round by round, until each tier's race is over. Pure.

A round holds one repeat of each contender that is still in a race, and of each default, in random order.
What comes next follows from what was asked and answered before, so a ledger leads back to the same place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner.config.groups.objective import ObjectiveConfig, Slo
from tuner.config.groups.search import ConfirmConfig
from tuner.confirm.candidates import Contender
from tuner.confirm.race import Race, after_round
from tuner.results.ledger import Repeat
from tuner.results.tiers import tier_values
from tuner.trial.result import TrialResult

AHEAD = 2  # rounds that may be open at once, so that no device idles while a round ends


@dataclass(frozen=True, slots=True)
class Turn:
    contender: Contender
    round: int  # from 0

    @property
    def repeat(self) -> Repeat:
        return Repeat(self.contender.of, self.round)


@dataclass(frozen=True, slots=True)
class _Round:
    order: tuple[str, ...]
    asked: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)


class Confirmation:
    """`races`: tier → how its race stands. `values`: tier → contender → round → worth; None: it had none."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        slo: Slo,
        objective: ObjectiveConfig,
        config: ConfirmConfig,
    ) -> None:
        self.contenders = {each.name: each for each in contenders}
        self.config, self._slo, self._objective = config, slo, objective
        self.races: dict[str, Race] = {}
        for tier in slo.tiers:
            if names := frozenset(each.name for each in contenders if tier in each.tiers):
                self.races[tier] = Race(names)
        self.values: dict[str, dict[str, dict[int, float | None]]] = {
            tier: {name: {} for name in race.names} for tier, race in self.races.items()
        }
        self._rounds: list[_Round] = []
        self._whole = 0

    def next(self) -> Turn | None:
        """Whose turn it is; None while a round must end first, and when all races are over."""
        if self.over:
            return None
        open_rounds, most = len(self._rounds) - self._whole, self.config.repeats_max
        if not self._waiting() and open_rounds < AHEAD and len(self._rounds) < most:
            self._begin()
        waiting = self._waiting()
        return Turn(self.contenders[waiting[0]], len(self._rounds) - 1) if waiting else None

    def asked(self, turn: Turn) -> None:
        if turn.round == len(self._rounds):
            self._begin()
        self._rounds[turn.round].asked.add(turn.contender.name)

    def finished(self, turn: Turn, result: TrialResult) -> None:
        name = turn.contender.name
        worths = tier_values(self._slo, self._objective, result)
        for tier in turn.contender.tiers:
            self.values[tier][name][turn.round] = worths[tier] or None
        self._rounds[turn.round].finished.add(name)
        while self._whole < len(self._rounds) and self._is_whole(self._rounds[self._whole]):
            self._whole += 1
            for tier, race in self.races.items():
                self.races[tier] = after_round(race, self.values[tier], self.config)

    def turn_of(self, repeat: Repeat, engine: str) -> Turn | None:
        """The turn that a line of the ledger tells of; a default that was no trial is known by its engine."""
        for each in self.contenders.values():
            if each.of == repeat.of and (repeat.of is not None or each.engine == engine):
                return Turn(each, repeat.round)
        return None

    @property
    def over(self) -> bool:
        return all(race.ended for race in self.races.values())

    @property
    def remaining(self) -> int:
        """Repeats not finished yet, at most."""
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
        racing = {name for race in races for name in race.still}
        present = {name for race in races for name in race.names}
        return [
            name
            for name, each in self.contenders.items()
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
