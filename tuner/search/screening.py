"""A shorter measurement for trials that only have to show whether they are contenders. Pure."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from loadgen.workload.workload import Workload
from serving.topology import Strict


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


def screened(workload: Workload, screening: Screening) -> Workload:
    """The same requests at the same loads, for a shorter time each. Seeds and arrivals stay as they are."""
    level_max_s = _least(workload.level_max_s, screening.level_max_s)
    precision = workload.precision
    if precision is not None:
        precision = max(precision, screening.precision or 0.0)
    changes = {
        "warmup_s": _least(workload.warmup_s, screening.warmup_s),
        "level_s": min(_least(workload.level_s, screening.level_s), level_max_s),
        "level_max_s": level_max_s,
        "min_requests": int(_least(workload.min_requests, screening.min_requests)),
        "precision": precision,
    }
    return workload.model_copy(update=changes)


def _least(value: float, limit: float | None) -> float:
    return value if limit is None else min(value, limit)
