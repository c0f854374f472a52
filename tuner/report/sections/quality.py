"""The quality gate: whose answers differ from the reference's, how far, and who is rejected."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tuner.config.checks.numerics import differs
from tuner.config.study import StudyConfig
from tuner.metrics.notation import counted
from tuner.report.console import say, show, table, words
from tuner.report.points import trial_name
from tuner.results.ledger import Finished
from tuner.trial.quality.prefix_cache import PREFIX_CACHE, RESET
from tuner.trial.quality.verdict import QualityVerdict
from tuner.trial.result import Completed

LISTED = 50  # trials that are listed one by one
ORDER = {"rejected": 0, "unknown": 1, "passed": 2}
STYLES = {"rejected": "red", "unknown": "yellow", "passed": "green"}
EMULATED = "emulated engines answer nothing"
OLDER = "the study is of a version without quality gate"
OFF = "the quality gate was off (quality.check)"


def show_quality(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    """A row per compared trial, rejected ones first; what the reference differs from itself by.

    Before it, whose prefix cache was kept between levels.
    """
    _say_kept(measured, console)
    judged = [(entry, verdict) for entry in measured if (verdict := _verdict(entry)) is not None]
    compared = [each for each in judged if each[1].kind != "reference"]
    if not compared:
        _say_unchecked(study, measured, console)
        return
    compared.sort(key=lambda each: (ORDER[each[1].kind], each[0].number))
    reference = next((v for _, v in judged if v.kind == "reference"), None)
    of = "" if reference is None else f" against trial {reference.reference}'s"
    columns = (
        "trial",
        words("engine"),
        words("verdict"),
        "differs",
        "nats",
        words("knobs", wraps=True),
    )
    rows = [_row(study, entry, verdict) for entry, verdict in compared[:LISTED]]
    show(console, table(f"Quality gate: greedy answers{of}", columns, rows), gap=False)
    if len(compared) > LISTED:
        say(console, f"and {len(compared) - LISTED} more, which are in the ledger")
    for line in _footnotes(study, reference, [verdict for _, verdict in compared]):
        say(console, line)
    console.print()
    _show_tasks([each for each in judged if each[1].tasks], console)


def _show_tasks(judged: Sequence[tuple[Finished, QualityVerdict]], console: Console) -> None:
    """A row per trial and task."""
    rows = [
        (
            trial_name(entry),
            task.task,
            f"{task.documents:,}",
            f"{task.score:.1%}",
            "" if verdict.kind == "reference" else f"{task.score - task.reference:+.1%}",
            "" if verdict.kind == "reference" else f"[{task.low:+.1%}, {task.high:+.1%}]",
            words_of(entry, verdict),
        )
        for entry, verdict in judged[:LISTED]
        for task in verdict.tasks
    ]
    if not rows:
        return
    columns = (
        *("trial", words("task"), "documents", "right", "difference", "95 %"),
        words("knobs", wraps=True),
    )
    show(console, table("Quality gate: tasks", columns, rows))


def words_of(entry: Finished, verdict: QualityVerdict) -> str:
    """The knobs of a trial; the reference is named so."""
    return "reference" if verdict.kind == "reference" else entry.knobs


def _say_kept(measured: Sequence[Finished], console: Console) -> None:
    """Engines whose later levels find prefixes of earlier ones, while others start each level without."""
    kept = dict[str, list[str]]()
    for entry in measured:
        said = str(entry.result.provenance.get(PREFIX_CACHE) or "")
        if said and said != RESET:
            kept.setdefault(said, []).append(entry.engine)
    for said, engines in kept.items():
        names = ", ".join(dict.fromkeys(engines))
        text = f"{names}: prefix cache {said}. Later levels find prefixes of earlier ones.\n"
        say(console, text, "yellow")


def unchecked(study: StudyConfig, entry: Finished) -> str:
    """Why nobody knows whether a trial answers like the default; empty where that is known, or goes without
    saying."""
    verdict = _verdict(entry)
    if verdict is not None:
        return verdict.why if verdict.kind == "unknown" else ""
    if not differs(study, entry.result.config):
        return ""
    return _why_not(study)


def _why_not(study: StudyConfig) -> str:
    if study.hardware.twin is not None:
        return EMULATED
    return OFF if study.quality.check == "none" else OLDER


def _verdict(entry: Finished) -> QualityVerdict | None:
    return entry.result.quality if isinstance(entry.result, Completed) else None


def _row(
    study: StudyConfig, entry: Finished, verdict: QualityVerdict
) -> tuple[str, str, Text, str, str, str]:
    known = bool(verdict.positions)
    share = f"{verdict.disagreement:.1%}\n[{verdict.low:.1%}, {verdict.high:.1%}]" if known else "?"
    nats = f"{verdict.drift_nats:.2g}" if known and verdict.drift_nats is not None else "?"
    seen = known and verdict.disagreement > study.quality.max_disagreement + verdict.own
    why = [] if seen or not verdict.why else [verdict.why]
    state = Text(verdict.kind, style=STYLES[verdict.kind])
    return trial_name(entry), entry.engine, state, share, nats, "\n".join([entry.knobs, *why])


def _footnotes(
    study: StudyConfig, reference: QualityVerdict | None, verdicts: Sequence[QualityVerdict]
) -> list[str]:
    limit = f"{study.quality.max_disagreement:.1%}"
    lines = []
    if reference is not None:
        lines.append(
            "differs: share of tokens unlike the reference's after the same context, with its 95 % interval; "
            f"limit {limit} above the reference's own {reference.own:.1%} when it answers again. nats: mean "
            "difference of log-probabilities."
        )
    if reference is not None and reference.own > study.quality.max_disagreement:
        lines.append(
            "The reference itself does not repeat its answers: only what differs much more than it does is "
            "rejected."
        )
    if rejected := sum(verdict.rejected for verdict in verdicts):
        are = "is" if rejected == 1 else "are"
        lines.append(f"{counted(rejected, 'rejected trial')} {are} on no front and in no tier.")
    margins = [v.margin_nats for v in verdicts if v.margin_nats is not None and v.rejected]
    if margins:
        lines.append(
            f"Where a rejected trial differs, the reference prefers its own token by {min(margins):.2g} nats "
            "or more (median of the trial): near 0 the two were as good as equal."
        )
    return lines


def _say_unchecked(study: StudyConfig, measured: Sequence[Finished], console: Console) -> None:
    changed = [entry for entry in measured if differs(study, entry.result.config)]
    if changed:
        what = counted(len(changed), "trial")
        verb = "changes" if len(changed) == 1 else "change"
        text = f"{what} {verb} numerics (precision, KV cache type, kernels, engine)"
        say(console, f"{text}, and no answers were compared: {_why_not(study)}.\n", "yellow")
