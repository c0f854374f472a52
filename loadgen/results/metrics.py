"""The table of all load metrics: name, unit, meaning, formula, direction, and what each needs. Pure.

Throughput counts the output tokens that arrived inside the window, including those of requests that
began before it or ended after it. Prompt tokens count at the first output token.

Latencies are computed over the requests completed inside the window in a closed loop, since those
that end after it are served under a falling load; and over the requests due inside the window in an
open loop, however late they were answered, since leaving out late ones would hide a queue.

The median is the usual one. Higher percentiles are the next sample at or above the rank, never
interpolated below it; with too few samples for the rank they are the slowest sample, and `reasons`
says so. The 99.9th percentile is None below 1,000 samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from loadgen.results.arrays import Floats, LevelArrays

NO_COMPLETED_REQUEST = "no request was completed in the window"
NO_TWO_TOKENS = "no request with two or more output tokens was completed in the window"
NO_PROMPT_TOKENS = "the endpoint does not report prompt tokens"
TOO_FEW_FOR_P999 = "fewer than 1,000 samples"

Direction = Literal["max", "min", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a load level."""

    name: str
    unit: str  # empty: a count or a share
    meaning: str
    formula: Callable[[LevelArrays], float | None]
    needs: str = ""  # the reason where `formula` gives None
    direction: Direction = "none"  # which way is better
    series: str = ""  # the attribute of `LevelArrays` that a percentile or mean is computed over
    percent: float = 0.0  # the rank of a percentile


def percentile(samples: Floats, percent: float) -> float | None:
    """The median, or the first sample at or above a higher rank; None without samples."""
    if not len(samples):
        return None
    method: Literal["linear", "higher"] = "linear" if percent == 50 else "higher"
    return float(np.percentile(samples, percent, method=method))


def samples_needed(percent: float) -> int:
    """The least number of samples with which a percentile is not simply the slowest one."""
    return round(100 / (100 - percent)) if percent > 50 else 1


def _percentile_of(series: str, percent: float, arrays: LevelArrays) -> float | None:
    samples: Floats = getattr(arrays, series)
    if percent > 99 and len(samples) < samples_needed(percent):
        return None
    return percentile(samples, percent)


def _mean_of(series: str, arrays: LevelArrays) -> float | None:
    samples: Floats = getattr(arrays, series)
    return float(samples.mean()) if len(samples) else None


def _rank(percent: float) -> str:
    return "median" if percent == 50 else f"{percent:g}th percentile"


def _latency(name: str, meaning: str, needs: str) -> list[Metric]:
    series = f"{name}_ms"
    made = [
        Metric(
            f"{name}_p{percent:g}_ms".replace("99.9", "999"),
            "ms",
            f"{meaning}, {_rank(percent)}",
            partial(_percentile_of, series, percent),
            needs if percent <= 99 else TOO_FEW_FOR_P999,
            "min",
            series,
            percent,
        )
        for percent in (50, 90, 95, 99, 99.9)
    ]
    mean = partial(_mean_of, series)
    return [*made, Metric(f"{name}_mean_ms", "ms", f"{meaning}, mean", mean, needs, "min", series)]


def _per_second(count: float | None, arrays: LevelArrays) -> float | None:
    return None if count is None else count / arrays.window.seconds


def _total_throughput(arrays: LevelArrays) -> float | None:
    prompt = arrays.prompt_tokens_inside
    return None if prompt is None else _per_second(prompt + arrays.tokens_inside, arrays)


def _interactivity(arrays: LevelArrays) -> float | None:
    tpot_ms = percentile(arrays.tpot_ms, 50)
    return 1e3 / tpot_ms if tpot_ms else None


def _error_rate(arrays: LevelArrays) -> float | None:
    ended = arrays.failed + np.count_nonzero(arrays.measured)
    return float(arrays.failed / ended) if ended else None


def _client_p99(field: str, arrays: LevelArrays) -> float | None:
    return percentile(getattr(arrays.level.client, field) / 1e6, 99)


def _mean_input(arrays: LevelArrays) -> float | None:
    reported = arrays.records.input_tokens[arrays.measured]
    return float(reported.mean()) if len(reported) and (reported >= 0).all() else None


def _mean_output(arrays: LevelArrays) -> float | None:
    reported = arrays.tokens[arrays.measured]
    return float(reported.mean()) if len(reported) else None


METRICS: tuple[Metric, ...] = (
    Metric(
        "throughput_output_tok_s",
        "tok/s",
        "output tokens that arrived in the window, per second",
        lambda a: _per_second(a.tokens_inside, a),
        direction="max",
    ),
    Metric(
        "throughput_total_tok_s",
        "tok/s",
        "input and output throughput together",
        _total_throughput,
        NO_PROMPT_TOKENS,
        "max",
    ),
    Metric(
        "throughput_input_tok_s",
        "tok/s",
        "prompt tokens of the requests whose first token arrived in the window, per second",
        lambda a: _per_second(a.prompt_tokens_inside, a),
        NO_PROMPT_TOKENS,
        "max",
    ),
    Metric(
        "throughput_requests_s",
        "1/s",
        "requests completed in the window, per second",
        lambda a: _per_second(a.completions_inside, a),
        direction="max",
    ),
    Metric(
        "interactivity_tok_s_user",
        "tok/s/user",
        "output tokens per second as one user sees them: 1 / median TPOT",
        _interactivity,
        NO_TWO_TOKENS,
        "max",
    ),
    *_latency(
        "ttft",
        "time to first token, from when the request was due",
        NO_COMPLETED_REQUEST,
    ),
    *_latency(
        "tpot",
        "time per output token of a request: (last - first token) / (output tokens - 1)",
        NO_TWO_TOKENS,
    ),
    *_latency(
        "itl",
        "inter-token latency: gap between the events of a response as they arrive",
        NO_TWO_TOKENS,
    ),
    *_latency(
        "token_itl",
        "gap between events, divided by the tokens that the later event carries",
        NO_TWO_TOKENS,
    ),
    *_latency(
        "e2e",
        "end-to-end latency, from when the request was due to its last token",
        NO_COMPLETED_REQUEST,
    ),
    *_latency(
        "e2e_per_tok",
        "end-to-end latency divided by the output tokens",
        NO_COMPLETED_REQUEST,
    ),
    *_latency(
        "queue_delay",
        "wait in the client, from when the request was due to when it was sent",
        NO_COMPLETED_REQUEST,
    ),
    Metric(
        "error_rate",
        "",
        "failed requests / (failed + completed)",
        _error_rate,
        NO_COMPLETED_REQUEST,
        "min",
    ),
    Metric(
        "requests_completed",
        "",
        "completed requests that the latencies are computed over",
        lambda a: float(np.count_nonzero(a.measured)),
    ),
    Metric("requests_failed", "", "failed requests", lambda a: float(a.failed)),
    Metric("window_s", "s", "length of the measured window", lambda a: a.window.seconds),
    Metric(
        "steady_share",
        "",
        "closed loop: share of the window with all users busy; "
        "open loop: 1 - growth of the queue / arrivals",
        lambda a: a.steady_share,
    ),
    Metric(
        "client_lateness_p99_ms",
        "ms",
        "delay of the client, from when a request could be sent to when it was sent, 99th percentile",
        partial(_client_p99, "lateness_ns"),
        "no request was sent",
    ),
    Metric(
        "client_loop_lag_p99_ms",
        "ms",
        "delay of the client's event loop, 99th percentile",
        partial(_client_p99, "loop_lag_ns"),
        "the window was too short for a heartbeat",
    ),
    Metric(
        "client_lateness_p50_ms",
        "ms",
        "delay of the client, from when a request could be sent to when it was sent, median",
        lambda a: percentile(a.level.client.lateness_ns / 1e6, 50),
        "no request was sent",
    ),
    Metric(
        "client_sent_share",
        "",
        "requests sent in the window / requests due in it",
        lambda a: a.sent_share,
        "no request was due in the window",
    ),
    Metric(
        "client_coalesced_share",
        "",
        "share of events that arrived in one read with the previous event",
        lambda a: a.coalesced_share,
        NO_TWO_TOKENS,
    ),
    Metric(
        "client_cpu_share",
        "",
        "share of one core that the busiest client process used",
        lambda a: a.level.client.cpu_share,
    ),
    Metric("input_tokens_mean", "tok", "prompt tokens, mean", _mean_input, NO_PROMPT_TOKENS),
    Metric("output_tokens_mean", "tok", "output tokens, mean", _mean_output, NO_COMPLETED_REQUEST),
)
