"""How a study searches: which sampler, how long, from what knowledge."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serving.topology import Strict

Positive = Annotated[int, Field(ge=1)]
Kind = Literal["list", "grid", "random", "qmc", "tpe", "nsga2", "gp", "curve"]


class SearchConfig(Strict):
    """`trials` counts finished trials, failures included. `points` are tried before any sampler is asked:
    of kind `list` they are all that there is."""

    kind: Kind = "tpe"
    trials: Positive = 10
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Positive = 4
    default_first: bool = True
    points: tuple[dict[str, Any], ...] = ()
