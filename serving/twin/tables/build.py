"""Builds the table files from the kernel database, some minutes each on one core. Needs the extra `twin`.

`python -m serving.twin.tables.build FOLDER [SYSTEM-FRAMEWORK …]`
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from serving.twin.errors import NoData
from serving.twin.setup import Framework
from serving.twin.tables import library
from serving.twin.tables.catalog import MODELS, SYSTEMS, ModelFacts
from serving.twin.tables.kernel_database import KernelTimes, QuantModes, source, version
from serving.twin.tables.library import PARTS, Floats, MissingTable, TableEntry, TableFile
from serving.twin.tables.steptime import Memory, TableKey

Progress = Callable[[str], None]
# GEMMs are sampled on each side of a tile boundary, where their time jumps; between, it is linear.
TILES = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, *range(512, 4353, 256))
EDGES = (*range(1, 18), *TILES, *(tile + 1 for tile in TILES), 384, 6144, 8192, 12288)
DOUBLING = [2**k for k in range(18)]
HALF_STEPS = sorted({*DOUBLING, *(3 * 2**k for k in range(17))})
AXES: dict[str, list[float]] = {
    "tokens": sorted({*EDGES, 16384, 24576, 32768, 65536}),
    "requests": sorted(x for x in EDGES if x <= 2049),
    "chunk": [x for x in HALF_STEPS if x <= 65536],
    "attended": [x for x in HALF_STEPS if 16 <= x <= 131072],
    "batch": [x for x in HALF_STEPS if x <= 2048],
    "past": [x for x in DOUBLING if x >= 16] + [3 * 2**k for k in range(7, 16)],
}
AXES["past"].sort()
MANTISSA_BITS = 12
"""Kept of float32's 23: a relative error of 1/8,000, and files a third smaller."""

Layout = tuple[int, int, int]
DENSE_LAYOUTS: tuple[Layout, ...] = tuple((tp, 1, 1) for tp in (1, 2, 4, 8))
_GRIDS = [(tp, dp) for tp in (1, 2, 4, 8) for dp in (1, 2, 4, 8) if tp * dp <= 8]
MOE_LAYOUTS: tuple[Layout, ...] = (
    *sorted({(tp, dp, ep) for tp, dp in _GRIDS for ep in (1, tp * dp)}),
    (4, 1, 2),
    (8, 1, 2),
    (8, 1, 4),
    (1, 4, 2),
)
TWO_NODES: dict[str, tuple[Layout, ...]] = {
    "minimax-m2.5": ((4, 4, 16),),
    "kimi-k2.5": ((4, 4, 16),),
}
"""Layouts with published end-to-end runs to compare with."""

BLOCK_NOTE = (
    "plain fp8 GEMMs stand in for block-scaled ones, whose rows for vLLM take 2 to 10 times as long as "
    "SGLang's at small batches"
)
EXPERT_NOTE = (
    "block-scaled fp8 experts stand in for plain ones, whose rows for vLLM on H200 take 3 times as "
    "long as bf16"
)
CACHE_NOTE = (
    "decode attention of a bf16 cache stands in for an fp8 one, whose rows for SGLang's MLA on H200 "
    "take 4 times as long"
)


def defect(key: TableKey) -> str:
    """Why the database's measurements for a key are wrong, with no substitute; empty if they are not."""
    on_h200 = key.system == "h200_sxm"
    if on_h200 and key.framework == "sglang" and key.model == "kimi-k2.5":
        return "the rows for its 64 heads take as long as for 128, 5 times vLLM's: left out"
    experts_apart = key.model == "qwen3.5-397b-a17b" and key.weights == "bf16" and key.expert > 1
    if on_h200 and key.framework == "trtllm" and experts_apart:
        return "with expert parallelism the rows take 5 times as long as without: left out"
    return ""


def keys(system: str, framework: str) -> Iterator[TableKey]:
    """All keys for which a table is tried."""
    for model in MODELS.values():
        layouts = MOE_LAYOUTS + TWO_NODES.get(model.key, ()) if model.moe else DENSE_LAYOUTS
        for weights in model.precisions:
            for kv in ("bf16", "fp8"):
                for layout in layouts:
                    yield TableKey(system, framework, model.key, weights, kv, *layout)


def modes(key: TableKey) -> list[QuantModes]:
    """The database's names for a precision, best first; what was measured differs by framework."""
    on_h200, note = key.system == "h200_sxm", ""
    pairs = {
        "bf16": [("bfloat16", "bfloat16")],
        "fp8": [("fp8_static", "fp8"), ("fp8", "fp8")],
        "fp8_block": [("fp8_block", "fp8_block")],
        "nvfp4": [("nvfp4", "nvfp4")],
        "mxfp4": [("bfloat16", "w4a16_mxfp4"), ("bfloat16", "w4a8_mxfp4_mxfp8")],
        "int4": [("bfloat16", "int4_wo")],
    }[key.weights]
    if key.weights == "mxfp4" and key.framework == "trtllm" and not on_h200:
        pairs.reverse()
    if key.weights == "fp8_block" and key.framework == "vllm":
        pairs, note = [("fp8", "fp8_block")], BLOCK_NOTE
    if key.weights == "fp8" and key.framework == "vllm" and on_h200 and MODELS[key.model].moe:
        pairs, note = [("fp8_static", "fp8_block")], EXPERT_NOTE
    kv = "bfloat16" if key.kv == "bf16" else "fp8"
    # vLLM computes attention in bfloat16 whatever the cache; the others where fp8 was not measured.
    attentions = ["bfloat16"] if kv == "bfloat16" else ["fp8", "bfloat16"]
    if key.framework == "vllm" and kv == "fp8":
        attentions.reverse()
    return [
        QuantModes(gemm, moe, kv, attention, note)
        for gemm, moe in pairs
        for attention in attentions
    ]


def attention_modes(key: TableKey, mode: QuantModes) -> QuantModes:
    """The modes for attention kernels with projections (MLA), whose measurements have other defects."""
    if mode.note == BLOCK_NOTE:
        return replace(mode, gemm="fp8_block")
    if (key.system, key.framework, key.kv) == ("h200_sxm", "sglang", "fp8"):
        return replace(mode, kv="bfloat16", note=CACHE_NOTE)
    return mode


def kernel_times(key: TableKey) -> tuple[KernelTimes, KernelTimes]:
    """Measurements for all kernels but attention, and for attention; often the same. Raises NoData."""
    reason = defect(key)
    for mode in () if reason else modes(key):
        try:
            times = KernelTimes(MODELS[key.model].database_id, key, mode)
            other = attention_modes(key, mode)
            if not times.fused or other == mode:
                return times, times
            return times, KernelTimes(MODELS[key.model].database_id, key, other)
        except NoData as no_data:
            reason = reason or f"no measurements: {no_data}"
    raise NoData(reason)


def double_counted_s(attention: KernelTimes) -> float:
    """Reading the weights of the attention's projections, which the parts of a mixed step count twice."""
    return attention.decode_s(1, AXES["past"][0]) if attention.fused else 0.0


class Builder:
    """Makes one file. Parts that tables share are computed and stored once."""

    def __init__(self, system: str, framework: str) -> None:
        self._system, self._framework = system, framework
        self._arrays: dict[str, list[Floats]] = {part: [] for part in PARTS}
        self._positions: dict[tuple[str, bytes], int] = {}
        self._attention: dict[tuple[object, ...], tuple[int, int]] = {}
        self._entries = list[TableEntry]()
        self._missing = list[MissingTable]()

    def add(self, key: TableKey) -> None:
        """Adds the table of a key, or the reason why there is none."""
        try:
            times, attention = kernel_times(key)
        except NoData as no_data:
            self._missing.append(MissingTable(key, str(no_data)))
            return
        memory = times.memory()
        if _fits(key, memory):
            self._entries.append(self._entry(key, times, attention, memory))
        else:
            self._missing.append(MissingTable(key, _too_large(key, memory), fits=False))

    def _entry(
        self, key: TableKey, times: KernelTimes, attention: KernelTimes, memory: Memory
    ) -> TableEntry:
        parts = (
            self._kept("shared", [times.shared_s(int(x)) for x in AXES["tokens"]]),
            self._kept("rows", [times.rows_s(int(x)) for x in AXES["requests"]]),
            self._kept("alone", [times.alone_s(int(x)) for x in AXES["requests"]]),
            *self._surfaces(key, attention),
        )
        return TableEntry(key, parts, memory, double_counted_s(attention), attention.modes.note)

    def _surfaces(self, key: TableKey, attention: KernelTimes) -> tuple[int, int]:
        """Attention is the same in all layouts with equally many heads per GPU."""
        mode = attention.modes
        same = (key.model, key.tensor, mode.kv, mode.attention, attention.fused and mode.gemm)
        if same not in self._attention:
            context = [
                [attention.context_s(int(x), y) for y in AXES["attended"]] for x in AXES["chunk"]
            ]
            decode = [[attention.decode_s(int(n), y) for y in AXES["past"]] for n in AXES["batch"]]
            self._attention[same] = self._kept("context", context), self._kept("decode", decode)
        return self._attention[same]

    def _kept(self, part: str, values: Sequence[float] | Sequence[Sequence[float]]) -> int:
        array = rounded(np.asarray(values, dtype=np.float32))
        content = (part, array.tobytes())
        if content not in self._positions:
            self._positions[content] = len(self._arrays[part])
            self._arrays[part].append(array)
        return self._positions[content]

    def file(self) -> TableFile:
        """All tables that were added."""
        return TableFile(
            system=self._system,
            framework=self._framework,
            version=f"{source()}: {self._framework} {version(self._system, self._framework)}",
            axes={name: [float(x) for x in axis] for name, axis in AXES.items()},
            arrays={part: np.stack(arrays) for part, arrays in self._arrays.items()},
            entries=tuple(self._entries),
            missing=tuple(self._missing),
        )


def rounded(values: Floats) -> Floats:
    """Rounds float32 values to MANTISSA_BITS bits, half up."""
    spare = 23 - MANTISSA_BITS
    bits = values.view(np.uint32) + np.uint32(1 << (spare - 1))
    result: Floats = (bits & np.uint32(0xFFFFFFFF << spare & 0xFFFFFFFF)).view(np.float32)
    return result


def _fits(key: TableKey, memory: Memory) -> bool:
    return memory.weights_bytes + memory.other_bytes < SYSTEMS[key.system].memory_bytes


def _too_large(key: TableKey, memory: Memory) -> str:
    weights, there = memory.weights_bytes / 2**30, SYSTEMS[key.system].memory_bytes / 2**30
    return f"weights of {weights:.0f} GiB a GPU, which has {there:.0f} GiB"


def build(system: str, framework: str, say: Progress = lambda _: None) -> TableFile:
    """All tables of one system and framework."""
    builder = Builder(system, framework)
    last: ModelFacts | None = None
    for key in keys(system, framework):
        if MODELS[key.model] is not last:
            last = MODELS[key.model]
            say(f"{system} {framework} {key.model}")
        builder.add(key)
    return builder.file()


def write(folder: Path, system: str, framework: str, say: Progress = lambda _: None) -> Path:
    """Builds and writes one file."""
    tables = build(system, framework, say)
    path = folder / tables.name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(library.encode(tables))
    say(f"{path.name}: {len(tables.entries)} tables, {len(tables.missing)} missing")
    return path


def main(arguments: Sequence[str]) -> None:
    """Writes the files that the command line names."""
    folder, *names = arguments
    wanted = names or [
        f"{system}-{framework}" for system in SYSTEMS for framework in get_args(Framework)
    ]
    for name in wanted:
        system, framework = name.split("-", 1)
        write(Path(folder), system, framework, lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
