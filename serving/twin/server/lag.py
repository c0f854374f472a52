"""How far the server lags behind the emulation: delay of each step's tokens against its schedule."""

from math import exp, log

LEAST_S, FACTOR, BINS = 1e-5, 1.1, 160  # 10 µs to 40 s in steps of 10 %
LATE_SHARE, LATE_LEAST_S = 0.1, 1e-3  # a step is late beyond both this share of it and this
EDGES_S = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25)


class Histogram:
    """A histogram of seconds; quantiles are exact to 10 %."""

    def __init__(self) -> None:
        self.count = 0
        self.max_s = self.total_s = 0.0
        self.bins = [0] * BINS

    def add(self, value_s: float) -> None:
        """Counts a value."""
        self.count += 1
        self.total_s += value_s
        self.max_s = max(self.max_s, value_s)
        index = int(log(value_s / LEAST_S) / log(FACTOR)) + 1 if value_s > LEAST_S else 0
        self.bins[min(index, BINS - 1)] += 1

    def quantile_s(self, share: float) -> float:
        """The quantile at a share from 0 to 1."""
        rank, seen = share * self.count, 0
        for index, count in enumerate(self.bins):
            seen += count
            if count and seen >= rank:
                return min(self.max_s, _upper_s(index))
        return 0.0

    def summary_ms(self, prefix: str = "") -> dict[str, float]:
        """Median, 99th percentile and maximum in ms."""
        return {
            f"{prefix}p50_ms": self.quantile_s(0.5) * 1e3,
            f"{prefix}p99_ms": self.quantile_s(0.99) * 1e3,
            f"{prefix}max_ms": self.max_s * 1e3,
        }


class ScheduleLag:
    """Delays of all steps.

    `late`: from the end of a step to the writing of its first token; `writing`: from there to its last one,
    which delays all tokens of a request alike. `shifts`: how often the schedule was moved to catch up.
    """

    def __init__(self) -> None:
        self.late, self.writing = Histogram(), Histogram()
        self.late_steps = self.shifts = 0

    def add(self, late_s: float, writing_s: float, step_s: float) -> None:
        """Counts a step that takes `step_s`."""
        self.late.add(late_s)
        self.writing.add(writing_s)
        self.late_steps += late_s > max(LATE_SHARE * step_s, LATE_LEAST_S)

    def summary(self) -> dict[str, float]:
        """The figures of `/twin/lag`; `late_share`: share of steps that were late."""
        return {
            "steps": self.late.count,
            **self.late.summary_ms(),
            **self.writing.summary_ms("writing_"),
            "late_share": self.late_steps / self.late.count if self.late.count else 0.0,
            "shifts": self.shifts,
        }

    def prometheus(self) -> bytes:
        """The histogram in Prometheus' text format."""
        name, late = "twin_step_lateness_seconds", self.late
        lines = [
            f"# HELP {name} from the end of a step to the writing of its first token",
            f"# TYPE {name} histogram",
        ]
        for edge_s in EDGES_S:
            below = sum(n for i, n in enumerate(late.bins) if _upper_s(i) <= edge_s * 1.0001)
            lines.append(f'{name}_bucket{{le="{edge_s:g}"}} {below}')
        lines += [f'{name}_bucket{{le="+Inf"}} {late.count}', f"{name}_sum {late.total_s:.9g}"]
        lines += [f"{name}_count {late.count}", "# TYPE twin_schedule_shifts_total counter"]
        return "\n".join([*lines, f"twin_schedule_shifts_total {self.shifts}", ""]).encode()


def _upper_s(index: int) -> float:
    return LEAST_S * exp(index * log(FACTOR))
