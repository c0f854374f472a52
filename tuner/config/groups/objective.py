"""What a study optimizes: SLO tiers, the target metric of each, the axes of the Pareto front. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict

Limit = Annotated[float, Field(gt=0, le=1e12)] | None


Direction = Literal["max", "min"]


class Axis(Strict):
    """A metric of an operating point, and which way it is better."""

    metric: str = Field(description="name of the metric")
    direction: Direction = Field(default="max", description="max: more is better; min: less is")


class Tier(Strict):
    """The SLO of one class of users: upper limits, by the names of the metrics. null: no limit."""

    ttft_p50_ms: Limit = Field(default=None, description="limit of median TTFT, ms")
    ttft_p90_ms: Limit = Field(default=None, description="limit of TTFT at percentile 90, ms")
    ttft_p99_ms: Limit = Field(default=None, description="limit of TTFT at percentile 99, ms")
    tpot_p50_ms: Limit = Field(default=None, description="limit of median TPOT, ms")
    tpot_p99_ms: Limit = Field(default=None, description="limit of TPOT at percentile 99, ms")
    itl_p99_ms: Limit = Field(default=None, description="limit of ITL at percentile 99, ms")
    e2e_p50_ms: Limit = Field(default=None, description="limit of median end-to-end latency, ms")
    e2e_p99_ms: Limit = Field(
        default=None, description="limit of end-to-end latency at percentile 99, ms"
    )
    error_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="limit of the share of requests that fail"
    )

    def limits(self) -> dict[str, float]:
        """Metric → limit, of those that have one."""
        return {name: value for name, value in self if value is not None}


class Slo(Strict):
    """The tiers of service."""

    tiers: Annotated[dict[str, Tier], Field(min_length=1)] = Field(
        description="name of the tier → its limits"
    )


class ObjectiveConfig(Strict):
    """The target metric, and the axes of the Pareto front."""

    metric: str = Field(
        default="throughput_output_tok_s_device",
        description="target metric: each tier's best is the operating point with the best value inside its SLO",
    )
    direction: Direction = Field(
        default="max", description="whether more (max) or less (min) of the target metric is better"
    )
    axes: Annotated[tuple[Axis, ...], Field(min_length=2)] = Field(
        default=(
            Axis(metric="interactivity_tok_s_user"),
            Axis(metric="throughput_output_tok_s_device"),
        ),
        description="axes of the Pareto front; plots show the first two",
    )

    @property
    def target(self) -> Axis:
        """The target metric and its direction."""
        return Axis(metric=self.metric, direction=self.direction)
