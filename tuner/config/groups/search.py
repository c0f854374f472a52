"""How a study searches: which sampler, how long, from what knowledge."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serving.topology import Strict
from serving.twin.config import System
from tuner.config.groups.budget import Budget, StopRule
from tuner.confirm.race import ConfirmConfig
from tuner.search.screening import Screening

Positive = Annotated[int, Field(ge=1)]
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
