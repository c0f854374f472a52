"""What a search may cost, and when it is no longer worth going on. Pure."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from serving.topology import Strict

Positive = Annotated[float, Field(gt=0)] | None


class Budget(Strict):
    """What the trials of a search may take, besides their number; what is None has no limit.

    `wall_h`: hours in which trials run. What confirms the best comes on top (`search.confirm`).
    """

    device_hours: Positive = None
    usd: Positive = None
    wall_h: Positive = None

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
    payback_days: Positive = None
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
