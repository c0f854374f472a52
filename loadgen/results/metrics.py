"""The one table of metrics: name, unit, formula, what it needs, which way is better. Pure.

Throughput counts the output tokens that arrived inside the window, those of requests that straddle
its edges as well: each event of a request stands for the same share of its tokens. The prompt's
tokens count at the first token.

Which requests the latencies are taken over: in a closed loop those completed inside the window, as
what drains after it is served under a falling load; in an open loop those due inside the window,
however late they were answered, as leaving out the ones that still wait would hide a queue.

The median is the usual one. Percentiles above it are the next sample at or above the rank, never a
blend below one; with too few samples for the rank that is the slowest, and `reasons` says so. The
99.9th is not given at all below the 1,000 samples that it takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from loadgen.results.arrays import Floats, Sample

NOTHING_DONE = "no request was completed in the window"
_SEVERAL = "no request with two tokens or more was completed in the window"
_USAGE = "the endpoint does not tell how many tokens its prompts had"
_THOUSAND = "fewer than 1,000 samples"

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
    samples: Floats = getattr(sample, series)
    if percent > 99 and len(samples) < samples_needed(percent):
        return None
    return percentile(samples, percent)


def _mean_of(series: str, sample: Sample) -> float | None:
    samples: Floats = getattr(sample, series)
    return float(samples.mean()) if len(samples) else None


def _latency(name: str, meaning: str, needs: str) -> list[Metric]:
    series = f"{name}_ms"
    made = [
        Metric(
            f"{name}_p{percent:g}_ms".replace("99.9", "999"),
            "ms",
            f"{meaning}, percentile {percent:g}",
            partial(_percentile_of, series, percent),
            needs if percent <= 99 else _THOUSAND,
            "min",
            series,
            percent,
        )
        for percent in (50, 90, 95, 99, 99.9)
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
        "throughput_input_tok_s",
        "tok/s",
        "tokens of the prompts whose first token came in the window, over its length",
        lambda s: _per_second(s.prompt_tokens_inside, s),
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
    *_latency("ttft", "from when a request was due to its first token", NOTHING_DONE),
    *_latency("tpot", "(last - first token) / (output tokens - 1) of each request", _SEVERAL),
    *_latency("itl", "gap between events as they arrive", _SEVERAL),
    *_latency(
        "token_itl", "the same for each token: a gap divided by the tokens it brought", _SEVERAL
    ),
    *_latency("e2e", "from when a request was due to its last token", NOTHING_DONE),
    *_latency("e2e_per_tok", "the same divided by the output tokens", NOTHING_DONE),
    *_latency("queue_delay", "from when a request was due to its sending", NOTHING_DONE),
    Metric("error_rate", "", "failed / (failed + completed)", _error_rate, NOTHING_DONE, "min"),
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
    ),
    Metric(
        "client_loop_lag_p99_ms",
        "ms",
        "how late the client ran what was due, percentile 99",
        partial(_client_p99, "loop_lag_ns"),
        "the window was too short for a heartbeat",
    ),
    Metric(
        "client_lateness_p50_ms",
        "ms",
        "the same, median",
        lambda s: percentile(s.level.client.lateness_ns / 1e6, 50),
        "no request was sent",
    ),
    Metric(
        "client_sent_share",
        "",
        "requests sent in the window over those due in it",
        lambda s: s.sent_share,
        "no request was due in the window",
    ),
    Metric(
        "client_coalesced_share",
        "",
        "events that came in one read with the one before them",
        lambda s: s.coalesced_share,
        _SEVERAL,
    ),
    Metric("client_cpu_share", "", "of one core", lambda s: s.level.client.cpu_share),
    Metric("input_tokens_mean", "tok", "tokens of a prompt", _mean_input, _USAGE),
    Metric("output_tokens_mean", "tok", "tokens of an answer", _mean_output, NOTHING_DONE),
)
