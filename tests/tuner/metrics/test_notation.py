"""Numbers as people read them: significant digits, thousands, units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.metrics.notation import counted, duration, number, stated, usd


@pytest.mark.parametrize(
    ("value", "three", "four"),
    [
        (None, "–", "–"),
        (0.0, "0", "0"),
        (0.00001234, "1.23e-05", "1.234e-05"),
        (0.08051, "0.0805", "0.08051"),
        (2.8, "2.80", "2.800"),
        (99.96, "100", "99.96"),
        (783.49, "783", "783.5"),
        (999.6, "1,000", "999.6"),
        (9958.4, "9,958", "9,958"),
        (9999.4, "9,999", "9,999"),
        (9999.7, "10.0k", "10.00k"),
        (12345.0, "12.3k", "12.35k"),
        (123_456.0, "123k", "123.5k"),
        (999_600.0, "1.00M", "999.6k"),
        (-13.7e6, "-13.7M", "-13.70M"),
        (1.5e9, "1.50G", "1.500G"),
        (7e15, "7,000T", "7,000T"),
    ],
)
def test_a_number_has_one_notation(value: float | None, three: str, four: str) -> None:
    assert number(value) == three
    assert number(value, 4) == four


@given(st.floats(-1e14, 1e14, allow_subnormal=False).filter(lambda x: abs(x) > 1e-9))
def test_a_number_reads_back_within_its_digits_and_fits_a_column(value: float) -> None:
    text = number(value)
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1], 1.0)
    assert float(text.rstrip("kMGT").replace(",", "")) * scale == pytest.approx(value, rel=0.00501)
    assert len(text.lstrip("-")) <= 8


def test_a_signed_number_has_a_plus() -> None:
    assert (number(3143.0, signed=True), number(-11.2, signed=True)) == ("+3,143", "-11.2")


def test_a_stated_figure_keeps_its_digits() -> None:
    assert [stated(v) for v in (0.5, 1.9, 4, 53_000.0)] == ["0.5", "1.9", "4", "53,000"]


def test_dollars_are_exact() -> None:
    shown = [usd(v) for v in (0, 18.5, -3, 999.99, 999.999, 159_295.4, 14_330_870)]
    assert shown == ["$0", "$18.50", "-$3.00", "$999.99", "$1,000", "$159,295", "$14,330,870"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (3.6, "4 s"),
        (119, "119 s"),
        (1800, "30 min"),
        (7200, "2.0 h"),
        (71 * 3600, "71.0 h"),
        (96 * 3600, "4.0 days"),
    ],
)
def test_a_duration_has_the_unit_of_its_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_are_exact_and_agree_with_their_noun() -> None:
    assert [counted(n, "trial") for n in (0, 1, 12_345)] == ["0 trials", "1 trial", "12,345 trials"]
