"""What a confirmation looks like in a tracking server: its repeats as runs, its verdicts at the study. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from tuner.config.study import StudyConfig
from tuner.confirm.results import confirmed
from tuner.results.ledger import Entry, Finished
from tuner.tracking.runs import RunData, trial_run


def repeat_run(study: StudyConfig, name: str, entry: Finished) -> RunData:
    """Of kind `repeat`: neither a trial of the search, nor with points to compare."""
    assert entry.repeat is not None
    data, of = trial_run(study, name, entry), entry.repeat.of
    again = "default" if of is None else f"{of:03d}"
    tags = {**data.tags, "kind": "repeat", "of": again, "round": str(entry.repeat.round)}
    return replace(data, name=f"{data.name} (round {entry.repeat.round + 1})", tags=tags)


def confirmed_metrics(study: StudyConfig, entries: Sequence[Entry]) -> dict[str, float]:
    """Of a ledger's lines; for each tier the published number, its interval, and the search's gap."""
    sold, metrics = study.objective.throughput, dict[str, float]()
    for tier in confirmed(study, entries):
        if tier.chosen is None:
            continue
        each = tier.chosen.standing
        figures = {
            "": each.mean,
            "_low": each.low,
            "_high": each.high,
            "_gap": each.gap,
            "_chance": each.chance,
            "_over_default": each.over_default.share if each.over_default else None,
        }
        base = f"{sold}_in_{tier.tier}_confirmed"
        metrics |= {f"{base}{end}": value for end, value in figures.items() if value is not None}
    return metrics


def confirmed_tags(study: StudyConfig, entries: Sequence[Entry]) -> dict[str, str]:
    """For each tier the verdict in words."""
    return {f"verdict.{tier.tier}": tier.verdict.text for tier in confirmed(study, entries)}
