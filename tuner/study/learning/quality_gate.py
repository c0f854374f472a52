"""The quality gate of a running study: nothing is learned of a trial before its answers are compared."""

from collections.abc import Callable

from tuner.config.checks.numerics import is_default
from tuner.config.groups.space import ENGINE, Point
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.trial.quality.after_load import MISSING, TASKS_MISSING
from tuner.trial.quality.answers import Answers, read_answers
from tuner.trial.quality.task_scores import TaskScores, read_scores
from tuner.trial.quality.verdict import QualityVerdict, judge, of_reference, with_tasks
from tuner.trial.result import ANSWERED, Completed

NO_DEFAULT = "the study has tried no default to compare it with (search.default_first)"


class QualityGate:
    """Takes finished trials in the order of the ledger, and gives them back once they may be learned from.

    The reference is the default of the study's first engine. Trials that end before it are held back; their
    lines are in the ledger already. `compared` writes a verdict, and returns the entry with it.
    """

    def __init__(
        self, config: StudyConfig, compared: Callable[[int, QualityVerdict], Finished]
    ) -> None:
        self._config, self._compared = config.quality, compared
        self._first = next(iter(config.engine))
        self._expected: int | None = None  # the trial that will be the reference
        self._reference: Answers | str | None = None  # or why there is none; None: not known yet
        self._scores: TaskScores | str = ""
        self._held: list[Finished] = []

    def asked(self, number: int, point: Point) -> None:
        """A trial of the search was proposed."""
        first = is_default(point) and point.get(ENGINE, self._first) == self._first
        if first and self._expected is None:
            self._expected = number

    def take(self, entry: Finished) -> list[Finished]:
        """The trials that may be learned from now: this one, none, or also those that waited for it."""
        if entry.repeat is None and entry.number == self._expected:
            entry = self._as_reference(entry)
            held, self._held = self._held, []
            return [entry, *map(self._judged, held)]
        if not _answered(entry):
            return [entry]
        if self._expected is not None and self._reference is None:
            self._held.append(entry)
            return []
        return [self._judged(entry)]

    def _as_reference(self, entry: Finished) -> Finished:
        result = entry.result
        if not isinstance(result, Completed):
            self._reference = f"trial {entry.number}, the reference, failed: {result.failure}"
            return entry
        if not _answered(entry):
            self._reference = f"trial {entry.number}, the reference, was asked nothing"
            return entry
        found = _answers(entry)
        self._reference, self._scores = found, _scores(entry)
        if isinstance(found, str):
            self._reference = f"trial {entry.number}, the reference, has no answers: {found}"
            return self._with(entry, QualityVerdict("unknown", entry.number, found))
        return self._with(entry, self._on_tasks(of_reference(entry.number, found), entry))

    def _judged(self, entry: Finished) -> Finished:
        if isinstance(entry.result, Completed) and entry.result.quality is not None:
            return entry
        reference = self._reference if self._expected is not None else NO_DEFAULT
        if isinstance(reference, str) or reference is None:
            return self._with(entry, QualityVerdict("unknown", self._expected, reference or ""))
        found = _answers(entry)
        if isinstance(found, str):
            return self._with(entry, QualityVerdict("unknown", self._expected, found))
        assert self._expected is not None
        verdict = judge(self._config, self._expected, reference, found)
        return self._with(entry, self._on_tasks(verdict, entry))

    def _on_tasks(self, verdict: QualityVerdict, entry: Finished) -> QualityVerdict:
        if not self._config.tasks:
            return verdict
        return with_tasks(self._config, verdict, self._scores, _scores(entry))

    def _with(self, entry: Finished, verdict: QualityVerdict) -> Finished:
        """The entry with the verdict, which is written unless the ledger has one."""
        if isinstance(entry.result, Completed) and entry.result.quality is not None:
            return entry
        return self._compared(entry.number, verdict)


def _answered(entry: Finished) -> bool:
    """Whether the trial was asked for answers."""
    result = entry.result
    return isinstance(result, Completed) and ANSWERED in result.provenance


def _answers(entry: Finished) -> Answers | str:
    return _missing(entry, MISSING) or read_answers(entry.folder)


def _scores(entry: Finished) -> TaskScores | str:
    return _missing(entry, TASKS_MISSING) or read_scores(entry.folder)


def _missing(entry: Finished, what: str) -> str:
    facts = entry.result.provenance.get(ANSWERED)
    return str(facts.get(what) or "") if isinstance(facts, dict) else ""
