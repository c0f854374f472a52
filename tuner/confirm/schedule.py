"""The order of repeats: rounds of all candidates in random order, and second tries of failed ones. Pure.

What disturbs a machine lasts, so neighbours in time suffer together. Two repeats of one candidate are therefore
not adjacent, also where one round ends and the next begins (but at the very end, where nothing else is left). A
repeat that gives no value, or one far from what its candidate gave before, is tried once more in its round,
after another candidate's: then only the second try counts.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

AHEAD = 2  # rounds that may be open at once, so that no device idles while a round ends
TRIES = 2  # of one candidate in one round
OUTLIER = 5.0  # standard deviations between starts beyond which a value is measured again
OUTLIER_AFTER = 3  # tries that say what is usual
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def is_outlier(value: float, tries: Sequence[float], noise: float) -> bool:
    """Whether a value is far from the candidate's other `tries`, discarded ones included.

    Far by its own scatter (median absolute deviation), or by `noise`, a relative standard deviation, if that is
    larger: a candidate that always scatters widely keeps its values.
    """
    if len(tries) < OUTLIER_AFTER:
        return False
    logs = [math.log(each) for each in tries]
    middle = statistics.median(logs)
    scatter = MAD_TO_DEVIATION * statistics.median(abs(each - middle) for each in logs)
    return abs(math.log(value) - middle) > OUTLIER * max(noise, scatter)


@dataclass(slots=True)
class _Round:
    waiting: list[str]
    running: list[str] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return not self.waiting and not self.running


class Schedule:
    """What was asked and finished, and what is next. The same events in the same order give the same schedule.

    `members`: the candidates that a round that begins now would hold.
    """

    def __init__(self, seed: int, rounds_max: int, members: Callable[[], Sequence[str]]) -> None:
        self._seed, self._rounds_max, self._members = seed, rounds_max, members
        self._rounds: list[_Round] = []
        self._last = ""
        self.whole = 0  # rounds

    def next(self) -> tuple[str, int] | None:
        """The candidate that is due and its round; None while a round must end first."""
        while (found := self._free()) is None and self._may_begin():
            self._begin()
        if found is not None:
            return found
        waiting = [(name, i) for i, each in enumerate(self._rounds) for name in each.waiting]
        return waiting[0] if waiting and not self.running else None

    def asked(self, name: str, number: int) -> int:
        """The repeat was handed out. Returns how often this candidate was tried in this round before."""
        while number >= len(self._rounds):
            self._begin()
        for earlier in self._rounds[: max(0, number - AHEAD + 1)]:
            earlier.waiting = [each for each in earlier.waiting if not earlier.tries.get(each)]
        self._advance()
        each = self._rounds[number]
        if name in each.waiting:
            each.waiting.remove(name)
        each.running.append(name)
        before = each.tries.get(name, 0)
        each.tries[name] = before + 1
        self._last = name
        return before

    def finished(self, name: str, number: int, *, good: bool) -> bool:
        """The repeat ended, with a `good` value or not. Returns whether it is final: not tried again."""
        each = self._rounds[number]
        each.running.remove(name)
        again = not good and each.tries[name] < TRIES and self._apart(name)
        if again:
            each.waiting.append(name)
        self._advance()
        return not again

    def drop_retries(self) -> None:
        """Gives up second tries that were never asked for: the schedule of a study that has ended."""
        for each in self._rounds:
            each.waiting = [name for name in each.waiting if not each.tries.get(name)]
        self._advance()

    @property
    def begun(self) -> int:
        """Rounds that have begun."""
        return len(self._rounds)

    @property
    def running(self) -> int:
        """Repeats that were asked for and have not ended."""
        return sum(len(each.running) for each in self._rounds)

    @property
    def left(self) -> int:
        """Repeats of the rounds that have begun which have not ended, at most."""
        firsts = sum(
            TRIES - each.tries.get(name, 0) for each in self._rounds for name in each.waiting
        )
        return firsts + sum(
            1 + TRIES - each.tries[name] for each in self._rounds for name in each.running
        )

    def _free(self) -> tuple[str, int] | None:
        """The first that waits and was not the last to be asked."""
        for number in range(self.whole, len(self._rounds)):
            for name in self._rounds[number].waiting:
                if name != self._last:
                    return name, number
        return None

    def _apart(self, name: str) -> bool:
        """Whether another candidate's repeat runs, or will, before `name` is tried again."""
        others = any(each != name for one in self._rounds for each in (*one.waiting, *one.running))
        later = len(self._rounds) < self._rounds_max and set(self._members()) - {name}
        return self._last != name or others or bool(later)

    def _may_begin(self) -> bool:
        waiting = any(each.waiting for each in self._rounds)  # for another candidate's turn
        few = len(self._rounds) - self.whole < AHEAD + waiting
        return few and len(self._rounds) < self._rounds_max and bool(self._members())

    def _begin(self) -> None:
        members = list(self._members())
        random = np.random.default_rng((self._seed, len(self._rounds)))
        order = [members[place] for place in random.permutation(len(members))]
        while len(order) > 1 and order[0] == self._ends_with():
            order = [members[place] for place in random.permutation(len(members))]
        self._rounds.append(_Round(order))

    def _ends_with(self) -> str:
        """What comes right before a round that begins now."""
        waiting = [name for each in self._rounds for name in each.waiting]
        return waiting[-1] if waiting else self._last

    def _advance(self) -> None:
        while self.whole < len(self._rounds) and self._rounds[self.whole].whole:
            self.whole += 1
