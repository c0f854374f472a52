"""What the figures of an emulated engine rest on besides its step times, in one line each."""

from collections.abc import Iterator

from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import resolve_model
from serving.twin.setup import Setup

BLACKWELL = ("b300_sxm", "b200_sxm")
LATENT_ATTENTION = ("deepseek-r1", "kimi-k2.5", "glm-5")
# docs/twin.md, "Errors": host overhead fitted to other models, and pairs on equally many GPUs.
ACCURACY = {
    "b300_sxm": (12, 15, 13, 82),
    "b200_sxm": (13, 24, 13, 81),
    "h200_sxm": (7, 19, 8, 83),
}


def assumptions(setup: Setup, config: TwinConfig, *, split: bool = False) -> list[str]:
    """What the twin takes for granted of this engine. `split`: prefill and decode engines are apart."""
    return [*_drafts(setup, config), *_unchecked(setup, config, split=split)]


def known_wrong(setup: Setup, config: TwinConfig) -> list[str]:
    """Measured step times of this engine that are known to be wrong. Raises FlagError."""
    facts, weights = resolve_model(setup)
    latent = facts.key in LATENT_ATTENTION
    found = []
    if setup.framework == "vllm" and weights == "fp8_block":
        rest = ", and not in the attention" if latent else ""
        found.append(
            f"vLLM's rows for block-scaled FP8 ({facts.key}) are 2 to 10 times too slow at small batches; "
            f"plain FP8 replaces them in the GEMMs{rest}"
        )
    if setup.framework == "vllm" and latent and config.system in BLACKWELL:
        found.append(
            f"vLLM's rows for the attention of {facts.key} (MLA) are launch-bound, twice SGLang's: "
            "vLLM comes out up to 40 % too slow"
        )
    return found


def accuracy(system: str) -> str:
    """How far the twin is off on a system, and how often it is right about which configuration is better."""
    tpot, ttft, throughput, ordered = ACCURACY[system]
    return (
        f"median error against measured runs on {system}: TPOT {tpot} %, TTFT {ttft} %, "
        f"throughput {throughput} %; of two configurations on equally many GPUs {ordered} % are ordered "
        "rightly (docs/twin.md)"
    )


def _drafts(setup: Setup, config: TwinConfig) -> Iterator[str]:
    if setup.draft_tokens:
        yield (
            f"speculative decoding: each of {setup.draft_tokens} draft tokens is accepted with probability "
            f"{config.acceptance:g}, which is assumed (hardware.twin.acceptance)"
        )


def _unchecked(setup: Setup, config: TwinConfig, *, split: bool) -> Iterator[str]:
    if setup.framework == "trtllm" and config.system == "b300_sxm":
        yield "TensorRT-LLM on b300_sxm was compared with no measured run"
    if split:
        yield "disaggregated prefill was compared with eight published points alone"
