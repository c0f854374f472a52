"""Whether a trial's model can fit its GPUs, before one is taken."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from loadgen.workload.workload import longest_tokens
from serving.engines import Engine
from serving.gpu.memory.architecture import Architecture, architecture
from serving.gpu.memory.config_file import config_file
from serving.gpu.memory.estimate import GIB, Need, Split, can_hold, needed
from serving.gpu.memory.precision import BF16, WeightBytes, kv_bytes, weight_bytes
from serving.install import models
from serving.topology import Topology
from serving.twin.api import MODELS, WEIGHT_BYTES
from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig

FRACTION = 0.95  # of the memory of a GPU, where the knob is unset: no engine's default is higher


class ModelTooLarge(ConfigError):
    """The GPUs of a layout can't hold the model."""


def memory_problem(trial: TrialConfig) -> str:
    """Why the model can't fit the GPUs of its layout; empty where it may, or where too little is known."""
    memory = trial.hardware.gib_per_device
    if memory is None or not trial.topology.gpus or trial.hardware.twin is not None:
        return ""
    fraction, knob = fraction_of(trial.engine), trial.engine.memory_knob
    share = f", of which the engine may use {fraction:.0%} at most ({knob})" if knob else ""
    for role, layout, _ in trial.pools:
        need, gpus = need_of(trial, layout), layout.gpus
        if need is not None and not can_hold(need, memory.value * GIB, fraction):
            of = f" of a {role} engine" if role else ""
            return (
                f"topology: {trial.model.source} needs at least {need} on {gpus} "
                f"GPU{'s'[: gpus > 1]}{of}; a GPU of {trial.hardware.name} has {memory.value:g} GiB{share}"
            )
    return ""


def fraction_of(engine: Engine) -> float:
    """The share of a GPU's memory that weights and KV cache may take."""
    value = getattr(engine, engine.memory_knob, None) if engine.memory_knob else 1.0
    return FRACTION if value is None else float(value)


def need_of(trial: TrialConfig, layout: Topology) -> Need | None:
    """The least memory of a GPU of an engine laid out so. None where architecture or precision is not known."""
    engine, longest = trial.engine, longest_tokens(trial.workload)
    dtype, quantization = (_text(engine, name) for name in ("dtype", "quantization"))
    found = _model(
        trial.model.source, trial.model.revision, engine.model_format, dtype, quantization
    )
    if found is None:
        return None
    model, weights = found
    steps = (k for k, meaning in engine.meanings.items() if meaning == "step_tokens")
    step_tokens = getattr(engine, next(steps, ""), None) or 0
    return needed(
        model,
        weights,
        split_of(layout, model),
        kv_value_bytes=kv_bytes(_text(engine, "kv_cache_dtype"), BF16),
        request_tokens=0 if longest is None else sum(longest),
        step_tokens=max(0, step_tokens),
    )


def split_of(topology: Topology, model: Architecture) -> Split:
    """The widest that any framework divides each part: experts over all GPUs, attention over a replica's."""
    tensor, all_of_stage = (
        topology.tensor_parallel,
        topology.tensor_parallel * topology.data_parallel,
    )
    dense = all_of_stage if model.experts else tensor
    return Split(tensor, dense, all_of_stage, topology.pipeline_parallel)


def _text(engine: Engine, knob: str) -> str | None:
    value = getattr(engine, knob, None)
    return value if isinstance(value, str) else None


def forget_models() -> None:
    """Reads the config.json of models anew: some may have arrived."""
    _model.cache_clear()


@cache
def _model(
    source: str, revision: str | None, kind: Any, dtype: str | None, quantization: str | None
) -> tuple[Architecture, WeightBytes] | None:
    located = models.locate_or_name(source, kind)
    config = config_file(located, revision)
    if config is not None:
        shape, sizes = (
            architecture(config),
            weight_bytes(config, dtype=dtype, quantization=quantization),
        )
        return None if shape is None or sizes is None else (shape, sizes)
    return None if Path(located).exists() else _listed(source, quantization)


def _listed(source: str, quantization: str | None) -> tuple[Architecture, WeightBytes] | None:
    """Of a checkpoint whose config.json is not here: from the catalog, as if all weights were split widest."""
    listed = {
        hub.lower(): (facts, how)
        for facts in MODELS.values()
        for hub, how in facts.checkpoints.items()
    }
    if quantization is not None or source.lower() not in listed:
        return None
    facts, precision = listed[source.lower()]
    held = WEIGHT_BYTES[precision]
    parts: Mapping[str, int] = {
        "experts": int(facts.parameters) if facts.moe else 0,
        "dense": 0 if facts.moe else int(facts.parameters),
    }
    model = Architecture(
        layers=facts.layers,
        hidden=facts.hidden,
        intermediate=0,
        attention=0,
        embeddings=0,
        kv_values=facts.kv_values_per_token // facts.layers,
        kv_heads=2**16,
        **parts,
    )
    return model, WeightBytes(held, held, held)
