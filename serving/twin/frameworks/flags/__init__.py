"""An engine's command line, read as its framework would read it: `read(argv)`, `parse(argv)`.

Defaults are those of vLLM 0.24, SGLang 0.5.14 and TensorRT-LLM 1.3.0rc20 on large GPUs, or of a neighbouring
version, which the parser then names.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

from serving.twin.errors import FlagError
from serving.twin.frameworks.flags import sglang, trtllm, vllm
from serving.twin.frameworks.flags.base import B300_BYTES, ParsedCommand
from serving.twin.setup import Framework, Setup

__all__ = ["PARSERS", "ParsedCommand", "framework_of", "parse", "read"]

Reader = Callable[[Sequence[str], float], ParsedCommand]
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
    """The framework of a command line, and its flags. Raises FlagError."""
    command = PurePath(argv[0]).name if argv else ""
    if command.startswith("python") and len(argv) > 2 and argv[1] == "-m" and argv[2] in MODULES:
        return MODULES[argv[2]], list(argv[3:])
    if command not in COMMANDS:
        known = ", ".join(f"{each} serve …" for each in COMMANDS)
        raise FlagError(f"{command or 'an empty command line'} is not one of: {known}")
    rest = list(argv[1:])
    if rest[:1] == ["serve"]:
        return COMMANDS[command], rest[1:]
    if command == "trtllm-serve":
        return COMMANDS[command], rest
    raise FlagError(f"{command}: only serve is emulated, not: {' '.join(rest) or 'no command'}")


def read(argv: Sequence[str], memory_bytes: float = B300_BYTES) -> ParsedCommand:
    """The whole command line. `memory_bytes`: of one GPU; some defaults depend on it.

    Raises EngineExit with the framework's own error, and FlagError if it is no framework's command line.
    """
    framework, flags = framework_of(argv)
    return PARSERS[framework](flags, memory_bytes)


def parse(argv: Sequence[str], memory_bytes: float = B300_BYTES) -> Setup:
    """The settings of a command line. Raises as `read` does."""
    return read(argv, memory_bytes).setup
