"""The section of predictions: how far they were from what the trials gave."""

from collections.abc import Sequence

from rich.console import Console

from tuner.analysis.prediction_error import kept_pairs, prediction_report
from tuner.config.study import StudyConfig
from tuner.metrics.notation import UNKNOWN
from tuner.report.console import say, show, table, words
from tuner.results.ledger import Finished

COLUMNS = words("metric"), "points", "median\nerror", "bias", "rank\ncorrelation"
SOURCES = {
    "none": "the twin's closed form",  # for the hardware itself
    "twin": "the twin's closed form",
    "roofline": "a roofline, which predicts an order and no level",
    "ledger": "the earlier study that the search began with",
}


def show_predictions(study: StudyConfig, entries: Sequence[Finished], console: Console) -> None:
    """Silent where nothing was predicted."""
    errors = prediction_report(kept_pairs(entries))
    if not errors:
        return
    rows = []
    for each in errors:
        correlation = UNKNOWN if each.correlation is None else f"{each.correlation:.2f}"
        error, bias = f"{each.median_error:.1%}", f"{each.bias:+.1%}"
        rows.append((each.metric, f"{each.pairs:,}", error, bias, correlation))
    how = "emulated" if any(entry.modelled for entry in entries) else "measured"
    show(console, table(f"Predicted against {how}", COLUMNS, rows), gap=False)
    say(
        console,
        f"Predicted by {SOURCES[study.search.prior.kind]}; rank correlation is between configurations "
        "at the same load.",
    )
    console.print()
