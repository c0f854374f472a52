"""Landscapes to replay searches on: every configuration of one 8-GPU node with its true values.

Computed by the twin's closed form, so smooth and without noise (`replay` adds that); one trial is one row.
Built once and kept in the user's cache.
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.twin.api import (
    MODELS,
    WEIGHT_BYTES,
    Library,
    Setup,
    TableKey,
    predict_curve,
    resolve_model,
)
from serving.twin.closed_form import steady, step_timing
from serving.twin.config import TwinConfig
from serving.twin.engine import assemble as assembling
from serving.twin.engine import engine, host, power
from serving.twin.engine.assemble import assemble
from serving.twin.errors import (
    DeviceMemoryExhausted,
    DoesNotFit,
    NoClosedForm,
    NoTable,
    TwinOutOfMemory,
)
from serving.twin.tables import catalog, library, steptime
from tuner.config.groups.space import Point, Scalar, Space
from tuner.search.space import SearchSpace

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SYSTEM, NODE_GPUS = "b300_sxm", 8
ENGINES = ("vllm", "sglang", "trtllm")
LOADS = tuple(2**i for i in range(2, 13))  # users of the whole node
TTFT_LIMIT_S = 5.0
STEP_TOKENS, SEQUENCES, FRACTIONS = (
    (2048, 4096, 8192, 16384),
    (32, 64, 128, 256, 512, 1024),
    (0.8, 0.9),
)
START_S, LOAD_BYTES_S = 120.0, 5e9  # of an engine; of its weights, from a local disk
WRONG = ("vllm", "fp8_block")  # its rows in the tables stand in for wrong measurements


@dataclass(frozen=True, slots=True)
class Spec:
    """A model under one load. `tuning`: settings were chosen by it; `held_back`: looked at last."""

    model: str
    isl: int
    osl: int
    tuning: bool = field(default=False, repr=False)  # what is said of it, not what it is made of
    held_back: bool = field(default=False, repr=False)


_LENGTHS = (("1k", 1024), ("8k", 8192))
_NAMES = {
    "llama70b": "llama-3.1-70b",
    "qwen32b": "qwen3-32b",
    "dsr1": "deepseek-r1",
    "gptoss": "gpt-oss-120b",
    "qwen235b": "qwen3-235b-a22b",
    "minimax": "minimax-m2.5",
}
TUNING = ("llama70b-1k", "llama70b-8k", "dsr1-1k", "gptoss-1k")
SPECS: Mapping[str, Spec] = {
    f"{short}-{said}": Spec(
        model,
        isl,
        1024,
        tuning=f"{short}-{said}" in TUNING,
        held_back=short in ("qwen235b", "minimax"),
    )
    for short, model in _NAMES.items()
    for said, isl in _LENGTHS
}


@dataclass(frozen=True, eq=False)
class Landscape:
    """n configurations under m loads; arrays of rates are (n, m), NaN where there is no figure.

    `thr`: output tok/s/GPU; `itv`: tok/s/user; `ok`: no user waits in a queue; `dead`: no server ever stands,
    and `why` says so. `gpus` of one replica, which is all that a trial takes; `start_s`: until it serves.
    """

    name: str
    space: SearchSpace
    points: tuple[Point, ...]
    loads: Floats
    thr: Floats
    itv: Floats
    ttft_s: Floats
    ok: Bools
    dead: Bools
    why: tuple[str, ...]
    gpus: Floats
    start_s: Floats

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def counted(self) -> Bools:
        """(n, m): served without a queue, and the first token soon enough."""
        return self.ok & (np.nan_to_num(self.ttft_s, nan=np.inf) < TTFT_LIMIT_S)

    @cached_property
    def full(self) -> float:
        """The hypervolume of all of it."""
        return hypervolume(self.curves(range(len(self))))

    def curves(self, rows: Iterable[int]) -> Floats:
        """(k, 2): tok/s/user and tok/s/GPU of the counted points of these configurations."""
        chosen = np.fromiter(rows, dtype=int)
        keep = self.counted[chosen]
        return np.stack([self.itv[chosen][keep], self.thr[chosen][keep]], axis=1)

    @cached_property
    def _index(self) -> Mapping[frozenset[tuple[str, Scalar]], int]:
        return {frozenset(point.items()): i for i, point in enumerate(self.points)}

    def index_of(self, point: Point) -> int | None:
        """Which configuration it is; None if it is none."""
        return self._index.get(frozenset(point.items()))

    def column(self, path: str) -> NDArray[np.object_]:
        """(n,): what each configuration has there, None where it has nothing."""
        return np.array([point.get(path) for point in self.points], dtype=object)


def hypervolume(points: Floats) -> float:
    """Of (k, 2) points to be large in both, from (0, 0): the area that some point is beyond."""
    area = best = 0.0
    for x, y in points[np.argsort(-points[:, 0], kind="stable")]:
        if y > best:
            area += float(x) * (float(y) - best)
            best = float(y)
    return area


def space_of(spec: Spec) -> Space:
    """What may be varied, in the product's words."""
    facts = MODELS[spec.model]
    keys = Library.shipped().find(SYSTEM, model=spec.model)
    weights = sorted({key.weights for key in keys})
    sizes = {"type": "categorical", "choices": (1, 2, 4, 8)}
    parameters: dict[str, object] = {"topology.tensor_parallel": sizes}
    constraints: dict[str, object] = {}
    if facts.moe:
        parameters["topology.data_parallel"] = sizes
        parameters["topology.expert_parallel"] = {"type": "bool"}
        whole = {"left": "topology.tensor_parallel", "left_times": ("topology.data_parallel",)}
        constraints["fits_node"] = {
            **whole,
            "op": "<=",
            "right": NODE_GPUS,
            "reason": "the engine would not fit one node",
        }
        constraints["experts_spread"] = {
            **whole,
            "op": ">",
            "right": 1,
            "when": {"topology.expert_parallel": True},
            "reason": "experts of one GPU have nowhere to spread",
        }
    if len(weights) > 1:
        parameters["model.weights"] = {"type": "categorical", "choices": weights}
    if WRONG[1] in weights:
        constraints["not_measured"] = {
            "left": 0,
            "op": "==",
            "right": 1,
            "when": {"engine": WRONG[0], "model.weights": WRONG[1]},
            "reason": "there are no measurements of this precision",
        }
    for path, choices in (
        ("knobs.kv", ("bf16", "fp8")),
        ("knobs.step_tokens", STEP_TOKENS),
        ("knobs.max_num_seqs", SEQUENCES),
        ("knobs.memory_fraction", FRACTIONS),
    ):
        parameters[path] = {"type": "categorical", "choices": choices}
    return Space.model_validate({"parameters": parameters, "constraints": constraints})


def setup_of(spec: Spec, point: Point) -> Setup:
    """The flags of a point as the frameworks take them, for one data-parallel rank."""
    facts = MODELS[spec.model]
    weights = str(point.get("model.weights", facts.precisions[0]))
    named = [hub for hub, holds in facts.checkpoints.items() if holds == weights]
    plain = [hub for hub, holds in facts.checkpoints.items() if holds == "bf16"]
    tensor = int(point["topology.tensor_parallel"])
    data = int(point.get("topology.data_parallel", 1))
    framework = str(point["engine"])
    shared = data if framework == "sglang" else 1  # its limits are those of all ranks together
    manner: dict[str, object] = {
        "vllm": {"block_tokens": 16},
        "sglang": {
            "mixed": False,
            "reserve": "estimate",
            "conservativeness": 0.3 if data > 1 else 1.0,
            "block_tokens": 64,
        },
        "trtllm": {"reserve": "all", "block_tokens": 32},
    }[framework]
    return Setup(
        framework=framework,  # type: ignore[arg-type]
        model=(named or plain)[0],
        served_model="",
        host="",
        port=0,
        context_tokens=spec.isl + spec.osl + 20,
        weights="auto" if named else weights,
        kv=str(point["knobs.kv"]),
        tensor=tensor,
        data=data,
        expert=tensor * data if point.get("topology.expert_parallel") else 1,
        lockstep=data > 1,
        max_sequences=max(1, int(point["knobs.max_num_seqs"]) // shared),
        step_tokens=int(point["knobs.step_tokens"]) // shared,
        memory_fraction=float(point["knobs.memory_fraction"]),
        prefix_caching=False,
        **manner,  # type: ignore[arg-type]
    )


def landscape(name: str) -> Landscape:
    """Of `SPECS`, from the cache if it is there."""
    spec = SPECS[name]
    path = cache_folder() / f"{name}-{_digest(spec)}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.stem}.{os.getpid()}.npz")
        np.savez_compressed(beside, **built(spec))
        beside.replace(path)
    space = SearchSpace(space_of(spec), ENGINES)
    with np.load(path, allow_pickle=False) as kept:
        arrays = {key: kept[key] for key in kept.files}
    why = tuple(arrays.pop("why").tolist())
    points = tuple(space.enumerate_points())
    return Landscape(name, space, points, np.array(LOADS, float), why=why, **arrays)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "wattfront-search"


def _digest(spec: Spec) -> str:
    """Of all that a landscape is made of."""
    versions = [Library.shipped().version(SYSTEM, name) for name in ENGINES]
    grid = STEP_TOKENS, SEQUENCES, FRACTIONS, LOADS, START_S, LOAD_BYTES_S, WRONG
    return hashlib.sha256((repr((spec, versions, grid)) + _CODE).encode()).hexdigest()[:12]


def built(spec: Spec) -> dict[str, NDArray[np.generic]]:
    space = SearchSpace(space_of(spec), ENGINES)
    rows = [row_of(spec, point) for point in space.enumerate_points()]
    names = ("thr", "itv", "ttft_s", "ok", "dead", "why", "gpus", "start_s")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


Row = tuple[Floats, Floats, Floats, Bools, bool, str, float, float]


def row_of(spec: Spec, point: Point) -> Row:
    setup = setup_of(spec, point)
    replicas = NODE_GPUS // setup.gpus
    users = [load / replicas for load in LOADS]
    start_s = START_S + _weight_bytes(spec, setup) / LOAD_BYTES_S
    try:
        if absent := _not_measured(_key(spec, setup)):
            raise NoTable(absent)
        stood = assemble(setup, TwinConfig(system=SYSTEM), Library.shipped())
        curve = predict_curve(stood, spec.isl, spec.osl, [max(1.0, each) for each in users])
    except (TwinOutOfMemory, DeviceMemoryExhausted, NoTable, NoClosedForm) as error:
        nothing = np.full(len(LOADS), np.nan)
        why = f"{type(error).__name__}: {error}"
        none = np.zeros(len(LOADS), bool)
        return nothing, nothing, nothing, none, True, why, setup.gpus, start_s
    # Fewer users than replicas: some of these have nothing to do.
    thr = curve.output_tok_s_gpu * np.minimum(1.0, users)
    return thr, 1 / curve.tpot_s, curve.ttft_s, ~curve.queued, False, "", setup.gpus, start_s


@cache
def _not_measured(key: TableKey) -> str:
    """Once a table, not once a configuration: the library looks for the nearest ones, which takes long."""
    try:
        Library.shipped().memory(key)
    except DoesNotFit:
        return ""
    except NoTable as error:
        return str(error).partition("; nearest:")[0]
    return ""


def _key(spec: Spec, setup: Setup) -> TableKey:
    layout = (setup.tensor, setup.data, setup.expert)
    _, weights = resolve_model(setup)
    return TableKey(SYSTEM, setup.framework, spec.model, weights, setup.kv, *layout)


def _weight_bytes(spec: Spec, setup: Setup) -> float:
    """Of one GPU, roughly: a server that dies has read them too."""
    return MODELS[spec.model].parameters * WEIGHT_BYTES[resolve_model(setup)[1]] / setup.gpus


# As it was imported: a file may change while a process runs.
_MODULES = (assembling, catalog, engine, library, steady, step_timing, power, steptime, host)
_CODE = "".join(map(inspect.getsource, (*_MODULES, space_of, setup_of, row_of)))
