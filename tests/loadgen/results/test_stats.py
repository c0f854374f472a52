"""Metrics against closed forms and against slow counting."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.http.response import Outcome, Response
from loadgen.results import steady_state
from loadgen.results.metrics import METRICS, percentile
from loadgen.results.records import (
    Records,
    RequestRecord,
    concat,
    from_parquet,
    metadata_of,
    to_parquet_bytes,
)
from loadgen.results.report import Client, Level, Window
from loadgen.results.stats import goodput, summarize

MS = 10**6


def row(due_ms: float, first_ms: float, gap_ms: float, tokens: int, slot: int = 0) -> RequestRecord:
    stamps = tuple(round((first_ms + i * gap_ms) * MS) for i in range(tokens))
    due_ns = round(due_ms * MS)
    response = Response(Outcome.COMPLETED, 200, stamps, (1,) * tokens, True, 10, tokens)
    return RequestRecord(0, slot, due_ns, due_ns, stamps[-1], response)


def level(rows: list[RequestRecord], start_ms: int, end_ms: int, users: int | None = 1) -> Level:
    return Level(
        index=0,
        load="closed 1",
        concurrency=users,
        rate_per_s=None,
        window=Window(start_ms * MS, end_ms * MS),
        records=Records.of(rows),
        client=Client(np.array([1000]), np.array([1000]), 0.1, 0, 0),
        asked_input_tokens=10,
        asked_output_tokens=None,
    )


def users_in_step(
    count: int, ttft_ms: float, gap_ms: float, tokens: int, rounds: int
) -> list[RequestRecord]:
    period = ttft_ms + (tokens - 1) * gap_ms
    return [
        row(r * period, r * period + ttft_ms, gap_ms, tokens, slot)
        for r in range(rounds)
        for slot in range(count)
    ]


def test_a_constant_server_by_hand() -> None:
    """3 users; 50 ms to the first of 11 tokens, then 10 ms each: 150 ms a request."""
    made = level(users_in_step(3, 50, 10, 11, 40), 150, 150 + 150 * 30, users=3)
    result = summarize(made)
    metrics = result.metrics
    assert metrics["throughput_output_tok_s"] == pytest.approx(3 * 11 / 0.150)
    assert metrics["throughput_total_tok_s"] == pytest.approx(3 * 21 / 0.150)
    assert metrics["throughput_requests_s"] == pytest.approx(3 / 0.150)
    assert metrics["interactivity_tok_s_user"] == pytest.approx(100)
    assert metrics["ttft_p50_ms"] == metrics["ttft_mean_ms"] == pytest.approx(50)
    assert metrics["tpot_p99_ms"] == metrics["itl_p50_ms"] == pytest.approx(10)
    assert metrics["e2e_p95_ms"] == pytest.approx(150)
    assert metrics["steady_share"] == 1
    assert metrics["error_rate"] == 0
    assert metrics["requests_completed"] == 90
    assert result.invalid_because == ()
    assert "tpot_p95_ms" not in result.reasons
    assert result.reasons["ttft_p99_ms"] == "the slowest of 90: too few for a percentile"


def test_requests_across_the_edge_count_only_the_tokens_inside() -> None:
    """One request, tokens at 0, 10, … 90 ms; the window holds those at 20 … 50."""
    metrics = summarize(level([row(-5, 0, 10, 10)], 20, 60)).metrics
    assert metrics["throughput_output_tok_s"] == pytest.approx(4 / 0.040)
    assert metrics["requests_completed"] == 0
    assert metrics["ttft_p50_ms"] is None


def test_several_tokens_an_event_are_spread_over_the_events() -> None:
    response = Response(Outcome.COMPLETED, 200, (0, 10 * MS, 20 * MS), (4, 4, 4), False, 10, 12)
    made = level([RequestRecord(0, 0, -MS, -MS, 20 * MS, response)], -2, 15)
    assert summarize(made).metrics["throughput_output_tok_s"] == pytest.approx(8 / 0.017)
    whole = summarize(level([RequestRecord(0, 0, -MS, -MS, 20 * MS, response)], -2, 25)).metrics
    assert whole["tpot_p50_ms"] == pytest.approx(20 / 11)
    assert whole["itl_p50_ms"] == pytest.approx(10)


@given(
    cuts=st.lists(st.integers(1, 2000), min_size=1, max_size=6, unique=True),
    tokens=st.integers(1, 20),
    gap_ms=st.integers(1, 30),
)
def test_adjacent_windows_add_up(cuts: list[int], tokens: int, gap_ms: int) -> None:
    rows = users_in_step(2, 20, gap_ms, tokens, 5)
    edges = [0, *sorted(cuts), 2001 + 5 * (20 + 30 * 20)]
    counted = 0.0
    for start, end in itertools.pairwise(edges):
        rate = summarize(level(rows, start, end, users=2)).metrics["throughput_output_tok_s"]
        assert rate is not None
        counted += rate * (end - start) / 1e3
    assert counted == pytest.approx(2 * 5 * tokens)


def test_failures_have_no_latency_and_abandoned_requests_are_no_failures() -> None:
    failed = RequestRecord(
        0, 0, 0, 0, 30 * MS, Response(Outcome.CUT, 200, (5 * MS,), (1,), error="cut")
    )
    abandoned = RequestRecord(
        0, 1, 0, 0, 30 * MS, Response(Outcome.ABANDONED, 200, (), error="abandoned")
    )
    metrics = summarize(level([row(0, 10, 5, 3), failed, abandoned], 0, 100)).metrics
    assert metrics["requests_failed"] == 1
    assert metrics["error_rate"] == pytest.approx(0.5)
    assert metrics["ttft_p99_ms"] == pytest.approx(10)
    assert metrics["throughput_output_tok_s"] == pytest.approx(30)


def test_an_open_loop_measures_the_requests_due_in_the_window() -> None:
    """Due inside the window, answered long after it."""
    metrics = summarize(level([row(50, 500, 10, 2)], 0, 100, users=None)).metrics
    assert metrics["ttft_p50_ms"] == pytest.approx(450)
    assert metrics["requests_completed"] == 1
    assert metrics["throughput_output_tok_s"] == 0


def test_reasons_for_an_invalid_level() -> None:
    idle = level([row(0, 10, 10, 5), row(80, 90, 5, 2)], 0, 100)
    assert any("busy for" in reason for reason in summarize(idle).invalid_because)
    late = replace(idle, client=Client(np.full(9, 50 * MS), np.array([0]), 0.99, 0, 0))
    reasons = " ".join(summarize(late).invalid_because)
    assert "sent requests late: 50.0 ms" in reasons
    assert "99% of its core" in reasons
    short = summarize(replace(idle, asked_output_tokens=100))
    assert short.reasons["output_tokens_mean"] == "100 were requested"
    nothing = summarize(level([], 0, 100))
    assert nothing.metrics["throughput_output_tok_s"] == 0
    assert "no request was completed in the window" in nothing.invalid_because


def test_every_missing_metric_has_a_reason() -> None:
    result = summarize(level([], 0, 100))
    assert [m.name for m in METRICS] == list(result.metrics)
    assert all(result.reasons[name] for name, value in result.metrics.items() if value is None)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([50.0, 90.0, 95.0, 99.0])
)
def test_percentiles(samples: list[float], percent: float) -> None:
    value = percentile(np.array(samples), percent)
    assert value is not None
    if percent == 50:
        assert value == pytest.approx(np.median(samples))
    else:
        assert value in samples
        assert value >= np.percentile(samples, percent) - 1e-6
        if len(samples) < 1 / (1 - percent / 100):
            assert value == max(samples)


intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=20)


@given(intervals, st.integers(1, 4))
def test_busy_share_against_counting_by_ticks(pairs: list[tuple[int, int]], count: int) -> None:
    begins = np.array([a for a, _ in pairs], np.int64)
    ends = begins + np.array([b for _, b in pairs], np.int64)
    ticks = [sum(a <= t < a + b for a, b in pairs) >= count for t in range(10, 30)]
    assert steady_state.share_with_at_least(count, begins, ends, 10, 30) == pytest.approx(
        sum(ticks) / 20
    )


def test_keeping_up() -> None:
    begins = np.arange(0, 1000, 10)
    assert steady_state.keeping_up_share(begins, begins + 30, 100, 900) == 1.0
    assert not steady_state.queue_grew(begins, begins + 30, 100, 900)
    slower = begins * 2 + 30  # serves half of the arrivals
    assert steady_state.keeping_up_share(begins, slower, 100, 900) == pytest.approx(0.5, abs=0.03)
    assert steady_state.queue_grew(begins, slower, 100, 900)


responses = st.builds(
    lambda outcome, gaps, tokens, exact, error: Response(
        outcome,
        200,
        tuple(np.cumsum(gaps).tolist()),
        (2,) * len(gaps),
        exact,
        tokens,
        tokens,
        error,
    ),
    st.sampled_from(Outcome),
    st.lists(st.integers(0, 10**9), max_size=5),
    st.one_of(st.none(), st.integers(0, 9)),
    st.booleans(),
    st.sampled_from(["", "a", "b"]),
)
rows = st.lists(
    st.builds(
        RequestRecord, st.integers(0, 3), st.integers(0, 9), *[st.integers(0, 2**60)] * 3, responses
    ),
    max_size=8,
)


def same(left: Records, right: Records) -> bool:
    """Equal row by row, whatever the order of their error texts."""
    plain = [field.name for field in fields(Records) if field.name not in ("error", "errors")]
    return all(np.array_equal(getattr(left, n), getattr(right, n)) for n in plain) and [
        left.error_text(i) for i in range(len(left))
    ] == [right.error_text(i) for i in range(len(right))]


@given(rows, rows)
def test_records_survive_parquet_and_joining(
    left: list[RequestRecord], right: list[RequestRecord]
) -> None:
    joined = concat([Records.of(left), Records.of(right)])
    assert same(joined, Records.of(left + right))
    data = to_parquet_bytes(joined, {"perf_ns": "1"})
    assert same(from_parquet(data), joined)
    assert metadata_of(data)["perf_ns"] == "1"
    alone = [Records.of([row for row in left + right if row.level == i]) for i in range(4)]
    assert all(same(joined.of_level(i), alone[i]) for i in range(4))
    assert same(joined.shifted(7).shifted(-7), joined)


def request(
    stamps_ms: list[float], tokens: list[int], outcome: Outcome = Outcome.COMPLETED
) -> RequestRecord:
    stamps = tuple(round(at * MS) for at in stamps_ms)
    total = sum(tokens) if outcome is Outcome.COMPLETED else None
    response = Response(outcome, 200, stamps, tuple(tokens), True, 10, total)
    return RequestRecord(0, 0, 0, 2 * MS, stamps[-1], response)


def test_an_event_of_several_tokens_counts_as_several_token_gaps() -> None:
    made = level([request([10, 40, 50], [1, 3, 2])], 0, 100)
    metrics = summarize(made).metrics
    assert metrics["itl_p50_ms"] == pytest.approx(20)
    assert metrics["token_itl_mean_ms"] == pytest.approx((10 * 3 + 5 * 2) / 5)
    assert metrics["token_itl_p99_ms"] == pytest.approx(10)
    assert metrics["tpot_p50_ms"] == pytest.approx(40 / 5)
    assert metrics["queue_delay_p50_ms"] == pytest.approx(2)
    assert metrics["e2e_per_tok_p50_ms"] == pytest.approx(50 / 6)


def test_tokens_of_abandoned_requests_count_as_throughput() -> None:
    rows = [
        request([10, 20], [1, 1]),
        request([30, 40, 50], [1, 1, 1], Outcome.ABANDONED),
        request([30, 40], [1, 1], Outcome.CUT),
    ]
    metrics = summarize(level(rows, 0, 100)).metrics
    assert metrics["throughput_output_tok_s"] == pytest.approx(5 / 0.1)
    assert metrics["requests_completed"] == 1


def test_p999_needs_a_thousand_samples() -> None:
    for count, known in ((999, False), (1000, True)):
        rows = [row(i, i + 5, 1, 3) for i in range(count)]
        result = summarize(level(rows, 0, count + 20))
        assert (result.metrics["ttft_p999_ms"] is not None) == known
        assert ("ttft_p999_ms" in result.reasons) != known


def test_goodput_by_hand() -> None:
    rows = [
        request([10, 20, 30], [1, 1, 1]),
        request([10, 60, 70], [1, 1, 1]),
        request([80, 90, 95], [1, 1, 1]),
        request([10], [1]),
    ]
    made = level(rows, 0, 100)
    assert goodput(made, {"ttft_ms": 50}).requests_s == pytest.approx(3 / 0.1)
    assert goodput(made, {"ttft_ms": 50, "tpot_ms": 15}).requests_s == pytest.approx(2 / 0.1)
    assert goodput(made, {"itl_max_ms": 40}).output_tok_s == pytest.approx(7 / 0.1)
    assert goodput(made, {"itl_mean_ms": 9}).share == pytest.approx(2 / 4)
    with pytest.raises(ValueError, match="unknown limit: 'ttft'"):
        goodput(made, {"ttft": 5})


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=6),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 60),
)
def test_throughput_and_token_gaps_against_slow_counting(
    shapes: list[list[tuple[int, int]]], start_ms: int
) -> None:
    rows = []
    for shape in shapes:
        stamps = list(itertools.accumulate(gap for gap, _ in shape))
        rows.append(request([float(at) for at in stamps], [tokens for _, tokens in shape]))
    made = level(rows, start_ms, start_ms + 100)
    window = range(start_ms * MS, (start_ms + 100) * MS)
    tokens, gaps = 0, []
    for entry in rows:
        pairs = list(zip(entry.response.stamps_ns, entry.response.tokens, strict=True))
        tokens += sum(count for at, count in pairs if at in window)
        if entry.end_ns in window:
            for (before, _), (at, count) in itertools.pairwise(pairs):
                gaps += [(at - before) / MS / count] * count
    metrics = summarize(made).metrics
    assert metrics["throughput_output_tok_s"] == pytest.approx(tokens / 0.1)
    assert metrics["token_itl_mean_ms"] == (pytest.approx(np.mean(gaps)) if gaps else None)
