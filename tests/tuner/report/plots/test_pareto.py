"""The picture says what the results say; both drawings of it open."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.sample import sample_config, sample_study
from tuner.config.groups.objective import Axis, ObjectiveConfig
from tuner.report.plots.pareto import page_of, png_of, write_plots
from tuner.report.plots.pareto_data import picture
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
    drawn = picture(CONFIG, entries)
    assert [curve.number for curve in drawn.curves] == [0, 1, 2, 3, 6, 7, 8, 9]
    assert {len(curve.marks) for curve in drawn.curves} == {4}
    assert [curve.number for curve in drawn.curves if curve.is_default] == [0, 1]
    assert drawn.engines == ["llamacpp", "vllm"]
    assert drawn.subtitle == "32 → 32 tokens · 8 trials measured · 2 failed"


def test_no_mark_dominates_the_front(entries: list[Finished]) -> None:
    drawn = picture(CONFIG, entries)
    marks = [mark for curve in drawn.curves for mark in curve.marks]
    for mark in marks:
        better = any(m.x >= mark.x and m.y >= mark.y and m != mark for m in marks)
        assert (mark in drawn.front) == (not better)


def test_the_best_of_a_tier_is_marked_and_its_promise_drawn(entries: list[Finished]) -> None:
    drawn = picture(CONFIG, entries)
    assert [(mark.number, mark.load, tiers) for mark, tiers in drawn.best] == [
        (2, "closed 8", "bulk, standard"),
        (6, "closed 2", "premium"),
    ]
    assert dict(drawn.promises) == pytest.approx(
        {"standard": 1000 / 60, "premium": 1000 / 15, "instant": 200}
    )
    assert [tier for tier, _ in drawn.visible_promises] == ["standard", "premium"]


def test_other_axes_are_drawn_alike(entries: list[Finished]) -> None:
    axes = (
        Axis(metric="ttft_p99_ms", direction="min"),
        Axis(metric="usd_per_m_output_tok", direction="min"),
    )
    objective = CONFIG.objective.model_copy(update={"axes": axes})
    drawn = picture(CONFIG.model_copy(update={"objective": objective}), entries)
    assert (drawn.x_label, drawn.y_label) == ("TTFT p99 (ms)", "$ per million output tokens")
    assert drawn.front
    assert dict(drawn.promises)["standard"] == 500
    xs, ys = [m.x for m in drawn.front], [m.y for m in drawn.front]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    assert png_of(drawn).startswith(b"\x89PNG")
    assert "less is better" in page_of(drawn)


def test_a_loss_is_inside_the_picture(entries: list[Finished]) -> None:
    result = entries[0].result
    assert isinstance(result, Completed)
    point = result.points[0]
    loss = replace(point, metrics={**point.metrics, "loss": -3.0})
    drawn = picture(
        CONFIG.model_copy(update={"objective": ObjectiveConfig(axes=(AXIS, Axis(metric="loss")))}),
        [replace(entries[0], result=replace(result, points=(loss,)))],
    )
    assert drawn.depth < -3.0
    assert drawn.reach[1] > 0
    assert picture(CONFIG, entries).depth == 0
    assert png_of(drawn).startswith(b"\x89PNG")


def test_an_invalid_point_is_drawn_but_not_on_the_front(entries: list[Finished]) -> None:
    entry = entries[8]
    assert isinstance(entry.result, Completed)
    points = tuple(
        replace(p, invalid_because=("the client was late",)) for p in entry.result.points
    )
    broken = replace(entry, result=replace(entry.result, points=points))
    drawn = picture(CONFIG, [*entries[:8], broken])
    assert all(mark.number != 8 for mark in drawn.front)
    marks = next(curve.marks for curve in drawn.curves if curve.number == 8)
    assert all("not valid: the client was late" in mark.detail for mark in marks)
    assert png_of(drawn).startswith(b"\x89PNG")


def test_a_study_without_results_still_draws() -> None:
    drawn = picture(CONFIG, [])
    assert drawn.front == ()
    assert png_of(drawn).startswith(b"\x89PNG")
    assert "0 trials measured" in page_of(drawn)


def test_modelled_figures_say_so(entries: list[Finished]) -> None:
    facts = {"modelled": True}
    emulated = replace(entries[0], result=replace(entries[0].result, provenance=facts))
    assert "MODELLED" in picture(CONFIG, [emulated]).subtitle
    assert "MODELLED" not in picture(CONFIG, entries).subtitle


def test_the_page_needs_no_network_and_tells_the_knobs(
    entries: list[Finished], tmp_path: Path
) -> None:
    page, png = write_plots(CONFIG, entries, tmp_path)
    text = page.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    assert f"<title>smollm2-135m-instruct on laptop: {CONFIG.name}</title>" in text
    assert "max_num_seqs=16" in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_names_can_not_break_the_page(entries: list[Finished]) -> None:
    config = CONFIG.model_copy(update={"name": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in page_of(picture(config, entries))
