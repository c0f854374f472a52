"""From the records of a level to its figures, their intervals, and the doubts about them. Pure arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loadgen.results import steady_state as steady
from loadgen.results.arrays import Sample
from loadgen.results.metrics import METRICS, NOTHING_DONE, samples_needed
from loadgen.results.precision import Interval, rate_interval, series_interval
from loadgen.results.report import Level

STEADY_SHARE_MIN = 0.9
CPU_SHARE_MAX = 0.9
LATENESS_FLOOR_MS = 10.0
CLIENT_ERROR_SHARE = 0.1  # of the median TTFT
LENGTH_TOLERANCE = 0.02
SENT_SHARE_MIN = 0.99
COALESCED_SHARE_MAX = 0.5
COALESCED_LAG_MS = 5.0  # below, it is the server that sends several events at once
OVERSATURATED = "over-saturated"
TIME_LIMIT = "time limit"
REUSED = "prompts came a second time, the data set is too small: a cache may have known them"
TOO_SHORT = "the time limit came before the precision that was asked for"


@dataclass(frozen=True, slots=True)
class LevelStats:
    """A metric is None where it can't be had; `reasons` says why, or how far to trust it."""

    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str]
    invalid_because: tuple[str, ...]
    intervals: Mapping[
        str, Interval | None
    ]  # 95 %, of the figures that a level is run until it knows


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
    if level.reused_prompts:
        reasons |= {m.name: REUSED for m in METRICS if m.series == "ttft_ms"}
    intervals = intervals_of(sample)
    if level.verdict == TIME_LIMIT:
        reasons |= {name: TOO_SHORT for name in intervals if name not in reasons}
    return LevelStats(metrics, reasons, tuple(_doubts(sample, metrics)), intervals)


def intervals_of(sample: Sample) -> dict[str, Interval | None]:
    """Of throughput, and of the medians of TTFT and TPOT; None where samples are too few."""
    records, window = sample.records, sample.window
    closed = sample.level.concurrency is not None
    moments = records.end_ns if closed else records.due_ns
    order = np.argsort(moments[sample.chosen], kind="stable")
    several = np.argsort(moments[sample.has_tpot], kind="stable")
    rate = rate_interval(records.event_ns, sample.event_weights, window.start_ns, window.end_ns)
    return {
        "throughput_output_tok_s": rate,
        "ttft_p50_ms": series_interval(sample.ttft_ms[order], "median"),
        "tpot_p50_ms": series_interval(sample.tpot_ms[several], "median"),
    }


@dataclass(frozen=True, slots=True)
class Goodput:
    """What was served within all limits, per second of the window."""

    requests_s: float
    output_tok_s: float
    share: float  # of the requests that the latencies are about, failed ones among them


LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms", "itl_mean_ms", "itl_max_ms")


def goodput(level: Level, limits: Mapping[str, float]) -> Goodput:
    """Requests that keep every limit; one that failed, or has no such figure, does not.

    Limits are those of one request, in ms: `ttft_ms`, `tpot_ms`, `e2e_ms`, `itl_mean_ms`,
    `itl_max_ms`. A request of one token has no TPOT and no ITL, and keeps those limits.
    """
    sample = Sample(level)
    good = sample.chosen.copy()
    for name, limit in limits.items():
        if name not in LIMITS:
            raise ValueError(f"no limit of one request: {name!r}; there are {', '.join(LIMITS)}")
        good &= ~(sample.of_each(name) > limit)
    seconds = level.window.seconds
    cohort = int(np.count_nonzero(sample.chosen)) + sample.failed
    count = int(np.count_nonzero(good))
    tokens = float(sample.tokens[good].sum())
    return Goodput(count / seconds, tokens / seconds, count / cohort if cohort else 0.0)


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
        doubts.append(NOTHING_DONE)
    if level.verdict == OVERSATURATED:
        doubts.append("requests came faster than they were answered: the level was ended early")
    elif level.concurrency is not None and level.always_busy:
        if share < STEADY_SHARE_MIN:
            doubts.append(f"all {level.concurrency} users were busy for {share:.0%} of the window")
    elif steady.grew(
        sample.records.due_ns, sample.records.end_ns, sample.window.start_ns, sample.window.end_ns
    ):
        doubts.append(f"the queue grew by {1 - share:.0%} of the arrivals")
    if level.unsettled:
        doubts.append(f"not settled inside the window: {level.unsettled}")
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
    sent, coalesced = sample.sent_share, sample.coalesced_share or 0.0
    if sent is not None and sent < SENT_SHARE_MIN and sample.level.rate_per_s is not None:
        waited = metrics["queue_delay_p50_ms"] or 0.0
        if waited < allowed_ms and sample.level.verdict != OVERSATURATED and not sample.failed:
            doubts.append(f"the client sent only {sent:.1%} of the requests that were due")
    lag_ms = metrics["client_loop_lag_p99_ms"] or 0.0
    if coalesced > COALESCED_SHARE_MAX and lag_ms > COALESCED_LAG_MS:
        doubts.append(f"the client read late: {coalesced:.0%} of the events came with another")
    if sample.level.client.cpu_share > CPU_SHARE_MAX:
        doubts.append(f"the client took {sample.level.client.cpu_share:.0%} of its core")
    return doubts
