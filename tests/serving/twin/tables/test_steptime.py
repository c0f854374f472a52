"""The arithmetic of a step: interpolation, extrapolation, and the sum of its parts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.twin.tables.steptime import Curve, Memory, StepTable, Surface, TableKey

KEY = TableKey("b300_sxm", "vllm", "llama-3.1-8b", "bf16", "fp8", 2, 4, 8)
MEMORY = Memory(100.0, 5.0, 0.5, 3.0, 2.0, 8.0)
GRID = [1.0, 4.0, 16.0, 64.0, 256.0]
increments = st.lists(st.floats(0, 10), min_size=5, max_size=5)
places = st.floats(0, 2000)


def increasing(steps: list[float]) -> list[float]:
    total: list[float] = np.cumsum(steps).tolist()
    return total


def product(scale: float) -> Surface:
    """A cost of tokens × attended tokens, as attention has."""
    return Surface(GRID, GRID, [[scale * x * y for y in GRID] for x in GRID])


def a_table() -> StepTable:
    return StepTable(
        key=KEY,
        version="by hand",
        memory=MEMORY,
        shared=Curve(GRID, [2.0 + x for x in GRID]),
        rows=Curve(GRID, [0.1 * x for x in GRID]),
        alone=Curve(GRID, [1.0 + x for x in GRID]),
        context=product(0.01),
        decode=product(0.001),
    )


@given(increments, places, places)
def test_an_increasing_curve_increases_everywhere(steps: list[float], a: float, b: float) -> None:
    curve = Curve(GRID, increasing(steps))
    low, high = sorted((a, b))
    assert curve.at(low) <= curve.at(high) + 1e-9


@given(increments, st.floats(1, 256))
def test_a_curve_equals_numpys_interp_between_its_points(steps: list[float], x: float) -> None:
    values = increasing(steps)
    assert Curve(GRID, values).at(x) == pytest.approx(np.interp(x, GRID, values), abs=1e-9)


@given(increments, st.sampled_from(GRID))
def test_a_curve_has_no_jumps(steps: list[float], at: float) -> None:
    curve = Curve(GRID, increasing(steps))
    assert curve.at(at - 1e-9) == pytest.approx(curve.at(at + 1e-9), abs=1e-6)


@given(places, places)
def test_a_surface_is_exact_for_a_product_on_and_beyond_its_grid(x: float, y: float) -> None:
    assert product(0.01).at(x, y) == pytest.approx(0.01 * max(x, 1) * max(y, 1))


@given(st.lists(increments, min_size=5, max_size=5), places, places, st.floats(0, 500))
def test_an_increasing_surface_increases_in_its_grid(
    steps: list[list[float]], x: float, y: float, more: float
) -> None:
    rows: list[list[float]] = np.cumsum(np.cumsum(steps, axis=0), axis=1).tolist()
    surface, (x, y) = Surface(GRID, GRID, rows), (min(x, 256), min(y, 256))
    assert surface.at(x, y) <= surface.at(min(x + more, 256), y) + 1e-9
    assert surface.at(x, y) <= surface.at(x, min(y + more, 256)) + 1e-9


def test_extrapolated_times_are_not_negative() -> None:
    assert Curve([1, 2], [5, 1]).at(100) == 0.0
    assert Surface([1, 2], [1, 2], [[5, 5], [1, 1]]).at(100, 1) == 0.0


def test_the_parts_of_a_step() -> None:
    table = a_table()
    assert table.step_s(0, 0, 0, 0) == 0.0
    assert table.step_s(0, 0, 8, 32) == pytest.approx(9.0 + 0.001 * 8 * 32)
    # One whole prompt of 64 tokens, which attend to 32 on average: one row of the vocabulary.
    assert table.step_s(64, 32, 0, 0) == pytest.approx(66.0 + 0.1 + 0.01 * 64 * 32)
    # Four prompts of 16 tokens, and eight decodes.
    mixed = table.step_s(64, 8, 8, 32)
    assert mixed == pytest.approx(74.0 + 1.2 + 0.01 * 64 * 8 + 0.001 * 8 * 32)


def test_double_counted_time_is_subtracted_from_mixed_steps_only() -> None:
    table, once = a_table(), replace(a_table(), double_counted_s=0.1)
    assert table.step_s(64, 8, 8, 32) - once.step_s(64, 8, 8, 32) == pytest.approx(0.1)
    assert table.step_s(64, 8, 0, 0) == once.step_s(64, 8, 0, 0)
    assert table.step_s(0, 0, 8, 32) == once.step_s(0, 0, 8, 32)
    # Never less than the step without the decodes' attention.
    assert replace(table, double_counted_s=99.0).step_s(64, 8, 8, 32) == pytest.approx(80.32)


@given(st.integers(1, 500), st.floats(0.5, 500), st.integers(0, 200), st.floats(1, 500))
def test_more_work_takes_longer(tokens: int, attended: float, decodes: int, past: float) -> None:
    table = a_table()
    seconds = table.step_s(tokens, attended, decodes, past)
    assert seconds > 0
    assert seconds < table.step_s(tokens, attended, decodes + 1, past)
    assert seconds <= table.step_s(tokens, attended, decodes, past + 50)


def test_gpus_and_text_of_a_key() -> None:
    assert KEY.gpus == 8
    assert str(KEY) == "llama-3.1-8b (bf16 weights, fp8 cache) on b300_sxm vllm tp2 dp4 ep8"


def test_memory_is_linear_in_the_token_budget() -> None:
    assert MEMORY.fixed_bytes(0) == 110.0
    assert MEMORY.fixed_bytes(100) == 160.0
