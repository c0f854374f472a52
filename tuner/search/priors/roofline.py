"""What the hardware's limits alone say of a configuration: memory bandwidth and arithmetic, nothing else. Pure.

A step reads the weights that it touches and the cache of all its requests, and computes each token; it takes
as long as the slower of both (Williams, Waterman and Patterson, Roofline, 2009). Absolute figures are far too
good; which of two configurations is the faster one it tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.twin.engine.assemble import PEAK
from serving.twin.tables.catalog import WEIGHT_BYTES, ModelFacts, SystemFacts


@dataclass(frozen=True, slots=True)
class Laid:
    """A model on GPUs: precision of weights and cache, and how many GPUs share it."""

    model: ModelFacts
    system: SystemFacts
    weights: str
    kv: str
    gpus: int


def roofline(laid: Laid, prompt: float, output: float, users: float) -> Mapping[str, float]:
    """Of so many users at once, each with its mean tokens: the figures of a level, by their names."""
    facts, system = laid.model, laid.system
    peak = system.flops_per_s.get(PEAK.get(laid.weights, "fp8"), max(system.flops_per_s.values()))
    flops, bandwidth = laid.gpus * peak, laid.gpus * system.bandwidth_bytes_per_s
    prefill_s = 2 * facts.active_parameters * prompt / flops
    read = touched(facts, users) * WEIGHT_BYTES[laid.weights]
    read += users * (prompt + output / 2) * facts.kv_bytes_per_token(laid.kv)
    decode_s = max(read / bandwidth, 2 * facts.active_parameters * users / flops)
    # A request's prompt is computed once while its output takes `output` steps.
    tpot_s = decode_s + users * prefill_s / output
    rate = users / (prefill_s / output + tpot_s)
    return {
        "tpot_p50_ms": 1e3 * tpot_s,
        "ttft_p50_ms": 1e3 * (prefill_s + tpot_s),
        "e2e_p50_ms": 1e3 * (prefill_s + tpot_s * output),
        "interactivity_tok_s_user": 1 / tpot_s,
        "throughput_output_tok_s_device": rate / laid.gpus,
        "throughput_total_tok_s_device": rate * (1 + prompt / output) / laid.gpus,
    }


def touched(facts: ModelFacts, tokens: float) -> float:
    """Parameters that a step reads: of a mixture, the experts that any of its tokens is sent to."""
    if not facts.moe:
        return facts.parameters
    share = facts.experts_per_token / facts.experts
    routed = (facts.parameters - facts.active_parameters) / (1 - share)  # in all experts together
    return float(facts.parameters - routed * (1 - share) ** max(tokens, 1.0))
