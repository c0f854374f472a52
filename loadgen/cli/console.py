"""A load's figures for eyes, and for programs."""

import json
import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from loadgen.results.report import Level, LoadReport
from loadgen.results.stats import REUSED, LevelStats, goodput

COLUMNS = (
    ("throughput_output_tok_s", "\ntok/s", 1),
    ("interactivity_tok_s_user", "tok/s/\nuser", 1),
    ("ttft_p50_ms", "TTFT\np50", 1),
    ("ttft_p99_ms", "TTFT\np99", 1),
    ("tpot_p50_ms", "TPOT\np50", 2),
    ("itl_p99_ms", "ITL\np99", 2),
    ("e2e_p50_ms", "E2E\np50", 0),
    ("requests_completed", "\ndone", 0),
    ("requests_failed", "\nfailed", 0),
)
CAPTION = "Output tokens; times in ms, from when a request was due."
PIPE_WIDTH = 120  # where nobody looks there is no width to keep to


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def print_table(
    console: Console, report: LoadReport, stats: Sequence[LevelStats], limits: Mapping[str, float]
) -> None:
    table = Table(box=None, pad_edge=False, caption=CAPTION, caption_justify="left")
    table.add_column("\nload", no_wrap=True)
    for _, title, _ in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for level, figures in zip(report.levels, stats, strict=True):
        mark = "! " if figures.invalid_because else ""
        cells = [shown(figures.metrics[name], digits) for name, _, digits in COLUMNS]
        table.add_row(mark + level.load, *cells)
    console.print(table)
    for level, figures in zip(report.levels, stats, strict=True):
        for line in remarks(level, figures, limits):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def remarks(level: Level, figures: LevelStats, limits: Mapping[str, float]) -> list[str]:
    """What is to be said of a level beside its figures, doubts first."""
    lines = [f"! {level.load}: {doubt}" for doubt in figures.invalid_because]
    lines.append(f"{level.load}: {window_line(level, figures)}")
    lines.append(f"{level.load}: {client_line(level, figures)}")
    if limits:
        good = goodput(level, limits)
        rule = ", ".join(f"{name} <= {limit:g}" for name, limit in limits.items())
        lines.append(f"{level.load}: {good.requests_s:.4g} requests/s keep {rule}")
    for name in ("input_tokens_mean", "output_tokens_mean"):
        if name in figures.reasons:
            got = shown(figures.metrics[name], 1)
            lines.append(f"{level.load}: {name} {got}: {figures.reasons[name]}")
    if level.reused_prompts:
        lines.append(f"{level.load}: {level.reused_prompts} {REUSED}")
    return lines + [f"{level.load}: {line}" for line in level.records.errors[1:4]]


def window_line(level: Level, figures: LevelStats) -> str:
    spread = [
        f"{label} ±{interval.relative_half_width:.1%}"
        for label, name in (
            ("throughput", "throughput_output_tok_s"),
            ("TTFT", "ttft_p50_ms"),
            ("TPOT", "tpot_p50_ms"),
        )
        if (interval := figures.intervals.get(name)) is not None
    ]
    measured = f"{level.window.seconds:.1f} s measured, {level.window_share:.0%} of the level"
    return ", ".join([measured, *spread])


def client_line(level: Level, figures: LevelStats) -> str:
    """The error bar of all that stands above."""
    late, lag, share = (
        shown(figures.metrics[f"client_{name}"], 2)
        for name in ("lateness_p99_ms", "loop_lag_p99_ms", "cpu_share")
    )
    parts = [f"client p99: sent {late} ms late, read {lag} ms late; {share} of a core"]
    if level.rate_per_s is not None:
        sent = figures.metrics["client_sent_share"]
        parts.append(f"{shown(sent and sent * 100, 1)}% of the due requests sent")
    if level.client.shards > 1:
        parts.append(f"{level.client.shards} shards")
    if level.client.clock_uncertainty_ns:
        parts.append(f"clocks known to {level.client.clock_uncertainty_ns / 1e6:.2f} ms")
    return ", ".join(parts)


def as_json(
    report: LoadReport,
    stats: Sequence[LevelStats],
    model: str,
    url: str,
    limits: Mapping[str, float],
) -> str:
    levels = [
        {
            "load": level.load,
            "metrics": figures.metrics,
            "intervals_95": {
                name: [interval.low, interval.high]
                for name, interval in figures.intervals.items()
                if interval is not None
            },
            "reasons": figures.reasons,
            "invalid_because": figures.invalid_because,
            "window_s": level.window.seconds,
            "window_epoch_s": [
                report.clock.epoch_s(level.window.start_ns),
                report.clock.epoch_s(level.window.end_ns),
            ],
            "window_share": level.window_share,
            "verdict": level.verdict,
            "client": {
                "shards": level.client.shards,
                "clock_uncertainty_ns": level.client.clock_uncertainty_ns,
                "resent": level.client.resent,
                "connected_late": level.client.connected,
            },
            "goodput": _goodput(level, limits),
            "errors": level.records.errors[1:],
        }
        for level, figures in zip(report.levels, stats, strict=True)
    ]
    return json.dumps({"model": model, "url": url, "levels": levels}, indent=2)


def _goodput(level: Level, limits: Mapping[str, float]) -> dict[str, float] | None:
    if not limits:
        return None
    good = goodput(level, limits)
    return {"requests_s": good.requests_s, "output_tok_s": good.output_tok_s}
