"""A framework's command line, read as the framework would read it: `read(argv)`, `parse(argv)`.

Defaults are those of vLLM 0.24, SGLang 0.5.14 and TensorRT-LLM 1.3.0rc20 on large GPUs. Where that
very version could not be read, a neighbouring one was: the parsers say where.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

from serving.twin.frameworks.flags import sglang, trtllm, vllm
from serving.twin.frameworks.flags.base import B300_BYTES, Parsed, Refused
from serving.twin.setup import FlagError, Framework, Setup

__all__ = ["PARSERS", "Parsed", "Refused", "framework_of", "parse", "read"]

Reader = Callable[[Sequence[str], float], Parsed]
PARSERS: dict[Framework, Reader] = {
    "vllm": vllm.read,
    "sglang": sglang.read,
    "trtllm": trtllm.read,
}
MODULES: dict[str, Framework] = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "sglang.launch_server": "sglang",
    "tensorrt_llm.commands.serve": "trtllm",
}
COMMANDS: dict[str, Framework] = {"vllm": "vllm", "sglang": "sglang", "trtllm-serve": "trtllm"}


def framework_of(argv: Sequence[str]) -> tuple[Framework, list[str]]:
    """Whose command line it is, and its flags. Raises FlagError."""
    command = PurePath(argv[0]).name if argv else ""
    if command.startswith("python") and len(argv) > 2 and argv[1] == "-m" and argv[2] in MODULES:
        return MODULES[argv[2]], list(argv[3:])
    if command not in COMMANDS:
        known = ", ".join(f"{each} serve …" for each in COMMANDS)
        raise FlagError(f"{command or 'an empty command line'} is none of: {known}")
    rest = list(argv[1:])
    if rest[:1] == ["serve"]:
        return COMMANDS[command], rest[1:]
    if command == "trtllm-serve":
        return COMMANDS[command], rest
    raise FlagError(f"{command} can only be told to serve, not: {' '.join(rest) or 'nothing'}")


def read(argv: Sequence[str], memory_bytes: float = B300_BYTES) -> Parsed:
    """`memory_bytes`: of one GPU; some defaults depend on it. Raises FlagError, Refused among them."""
    framework, flags = framework_of(argv)
    return PARSERS[framework](flags, memory_bytes)


def parse(argv: Sequence[str], memory_bytes: float = B300_BYTES) -> Setup:
    return read(argv, memory_bytes).setup
