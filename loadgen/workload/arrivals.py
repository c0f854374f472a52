"""How requests arrive: the kinds of load, as they are asked for."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from loadgen.workload.strict import Strict

Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class Closed(Strict):
    """A fixed number of users, each sending its next request when the last one is answered."""

    kind: Literal["closed"] = "closed"
    concurrency: tuple[PositiveInt, ...] = Field(min_length=1)


class _Open(Strict):
    """Requests fall due at moments of their own, whether or not the server keeps up.

    Above `max_concurrency` a due request waits its turn; the wait counts as latency.
    """

    max_concurrency: PositiveInt | None = None


class Constant(_Open):
    """One level a rate; all gaps alike."""

    kind: Literal["constant"] = "constant"
    rate_per_s: Rates


class Poisson(_Open):
    """One level a rate; gaps are exponential, each independent of the others."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: Rates


class Gamma(_Open):
    """One level a rate; gaps are gamma distributed with shape `burstiness`.

    1 is Poisson, less is burstier (coefficient of variation 1/√burstiness), more is more even: the
    meaning that `vllm bench serve --burstiness` gives it.
    """

    kind: Literal["gamma"] = "gamma"
    rate_per_s: Rates
    burstiness: PositiveFloat


class Ramp(_Open):
    """One level: a Poisson process whose rate goes evenly from one value to another."""

    kind: Literal["ramp"] = "ramp"
    from_per_s: PositiveFloat
    to_per_s: PositiveFloat
    over_s: PositiveFloat


class Step(_Open):
    """One level: a Poisson process whose rate changes at once; the last rate goes on."""

    kind: Literal["step"] = "step"
    rate_per_s: Rates
    each_s: PositiveFloat


class Trace(_Open):
    """One level: the timestamps of the workload's dataset, which must be a trace.

    A `time_scale` of 2 plays it in twice the time, at half the rate.
    """

    kind: Literal["trace"] = "trace"
    time_scale: PositiveFloat = 1.0


class Adaptive(_Open):
    """Levels are chosen by what the ones before them showed: the knee, and each tier's highest load.

    `loop` says what a load is: users (closed) or requests per second. `tiers` are limits by name of
    the metric: `{"chat": {"ttft_p99_ms": 500}}`.
    """

    kind: Literal["adaptive"] = "adaptive"
    loop: Literal["closed", "constant", "poisson"] = "closed"
    lowest: PositiveFloat = 1
    highest: PositiveFloat = 1024
    levels: PositiveInt = 8
    tiers: dict[str, dict[str, NonNegativeFloat]] = Field(default_factory=dict)
    resolution: Annotated[float, Field(gt=1)] = 1.25  # neighbours closer than this are one load
    knee_gain: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of throughput, by twice the load

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.highest < self.lowest:
            raise ValueError(f"highest is below lowest: {self.highest:g} < {self.lowest:g}")
        return self


Arrival = Annotated[
    Closed | Constant | Poisson | Gamma | Ramp | Step | Trace | Adaptive,
    Field(discriminator="kind"),
]
