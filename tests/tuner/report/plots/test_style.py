"""One palette: an engine has one colour in every plot, whatever else is drawn."""

import re
from dataclasses import replace
from pathlib import Path

from serving.engines import ENGINES
from tests.tuner.samples.study import sample_config, sample_study
from tuner.report.plots import style
from tuner.report.plots.pareto import pareto_html
from tuner.report.plots.pareto_data import pareto_data
from tuner.results.ledger import results

CONFIG = sample_config()


def test_every_engine_has_a_colour_of_its_own() -> None:
    assert set(style.ENGINES) == set(ENGINES)
    colours = [*style.ENGINES.values(), *style.TIERS]
    assert len(set(colours)) == len(colours)


def test_a_colour_does_not_depend_on_what_else_is_drawn() -> None:
    assert style.engine_colours(["sglang", "vllm", "sglang"]) == {
        "sglang": style.ENGINES["sglang"],
        "vllm": style.ENGINES["vllm"],
    }
    assert (
        style.engine_colours(["vllm"])["vllm"] == style.engine_colours(["sglang", "vllm"])["vllm"]
    )


def test_the_order_of_trials_leaves_the_colours_alone(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    entries = results(tmp_path)
    drawn = pareto_data(CONFIG, entries)
    turned = replace(drawn, curves=drawn.curves[::-1])
    assert drawn.engines != turned.engines
    for page in (pareto_html(drawn), pareto_html(turned)):
        data = page[page.rindex("Plotly.newPlot") :]
        for engine in drawn.engines:
            before = data[: data.index(f'"name":"{engine}"')]
            assert re.findall(r'"color":"(#\w+)"', before)[-1] == style.ENGINES[engine]


def test_tiers_keep_their_colours() -> None:
    assert style.tier_colours(["premium", "bulk"])["premium"] == style.TIERS[0]
    assert len(style.tier_colours(str(i) for i in range(9))) == 9
