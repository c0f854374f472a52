"""Rounded as a person would."""

import pytest

from tuner.report.rough import about, amount_range, count_range, duration_range
from tuner.study.planning.estimate import Range


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((5_300, 7_100, 12_400), "about 2 h (1.5 to 3.5 h)"),
        ((2_796, 7_300, 71_640), "about 2 h (45 min to 20 h)"),
        ((48, 60, 75), "about 60 s (50 to 80 s)"),
        ((100_000, 200_000, 290_000), "about 2.5 days (30 h to 3.5 days)"),
        ((3600, 3601, 3602), "about 60 min"),
        ((0, 0, 0), "about 0 s"),
    ],
)
def test_durations(seconds: tuple[float, float, float], said: str) -> None:
    assert duration_range(Range(*seconds)) == said


def test_amounts() -> None:
    assert amount_range(Range(41.3, 71.9, 104.2), "$") == "about $70 ($40 to 100)"
    assert amount_range(Range(1.38, 2.02, 5.87), "$") == "about $2 ($1.5 to 6)"
    assert amount_range(Range(0.0462, 0.06, 0.108)) == "about 0.06 (0.045 to 0.1)"
    assert amount_range(Range(1234, 2345, 3456)) == "about 2,500 (1,200 to 3,500)"
    assert count_range(Range(6, 20, 60)) == "6 to 60"
    assert count_range(Range(32, 32, 32)) == "32"


def test_a_figure_is_off_by_less_than_an_eighth() -> None:
    for step in range(1, 2_000):
        value = 0.01 * 1.007**step
        assert about(value) == pytest.approx(value, rel=0.125)
