"""The results of a load: as a table with notes for people, and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from loadgen.results.report import Level, LoadReport
from loadgen.results.stats import REUSED, LevelStats, goodput

COLUMNS = (  # metric, title, digits
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
CAPTION = "Output tokens; times in ms; TTFT and E2E from the due time."
PIPE_WIDTH = 120  # columns, where stdout is not a terminal


def number(value: float | None, digits: int) -> str:
    """The one format of numbers: "12,345.6"; "-" where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as "93%"; "-" where there is none."""
    return "-" if share is None or not math.isfinite(share) else f"{share:.{digits}%}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Table:
    """The one kind of table: a left column of names, right-aligned numbers, no lines."""
    made = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for index, title in enumerate(titles):
        made.add_column(title, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def print_report(
    console: Console, report: LoadReport, stats: Sequence[LevelStats], limits: Mapping[str, float]
) -> None:
    """One row a level, then the notes on each level. `limits`: those of the goodput."""
    pairs = list(zip(report.levels, stats, strict=True))
    titles = ["\nload", *(title for _, title, _ in COLUMNS)]
    console.print(table(titles, [row(level, figures) for level, figures in pairs], CAPTION))
    for level, figures in pairs:
        for line in notes(level, figures, limits):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if report.prompt_salt:
        again = f"prompt salt {report.prompt_salt}: --prompt-salt {report.prompt_salt} repeats these prompts"
        console.print(again, highlight=False, markup=False, soft_wrap=True)


def row(level: Level, stats: LevelStats) -> list[str]:
    """The cells of a level; an invalid one is marked with "!"."""
    mark = "! " if stats.invalid_because else ""
    return [mark + level.load, *(number(stats.metrics[n], digits) for n, _, digits in COLUMNS)]


def notes(level: Level, stats: LevelStats, limits: Mapping[str, float]) -> list[str]:
    """What the table does not show of a level; why it is invalid comes first."""
    invalid = [f"! {level.load}: {reason}" for reason in stats.invalid_because]
    lines = [window_line(level, stats), client_line(level, stats)]
    if limits:
        rule = ", ".join(f"{name} <= {limit:g}" for name, limit in limits.items())
        lines.append(f"goodput {number(goodput(level, limits).requests_s, 2)} requests/s: {rule}")
    for name in ("input_tokens_mean", "output_tokens_mean"):
        if name in stats.reasons:
            lines.append(f"{name} {number(stats.metrics[name], 1)}: {stats.reasons[name]}")
    if level.reused_prompts:
        lines.append(f"{level.reused_prompts} {REUSED}")
    lines += [f"in {count} responses {text}" for text, count in stats.oddities.items()]
    lines += level.records.errors[1:4]
    return invalid + [f"{level.load}: {line}" for line in lines]


def window_line(level: Level, stats: LevelStats) -> str:
    """The measured window, and the precision reached in it."""
    precision = [
        f"{label} ±{percent(interval.relative_half_width, 1)}"
        for label, name in (
            ("throughput", "throughput_output_tok_s"),
            ("TTFT", "ttft_p50_ms"),
            ("TPOT", "tpot_p50_ms"),
        )
        if (interval := stats.intervals.get(name)) is not None
    ]
    measured = f"{number(level.window.seconds, 1)} s measured"
    return ", ".join([measured, f"{percent(level.window_share)} of the level", *precision])


def client_line(level: Level, stats: LevelStats) -> str:
    """How accurately the client sent and read."""
    late = number(stats.metrics["client_lateness_p99_ms"], 2)
    lag = number(stats.metrics["client_loop_lag_p99_ms"], 2)
    parts = [f"client p99: sent {late} ms late, read {lag} ms late"]
    parts.append(f"{percent(stats.metrics['client_cpu_share'])} of a core")
    if level.rate_per_s is not None:
        sent = stats.metrics["client_sent_share"]
        parts.append(f"{percent(sent, 1)} of the due requests sent")
    if level.client.shards > 1:
        parts.append(f"{level.client.shards} shards")
    if level.client.clock_uncertainty_ns:
        parts.append(f"clocks within {number(level.client.clock_uncertainty_ns / 1e6, 2)} ms")
    return ", ".join(parts)


def as_json(
    report: LoadReport,
    stats: Sequence[LevelStats],
    model: str,
    url: str,
    limits: Mapping[str, float],
) -> str:
    """All metrics of all levels."""
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
            "oddities": figures.oddities,
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
                "missed": level.client.missed,
            },
            "goodput": _goodput(level, limits),
            "errors": level.records.errors[1:],
        }
        for level, figures in zip(report.levels, stats, strict=True)
    ]
    whole = {"model": model, "url": url, "prompt_salt": report.prompt_salt, "levels": levels}
    return json.dumps(whole, indent=2)


def _goodput(level: Level, limits: Mapping[str, float]) -> dict[str, float] | None:
    if not limits:
        return None
    good = goodput(level, limits)
    return {"requests_s": good.requests_s, "output_tok_s": good.output_tok_s}
