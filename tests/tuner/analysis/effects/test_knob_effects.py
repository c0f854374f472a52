"""Knob effects of a study in which they are known, from its ledger alone."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.samples.landscape import landscape, rate, result_of
from tuner.analysis.effects.knob_effects import TierEffects, knob_effects
from tuner.analysis.surrogate import fit_surrogate
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Point
from tuner.report.sections.importance import show_importance
from tuner.report.summary import show_report
from tuner.results.ledger import Finished, Ledger
from tuner.search.space import SearchSpace
from tuner.study.study import Study
from tuner.trial.result import Completed, Failed, Measured, Timings

CONFIG = landscape(SearchConfig(kind="random", trials=16, seed=2))
POINTS = list(SearchSpace.of(CONFIG).enumerate_points())
EVEN = [(i + i // 2 + i // 6) % 2 == 0 for i in range(len(POINTS))]
EVERY_OTHER: tuple[Point, ...] = ({}, *compress(POINTS, EVEN))


def trials(folder: Path, points: Sequence[Point] = EVERY_OTHER) -> list[Finished]:
    with Ledger.open(folder) as ledger:
        for number, point in enumerate(points):
            ledger.finished(number, point, Measured(result_of(CONFIG, point), {}))
        return ledger.results()


def bulk(entries: Sequence[Finished]) -> TierEffects:
    return knob_effects(CONFIG, entries)[0]


def test_the_model_predicts_what_was_not_measured(tmp_path: Path) -> None:
    surrogate = fit_surrogate(CONFIG, trials(tmp_path))
    assert surrogate is not None
    unseen = [point for point, seen in zip(POINTS, EVEN, strict=True) if not seen]
    predicted = surrogate.value(unseen)[:, 0]
    best = 1 - 0.5**4
    assert predicted == pytest.approx([rate(point) * best for point in unseen], rel=0.05)
    quality = surrogate.fit_quality()["bulk"]
    assert quality.correlation is not None
    assert quality.correlation > 0.8


def test_knobs_are_ranked_and_an_inert_one_does_not_matter(tmp_path: Path) -> None:
    """Of the variance: threads 30²·5/4, batch 5²·2/3."""
    shares = {
        knob.path.rpartition(".")[2]: knob.importance for knob in bulk(trials(tmp_path)).knobs
    }
    assert shares["threads"] > 0.9
    assert 0.002 < shares["batch_size"] < 0.06
    assert shares["cache_type_k"] < 0.01


def test_an_effect_is_what_is_lost_when_that_change_alone_is_taken_back(tmp_path: Path) -> None:
    entries = trials(tmp_path)
    found = bulk(entries)
    best = next(entry.point for entry in entries if entry.number == found.winner)
    effects = {knob.path: knob.without for knob in found.knobs if knob.without is not None}
    assert {"engine.llamacpp.threads", "engine.llamacpp.batch_size"} <= effects.keys()
    for path, effect in effects.items():
        assert effect is not None
        without = {other: value for other, value in best.items() if other != path}
        true = rate(without) / rate(best) - 1
        assert effect.low <= true <= effect.high, path
        if effect.excludes_zero:
            assert effect.median * true > 0, path
    assert effects["engine.llamacpp.threads"].median == pytest.approx(100 / 190 - 1, abs=0.05)
    inert = effects.get("engine.llamacpp.cache_type_k")
    assert inert is None or not inert.excludes_zero
    threads = next(knob for knob in found.knobs if knob.path.endswith("threads"))
    assert threads.changed == (1, 4)


def test_the_fewest_changes_keep_the_gain(tmp_path: Path) -> None:
    """Threads bring 90, the batch 10 of them at most."""
    found = bulk(trials(tmp_path))
    assert "engine.llamacpp.threads" in found.enough
    assert "engine.llamacpp.cache_type_k" not in found.enough
    assert found.enough_keeps is not None
    assert found.enough_keeps.low <= 1 <= found.enough_keeps.high


def test_one_more_trial_gains_less_once_the_best_is_known(tmp_path: Path) -> None:
    poor = [point for point in POINTS if point["engine.llamacpp.threads"] in (1, 2)]
    early, late = bulk(trials(tmp_path / "a", poor)), bulk(trials(tmp_path / "b"))
    assert early.next_trial is not None
    assert late.next_trial is not None
    assert early.next_trial.probability > 0.5
    assert early.next_trial.median > 0.1
    assert late.next_trial.probability < 0.7 * early.next_trial.probability
    assert late.next_trial.median < 0.01  # what does not matter any more
    assert late.trials == len(EVERY_OTHER)
    assert EVERY_OTHER[late.best_after - 1]["engine.llamacpp.threads"] == 4


def test_with_few_trials_effects_are_unavailable(tmp_path: Path) -> None:
    found = bulk(trials(tmp_path, EVERY_OTHER[:7]))
    assert found.unavailable == "fewer than 8 trials with a curve"
    assert not found.knobs


def test_a_model_that_does_not_predict_explains_nothing(tmp_path: Path) -> None:
    """The same points with each other's curves: there is nothing to learn."""
    entries = trials(tmp_path)
    order = [5, 11, 2, 8, 0, 9, 4, 12, 1, 7, 3, 10, 6]
    mixed = []
    for entry, other in zip(entries, order, strict=True):
        result = entries[other].result
        assert isinstance(result, Completed)
        mixed.append(replace(entry, result=replace(result, config=entry.result.config)))
    found = bulk(mixed)
    assert "does not predict" in found.unavailable
    assert not found.knobs


def test_failed_trials_and_those_outside_the_space_are_left_out(tmp_path: Path) -> None:
    entries = trials(tmp_path)
    failed = Failed(entries[0].result.config, "OutOfMemory", "none left", Timings(1, 0, 0))
    found = bulk([*entries, replace(entries[1], number=99, result=failed)])
    assert found.trials == len(entries) + 1
    assert found.knobs == bulk(entries).knobs


def test_the_table_fits_a_narrow_screen(tmp_path: Path) -> None:
    entries, out = trials(tmp_path), io.StringIO()
    show_importance(CONFIG, entries, [], {}, {}, Console(file=out, width=80))
    said = out.getvalue()
    assert "…" not in said
    assert "Effect of each change, bulk: throughput_output_tok_s_device" in said
    assert "llamacpp.threads" in said
    assert "1 → 4" in said
    assert "rank correlation" in said
    assert "Effect of each change, fast" in said


def test_a_whole_report_holds_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        study = Study(CONFIG, ledger, [])
        while proposal := study.ask():
            study.finished(proposal.number, Measured(result_of(CONFIG, proposal.point), {}))
    out = io.StringIO()
    show_report(tmp_path, CONFIG, Console(file=out, width=80))
    assert "Effect of each change, bulk" in out.getvalue()
    assert "Cost and gain of the study" in out.getvalue()


def test_emulated_figures_are_marked_as_such(tmp_path: Path) -> None:
    entries = [
        replace(entry, result=replace(entry.result, provenance={"modelled": "twin of b300"}))
        for entry in trials(tmp_path)
    ]
    out = io.StringIO()
    show_importance(CONFIG, entries, [], {}, {}, Console(file=out, width=80))
    assert "trial 12 modelled" in out.getvalue()
    assert "measured: " not in out.getvalue()
