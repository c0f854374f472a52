"""The plotted data agree with the results; both plots are well-formed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.samples.study import sample_config, sample_study
from tuner.config.groups.objective import Axis, ObjectiveConfig
from tuner.report.plots.pareto import pareto_html, pareto_png, write_plots
from tuner.report.plots.pareto_data import pareto_data
from tuner.results.ledger import Finished, results
from tuner.trial.result import Completed

CONFIG = sample_config()
AXIS = Axis(metric="interactivity_tok_s_user")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Finished]:
    folder = tmp_path_factory.mktemp("studies") / "sample"
    sample_study(folder, CONFIG)
    return results(folder)


def test_every_measured_trial_is_a_curve_of_its_levels(entries: list[Finished]) -> None:
    drawn = pareto_data(CONFIG, entries)
    assert [curve.number for curve in drawn.curves] == [0, 1, 2, 3, 6, 7, 8, 9]
    assert {len(curve.points) for curve in drawn.curves} == {4}
    assert [curve.number for curve in drawn.curves if curve.is_default] == [0, 1]
    assert drawn.engines == ["llamacpp", "vllm"]
    assert drawn.subtitle == "32 → 32 tokens · 8 trials measured · 2 failed"


def test_no_point_dominates_the_front(entries: list[Finished]) -> None:
    drawn = pareto_data(CONFIG, entries)
    points = [point for curve in drawn.curves for point in curve.points]
    for point in points:
        better = any(m.x >= point.x and m.y >= point.y and m != point for m in points)
        assert (point in drawn.front) == (not better)


def test_the_best_of_a_tier_and_its_limit_are_drawn(entries: list[Finished]) -> None:
    drawn = pareto_data(CONFIG, entries)
    assert [(point.number, point.load, tiers) for point, tiers in drawn.best] == [
        (2, "closed 8", "bulk, standard"),
        (6, "closed 2", "premium"),
    ]
    assert dict(drawn.slo_limits) == pytest.approx(
        {"standard": 1000 / 60, "premium": 1000 / 15, "instant": 200}
    )
    assert [tier for tier, _ in drawn.visible_slo_limits] == ["standard", "premium"]


def test_other_axes_are_drawn_the_same_way(entries: list[Finished]) -> None:
    axes = (
        Axis(metric="ttft_p99_ms", direction="min"),
        Axis(metric="usd_per_m_output_tok", direction="min"),
    )
    objective = CONFIG.objective.model_copy(update={"axes": axes})
    drawn = pareto_data(CONFIG.model_copy(update={"objective": objective}), entries)
    assert (drawn.x_label, drawn.y_label) == ("TTFT p99 (ms)", "$ per million output tokens")
    assert drawn.front
    assert dict(drawn.slo_limits)["standard"] == 500
    xs, ys = [m.x for m in drawn.front], [m.y for m in drawn.front]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    assert pareto_png(drawn).startswith(b"\x89PNG")
    assert "less is better" in pareto_html(drawn)


def test_a_loss_is_inside_the_plot(entries: list[Finished]) -> None:
    result = entries[0].result
    assert isinstance(result, Completed)
    point = result.points[0]
    loss = replace(point, metrics={**point.metrics, "loss": -3.0})
    drawn = pareto_data(
        CONFIG.model_copy(update={"objective": ObjectiveConfig(axes=(AXIS, Axis(metric="loss")))}),
        [replace(entries[0], result=replace(result, points=(loss,)))],
    )
    assert drawn.depth < -3.0
    assert drawn.reach[1] > 0
    assert pareto_data(CONFIG, entries).depth == 0
    assert pareto_png(drawn).startswith(b"\x89PNG")


def test_an_invalid_point_is_drawn_but_not_on_the_front(entries: list[Finished]) -> None:
    entry = entries[8]
    assert isinstance(entry.result, Completed)
    points = tuple(
        replace(p, invalid_because=("the client was late",)) for p in entry.result.points
    )
    broken = replace(entry, result=replace(entry.result, points=points))
    drawn = pareto_data(CONFIG, [*entries[:8], broken])
    assert all(point.number != 8 for point in drawn.front)
    points = next(curve.points for curve in drawn.curves if curve.number == 8)
    assert all("not valid: the client was late" in point.detail for point in points)
    assert pareto_png(drawn).startswith(b"\x89PNG")


def test_a_study_without_results_still_draws() -> None:
    drawn = pareto_data(CONFIG, [])
    assert drawn.front == ()
    assert pareto_png(drawn).startswith(b"\x89PNG")
    assert "0 trials measured" in pareto_html(drawn)


def test_modelled_figures_say_so(entries: list[Finished]) -> None:
    facts = {"modelled": True}
    emulated = replace(entries[0], result=replace(entries[0].result, provenance=facts))
    assert "MODELLED" in pareto_data(CONFIG, [emulated]).subtitle
    assert "MODELLED" not in pareto_data(CONFIG, entries).subtitle


def test_the_page_needs_no_network_and_shows_the_knobs(
    entries: list[Finished], tmp_path: Path
) -> None:
    page, png = write_plots(CONFIG, entries, tmp_path)
    text = page.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    assert f"<title>smollm2-135m-instruct on laptop: {CONFIG.name}</title>" in text
    assert "max_num_seqs=16" in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_names_cannot_break_the_page(entries: list[Finished]) -> None:
    config = CONFIG.model_copy(update={"name": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in pareto_html(pareto_data(config, entries))


def test_a_label_at_the_right_edge_points_inwards(entries: list[Finished]) -> None:
    """A narrow page, such as an artifact in MLflow, would cut it off."""
    drawn = pareto_data(CONFIG, entries)
    (point, tiers), *_ = drawn.best
    far = replace(point, x=0.95 * drawn.reach[0])
    for at, anchor in ((replace(point, x=0.1 * drawn.reach[0]), "left"), (far, "right")):
        page = pareto_html(replace(drawn, best=((at, tiers),)))
        around = page[page.rindex(f"best for {tiers}") - 400 :][:800]
        assert f'"xanchor":"{anchor}"' in around


def test_what_limits_a_level_is_shown_where_one_hovers(entries: list[Finished]) -> None:
    entry = entries[3]
    assert isinstance(entry.result, Completed)
    full = {"engine_preemptions": 31.0, "requests_completed": 100.0}
    points = tuple(replace(p, metrics={**p.metrics, **full}) for p in entry.result.points[2:])
    limited = replace(entry, result=replace(entry.result, points=points))
    drawn = pareto_data(CONFIG, [limited])
    (curve,) = drawn.curves
    assert [point.limit for point in curve.points] == [
        "KV cache full from 4 users on: 31 preemptions",
        "KV cache full: 31 preemptions",
    ]
    assert "KV cache full from 4 users on: 31 preemptions" in pareto_html(drawn)
