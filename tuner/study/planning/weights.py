"""How large a model is: from the catalog, its files, or its name."""

import re
from pathlib import Path

from serving.engines import Engine
from serving.install import models
from serving.topology import Model
from serving.twin.api import MODELS, WEIGHT_BYTES, ModelFacts

FILES = ("*.safetensors", "*.gguf", "*.bin")
_SIZE = re.compile(r"(?<![a-z0-9.])(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])")
_PRECISIONS = (  # in the name of a checkpoint → as the catalog calls it
    (re.compile(r"nvfp4|fp4"), "nvfp4"),
    (re.compile(r"int4|awq|gptq|q4|w4a16"), "int4"),
    (re.compile(r"fp8|int8|w8a8|q8"), "fp8"),
)


def weights_bytes(model: Model, engine: Engine) -> float | None:
    """Bytes of the checkpoint that an engine loads; None where nothing tells."""
    if (facts := listed_facts(model.source)) is not None:
        precision = next(
            precision
            for hub_id, precision in facts.checkpoints.items()
            if hub_id.lower() == model.source.lower()
        )
        return facts.parameters * WEIGHT_BYTES[precision]
    located = Path(models.locate_or_name(model.source, engine.model_format))
    if (found := _size_of(located)) is not None:
        return found
    parameters = parameters_of(model)
    return None if parameters is None else parameters * WEIGHT_BYTES[precision_named(model.source)]


def listed_facts(source: str) -> ModelFacts | None:
    """The architecture of a checkpoint that the twin's catalog lists."""
    wanted = source.lower()
    return next(
        (
            facts
            for facts in MODELS.values()
            if any(hub_id.lower() == wanted for hub_id in facts.checkpoints)
        ),
        None,
    )


def parameters_of(model: Model) -> float | None:
    """Parameters, as the name of the checkpoint or of the model states them."""
    return parameters_named(model.source) or parameters_named(model.name)


def parameters_named(name: str) -> float | None:
    """The number of parameters that the name of a model states: 70B, 0.5B, 135M; the largest of several."""
    found = [
        float(size) * (1e9 if unit == "b" else 1e6)
        for size, unit in _SIZE.findall(name.lower().replace("_", "-"))
    ]
    return max(found, default=None)


def precision_named(name: str) -> str:
    """The precision of the weights that the name of a checkpoint states; bf16 where it states none."""
    low = name.lower()
    return next((precision for pattern, precision in _PRECISIONS if pattern.search(low)), "bf16")


def _size_of(path: Path) -> float | None:
    try:
        if path.is_file():
            return float(path.stat().st_size)
        found = [each.stat().st_size for kind in FILES for each in path.glob(kind)]
    except (OSError, ValueError):
        return None
    return float(sum(found)) if found else None
