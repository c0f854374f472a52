"""The metrics that the load generator measures, and throughput and price of tokens per device. Pure."""

from loadgen.results.metrics import METRICS
from loadgen.results.metrics import Metric as LoadMetric
from tuner.metrics.catalogue.metric import Metric, by_name

TOKENS = {"output": "output", "total": "input + output"}  # which tokens a figure counts

# Samples that percentiles and means are of → label.
_SERIES = {
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "itl_ms": "ITL",
    "token_itl_ms": "ITL per token",
    "e2e_ms": "end to end",
    "e2e_per_tok_ms": "end to end per output token",
    "queue_delay_ms": "queue delay",
}
_LABELS = {
    "throughput_output_tok_s": "output tok/s",
    "throughput_total_tok_s": "input + output tok/s",
    "throughput_input_tok_s": "input tok/s",
    "throughput_requests_s": "requests/s",
    "interactivity_tok_s_user": "tok/s per user",
    "error_rate": "failed share of requests",
    "requests_completed": "completed requests",
    "requests_failed": "failed requests",
    "window_s": "measured window (s)",
    "steady_share": "steady share of the window",
    "client_lateness_p50_ms": "client lateness p50 (ms)",
    "client_lateness_p99_ms": "client lateness p99 (ms)",
    "client_loop_lag_p99_ms": "client loop lag p99 (ms)",
    "client_sent_share": "sent share of due requests",
    "client_coalesced_share": "coalesced share of events",
    "client_cpu_share": "client's share of a core",
    "input_tokens_mean": "mean input tokens",
    "output_tokens_mean": "mean output tokens",
}
_UNITS = {"requests_completed": "requests", "requests_failed": "requests"}  # without one: a share


def _label(metric: LoadMetric) -> str:
    if not metric.series:
        return _LABELS[metric.name]
    which = f"p{metric.percent:g}" if metric.percent else "mean"
    return f"{_SERIES[metric.series]} {which} (ms)"


LOAD = by_name(
    Metric(
        name=metric.name,
        unit=metric.unit or _UNITS.get(metric.name, "share"),
        label=_label(metric),
        meaning=metric.meaning,
        direction=metric.direction,
    )
    for metric in METRICS
)

PER_DEVICE = by_name(
    metric
    for tokens, counted in TOKENS.items()
    for metric in (
        Metric(
            name=f"throughput_{tokens}_tok_s_device",
            unit="tok/s/device",
            label=f"{counted} tok/s per {{device}}",
            meaning=f"{counted} tokens per second, over the trial's devices",
            direction="max",
            per_device=True,
            saves_devices=True,
        ),
        # The public benchmark's own formula, so that figures can be compared with it.
        Metric(
            name=f"usd_per_m_{tokens}_tok",
            unit="$/Mtok",
            label=f"$ per million {counted} tokens",
            meaning=(
                f"price of a device-hour in `hardware` per million {counted} tokens, all hours sold"
            ),
            direction="min",
            saves_devices=True,
            needs=("hardware.usd_per_device_hour",),
        ),
    )
)
