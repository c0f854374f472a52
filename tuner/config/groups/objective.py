"""What a study is after: tiers of service, the metric that each is judged by, the axes of the front. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict

Limit = Annotated[float, Field(gt=0)] | None


Direction = Literal["max", "min"]


class Axis(Strict):
    """One objective: a metric of an operating point, and which way is better."""

    metric: str
    direction: Direction = "max"


class Tier(Strict):
    """What one class of customers is promised, at most, under the names of the metrics."""

    ttft_p50_ms: Limit = None
    ttft_p90_ms: Limit = None
    ttft_p99_ms: Limit = None
    tpot_p50_ms: Limit = None
    tpot_p99_ms: Limit = None
    itl_p99_ms: Limit = None
    e2e_p50_ms: Limit = None
    e2e_p99_ms: Limit = None
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0

    def limits(self) -> dict[str, float]:
        return {name: value for name, value in self if value is not None}


class Slo(Strict):
    tiers: Annotated[dict[str, Tier], Field(min_length=1)]


class ObjectiveConfig(Strict):
    """`throughput`: the metric that each tier is judged by: tokens, dollars or joules; `direction`: which way
    is better. `axes`: those of the Pareto front.
    """

    throughput: str = "throughput_output_tok_s_device"
    direction: Direction = "max"
    axes: Annotated[tuple[Axis, ...], Field(min_length=2)] = (
        Axis(metric="interactivity_tok_s_user"),
        Axis(metric="throughput_output_tok_s_device"),
    )

    @property
    def sold(self) -> Axis:
        return Axis(metric=self.throughput, direction=self.direction)
