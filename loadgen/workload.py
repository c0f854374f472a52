"""What is asked of an endpoint: the shape of the requests and how they arrive."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Closed(_Strict):
    """A fixed number of users, each sending its next request when the last one is answered."""

    kind: Literal["closed"] = "closed"
    concurrency: tuple[PositiveInt, ...] = Field(min_length=1)


class Poisson(_Strict):
    """Requests fall due at random moments, whether or not the server keeps up.

    Above `max_concurrency` a due request waits its turn; the wait counts as latency.
    """

    kind: Literal["poisson"] = "poisson"
    rate_per_s: tuple[PositiveFloat, ...] = Field(min_length=1)
    max_concurrency: PositiveInt | None = None


Arrival = Annotated[Closed | Poisson, Field(discriminator="kind")]


class Workload(_Strict):
    """One kind of request, driven at a ladder of load levels."""

    name: str
    endpoint: Literal["completions", "chat"] = "completions"
    prompt: Literal["token_ids", "text"] = "token_ids"
    input_tokens: PositiveInt
    output_tokens: PositiveInt
    ignore_eos: bool = True
    arrival: Arrival
    warmup_s: float = Field(default=2.0, ge=0)
    level_s: PositiveFloat = 10.0
    min_requests: int = Field(default=0, ge=0)
    level_max_s: PositiveFloat = 60.0
    request_timeout_s: PositiveFloat = 120.0
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.endpoint == "chat" and self.prompt == "token_ids":
            raise ValueError("chat takes no token ids: prompt must be 'text' with endpoint 'chat'")
        if self.level_max_s < self.level_s:
            limits = f"{self.level_max_s:g} < {self.level_s:g}"
            raise ValueError(f"level_max_s is below level_s: {limits}")
        return self

    @property
    def levels(self) -> int:
        match self.arrival:
            case Closed(concurrency=steps):
                return len(steps)
            case Poisson(rate_per_s=rates):
                return len(rates)
