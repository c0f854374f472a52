"""A load's figures for eyes, and for programs."""

import json
import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from loadgen.report import Level, LoadReport
from loadgen.stats import LevelStats, goodput

COLUMNS = (
    ("throughput_output_tok_s", "tok/s", 1),
    ("interactivity_tok_s_user", "tok/s/user", 1),
    ("ttft_p50_ms", "TTFT p50 ms", 1),
    ("ttft_p99_ms", "p99", 1),
    ("tpot_p50_ms", "TPOT p50 ms", 2),
    ("itl_p99_ms", "ITL p99 ms", 2),
    ("e2e_p50_ms", "E2E p50 ms", 0),
    ("requests_completed", "done", 0),
    ("requests_failed", "failed", 0),
)


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def print_table(
    console: Console, report: LoadReport, stats: Sequence[LevelStats], limits: Mapping[str, float]
) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("load", no_wrap=True)
    for _, title, _ in COLUMNS:
        table.add_column(title, justify="right")
    for level, figures in zip(report.levels, stats, strict=True):
        mark = "! " if figures.invalid_because else ""
        cells = [shown(figures.metrics[name], digits) for name, _, digits in COLUMNS]
        table.add_row(mark + level.load, *cells)
    console.print(table)
    for level, figures in zip(report.levels, stats, strict=True):
        for line in remarks(level, figures, limits):
            console.print(line, highlight=False, markup=False)


def remarks(level: Level, figures: LevelStats, limits: Mapping[str, float]) -> list[str]:
    """What is to be said of a level beside its figures, doubts first."""
    lines = [f"! {level.load}: {doubt}" for doubt in figures.invalid_because]
    lines.append(f"{level.load}: {window_line(level, figures)}")
    if limits:
        good = goodput(level, limits)
        rule = ", ".join(f"{name} <= {limit:g}" for name, limit in limits.items())
        lines.append(f"{level.load}: {good.requests_s:.4g} requests/s keep {rule}")
    for name in ("input_tokens_mean", "output_tokens_mean"):
        if name in figures.reasons:
            got = shown(figures.metrics[name], 1)
            lines.append(f"{level.load}: {name} {got}: {figures.reasons[name]}")
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
