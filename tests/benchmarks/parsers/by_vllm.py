"""vLLM's own verdict over command lines. Run by the Python of an environment that has vLLM: CASES VERDICTS,
or the names of ARCHITECTURES that it is to look at.

Its parser, then the configuration of the whole engine, with every check across flags, on a platform that says
that it is a CUDA one: the CPU build has no such check of GPU flags.
"""

import importlib
import json
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# CUDA extensions, which are no part of the CPU build.
ABSENT = (
    "vllm._C_stable_libtorch",
    "vllm.vllm_flash_attn",
    "vllm.vllm_flash_attn.flash_attn_interface",
)


class _StandIn(types.ModuleType):
    """A module whose every name is a function that says yes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: True


def main(cases: Path, verdicts: Path) -> None:
    """Writes for each case the error, or an empty text."""
    asked = json.loads(cases.read_text())
    gpu = asked["gpu"]
    # In a process of its own: on a CUDA platform the models' modules need kernels. vLLM keeps what it finds.
    subprocess.run([sys.executable, __file__, *asked["architectures"]], check=True)
    for name in ABSENT:
        sys.modules[name] = _StandIn(name)
    platforms: Any = importlib.import_module("vllm.platforms")
    capability: Any = importlib.import_module("vllm.platforms.interface").DeviceCapability
    cuda: Any = importlib.import_module("vllm.platforms.cuda")
    said = {
        "get_device_capability": lambda *_, **__: capability(*gpu["capability"]),
        "get_device_total_memory": lambda *_, **__: int(gpu["gib"] * 2**30),
        "get_device_name": lambda *_, **__: gpu["name"],
        "device_count": lambda *_, **__: 8,
        "log_warnings": lambda *_, **__: None,
    }
    methods = {name: classmethod(each) for name, each in said.items()}
    platforms._current_platform = type("Said", (cuda.NonNvmlCudaPlatform,), methods)()
    arguments: Any = importlib.import_module("vllm.engine.arg_utils")
    parser = _parser()
    usage: Any = importlib.import_module("vllm.usage.usage_lib").UsageContext.OPENAI_API_SERVER
    found = []
    for words in asked["cases"]:
        try:
            args = parser.parse_args(words)
            args.model = args.model_tag
            arguments.AsyncEngineArgs.from_cli_args(args).create_engine_config(usage)
            found.append("")
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the engine would not start)
            found.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    version = importlib.import_module("vllm.version").__version__
    verdicts.write_text(json.dumps({"version": version, "verdicts": found}))


def inspect(architectures: Sequence[str]) -> None:
    """Has vLLM look at the models' classes, of which it keeps the facts in its cache."""
    known: Any = importlib.import_module("vllm.model_executor.models.registry").ModelRegistry.models
    for architecture in architectures:
        known[architecture].inspect_model_cls()


def _parser() -> Any:
    flexible: Any = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser
    for where in ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"):
        try:
            made: Any = importlib.import_module(where).make_arg_parser
        except ModuleNotFoundError:
            continue
        return made(flexible(prog="vllm serve"))
    raise SystemExit("this vLLM has its parser elsewhere")


if __name__ == "__main__":
    if sys.argv[1].endswith(".json"):
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        inspect(sys.argv[1:])
