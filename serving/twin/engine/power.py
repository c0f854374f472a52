"""Power draw of one GPU during a step, and how a power cap slows the step. Pure.

P = P_max · (floor + (1 − floor) · (1 − exp(−(compute · u_c + memory · u_m)))), with u_c the share of the
peak FLOP/s and u_m that of the memory bandwidth that the step reaches; idle power between steps. The
constants and their source are in `serving.twin.config.Power`; they are known to ±15 %.
"""

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from serving.twin.config import Power

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GpuPeaks:
    """Limits of one GPU: memory bytes/s, dense FLOP/s at the computing precision, power limit in watts."""

    bandwidth_bytes_s: float
    peak_flop_s: float
    max_w: float


@dataclass(frozen=True, slots=True)
class Work:
    """What one step takes of one GPU: arithmetic, and bytes read from its memory."""

    flop: float
    bytes: float


class PowerModel:
    """The power model of one GPU under its cap, in watts."""

    def __init__(self, gpu: GpuPeaks, power: Power) -> None:
        self.cap_w = min(power.cap_w or gpu.max_w, gpu.max_w)
        self.idle_w = power.idle * gpu.max_w
        self._floor_w = power.floor * gpu.max_w
        self._range_w = gpu.max_w - self._floor_w
        self._peak_flop_s, self._bandwidth_bytes_s = gpu.peak_flop_s, gpu.bandwidth_bytes_s
        self._compute, self._memory = power.compute, power.memory
        self._exponent, self._slowest = power.exponent, power.slowest

    def step(self, work: Work, step_s: float) -> tuple[float, float]:
        """(seconds, watts) of a step that would take `step_s` without a cap.

        Above the cap the clock falls to a share f: dynamic power falls as f^exponent, and the compute-bound
        part of the step (its share of the exponent above) takes 1/f as long; memory-bound time stays.
        """
        compute = self._compute * min(1.0, work.flop / (self._peak_flop_s * step_s))
        memory = self._memory * min(1.0, work.bytes / (self._bandwidth_bytes_s * step_s))
        draw_w = self._floor_w + self._range_w * (1 - exp(-compute - memory))
        if draw_w <= self.cap_w:
            return step_s, draw_w
        room = max(0.0, self.cap_w - self._floor_w) / (draw_w - self._floor_w)
        clock = max(self._slowest, room ** (1 / self._exponent))
        bound = compute / (compute + memory)
        watts = self._floor_w + (draw_w - self._floor_w) * clock**self._exponent
        return step_s * (1 + bound * (1 / clock - 1)), watts

    def steps(self, flop: Floats, read_bytes: Floats, step_s: Floats) -> tuple[Floats, Floats]:
        """`step` of many steps at once; all (n,)."""
        compute = self._compute * np.minimum(1.0, flop / (self._peak_flop_s * step_s))
        memory = self._memory * np.minimum(1.0, read_bytes / (self._bandwidth_bytes_s * step_s))
        draw_w = self._floor_w + self._range_w * (1 - np.exp(-compute - memory))
        if draw_w.max() <= self.cap_w:
            return step_s, draw_w
        room = np.minimum(1.0, max(0.0, self.cap_w - self._floor_w) / (draw_w - self._floor_w))
        clock = np.where(
            draw_w <= self.cap_w, 1.0, np.maximum(self._slowest, room ** (1 / self._exponent))
        )
        watts = self._floor_w + (draw_w - self._floor_w) * clock**self._exponent
        return step_s * (1 + compute / (compute + memory) * (1 / clock - 1)), watts
