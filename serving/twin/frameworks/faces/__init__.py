"""How each framework shows itself: its log, its pages, its last words."""

from serving.twin.frameworks.faces.base import Counts, Face, Facts, Page
from serving.twin.frameworks.faces.sglang import SgLangFace
from serving.twin.frameworks.faces.trtllm import TrtLlmFace
from serving.twin.frameworks.faces.vllm import VllmFace
from serving.twin.setup import Framework

__all__ = ["FACES", "Counts", "Face", "Facts", "Page"]

FACES: dict[Framework, Face] = {
    "vllm": VllmFace(),
    "sglang": SgLangFace(),
    "trtllm": TrtLlmFace(),
}
