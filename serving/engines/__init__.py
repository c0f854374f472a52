"""The engines. To add one: its file here, its name in `ENGINES`, a YAML in conf/engine and one in conf/space."""

from typing import Annotated

from pydantic import Field

from serving.engines.base import BaseEngine, Launch
from serving.engines.external import External
from serving.engines.llamacpp import LlamaCpp
from serving.engines.vllm import Vllm

Engine = Annotated[External | LlamaCpp | Vllm, Field(discriminator="kind")]

ENGINES: dict[str, type[BaseEngine]] = {
    "external": External,
    "llamacpp": LlamaCpp,
    "vllm": Vllm,
}

__all__ = ["ENGINES", "BaseEngine", "Engine", "External", "Launch", "LlamaCpp", "Vllm"]
