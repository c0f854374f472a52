"""How each framework shows itself: its log, its pages, its last words."""

from serving.twin.faces.base import Counts, Face, Facts, Page
from serving.twin.faces.sglang import SgLangFace
from serving.twin.faces.trtllm import TrtLlmFace
from serving.twin.faces.vllm import VllmFace
from serving.twin.setup import Framework

__all__ = ["FACES", "Counts", "Face", "Facts", "Page"]

FACES: dict[Framework, Face] = {
    "vllm": VllmFace(),
    "sglang": SgLangFace(),
    "trtllm": TrtLlmFace(),
}
