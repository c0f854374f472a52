"""How far predictions were from what was measured: the section of the report."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from serving.twin.config import TwinConfig
from tuner.ledger import Finished
from tuner.picture import Judged
from tuner.predictions import prediction_report, twin_pairs


def show_predictions(study: Judged, entries: Sequence[Finished], console: Console) -> None:
    """Silent where nothing was predicted. Real hardware is foretold where the search had it foretold."""
    prior = study.search.prior
    foretold = prior.kind == "twin" and prior.system is not None
    like = TwinConfig(system=prior.system) if foretold and prior.system else None
    errors = prediction_report(twin_pairs(entries, like))
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
        "By the twin's closed form, before a trial is run; ranks are compared between configurations under "
        "the same load.",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    console.print()
