"""What benchmarks measured, as Markdown: those of the load generator, and tables for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """Errors are reported less true, in ms; None what the client does not tell or has not got."""

    client: str
    scenario: str
    events_s: float
    cpu_us_per_event: float
    cpu_us_per_event_run: float  # up to the last event
    utilisation: float  # of its core, up to the last event
    ttft_p50_error_ms: float | None
    ttft_p99_error_ms: float | None
    itl_p50_error_ms: float | None
    itl_p99_error_ms: float | None
    itl_p99_true_ms: float | None
    achieved_share: float | None
    late_p50_ms: float | None
    late_p99_ms: float | None
    memory_mb: float
    processes: int
    startup_s: float
    streams_open: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """Shards at one load each: what they carried, and what an event cost."""

    shards: int
    events_s: float
    cpu_us_per_event: float
    itl_p99_ms: float
    itl_p99_true_ms: float


CLOSED = (
    ("CPU µs/event, all", lambda r: num(r.cpu_us_per_event, 1)),
    ("in the run", lambda r: num(r.cpu_us_per_event_run, 1)),
    ("TTFT p50 error ms", lambda r: signed(r.ttft_p50_error_ms)),
    ("p99", lambda r: signed(r.ttft_p99_error_ms)),
    ("ITL p50 error ms", lambda r: signed(r.itl_p50_error_ms)),
    ("p99", lambda r: signed(r.itl_p99_error_ms)),
    ("streams at once", lambda r: str(r.streams_open)),
    ("memory MB (processes)", lambda r: f"{r.memory_mb:.0f} ({r.processes})"),
    ("first request after s", lambda r: num(r.startup_s, 1)),
)
OPEN = (
    ("achieved", lambda r: "-" if r.achieved_share is None else f"{r.achieved_share:.2%}"),
    ("late p50 ms", lambda r: num(r.late_p50_ms, 2)),
    ("p99", lambda r: num(r.late_p99_ms, 2)),
    ("TTFT p50 error ms", lambda r: signed(r.ttft_p50_error_ms)),
    ("p99", lambda r: signed(r.ttft_p99_error_ms)),
    ("memory MB (processes)", lambda r: f"{r.memory_mb:.0f} ({r.processes})"),
)
LIMIT = (
    ("events/s", lambda r: f"{r.events_s:,.0f}"),
    ("core used", lambda r: f"{r.utilisation:.0%}"),
    ("ITL p50 error ms", lambda r: signed(r.itl_p50_error_ms)),
    ("p99", lambda r: signed(r.itl_p99_error_ms)),
    ("true ITL p99 ms", lambda r: num(r.itl_p99_true_ms, 2)),
    ("achieved", lambda r: "-" if r.achieved_share is None else f"{r.achieved_share:.2%}"),
    ("late p50 ms", lambda r: num(r.late_p50_ms, 2)),
    ("p99", lambda r: num(r.late_p99_ms, 2)),
    ("memory MB", lambda r: f"{r.memory_mb:.0f}"),
)


def num(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+,.2f}"


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in lines)])


def of_rows(first: str, columns: Sequence[tuple[str, object]], rows: Sequence[Row]) -> str:
    lines = [
        [getattr(row, first), *(show(row) for _, show in columns)]  # type: ignore[operator]
        for row in rows
    ]
    return table([first, *(title for title, _ in columns)], lines)


def document(
    rows: Sequence[Row],
    limits: Sequence[Row],
    faults: Sequence[str],
    scaling: Sequence[Scaling],
    about: str,
) -> str:
    parts = [f"*{about}*"]
    for scenario in dict.fromkeys(row.scenario for row in rows):
        mine = [row for row in rows if row.scenario == scenario]
        columns = CLOSED if mine[0].achieved_share is None else OPEN
        parts += [f"### {scenario}", of_rows("client", columns, mine)]
    if limits:
        parts += ["### One core at its limits, this client", of_rows("scenario", LIMIT, limits)]
    if scaling:
        parts += ["### Shards", scaling_table(scaling)]
    return "\n\n".join([*parts, *faults]) + "\n"


def scaling_table(scaling: Sequence[Scaling]) -> str:
    titles = ("shards", "events/s", "CPU µs/event", "reported ITL p99 ms", "true")
    lines = [
        [
            str(each.shards),
            f"{each.events_s:,.0f}",
            f"{each.cpu_us_per_event:.1f}",
            f"{each.itl_p99_ms:.2f}",
            f"{each.itl_p99_true_ms:.2f}",
        ]
        for each in scaling
    ]
    one, two = scaling[0], scaling[-1]
    carried = two.events_s / one.events_s
    equal = two.shards / one.shards * one.cpu_us_per_event / two.cpu_us_per_event
    note = f"{carried:.2f} times the load, {equal:.2f} times at equal processor time of each shard."
    return f"{table(titles, lines)}\n\n{note}"


def put(text: str, file: Path, mark: str) -> None:
    """Between the marks of that name in a page of the docs; a file without them becomes the text."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    page = file.read_text() if file.exists() else ""
    if begin not in page or end not in page:
        file.write_text(text)
        return
    before, after = page.partition(begin)[0], page.partition(end)[2]
    file.write_text(f"{before}{begin}\n{text}{end}{after}")
