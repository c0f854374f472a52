"""The last part of a study: its confirmation as proposals of trials, and what came of them."""

from collections.abc import Sequence

from tuner.config.resolve import trial_config, unscreened
from tuner.config.study import StudyConfig
from tuner.confirm.candidates import contenders
from tuner.confirm.repeat import RepeatProposal, repeat_config
from tuner.confirm.rounds import Confirmation, Turn
from tuner.results.ledger import Finished
from tuner.trial.result import TrialResult


class Confirmer:
    """`searched`: all finished trials of the search. Repeats are numbered on from `first`.

    Given the same results in the same order it proposes the same repeats.
    """

    def __init__(self, config: StudyConfig, searched: Sequence[Finished], first: int) -> None:
        self._config, self._next, self._turns = config, first, dict[int, Turn]()
        confirm, engines = config.search.confirm, list(config.engine)
        chosen = contenders(searched, config.slo, config.objective, confirm, engines)
        self._confirmation = Confirmation(chosen, config.slo, config.objective, confirm)

    def ask(self) -> RepeatProposal | None:
        """None while a round must end first, and when all is decided."""
        turn = self._confirmation.next()
        if turn is None:
            return None
        self._confirmation.asked(turn)
        number, self._next = self._next, self._next + 1
        self._turns[number] = turn
        whole = trial_config(unscreened(self._config), turn.contender.point)
        seed = self._config.search.confirm.seed
        config = repeat_config(whole, turn.contender.loads, seed, turn.round)
        return RepeatProposal(number, turn.contender.point, config, repeat=turn.repeat)

    def tell(self, number: int, result: TrialResult) -> None:
        self._confirmation.finished(self._turns.pop(number), result)

    @property
    def remaining(self) -> int:
        return self._confirmation.remaining


def most_repeats(config: StudyConfig) -> int:
    """As far as is known before the search has ended."""
    confirm, tiers = config.search.confirm, len(config.slo.tiers)
    if not confirm.contenders:
        return 0
    others = min(confirm.contenders * tiers, config.search.trials)
    return (others + len(config.engine)) * confirm.repeats_max
