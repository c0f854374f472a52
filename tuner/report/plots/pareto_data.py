"""What the Pareto plot of a study shows, before anything draws it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.workload.workload import lengths_text
from tuner.config.groups.objective import Axis, Slo
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.result import Completed, OperatingPoint

LABELS = {
    "interactivity_tok_s_user": "tok/s per user",
    "throughput_output_tok_s_device": "output tok/s per {device}",
    "throughput_total_tok_s_device": "input + output tok/s per {device}",
    "provisioned_output_tok_s_mw": "output tok/s per provisioned MW",
    "provisioned_total_tok_s_mw": "input + output tok/s per provisioned MW",
    "usd_per_m_output_tok": "$ per million output tokens",
    "usd_per_m_total_tok": "$ per million input + output tokens",
    "ttft_p99_ms": "TTFT p99 (ms)",
    "ttft_p50_ms": "TTFT p50 (ms)",
    "e2e_p50_ms": "end to end p50 (ms)",
    "energy_j_per_output_tok": "J of GPU boards per output token",
    "energy_j_per_total_tok": "J of GPU boards per input + output token",
    "margin_usd_device_hour": "margin, $ per {device}-hour",
    "facility_margin_usd_mw_year": "margin, $ a year per MW of the facility",
    "provisioned_margin_usd_mw_year": "margin, $ a year per provisioned MW",
    "provisioned_revenue_usd_mw_year": "revenue, $ a year per provisioned MW",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """An operating point in the plane of the plot."""

    x: float
    y: float
    number: int
    level: int
    engine: str
    knobs: str
    load: str
    detail: str
    valid: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial: its load levels, in order."""

    number: int
    engine: str
    knobs: str
    is_default: bool
    marks: tuple[Mark, ...]

    @property
    def name(self) -> str:
        return f"trial {self.number}: {self.engine}, {self.knobs}"


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn, whatever draws it. `best`: a mark and the tiers that it serves best."""

    title: str
    subtitle: str
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    front: tuple[Mark, ...]
    best: tuple[tuple[Mark, str], ...]
    promises: tuple[tuple[str, float], ...]

    @property
    def reach(self) -> tuple[float, float]:
        """How far each axis goes: all marks, and room for what is written beside them."""
        marks = [mark for curve in self.curves for mark in curve.marks]
        return (
            max((mark.x for mark in marks), default=0) * 1.15 or 1,
            max(0.0, *(mark.y * 1.15 for mark in marks)) or 1 if marks else 1,
        )

    @property
    def depth(self) -> float:
        """Where the y axis begins: 0, or below the greatest loss."""
        return min(
            (mark.y * 1.15 for curve in self.curves for mark in curve.marks if mark.y < 0),
            default=0.0,
        )

    @property
    def visible_promises(self) -> list[tuple[str, float]]:
        """Without those that nothing measured comes near."""
        return [(tier, limit) for tier, limit in self.promises if limit < self.reach[0]]

    @property
    def engines(self) -> list[str]:
        """In the order in which they were first tried."""
        return list(dict.fromkeys(curve.engine for curve in self.curves))


def picture(study: StudyConfig, entries: Sequence[Finished]) -> Picture:
    """On the first two axes: every curve, the front, and the best of each tier."""
    x, y = study.objective.axes[:2]
    completed = [entry for entry in entries if isinstance(entry.result, Completed)]
    results = [entry.result for entry in completed]
    curves = tuple(_curve(entry, x, y) for entry in completed)
    at = {(curve.number, mark.level): mark for curve in curves for mark in curve.marks}
    front = [at[completed[f.index].number, f.point.level] for f in pareto_set(results, (x, y))]
    best: dict[Mark, list[str]] = {}
    for tier, winner in best_per_tier(study.slo, study.objective, results).items():
        if isinstance(winner, Winner):
            mark = at.get((completed[winner.index].number, winner.point.level))
            if mark is not None:
                best.setdefault(mark, []).append(tier)
    return Picture(
        title=f"{study.model.name} on {study.hardware.name}: {study.name}",
        subtitle=_subtitle(study, entries, len(completed)),
        x=x,
        y=y,
        x_label=_label(x, study.hardware.device),
        y_label=_label(y, study.hardware.device),
        curves=curves,
        front=tuple(sorted(front, key=lambda mark: mark.x)),
        best=tuple((mark, ", ".join(tiers)) for mark, tiers in best.items()),
        promises=_promises(study.slo, x),
    )


def _curve(entry: Finished, x: Axis, y: Axis) -> Curve:
    marks = []
    for point in entry.result.points if isinstance(entry.result, Completed) else ():
        at_x, at_y = point.metrics.get(x.metric), point.metrics.get(y.metric)
        if at_x is not None and at_y is not None:
            where = (entry.number, point.level, entry.engine, entry.knobs)
            marks.append(Mark(at_x, at_y, *where, point.load, _detail(point), point.valid))
    return Curve(entry.number, entry.engine, entry.knobs, entry.is_default, tuple(marks))


def _detail(point: OperatingPoint) -> str:
    parts = {
        "TTFT p50": point.metrics.get("ttft_p50_ms"),
        "p99": point.metrics.get("ttft_p99_ms"),
        "TPOT p50": point.metrics.get("tpot_p50_ms"),
    }
    known = [f"{name} {value:.4g} ms" for name, value in parts.items() if value is not None]
    return " · ".join([*known, *(f"not valid: {reason}" for reason in point.invalid_because)])


def _subtitle(study: StudyConfig, entries: Sequence[Finished], completed: int) -> str:
    load, failed = study.workload, len(entries) - completed
    parts = [
        lengths_text(load),
        f"{completed} trial{'s' * (completed != 1)} measured",
        *([f"{failed} failed"] if failed else []),
    ]
    if sources := sorted({entry.modelled.split(":")[0] for entry in entries if entry.modelled}):
        parts.insert(0, f"MODELLED by an emulator ({', '.join(sources)}), not measured")
    return " · ".join(parts)


def _label(axis: Axis, device: str) -> str:
    return LABELS.get(axis.metric, axis.metric).format(device=device)


def _promises(slo: Slo, x: Axis) -> tuple[tuple[str, float], ...]:
    """Where each tier begins on the x axis, if it promises what that axis shows."""
    found = []
    for name, tier in slo.tiers.items():
        limits = tier.limits()
        if x.metric == "interactivity_tok_s_user" and "tpot_p50_ms" in limits:
            found.append((name, 1000 / limits["tpot_p50_ms"]))
        elif x.metric in limits:
            found.append((name, limits[x.metric]))
    return tuple(found)
