"""Engine adapters: knobs, command line, and how a log explains a failure; one file an engine.

To add one: its file here, its name in both lists below, its YAML in conf/engine. How it dies: deaths/.
"""

from typing import Annotated

from pydantic import Field

from serving.engines.base import BaseEngine, Launch
from serving.engines.external import External
from serving.engines.llamacpp import LlamaCpp
from serving.engines.nim import Nim
from serving.engines.sglang import SgLang
from serving.engines.trtllm import TrtLlm
from serving.engines.vllm import Vllm

Engine = Annotated[External | LlamaCpp | Nim | SgLang | TrtLlm | Vllm, Field(discriminator="kind")]

ENGINES: dict[str, type[BaseEngine]] = {
    "external": External,
    "llamacpp": LlamaCpp,
    "nim": Nim,
    "sglang": SgLang,
    "trtllm": TrtLlm,
    "vllm": Vllm,
}

__all__ = [
    "ENGINES",
    "BaseEngine",
    "Engine",
    "External",
    "Launch",
    "LlamaCpp",
    "Nim",
    "SgLang",
    "TrtLlm",
    "Vllm",
]
