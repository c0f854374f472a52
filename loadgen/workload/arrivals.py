"""How requests arrive: the kinds of load."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from loadgen.workload.strict import Strict

Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
_RATES = "request rates, one load level each, requests/s"


class Closed(Strict):
    """A fixed number of users, each sending its next request when the previous one is answered."""

    kind: Literal["closed"] = Field(
        default="closed", description="closed loop: a fixed number of users"
    )
    concurrency: tuple[PositiveInt, ...] = Field(
        min_length=1, description="numbers of concurrent users, one load level each"
    )


class _Open(Strict):
    """Open loop: requests fall due at times of their own, whether or not the server keeps up."""

    max_concurrency: PositiveInt | None = Field(
        default=None,
        description="most requests in flight; above it a due request waits, and the wait counts as latency",
    )


class Constant(_Open):
    """Evenly spaced requests."""

    kind: Literal["constant"] = Field(
        default="constant", description="open loop: evenly spaced requests"
    )
    rate_per_s: Rates = Field(description=_RATES)


class Poisson(_Open):
    """Exponential gaps, each independent of the others."""

    kind: Literal["poisson"] = Field(
        default="poisson", description="open loop: exponential gaps between requests"
    )
    rate_per_s: Rates = Field(description=_RATES)


class Gamma(_Open):
    """Gamma distributed gaps; `burstiness` means what it means to `vllm bench serve`."""

    kind: Literal["gamma"] = Field(
        default="gamma", description="open loop: gamma distributed gaps between requests"
    )
    rate_per_s: Rates = Field(description=_RATES)
    burstiness: PositiveFloat = Field(
        description="shape of the gamma distribution: 1 is Poisson, less is burstier"
        " (coefficient of variation 1/√burstiness), more is more even"
    )


class Ramp(_Open):
    """One level: a Poisson process whose rate changes linearly."""

    kind: Literal["ramp"] = Field(
        default="ramp", description="open loop: Poisson, the rate changing linearly; one load level"
    )
    from_per_s: PositiveFloat = Field(description="rate at the start, requests/s")
    to_per_s: PositiveFloat = Field(description="rate at the end, requests/s")
    over_s: PositiveFloat = Field(description="duration of the ramp, s")


class Step(_Open):
    """One level: a Poisson process whose rate changes in steps."""

    kind: Literal["step"] = Field(
        default="step", description="open loop: Poisson, the rate changing in steps; one load level"
    )
    rate_per_s: Rates = Field(
        description="rates in turn, requests/s; the last one holds to the end"
    )
    each_s: PositiveFloat = Field(description="duration of each rate, s")


class Trace(_Open):
    """One level: the timestamps of the workload's dataset, which must be a trace."""

    kind: Literal["trace"] = Field(
        default="trace", description="open loop: the timestamps of a trace; one load level"
    )
    time_scale: PositiveFloat = Field(
        default=1.0,
        description="factor on the timestamps: 2 replays the trace in twice the time, at half the rate",
    )


class Adaptive(_Open):
    """Levels chosen from the results of the previous ones: the knee, and each tier's highest load."""

    kind: Literal["adaptive"] = Field(
        default="adaptive", description="load levels chosen from the results of the previous ones"
    )
    loop: Literal["closed", "constant", "poisson"] = Field(
        default="closed",
        description="what a load is: users (closed), or requests/s (constant, poisson)",
    )
    lowest: PositiveFloat = Field(default=1, description="lowest load: users, or requests/s")
    highest: PositiveFloat = Field(default=1024, description="highest load: users, or requests/s")
    levels: PositiveInt = Field(default=8, description="most load levels to measure")
    tiers: dict[str, dict[str, NonNegativeFloat]] = Field(
        default_factory=dict,
        description="limits of each tier by metric, as in {chat: {ttft_p99_ms: 500}}",
    )
    resolution: Annotated[float, Field(gt=1)] = Field(
        default=1.25, description="loads closer than this ratio count as one"
    )
    knee_gain: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="the knee is where doubling the load gains less than this share of throughput",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.highest < self.lowest:
            raise ValueError(f"highest is below lowest: {self.highest:g} < {self.lowest:g}")
        return self


Arrival = Annotated[
    Closed | Constant | Poisson | Gamma | Ramp | Step | Trace | Adaptive,
    Field(discriminator="kind"),
]
