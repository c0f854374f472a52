"""What is known of a metric. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of an operating point: what it is, for whoever shows it, checks it or searches by it.

    `label`: for axes; `{device}` in it stands for GPU or host. `direction`: which way is better; none for
    conditions and diagnostics. `signed`: it may be below 0. `per_device`: of one of the trial's devices.
    `saves_devices`: a best that is better by g = 1 − default ÷ best serves the same load with the share g fewer
    devices. `boundary`: which watts it counts. `needs`: the keys that have to be configured, in the order in
    which they are asked for; where `economics.prices` are, the price of an hour in `hardware` does for
    `economics.capacity`.
    """

    name: str
    unit: str
    label: str
    meaning: str
    direction: Literal["max", "min", "none"] = "none"
    signed: bool = False
    per_device: bool = False
    saves_devices: bool = False
    boundary: Literal["", "board", "node", "provisioned", "facility"] = ""
    needs: tuple[str, ...] = ()


def by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Name → metric, in the given order."""
    return {metric.name: metric for metric in metrics}
