"""The one table of metrics: from the records of a level to its figures. Pure arithmetic.

Throughput counts the output tokens that arrived inside the window, those of requests that straddle
its edges as well: each event of a request stands for the same share of its tokens. The prompt's
tokens count at the first token.

Which requests the latencies are taken over: in a closed loop those completed inside the window, as
what drains after it is served under a falling load; in an open loop those due inside the window,
however late they were answered, as leaving out the ones that still wait would hide a queue.

The median is the usual one. Percentiles above it are the next sample at or above the rank, never a
blend below one; with too few samples for the rank that is the slowest, and `reasons` says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from loadgen import steady
from loadgen.report import Level
from loadgen.sample import Floats, Sample

STEADY_SHARE_MIN = 0.9
CPU_SHARE_MAX = 0.9
LATENESS_FLOOR_MS = 10.0
CLIENT_ERROR_SHARE = 0.1  # of the median TTFT
LENGTH_TOLERANCE = 0.02


Direction = Literal["max", "min", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """`needs` is what is missing where `formula` gives None."""

    name: str
    unit: str
    meaning: str
    formula: Callable[[Sample], float | None]
    needs: str = ""
    direction: Direction = "none"
    series: str = ""  # the samples that a percentile is of
    percent: float = 0.0


def percentile(samples: Floats, percent: float) -> float | None:
    if not len(samples):
        return None
    method: Literal["linear", "higher"] = "linear" if percent == 50 else "higher"
    return float(np.percentile(samples, percent, method=method))


def samples_needed(percent: float) -> int:
    """From how many on a percentile is not simply the slowest."""
    return round(100 / (100 - percent)) if percent > 50 else 1


def _percentile_of(series: str, percent: float, sample: Sample) -> float | None:
    return percentile(getattr(sample, series), percent)


def _mean_of(series: str, sample: Sample) -> float | None:
    samples: Floats = getattr(sample, series)
    return float(samples.mean()) if len(samples) else None


def _latency(name: str, meaning: str, needs: str) -> list[Metric]:
    series = f"{name}_ms"
    made = [
        Metric(
            f"{name}_p{percent}_ms",
            "ms",
            f"{meaning}, percentile {percent}",
            partial(_percentile_of, series, percent),
            needs,
            "min",
            series,
            percent,
        )
        for percent in (50, 90, 95, 99)
    ]
    mean = partial(_mean_of, series)
    return [*made, Metric(f"{name}_mean_ms", "ms", f"{meaning}, mean", mean, needs, "min", series)]


def _per_second(count: float | None, sample: Sample) -> float | None:
    return None if count is None else count / sample.window.seconds


def _total_throughput(sample: Sample) -> float | None:
    prompt = sample.prompt_tokens_inside
    return None if prompt is None else _per_second(prompt + sample.tokens_inside, sample)


def _interactivity(sample: Sample) -> float | None:
    tpot_ms = percentile(sample.tpot_ms, 50)
    return 1e3 / tpot_ms if tpot_ms else None


def _error_rate(sample: Sample) -> float | None:
    ended = sample.failed + np.count_nonzero(sample.chosen)
    return float(sample.failed / ended) if ended else None


def _client_p99(field: str, sample: Sample) -> float | None:
    return percentile(getattr(sample.level.client, field) / 1e6, 99)


def _mean_input(sample: Sample) -> float | None:
    told = sample.records.input_tokens[sample.chosen]
    return float(told.mean()) if len(told) and (told >= 0).all() else None


def _mean_output(sample: Sample) -> float | None:
    told = sample.tokens[sample.chosen]
    return float(told.mean()) if len(told) else None


_ANY = "no request was completed in the window"
_SEVERAL = "no request with two tokens or more was completed in the window"
_USAGE = "the endpoint does not tell how many tokens its prompts had"

METRICS: tuple[Metric, ...] = (
    Metric(
        "throughput_output_tok_s",
        "tok/s",
        "output tokens that arrived in the window, over its length",
        lambda s: _per_second(s.tokens_inside, s),
        direction="max",
    ),
    Metric(
        "throughput_total_tok_s",
        "tok/s",
        "the same, with the tokens of the prompts whose first token came in the window",
        _total_throughput,
        _USAGE,
        "max",
    ),
    Metric(
        "throughput_requests_s",
        "1/s",
        "requests completed in the window, over its length",
        lambda s: _per_second(s.completions_inside, s),
        direction="max",
    ),
    Metric(
        "interactivity_tok_s_user",
        "tok/s/user",
        "1 / median TPOT",
        _interactivity,
        _SEVERAL,
        "max",
    ),
    *_latency("ttft", "from when a request was due to its first token", _ANY),
    *_latency("tpot", "(last - first token) / (output tokens - 1) of each request", _SEVERAL),
    *_latency("itl", "gap between events as they arrive", _SEVERAL),
    *_latency("e2e", "from when a request was due to its last token", _ANY),
    Metric("error_rate", "", "failed / (failed + completed)", _error_rate, _ANY, "min"),
    Metric(
        "requests_completed",
        "",
        "requests that the latencies are taken over",
        lambda s: float(np.count_nonzero(s.chosen)),
    ),
    Metric("requests_failed", "", "requests that failed", lambda s: float(s.failed)),
    Metric("window_s", "s", "length of the measured window", lambda s: s.window.seconds),
    Metric(
        "steady_share",
        "",
        "closed: share of the window with all users busy; open: 1 - growth of the queue / arrivals",
        lambda s: s.steady_share,
    ),
    Metric(
        "client_lateness_p99_ms",
        "ms",
        "from when a request could go out to its sending, percentile 99",
        partial(_client_p99, "lateness_ns"),
        "no request was sent",
        series="client_lateness",
    ),
    Metric(
        "client_loop_lag_p99_ms",
        "ms",
        "how late the client ran what was due, percentile 99",
        partial(_client_p99, "loop_lag_ns"),
        "the window was too short for a heartbeat",
    ),
    Metric("client_cpu_share", "", "of one core", lambda s: s.level.client.cpu_share),
    Metric("input_tokens_mean", "tok", "tokens of a prompt", _mean_input, _USAGE),
    Metric("output_tokens_mean", "tok", "tokens of an answer", _mean_output, _ANY),
)


@dataclass(frozen=True, slots=True)
class LevelStats:
    """A metric is None where it can't be had; `reasons` says why, or how far to trust it."""

    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str]
    invalid_because: tuple[str, ...]


def summarize(level: Level) -> LevelStats:
    sample = Sample(level)
    metrics = {metric.name: metric.formula(sample) for metric in METRICS}
    reasons = {m.name: m.needs for m in METRICS if metrics[m.name] is None}
    for metric in METRICS:
        if metric.percent > 50 and metrics[metric.name] is not None:
            count = len(getattr(sample, metric.series))
            if count < samples_needed(metric.percent):
                reasons[metric.name] = f"the slowest of {count}: too few for a percentile"
    reasons |= _length_reasons(level, metrics)
    return LevelStats(metrics, reasons, tuple(_doubts(sample, metrics)))


def _length_reasons(level: Level, metrics: Mapping[str, float | None]) -> dict[str, str]:
    """Lengths are part of what was asked for: other ones are another workload."""
    asked = {
        "input_tokens_mean": level.asked_input_tokens,
        "output_tokens_mean": level.asked_output_tokens,
    }
    reasons = {}
    for name, tokens in asked.items():
        got = metrics[name]
        if tokens and got is not None and abs(got - tokens) > max(LENGTH_TOLERANCE * tokens, 1):
            reasons[name] = f"{tokens} were asked for"
    return reasons


def _doubts(sample: Sample, metrics: Mapping[str, float | None]) -> list[str]:
    level, share = sample.level, sample.steady_share
    doubts = []
    if level.stopped:
        doubts.append("the load was stopped before its time")
    if not sample.chosen.any():
        doubts.append(_ANY)
    if level.concurrency is not None:
        if share < STEADY_SHARE_MIN:
            doubts.append(f"all {level.concurrency} users were busy for {share:.0%} of the window")
    elif steady.grew(
        sample.records.due_ns, sample.records.end_ns, sample.window.start_ns, sample.window.end_ns
    ):
        doubts.append(f"the queue grew by {1 - share:.0%} of the arrivals")
    if (metrics["e2e_p50_ms"] or 0.0) > sample.window.seconds * 1e3:
        doubts.append("the window is shorter than a request")
    if (sample.records.output_tokens[sample.chosen] < 0).any():
        doubts.append("no usage in the replies: events were counted, not tokens")
    return doubts + _client_doubts(sample, metrics)


def _client_doubts(sample: Sample, metrics: Mapping[str, float | None]) -> list[str]:
    ttft_ms = metrics["ttft_p50_ms"] or 0.0
    allowed_ms = max(LATENESS_FLOOR_MS, CLIENT_ERROR_SHARE * ttft_ms)
    doubts = []
    for name, what in (
        ("client_lateness_p99_ms", "sent requests late"),
        ("client_loop_lag_p99_ms", "was slow to run what was due"),
    ):
        value_ms = metrics[name]
        if value_ms is not None and value_ms > allowed_ms:
            doubts.append(f"the client {what}: {value_ms:.1f} ms at the 99th percentile")
    if sample.level.client.cpu_share > CPU_SHARE_MAX:
        doubts.append(f"the client took {sample.level.client.cpu_share:.0%} of its core")
    return doubts
