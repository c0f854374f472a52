"""How a study searches: which sampler, how long, from what knowledge."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from serving.topology import Strict
from serving.twin.config import System

Positive = Annotated[int, Field(ge=1)]
Limit = PositiveFloat | None
Share = Annotated[float, Field(gt=0, lt=1)]


class Screening(Strict):
    """What a screened workload is brought down to; None leaves it as the workload says.

    None of it makes a level longer: `precision` counts only for workloads that ask for one.
    """

    warmup_s: NonNegativeFloat | None = None
    level_s: PositiveFloat | None = None
    level_max_s: PositiveFloat | None = None
    min_requests: Annotated[int, Field(ge=0)] | None = None
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level_s and self.level_max_s and self.level_max_s < self.level_s:
            limits = f"{self.level_max_s:g} < {self.level_s:g}"
            raise ValueError(f"level_max_s is below level_s: {limits}")
        return self


class Budget(Strict):
    """What the trials of a search may take, besides their number; what is None has no limit.

    `wall_h`: hours in which trials run. What confirms the best comes on top (`search.confirm`).
    """

    device_hours: Limit = None
    usd: Limit = None
    wall_h: Limit = None

    @property
    def limited(self) -> bool:
        return any(limit is not None for _, limit in self)


class StopRule(Strict):
    """Ends a search before its budget does. Off where nothing is set.

    `gain`: ends it where the next trial is expected to add less than this share to the front.
    `payback_devices`, `payback_days`: ends it where that share, of so many devices in so many days, is less
    than the device-hours that the trial takes. Either must hold at `patience` asks in a row.
    """

    gain: Annotated[float, Field(gt=0, lt=1)] | None = None
    payback_devices: Annotated[int, Field(ge=1)] | None = None
    payback_days: Limit = None
    patience: Annotated[int, Field(ge=1)] = 3

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.payback_devices is None) != (self.payback_days is None):
            lacking = "payback_devices" if self.payback_devices is None else "payback_days"
            raise ValueError(f"payback needs devices and days: {lacking} is not stated")
        return self

    @property
    def on(self) -> bool:
        return self.gain is not None or self.payback_devices is not None


class ConfirmConfig(Strict):
    """How the best of a search are measured again. `contenders`: the most of a tier, defaults apart; 0 is off.

    `equivalence`: a difference that does not matter, as a share. `noise`: standard deviation between
    starts, as a share, that chooses who may still be best before there are repeats. `loads`: those at which
    the search found the tiers' best, or all.
    """

    contenders: Annotated[int, Field(ge=0)] = 0
    repeats_min: Annotated[int, Field(ge=2)] = 3
    repeats_max: Annotated[int, Field(ge=2)] = 16
    equivalence: Share = 0.015
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.97
    noise: Share = 0.03
    loads: Literal["tier", "all"] = "tier"
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.repeats_max < self.repeats_min:
            limits = f"{self.repeats_max} < {self.repeats_min}"
            raise ValueError(f"repeats_max is below repeats_min: {limits}")
        return self


Kind = Literal["list", "grid", "random", "qmc", "tpe", "nsga2", "gp", "curve"]


class PriorConfig(Strict):
    """`twin`: its closed form; `roofline`: bandwidth and arithmetic alone. Real hardware is taken for `system`.
    `ledger`: the folder of an older `study`."""

    kind: Literal["none", "twin", "roofline", "ledger"] = "none"
    system: System | None = None
    study: str | None = None


class SearchConfig(Strict):
    """`trials` counts finished trials, failures included. `points` are tried before any sampler is asked:
    of kind `list` they are all that there is.

    Of kind `curve`: `goal` is the volume under the front of all that keeps a tier, or the best of each tier;
    `cost` is what is to be saved.

    `give_up_risk`: a trial is stopped between two loads once it reaches the front, or betters a tier, with no
    more than this probability; None measures every curve whole. `screening` shortens the search's
    measurements, and leaves the confirmation's as they are.
    """

    kind: Kind = "tpe"
    trials: Positive = 10
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Positive = 4
    default_first: bool = True
    points: tuple[dict[str, Any], ...] = ()
    goal: Literal["front", "tiers"] = "front"
    cost: Literal["trials", "device_hours"] = "trials"
    prior: PriorConfig = PriorConfig()
    give_up_risk: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    screening: Screening | None = None
    budget: Budget = Budget()
    stop: StopRule = StopRule()
    confirm: ConfirmConfig = ConfirmConfig()
