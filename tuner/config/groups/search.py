"""How a study searches: which sampler, for how long, with which prior. Pure."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Pause, Seconds, Seed, Strict
from serving.twin.config import System

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Limit = Annotated[float, Field(gt=0, le=1e12)] | None
Share = Annotated[float, Field(gt=0, lt=1)]


class Screening(Strict):
    """Shorter measurements for the trials of a search. null: as in the workload. None makes a level longer."""

    warmup_s: Pause | None = Field(default=None, description="longest warm-up, s")
    level_s: Seconds | None = Field(default=None, description="longest level, s")
    level_max_s: Seconds | None = Field(
        default=None, description="longest level while requests or precision are missing, s"
    )
    min_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None, description="most requests that a level waits for"
    )
    precision: Share | None = Field(
        default=None,
        description="precision that ends a level, as a share; only where the workload states one",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level_s and self.level_max_s and self.level_max_s < self.level_s:
            limits = f"{self.level_max_s:g} < {self.level_s:g}"
            raise ValueError(f"level_max_s is below level_s: {limits}")
        return self


class Budget(Strict):
    """What the trials of a search may take in total, besides their number. null: no limit.

    Re-measuring the best (`search.confirm`) comes on top.
    """

    device_hours: Limit = Field(default=None, description="device-hours of all trials")
    usd: Limit = Field(
        default=None, description="cost of all trials, $ (hardware.usd_per_device_hour)"
    )
    wall_h: Limit = Field(default=None, description="hours in which trials run")

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for _, limit in self)


class StopRule(Strict):
    """When a search ends before its budget does; off where nothing is set.

    `gain` or the two of `payback` must call for it before `patience` trials in a row.
    """

    gain: Share | None = Field(
        default=None,
        description="stop where the next trial is expected to add less than this share to the front",
    )
    payback_devices: Positive | None = Field(
        default=None,
        description="stop where the expected gain of the next trial, on so many devices over "
        "`payback_days`, is less than the device-hours that the trial takes",
    )
    payback_days: Limit = Field(
        default=None, description="days over which `payback_devices` run the winner"
    )
    patience: Positive = Field(
        default=3, description="how many times in a row the rule has to hold before the search ends"
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.payback_devices is None) != (self.payback_days is None):
            missing = "payback_devices" if self.payback_devices is None else "payback_days"
            raise ValueError(f"payback needs devices and days: {missing} is not stated")
        return self

    @property
    def on(self) -> bool:
        """Whether the search may end early."""
        return self.gain is not None or self.payback_devices is not None


class ConfirmConfig(Strict):
    """How the best trials of a search are re-measured, from fresh starts and in random order.

    Beside the candidates of every tier stand the engines' defaults; the rounds end once each tier is decided.
    """

    candidates: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="most candidates of a tier, defaults not counted; 0: no re-measurement",
    )
    repeats_min: Annotated[int, Field(ge=2, le=10_000)] = Field(
        default=3, description="measurements of each candidate before the first decision"
    )
    repeats_max: Annotated[int, Field(ge=2, le=10_000)] = Field(
        default=16, description="most measurements of each candidate"
    )
    equivalence: Share = Field(
        default=0.015, description="relative difference below which two candidates count as equal"
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.97, description="confidence of a decision"
    )
    noise: Share = Field(
        default=0.03,
        description="relative standard deviation between starts, assumed to choose the candidates before any "
        "repeat is measured",
    )
    loads: Literal["tier", "all"] = Field(
        default="tier",
        description="loads that repeats measure: those of the tiers' best points, or the whole ladder",
    )
    seed: Seed = Field(default=0, description="seed of the order in a round")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.repeats_max < self.repeats_min:
            limits = f"{self.repeats_max} < {self.repeats_min}"
            raise ValueError(f"repeats_max is below repeats_min: {limits}")
        return self


Kind = Literal["list", "grid", "random", "qmc", "tpe", "nsga2", "gp", "curve"]


class PriorConfig(Strict):
    """What the search on curves knows before its first trial."""

    kind: Literal["none", "twin", "roofline", "ledger"] = Field(
        default="none",
        description="what predicts the first trials: twin: the emulator's closed form; roofline: bandwidth "
        "and arithmetic; ledger: an older study",
    )
    system: System | None = Field(
        default=None,
        description="the emulated system that stands for real hardware (twin, roofline)",
    )
    study: str | None = Field(default=None, description="folder of the older study (ledger)")


class SearchConfig(Strict):
    """How configurations are chosen, and when the search ends."""

    kind: Kind = Field(
        default="tpe",
        description="the sampler; list: `points` only; grid: every combination; curve: a surrogate "
        "model of whole load curves",
    )
    trials: Positive = Field(
        default=10, description="finished trials after which the search ends, failed ones included"
    )
    seed: Seed = Field(default=0, description="seed of the sampler")
    startup_trials: Positive = Field(
        default=4, description="trials at random, or by the prior, before the sampler chooses"
    )
    default_first: bool = Field(
        default=True,
        description="whether each engine's configuration as it stands is the first trial",
    )
    points: tuple[dict[str, Any], ...] = Field(
        default=(), description="points to try before the sampler: dotted path → value"
    )
    goal: Literal["front", "tiers"] = Field(
        default="front",
        description="what kind curve improves: the hypervolume of the front, or the best of each tier",
    )
    cost: Literal["trials", "device_hours"] = Field(
        default="trials", description="what kind curve saves: trials, or device-hours"
    )
    prior: PriorConfig = Field(
        default=PriorConfig(), description="what kind curve knows before its first trial"
    )
    prune_risk: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        default=None,
        description="stop a trial between two loads once the probability that it still reaches the front, or "
        "improves a tier, is at most this; null: measure every load",
    )
    screening: Screening | None = Field(
        default=None,
        description="shorter measurements while searching; re-measurement uses the whole workload",
    )
    budget: Budget = Field(default=Budget(), description="limits on what the search takes in total")
    stop: StopRule = Field(
        default=StopRule(), description="when the search ends early (kind curve)"
    )
    confirm: ConfirmConfig = Field(
        default=ConfirmConfig(), description="re-measurement of the best after the search"
    )
