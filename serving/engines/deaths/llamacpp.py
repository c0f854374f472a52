"""How llama.cpp's server dies."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS
from serving.errors import BadFlags, EngineExited, OutOfMemory, PortTaken, WeightsMissing

MEMORY = (
    "Lower ctx_size or parallel, or use smaller cache types: the buffer does not fit into memory."
)
BROKEN = "Check the file at model.source: it is no GGUF model that this version reads."

LLAMACPP = DeathTable(
    deaths=(
        Death(
            r"couldn't bind HTTP server socket",
            PortTaken,
            "Stop the process that holds the port, or leave --port out of extra_args.",
            "tools/server, run",
            "xllamacpp 2026.10.11549",
            phase="start",
        ),
        Death(
            r"failed to allocate|unable to allocate|out of memory",
            *(OutOfMemory, MEMORY, "ggml-backend, run", "xllamacpp 2026.10.11549"),
        ),
        Death(
            r"failed to open GGUF file .*No such file or directory",
            WeightsMissing,
            "Put the GGUF file at model.source on this node: there is none at that path.",
            "gguf, run",
            "xllamacpp 2026.10.11549",
            phase="load",
        ),
        Death(
            r"error: (invalid|unknown) argument|error while handling argument",
            *(BadFlags, FLAGS, "common/arg.cpp, run", "xllamacpp 2026.10.11549"),
            phase="start",
        ),
        Death(
            r"quantized V cache requires flash_attn",
            BadFlags,
            "Set flash_attn to on, or cache_type_v to f16: a quantized V cache needs flash attention.",
            "llama-context, run",
            "xllamacpp 2026.10.11549",
            phase="load",
        ),
        Death(
            r"failed to load model|failed to open GGUF|unable to load model",
            *(EngineExited, BROKEN, "llama-model, run", "xllamacpp 2026.10.11549"),
            phase="load",
        ),
        Death(
            r"failed to create context",
            *(EngineExited, MEMORY, "common, run", "xllamacpp 2026.10.11549"),
            phase="load",
        ),
    ),
    phases=(
        (r"loading model", "load"),
        (r"warming up the model", "warm-up"),
        (r"listening on", "under load"),
    ),
    remedies={OutOfMemory: {"": MEMORY}},
)
