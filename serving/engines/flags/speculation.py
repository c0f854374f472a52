"""Speculative decoding under the same knobs in all frameworks: the method, and how many tokens are drafted."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serving.engines.flags.structured import Structured

Words = dict[str, str | int | None]

# Our method, which is vLLM's of 0.32 and 0.33 → the name of SGLang 0.5.22 and 0.5.23, and TensorRT-LLM's
# `decoding_type` of 1.2.1 and 1.3.
SGLANG = {
    "mtp": "EAGLE",  # without a model that drafts it takes the layers of the model itself
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "draft_model": "STANDALONE",
    "ngram": "NGRAM",
}
TRTLLM = {
    "mtp": "MTP",
    "eagle3": "Eagle",
    "draft_model": "DraftTarget",
    "ngram": "NGram",
}
METHODS = (
    "what drafts tokens: mtp: the model's own layers for it; eagle, eagle3, draft_model: the model at `model`; "
    "ngram: earlier text; none: no speculative decoding"
)
DRAFTED = ("eagle", "eagle3", "draft_model")  # these need a model that drafts


class Speculation(Structured):
    """Which tokens are drafted ahead, and how many at a time. Each framework has its own methods."""

    # Which drafts are accepted depends on the model that is served alone.
    same_numerics: ClassVar[frozenset[str]] = frozenset({"depth", "model"})

    method: str = "none"
    depth: int = Field(
        default=1, ge=1, le=64, description="tokens that are drafted ahead in each step"
    )
    model: str | None = Field(
        default=None, description="Hugging Face id or path of the model that drafts"
    )

    @model_validator(mode="after")
    def _has_its_model(self) -> "Speculation":
        if self.method in DRAFTED and self.model is None:
            raise ValueError(f"method {self.method} needs `model`, the model that drafts")
        return self

    @property
    def active(self) -> bool:
        """Whether anything is drafted."""
        return self.method != "none"

    def canonical(self) -> Self | None:
        """None where nothing is drafted."""
        return self if self.active else None


class VllmSpeculation(Speculation):
    """vLLM's."""

    method: Literal["none", "mtp", "eagle", "eagle3", "draft_model", "ngram"] = Field(
        default="none", description=METHODS
    )


class SgLangSpeculation(Speculation):
    """SGLang's."""

    method: Literal["none", "mtp", "eagle", "eagle3", "draft_model", "ngram"] = Field(
        default="none", description=METHODS
    )


class TrtLlmSpeculation(Speculation):
    """TensorRT-LLM's."""

    method: Literal["none", "mtp", "eagle3", "draft_model", "ngram"] = Field(
        default="none", description=METHODS
    )


def vllm(speculation: Speculation) -> str:
    """The value of --speculative-config."""
    found: dict[str, Any] = {
        "method": speculation.method,
        "num_speculative_tokens": speculation.depth,
    }
    if speculation.model is not None:
        found["model"] = speculation.model
    return json.dumps(found)


def sglang(speculation: Speculation) -> Words:
    """A chain of drafts: one branch, verified together with the token before it."""
    chain: Words = {}
    if speculation.method != "ngram":
        chain = {"--speculative-num-steps": speculation.depth, "--speculative-eagle-topk": 1}
    return {
        "--speculative-algorithm": SGLANG[speculation.method],
        **chain,
        "--speculative-num-draft-tokens": speculation.depth + 1,
        "--speculative-draft-model-path": speculation.model,
    }


def trtllm(speculation: Speculation) -> Mapping[str, Any]:
    """The YAML's `speculative_config`."""
    found: dict[str, Any] = {"decoding_type": TRTLLM[speculation.method]}
    if speculation.method == "mtp":
        return {**found, "num_nextn_predict_layers": speculation.depth}
    found["max_draft_len"] = speculation.depth
    if speculation.model is not None:
        found["speculative_model_dir"] = speculation.model
    return found
