"""What the Pareto plot of a study shows, before anything draws it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from loadgen.workload.workload import lengths_text
from tuner.config.groups.objective import Axis, Slo
from tuner.config.study import StudyConfig
from tuner.metrics.catalogue import axis_label
from tuner.metrics.notation import counted, number
from tuner.report.points import model_notes
from tuner.results.ledger import Finished
from tuner.results.pareto import pareto_set
from tuner.results.tiers import Winner, best_per_tier
from tuner.trial.bottleneck import explained
from tuner.trial.result import Completed, OperatingPoint

MAX_CURVES = 400  # that are drawn: more can't be told apart
WIDTH = 150  # characters of a line under the title


@dataclass(frozen=True, slots=True)
class PlottedPoint:
    """An operating point in the plane of the plot. `detail`: its latencies, and why it is not valid.

    `limit`: what limits it, by the engine's metrics.
    """

    x: float
    y: float
    number: int
    level: int
    engine: str
    knobs: str
    load: str
    detail: str
    valid: bool
    limit: str = ""


@dataclass(frozen=True, slots=True)
class PlottedCurve:
    """One trial: its load levels, in order."""

    number: int
    engine: str
    knobs: str
    is_default: bool
    points: tuple[PlottedPoint, ...]

    @property
    def name(self) -> str:
        """For the legend: trial, engine and knobs."""
        return f"trial {self.number}: {self.engine}, {self.knobs}"


@dataclass(frozen=True, slots=True)
class ParetoData:
    """All that is drawn, whatever draws it. `best`: a point and the tiers of which it is the best.

    `subtitle`: lines. `slo_limits`: tier → the limit of its SLO on the x axis.
    """

    title: str
    subtitle: str
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    curves: tuple[PlottedCurve, ...]
    front: tuple[PlottedPoint, ...]
    best: tuple[tuple[PlottedPoint, str], ...]
    slo_limits: tuple[tuple[str, float], ...]

    @property
    def reach(self) -> tuple[float, float]:
        """Where each axis ends: beyond all points, with room for labels."""
        points = [point for curve in self.curves for point in curve.points]
        return (
            max((point.x for point in points), default=0) * 1.15 or 1,
            max(0.0, *(point.y * 1.15 for point in points)) or 1 if points else 1,
        )

    @property
    def depth(self) -> float:
        """Where the y axis begins: 0, or below the greatest loss."""
        return min(
            (point.y * 1.15 for curve in self.curves for point in curve.points if point.y < 0),
            default=0.0,
        )

    @property
    def visible_slo_limits(self) -> list[tuple[str, float]]:
        """Those inside the plotted range."""
        return [(tier, limit) for tier, limit in self.slo_limits if limit < self.reach[0]]

    @property
    def engines(self) -> list[str]:
        """Each engine once, in the order in which they were first tried."""
        return list(dict.fromkeys(curve.engine for curve in self.curves))


def pareto_data(study: StudyConfig, entries: Sequence[Finished]) -> ParetoData:
    """On the first two axes of the objective: every curve, the front, and the best of each tier."""
    x, y = study.objective.axes[:2]
    completed = [entry for entry in entries if isinstance(entry.result, Completed)]
    results = [entry.result for entry in completed]
    curves = tuple(_curve(entry, x, y) for entry in completed)
    at = {(curve.number, point.level): point for curve in curves for point in curve.points}
    front = [at[completed[f.index].number, f.point.level] for f in pareto_set(results, (x, y))]
    best: dict[PlottedPoint, list[str]] = {}
    for tier, winner in best_per_tier(study.slo, study.objective, results).items():
        if isinstance(winner, Winner):
            point = at.get((completed[winner.index].number, winner.point.level))
            if point is not None:
                best.setdefault(point, []).append(tier)
    drawn = _drawn(curves, {point.number for point in (*front, *best)})
    return ParetoData(
        title=f"{study.model.name} on {study.hardware.name}: {study.name}",
        subtitle=_subtitle(study, entries, len(completed), len(drawn)),
        x=x,
        y=y,
        x_label=axis_label(x.metric, study.hardware.device),
        y_label=axis_label(y.metric, study.hardware.device),
        curves=drawn,
        front=tuple(sorted(front, key=lambda point: point.x)),
        best=tuple((point, ", ".join(tiers)) for point, tiers in best.items()),
        slo_limits=_slo_limits(study.slo, x),
    )


def _drawn(curves: tuple[PlottedCurve, ...], always: set[int]) -> tuple[PlottedCurve, ...]:
    """All, or at most `MAX_CURVES` beside the defaults and the trials `always`, evenly over the study."""
    if len(curves) <= MAX_CURVES:
        return curves
    step = -(-len(curves) // MAX_CURVES)
    return tuple(
        curve
        for place, curve in enumerate(curves)
        if place % step == 0 or curve.is_default or curve.number in always
    )


def _curve(entry: Finished, x: Axis, y: Axis) -> PlottedCurve:
    points = []
    result = entry.result
    limits = explained(result.config, result.points) if isinstance(result, Completed) else {}
    for point in result.points if isinstance(result, Completed) else ():
        at_x, at_y = point.metrics.get(x.metric), point.metrics.get(y.metric)
        if at_x is not None and at_y is not None:
            where = (entry.number, point.level, entry.engine, entry.knobs)
            about = (point.load, _detail(point), point.valid, limits.get(point.level, ""))
            points.append(PlottedPoint(at_x, at_y, *where, *about))
    return PlottedCurve(entry.number, entry.engine, entry.knobs, entry.is_default, tuple(points))


def _detail(point: OperatingPoint) -> str:
    latencies = {
        "TTFT p50": point.metrics.get("ttft_p50_ms"),
        "p99": point.metrics.get("ttft_p99_ms"),
        "TPOT p50": point.metrics.get("tpot_p50_ms"),
    }
    known = [f"{name} {number(ms)} ms" for name, ms in latencies.items() if ms is not None]
    return " · ".join([*known, *(f"not valid: {reason}" for reason in point.invalid_because)])


def _subtitle(study: StudyConfig, entries: Sequence[Finished], completed: int, drawn: int) -> str:
    load, failed = study.workload, len(entries) - completed
    sources = sorted({entry.modelled.split(":")[0] for entry in entries if entry.modelled})
    parts = [
        lengths_text(load),
        f"{counted(completed, 'trial')} {'modelled' if sources else 'measured'}",
        *([f"{failed} failed"] if failed else []),
        *([f"{drawn} of them drawn"] if drawn < completed else []),
    ]
    if sources:
        parts.insert(0, f"MODELLED by an emulator ({', '.join(sources)}), not measured")
    return "\n".join(
        [" · ".join(parts), *(fill(each.text, WIDTH) for each in model_notes(entries))]
    )


def _slo_limits(slo: Slo, x: Axis) -> tuple[tuple[str, float], ...]:
    """Tier → its limit on the x axis, for tiers that limit what this axis shows."""
    found = []
    for name, tier in slo.tiers.items():
        limits = tier.limits()
        if x.metric == "interactivity_tok_s_user" and "tpot_p50_ms" in limits:
            found.append((name, 1000 / limits["tpot_p50_ms"]))
        elif x.metric in limits:
            found.append((name, limits[x.metric]))
    return tuple(found)
