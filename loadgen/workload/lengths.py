"""Lengths of prompts and answers, in tokens: a number, or a distribution."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from loadgen.workload.strict import Strict, Tokens, Weight


class Ranged(Strict):
    """Uniform between two lengths, both included."""

    kind: Literal["ranged"] = Field(default="ranged", description="uniform between two lengths")
    low: Tokens = Field(description="shortest length, tokens")
    high: Tokens = Field(description="longest length, tokens")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high is below low: {self.high} < {self.low}")
        return self

    def __str__(self) -> str:
        return f"{self.low}–{self.high}"


class RangeRatio(Strict):
    """Uniform from `ratio` × `tokens` to `tokens`: the public benchmark's "1k at 0.8"."""

    kind: Literal["range_ratio"] = Field(
        default="range_ratio", description="uniform from a share of a length up to that length"
    )
    tokens: Tokens = Field(description="longest length, tokens")
    ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        description="shortest length as a share of the longest"
    )

    def __str__(self) -> str:
        return f"{self.ratio:g}–1 × {self.tokens}"


class LogNormal(Strict):
    """exp(N(ln median, sigma²)), truncated to `low` … `high`."""

    kind: Literal["lognormal"] = Field(default="lognormal", description="truncated log-normal")
    median: Annotated[float, Field(gt=0, le=10_000_000)] = Field(
        description="median before truncation, tokens"
    )
    sigma: Annotated[float, Field(gt=0, le=100)] = Field(
        description="standard deviation of the logarithm of the length"
    )
    low: Tokens = Field(default=1, description="shortest length, tokens")
    high: Tokens = Field(description="longest length, tokens")

    def __str__(self) -> str:
        return f"lognormal about {self.median:g} (σ {self.sigma:g})"


class Empirical(Strict):
    """A list of lengths, each as often as its weight says."""

    kind: Literal["empirical"] = Field(default="empirical", description="one of given lengths")
    values: Annotated[tuple[Tokens, ...], Field(min_length=1)] = Field(
        description="lengths, tokens"
    )
    weights: tuple[Weight, ...] = Field(
        default=(), description="relative frequency of each length; empty: all the same"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights and len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.weights)} weights for {len(self.values)} values")
        return self

    def __str__(self) -> str:
        return f"one of {len(self.values)} lengths"


Length = (
    Tokens | Annotated[Ranged | RangeRatio | LogNormal | Empirical, Field(discriminator="kind")]
)


def shortest(length: Length) -> int:
    """The shortest length that can occur, in tokens."""
    match length:
        case int():
            return length
        case RangeRatio(tokens=tokens, ratio=ratio):
            return max(1, round(ratio * tokens))
        case Empirical(values=values):
            return min(values)
        case Ranged(low=low) | LogNormal(low=low):
            return low


def longest(length: Length) -> int:
    """The longest length that can occur, in tokens."""
    match length:
        case int():
            return length
        case RangeRatio():
            return length.tokens
        case Empirical():
            return max(length.values)
        case Ranged() | LogNormal():
            return length.high
