"""What each framework prints and answers: its log, HTTP pages and error messages."""

from serving.twin.frameworks.dialects.base import Dialect, EngineCounters, EngineInfo, Page
from serving.twin.frameworks.dialects.sglang import SgLangDialect
from serving.twin.frameworks.dialects.trtllm import TrtLlmDialect
from serving.twin.frameworks.dialects.vllm import VllmDialect
from serving.twin.setup import Framework

__all__ = ["DIALECTS", "Dialect", "EngineCounters", "EngineInfo", "Page"]

DIALECTS: dict[Framework, Dialect] = {
    "vllm": VllmDialect(),
    "sglang": SgLangDialect(),
    "trtllm": TrtLlmDialect(),
}
