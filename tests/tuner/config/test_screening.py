"""A screened workload is the same one, measured for a shorter time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loadgen import Poisson, Workload
from tuner.config.groups.search import Screening
from tuner.config.resolve import screened

LONG = Workload(
    name="w",
    input_tokens=8,
    output_tokens=8,
    arrival=Poisson(rate_per_s=(1, 2)),
    warmup_s=10,
    level_s=60,
    level_max_s=300,
    min_requests=200,
    precision=0.02,
    seed=3,
)


def test_nothing_asked_changes_nothing() -> None:
    assert screened(LONG, Screening()) == LONG


def test_times_and_precision_are_brought_down() -> None:
    short = Screening(warmup_s=2, level_s=8, level_max_s=20, min_requests=20, precision=0.1)
    found = screened(LONG, short)
    times = {"warmup_s": 2, "level_s": 8, "level_max_s": 20, "min_requests": 20, "precision": 0.1}
    assert found.model_dump() == {**LONG.model_dump(), **times}


def test_a_screening_that_can_not_be_says_so() -> None:
    with pytest.raises(ValidationError, match="level_max_s is below level_s: 5 < 8"):
        Screening(level_s=8, level_max_s=5)


seconds = st.none() | st.floats(0.1, 500)


@given(seconds, seconds, st.none() | st.floats(0, 100), st.none() | st.floats(0.01, 0.9))
def test_no_level_gets_longer_and_the_workload_stays_valid(
    level_s: float | None,
    level_max_s: float | None,
    warmup_s: float | None,
    precision: float | None,
) -> None:
    if level_s and level_max_s and level_max_s < level_s:
        level_max_s = level_s
    asked = {"level_s": level_s, "level_max_s": level_max_s, "warmup_s": warmup_s}
    for workload in (LONG, LONG.model_copy(update={"precision": None})):
        short = Screening.model_validate({**asked, "precision": precision})
        found = Workload.model_validate(screened(workload, short).model_dump())
        for name in ("warmup_s", "level_s", "level_max_s", "min_requests"):
            assert getattr(found, name) <= getattr(workload, name)
        assert (found.precision is None) == (workload.precision is None)
        assert (found.precision or 1) >= (workload.precision or 0)
