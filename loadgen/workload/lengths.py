"""How long prompts and answers are, in tokens."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from loadgen.workload.strict import Strict


class Ranged(Strict):
    """Evenly between two lengths, both included."""

    kind: Literal["ranged"] = "ranged"
    low: PositiveInt
    high: PositiveInt

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high is below low: {self.high} < {self.low}")
        return self

    def __str__(self) -> str:
        return f"{self.low}–{self.high}"


class RangeRatio(Strict):
    """Evenly from `ratio` × `tokens` to `tokens`: the public benchmark's "1k at 0.8"."""

    kind: Literal["range_ratio"] = "range_ratio"
    tokens: PositiveInt
    ratio: Annotated[float, Field(gt=0, le=1)]

    def __str__(self) -> str:
        return f"{self.ratio:g}–1 × {self.tokens}"


class LogNormal(Strict):
    """exp(N(ln median, sigma²)), cut to what is allowed."""

    kind: Literal["lognormal"] = "lognormal"
    median: PositiveFloat
    sigma: PositiveFloat
    low: PositiveInt = 1
    high: PositiveInt

    def __str__(self) -> str:
        return f"lognormal about {self.median:g} (σ {self.sigma:g})"


class Empirical(Strict):
    """The given lengths, each as often as its weight says."""

    kind: Literal["empirical"] = "empirical"
    values: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    weights: tuple[PositiveFloat, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights and len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.weights)} weights for {len(self.values)} values")
        return self

    def __str__(self) -> str:
        return f"one of {len(self.values)} lengths"


Length = (
    PositiveInt
    | Annotated[Ranged | RangeRatio | LogNormal | Empirical, Field(discriminator="kind")]
)


def most(length: Length) -> int:
    """The longest that can come."""
    match length:
        case int():
            return length
        case RangeRatio():
            return length.tokens
        case Empirical():
            return max(length.values)
        case Ranged() | LogNormal():
            return length.high
