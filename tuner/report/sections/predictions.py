"""How far predictions were from what was measured: the section of the report."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tuner.analysis.prediction_error import kept_pairs, prediction_report
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished

BY = {
    "none": "the twin's closed form",  # of the hardware itself
    "twin": "the twin's closed form",
    "roofline": "a roofline, which knows an order and no level",
    "ledger": "the older study that the search began with",
}


def show_predictions(study: StudyConfig, entries: Sequence[Finished], console: Console) -> None:
    """Silent where nothing was predicted."""
    errors = prediction_report(kept_pairs(entries))
    if not errors:
        return
    table = Table(
        title="Predicted against measured",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for header in ("metric", "points", "median\nerror", "bias", "rank\ncorrelation"):
        left = header == "metric"
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    for each in errors:
        order = "–" if each.correlation is None else f"{each.correlation:.2f}"
        error, bias = f"{each.median_error:.1%}", f"{each.bias:+.1%}"
        table.add_row(each.metric, str(each.pairs), error, bias, order)
    console.print(table)
    console.print(
        f"By {BY[study.search.prior.kind]}; ranks are compared between configurations under the same load.",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    console.print()
