"""The time of one forward pass, interpolated in a table: a few microseconds a call. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, order=True)
class TableKey:
    """What a table is for: one replica of one model on one system under one framework."""

    system: str
    """b300_sxm, b200_sxm or h200_sxm."""
    framework: str
    """vllm, sglang or trtllm."""
    model: str
    """An architecture: a key of `serving.twin.tables.catalog.MODELS`."""
    weights: str
    """bf16, fp8, fp8_block, nvfp4, mxfp4 or int4."""
    kv: str
    """bf16 or fp8."""
    tensor: int
    """Tensor parallel size of the attention, in each data-parallel rank."""
    data: int
    """Data-parallel ranks of the attention in lockstep; 1 unless the model is MoE."""
    expert: int
    """Expert parallel size; the experts' tensor parallel size is tensor × data / expert."""

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tensor * self.data

    def __str__(self) -> str:
        layout = f"tp{self.tensor} dp{self.data} ep{self.expert}"
        precision = f"{self.weights} weights, {self.kv} cache"
        return f"{self.model} ({precision}) on {self.system} {self.framework} {layout}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU. Activations grow linearly with the token budget of a step."""

    weights_bytes: float
    activation_bytes_base: float
    activation_bytes_per_token: float
    communication_bytes: float
    other_bytes: float
    kv_bytes_per_token: float
    """Growth of the rank's KV cache at long contexts, without sliding windows and fixed states."""
    kv_bytes_per_request: float = 0.0
    """Cache of a request whatever its length: sliding windows, states of linear attention."""

    def fixed_bytes(self, max_num_batched_tokens: int) -> float:
        """Everything but the KV cache, for a token budget of a step."""
        activations = self.activation_bytes_per_token * max_num_batched_tokens
        activations += self.activation_bytes_base
        return self.weights_bytes + activations + self.communication_bytes + self.other_bytes


class Curve:
    """Piecewise linear through its points, extrapolated above the last one and clamped below the first; ≥ 0."""

    __slots__ = ("_last", "_slopes", "_x", "_y")

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        self._x, self._y = list(x), list(y)
        self._last = len(self._x) - 2
        pairs = zip(self._x, self._x[1:], self._y, self._y[1:], strict=False)
        self._slopes = [(y1 - y0) / (x1 - x0) for x0, x1, y0, y1 in pairs]

    def at(self, x: float) -> float:
        """The value at x."""
        grid = self._x
        i = bisect_right(grid, x) - 1
        if i < 0:
            i, x = 0, grid[0]
        elif i > self._last:
            i = self._last
        value = self._y[i] + (x - grid[i]) * self._slopes[i]
        return value if value > 0.0 else 0.0


class Surface:
    """Bilinear in its cells, so exact for a cost like tokens × attended; clamped below the grid,
    extrapolated above it; ≥ 0."""

    __slots__ = ("_last_x", "_last_y", "_rows", "_x", "_y")

    def __init__(
        self, x: Sequence[float], y: Sequence[float], rows: Sequence[Sequence[float]]
    ) -> None:
        self._x, self._y = list(x), list(y)
        self._rows = [list(row) for row in rows]
        self._last_x, self._last_y = len(self._x) - 2, len(self._y) - 2

    def at(self, x: float, y: float) -> float:
        """The value at (x, y)."""
        xs, ys = self._x, self._y
        i, j = bisect_right(xs, x) - 1, bisect_right(ys, y) - 1
        if i < 0:
            i, x = 0, xs[0]
        elif i > self._last_x:
            i = self._last_x
        if j < 0:
            j, y = 0, ys[0]
        elif j > self._last_y:
            j = self._last_y
        low, high = self._rows[i], self._rows[i + 1]
        v = (y - ys[j]) / (ys[j + 1] - ys[j])
        below = low[j] + v * (low[j + 1] - low[j])
        above = high[j] + v * (high[j + 1] - high[j])
        value = below + (x - xs[i]) / (xs[i + 1] - xs[i]) * (above - below)
        return value if value > 0.0 else 0.0

    def along(self, x: float, y: Floats) -> Floats:
        """`at` for one x and many y."""
        i = min(max(bisect_right(self._x, x) - 1, 0), self._last_x)
        share = (max(x, self._x[0]) - self._x[i]) / (self._x[i + 1] - self._x[i])
        low, high = np.array(self._rows[i]), np.array(self._rows[i + 1])
        row, grid = low + share * (high - low), np.array(self._y)
        y = np.maximum(y, grid[0])
        j = np.clip(np.searchsorted(grid, y, side="right") - 1, 0, self._last_y)
        values = row[j] + (y - grid[j]) / (grid[j + 1] - grid[j]) * (row[j + 1] - row[j])
        positive: Floats = np.maximum(values, 0.0)
        return positive


@dataclass(frozen=True, slots=True)
class StepTable:
    """One forward pass as a sum of independent parts. Curves and surfaces are in seconds.

    A step with prefill: everything but attention over all tokens (`shared`), logits over one row per sequence
    (`rows`), attention of prefill (`context`: tokens × tokens attended to) and of decode (`decode`: requests ×
    context). A decode step: `alone`, its kernels without attention, and `decode`.
    """

    key: TableKey
    version: str
    """Source of the numbers, and what substitutes for wrong or missing measurements."""
    memory: Memory
    shared: Curve
    rows: Curve
    alone: Curve
    context: Surface
    decode: Surface
    double_counted_s: float = 0.0
    """Counted in both `context` and `decode` where attention kernels include the projections (MLA), whose
    weights a mixed step reads once."""

    def step_s(
        self,
        prefill_tokens: int,
        prefill_attended: float,
        decodes: int,
        decode_context: float,
    ) -> float:
        """One forward pass in seconds, of one data-parallel rank (all ranks alike).

        prefill_tokens: prompt tokens computed in this step; prefill_attended: mean number of tokens that each
        of them attends to (a fresh prompt of s tokens: s/2; a chunk of c tokens after p cached ones: p + c/2);
        decodes: requests that decode one token each; decode_context: their mean context in tokens.
        """
        if prefill_tokens <= 0:
            if decodes <= 0:
                return 0.0
            return self.alone.at(decodes) + self.decode.at(decodes, decode_context)
        prompts = prefill_tokens / (2.0 * prefill_attended) if prefill_attended > 0.0 else 1.0
        seconds = (
            self.shared.at(prefill_tokens + decodes)
            + self.rows.at(decodes + (prompts if prompts > 1.0 else 1.0))
            + self.context.at(prefill_tokens, prefill_attended)
        )
        if decodes > 0:
            more = self.decode.at(decodes, decode_context) - self.double_counted_s
            if more > 0.0:
                seconds += more
        return seconds

    def decode_steps_s(self, decodes: int, contexts: Floats) -> Floats:
        """Seconds of decode steps, one for each mean context."""
        return self.alone.at(decodes) + self.decode.along(decodes, contexts)
