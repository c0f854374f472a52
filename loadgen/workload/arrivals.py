"""How requests arrive: the kinds of load."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from loadgen.workload.strict import Rate, Seconds, Strict, Users

Rates = Annotated[tuple[Rate, ...], Field(min_length=1, max_length=1000)]
_RATES = "request rates, one load level each, requests/s"


class Closed(Strict):
    """A fixed number of users, each sending its next request when the previous one is answered."""

    kind: Literal["closed"] = Field(
        default="closed", description="closed loop: a fixed number of users"
    )
    concurrency: Annotated[tuple[Users, ...], Field(min_length=1, max_length=1000)] = Field(
        description="numbers of concurrent users, one load level each"
    )


class _Open(Strict):
    """Open loop: requests fall due at times of their own, whether or not the server keeps up."""

    max_concurrency: Users | None = Field(
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
    burstiness: Annotated[float, Field(ge=0.001, le=1_000_000)] = Field(
        description="shape of the gamma distribution: 1 is Poisson, less is burstier"
        " (coefficient of variation 1/√burstiness), more is more even"
    )


class Ramp(_Open):
    """One level: a Poisson process whose rate changes linearly."""

    kind: Literal["ramp"] = Field(
        default="ramp", description="open loop: Poisson, the rate changing linearly; one load level"
    )
    from_per_s: Rate = Field(description="rate at the start, requests/s")
    to_per_s: Rate = Field(description="rate at the end, requests/s")
    over_s: Seconds = Field(description="duration of the ramp, s")


class Step(_Open):
    """One level: a Poisson process whose rate changes in steps."""

    kind: Literal["step"] = Field(
        default="step", description="open loop: Poisson, the rate changing in steps; one load level"
    )
    rate_per_s: Rates = Field(
        description="rates in turn, requests/s; the last one holds to the end"
    )
    each_s: Seconds = Field(description="duration of each rate, s")


class Trace(_Open):
    """One level: the timestamps of the workload's dataset, which must be a trace."""

    kind: Literal["trace"] = Field(
        default="trace", description="open loop: the timestamps of a trace; one load level"
    )
    time_scale: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
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
    lowest: Rate = Field(default=1, description="lowest load: users, or requests/s")
    highest: Rate = Field(default=1024, description="highest load: users, or requests/s")
    levels: Annotated[int, Field(gt=0, le=1000)] = Field(
        default=8, description="most load levels to measure"
    )
    tiers: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        default_factory=dict,
        description="limits of each tier by metric, as in {chat: {ttft_p99_ms: 500}}",
    )
    resolution: Annotated[float, Field(gt=1, le=1000)] = Field(
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


def most_requests(arrival: Arrival, level_s: float) -> float:
    """The most requests that an open loop schedules for a level of that length; 0 for a closed loop."""
    match arrival:
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return max(rates) * level_s
        case Ramp():
            return (arrival.from_per_s + arrival.to_per_s) / 2 * arrival.over_s
        case Step(rate_per_s=rates, each_s=each_s):
            return sum(rate * min(each_s, level_s) for rate in rates[:-1]) + rates[-1] * level_s
        case Adaptive(loop="constant" | "poisson"):
            return arrival.highest * level_s
        case _:
            return 0.0
