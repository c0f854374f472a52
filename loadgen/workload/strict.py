"""The base of all models of outside data, and the ranges of its numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Upper bounds are far above any real load: what exceeds them is a typing mistake, and would exhaust memory.
TOKENS_MAX = 10_000_000
Users = Annotated[int, Field(gt=0, le=1_000_000)]
Requests = Annotated[int, Field(gt=0, le=1_000_000_000)]
Tokens = Annotated[int, Field(gt=0, le=TOKENS_MAX)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0, le=2_592_000)]  # 30 days
Pause = Annotated[float, Field(ge=0, le=2_592_000)]
Weight = Annotated[float, Field(gt=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Salt = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Strict(BaseModel):
    """Frozen; an unknown field is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
