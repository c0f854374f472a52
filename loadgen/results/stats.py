"""The statistics of a level: metrics, confidence intervals, and why a level is invalid. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from loadgen.results import steady_state
from loadgen.results.arrays import LevelArrays
from loadgen.results.doubts import doubt_reasons, oddities
from loadgen.results.metrics import METRICS, NO_COMPLETED_REQUEST, samples_needed
from loadgen.results.precision import Interval, rate_interval, series_interval
from loadgen.results.report import Level

STEADY_SHARE_MIN = 0.9
CPU_SHARE_MAX = 0.9
LATENESS_FLOOR_MS = 10.0  # always allowed
CLIENT_ERROR_SHARE = 0.1  # of the median TTFT, allowed if more
LENGTH_TOLERANCE = 0.02
SENT_SHARE_MIN = 0.99
COALESCED_SHARE_MAX = 0.5
COALESCED_LAG_MS = 5.0  # with less lag it is the server that sends several events at once
OVERSATURATED = "over-saturated"
TIME_LIMIT = "time limit"
REUSED = "prompts were sent again, the data set is too small: a prefix cache may have held them"
TOO_SHORT = "the time limit was reached before the requested precision"


@dataclass(frozen=True, slots=True)
class LevelStats:
    """A metric is None where it is unavailable; `reasons` says why, or what limits its accuracy.

    `intervals`: 95 % confidence intervals of the metrics that `precision` applies to. `oddities`: what was
    unusual in how many responses, and was read nevertheless.
    """

    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str]
    invalid_because: tuple[str, ...]  # empty: the level is valid
    intervals: Mapping[str, Interval | None]
    oddities: Mapping[str, int] = field(default_factory=dict)


def summarize(level: Level) -> LevelStats:
    """All statistics of one level."""
    arrays = LevelArrays(level)
    metrics = {metric.name: metric.formula(arrays) for metric in METRICS}
    reasons = {m.name: m.needs for m in METRICS if metrics[m.name] is None}
    for metric in METRICS:
        if metric.percent > 50 and metrics[metric.name] is not None:
            count = len(getattr(arrays, metric.series))
            if count < samples_needed(metric.percent):
                reasons[metric.name] = f"the slowest of {count}: too few for a percentile"
    reasons |= _length_reasons(level, metrics)
    if level.reused_prompts:
        reasons |= {m.name: REUSED for m in METRICS if m.series == "ttft_ms"}
    intervals = _intervals(arrays)
    if level.verdict == TIME_LIMIT:
        reasons |= {name: TOO_SHORT for name in intervals if name not in reasons}
    invalid = tuple(_invalid_reasons(arrays, metrics))
    return LevelStats(metrics, reasons, invalid, intervals, oddities(arrays))


def _intervals(arrays: LevelArrays) -> dict[str, Interval | None]:
    """Of throughput and the medians of TTFT and TPOT; None with too few samples."""
    records, window = arrays.records, arrays.window
    closed = arrays.level.concurrency is not None
    moments = records.end_ns if closed else records.due_ns
    order = np.argsort(moments[arrays.measured], kind="stable")
    several = np.argsort(moments[arrays.has_tpot], kind="stable")
    rate = rate_interval(records.event_ns, arrays.event_weights, window.start_ns, window.end_ns)
    return {
        "throughput_output_tok_s": rate,
        "ttft_p50_ms": series_interval(arrays.ttft_ms[order], "median"),
        "tpot_p50_ms": series_interval(arrays.tpot_ms[several], "median"),
    }


@dataclass(frozen=True, slots=True)
class Goodput:
    """What was served within all limits, per second of the window."""

    requests_s: float
    output_tok_s: float
    share: float  # of the cohort, failed requests included


LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms", "itl_mean_ms", "itl_max_ms")


def goodput(level: Level, limits: Mapping[str, float]) -> Goodput:
    """Requests within every limit; failed ones are not.

    Limits apply to each request, in ms: `ttft_ms`, `tpot_ms`, `e2e_ms`, `itl_mean_ms`, `itl_max_ms`.
    A request of one token has no TPOT and no ITL, and is within those limits. Raises ValueError for
    any other limit.
    """
    arrays = LevelArrays(level)
    good = arrays.measured.copy()
    for name, limit in limits.items():
        if name not in LIMITS:
            raise ValueError(
                f"unknown limit: {name!r}; limits of a request are {', '.join(LIMITS)}"
            )
        good &= ~(arrays.per_request(name) > limit)
    seconds = level.window.seconds
    cohort = int(np.count_nonzero(arrays.measured)) + arrays.failed
    count = int(np.count_nonzero(good))
    tokens = float(arrays.tokens[good].sum())
    return Goodput(count / seconds, tokens / seconds, count / cohort if cohort else 0.0)


def _length_reasons(level: Level, metrics: Mapping[str, float | None]) -> dict[str, str]:
    """Requests of other lengths than configured are another workload."""
    asked = {
        "input_tokens_mean": level.asked_input_tokens,
        "output_tokens_mean": level.asked_output_tokens,
    }
    reasons = {}
    for name, tokens in asked.items():
        got = metrics[name]
        if tokens and got is not None and abs(got - tokens) > max(LENGTH_TOLERANCE * tokens, 1):
            reasons[name] = f"{tokens} were requested"
    return reasons


def _invalid_reasons(arrays: LevelArrays, metrics: Mapping[str, float | None]) -> list[str]:
    level, share = arrays.level, arrays.steady_share
    reasons = []
    if level.stopped:
        reasons.append("the load was stopped early")
    if not arrays.measured.any():
        reasons.append(NO_COMPLETED_REQUEST)
    if level.verdict == OVERSATURATED:
        reasons.append(
            "over-saturated: requests arrived faster than they were answered, and the level was ended early"
        )
    elif level.concurrency is not None and level.always_busy:
        if share < STEADY_SHARE_MIN:
            reasons.append(
                f"all {level.concurrency} users were busy for only {share:.0%} of the window"
            )
    elif steady_state.queue_grew(
        arrays.records.due_ns, arrays.records.end_ns, arrays.window.start_ns, arrays.window.end_ns
    ):
        reasons.append(f"the queue grew by {1 - share:.0%} of the arrivals")
    if level.unsettled:
        reasons.append(f"no steady state in the window: {level.unsettled}")
    if (metrics["e2e_p50_ms"] or 0.0) > arrays.window.seconds * 1e3:
        reasons.append("the window is shorter than the median request")
    if (arrays.records.output_tokens[arrays.measured] < 0).any():
        reasons.append("no usage in the responses: events were counted in place of tokens")
    reasons += [level.contradicted] * bool(level.contradicted)
    return [*reasons, *doubt_reasons(arrays), *_client_reasons(arrays, metrics)]


def _client_reasons(arrays: LevelArrays, metrics: Mapping[str, float | None]) -> list[str]:
    ttft_ms = metrics["ttft_p50_ms"] or 0.0
    allowed_ms = max(LATENESS_FLOOR_MS, CLIENT_ERROR_SHARE * ttft_ms)
    reasons = []
    for name, what in (
        ("client_lateness_p99_ms", "sent requests late"),
        ("client_loop_lag_p99_ms", "ran its event loop late"),
    ):
        value_ms = metrics[name]
        if value_ms is not None and value_ms > allowed_ms:
            reasons.append(f"the client {what}: {value_ms:.1f} ms at the 99th percentile")
    sent, coalesced = arrays.sent_share, arrays.coalesced_share or 0.0
    if missed := arrays.level.client.missed:
        reasons.append(f"the client never sent {missed} requests that were due")
    elif sent is not None and sent < SENT_SHARE_MIN and arrays.level.rate_per_s is not None:
        waited = metrics["queue_delay_p50_ms"] or 0.0
        if waited < allowed_ms and arrays.level.verdict != OVERSATURATED and not arrays.failed:
            reasons.append(f"the client sent only {sent:.1%} of the due requests")
    lag_ms = metrics["client_loop_lag_p99_ms"] or 0.0
    if coalesced > COALESCED_SHARE_MAX and lag_ms > COALESCED_LAG_MS:
        reasons.append(
            f"the client read late: {coalesced:.0%} of the events arrived in one read with another"
        )
    if arrays.level.client.cpu_share > CPU_SHARE_MAX:
        reasons.append(f"the client used {arrays.level.client.cpu_share:.0%} of its core")
    return reasons
