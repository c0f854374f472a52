"""Every metric of an operating point: docs/reference/metrics.md."""

from collections.abc import Iterator, Mapping, Sequence

from loadgen.results.metrics import METRICS
from loadgen.results.metrics import Metric as LoadMetric
from tests.reference.markdown import codes, page, table
from tuner.metrics.catalogue import CATALOGUE, SECTIONS
from tuner.metrics.catalogue.metric import Metric

INTRO = """The metrics of an operating point, which is one load level of one trial. The names are those
of `objective.metric`, `objective.axes`, the tiers of `slo`, the ledger's `result.points[].metrics` and
MLflow. A metric that can't be trusted is `null`, and the point's `reasons` says why.

*better*: which way is better; empty for conditions and diagnostics. *per device*: of one of the
trial's devices (GPUs, or hosts where the engine runs on CPU cores). *needs*: keys that have to be
configured; where `economics.prices` is, the price of a device-hour in `hardware` does for
`economics.capacity`. *unavailable*: what else makes the metric `null`.

`p50` is the median, `p999` the 99.9th percentile. Percentiles above the median are the next sample at or
above the rank, never interpolated."""
BETTER = {"max": "higher", "min": "lower", "none": ""}
HEADER = ("metric", "unit", "better", "per device", "needs", "unavailable", "meaning")
_MEASURED: Mapping[str, LoadMetric] = {metric.name: metric for metric in METRICS}


def markdown() -> str:
    """The page."""
    return page(
        "Metrics",
        INTRO,
        *(
            part
            for title, metrics in SECTIONS.items()
            for part in (f"## {title}", table(HEADER, _rows(list(metrics.values()))))
        ),
    )


def without_meaning() -> list[str]:
    """Metrics that lack a unit or a meaning."""
    return sorted(name for name, each in CATALOGUE.items() if not (each.meaning and each.unit))


def _rows(metrics: Sequence[Metric]) -> Iterator[tuple[str, ...]]:
    """A row per metric; the percentiles and the mean of one series share a row."""
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(_family(metric), []).append(metric)
    for family in families.values():
        first = family[0]
        yield (
            codes((each.name for each in family), "<br>"),
            first.unit,
            BETTER[first.direction],
            "yes" if first.per_device else "",
            codes(first.needs, "<br>"),
            "<br>".join(_unavailable(family)),
            "; ".join((_meaning(family), *(["may be negative"] if first.signed else []))),
        )


def _family(metric: Metric) -> str:
    """The series of a percentile or mean, or the metric's own name."""
    measured = _MEASURED.get(metric.name)
    return measured.series if measured and measured.series else metric.name


def _meaning(family: Sequence[Metric]) -> str:
    if len(family) == 1:
        return family[0].meaning
    about = {each.meaning.rpartition(", ")[0] for each in family}
    assert len(about) == 1, about
    return about.pop()


def _unavailable(family: Sequence[Metric]) -> Iterator[str]:
    """Why measured metrics may be missing; one that has another reason than most of its family by name."""
    reasons: dict[str, list[str]] = {}
    for each in family:
        measured = _MEASURED.get(each.name)
        if measured and measured.needs:
            reasons.setdefault(measured.needs, []).append(each.name)
    for reason, which in reasons.items():
        few = len(which) < len(family) / 2
        yield f"{codes(which, ', ')}: {reason}" if few else reason
