"""A roofline estimate of a configuration: memory bandwidth and arithmetic, nothing else. Pure.

A step reads the weights that it uses and the cache of all its requests, and computes each token; it takes as
long as the slower of the two (Williams, Waterman and Patterson, Roofline, 2009). The absolute figures are upper
bounds; the order of two configurations is usable.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.twin.api import WEIGHT_BYTES, ModelFacts, SystemFacts


@dataclass(frozen=True, slots=True)
class ShardedModel:
    """A model over `gpus` GPUs. `weights`, `kv`: the precision of weights and cache, by the catalog's names."""

    model: ModelFacts
    system: SystemFacts
    weights: str
    kv: str
    gpus: int


def roofline(
    sharded: ShardedModel, prompt: float, output: float, users: float
) -> Mapping[str, float]:
    """The metrics of a load level, by name: `users` at once, each with this many tokens on average."""
    facts, system = sharded.model, sharded.system
    peak = system.peak_flop_s(sharded.weights)
    flops, bandwidth = sharded.gpus * peak, sharded.gpus * system.bandwidth_bytes_per_s
    prefill_s = 2 * facts.active_parameters * prompt / flops
    read = parameters_read(facts, users) * WEIGHT_BYTES[sharded.weights]
    read += users * (prompt + output / 2) * facts.kv_bytes_per_token(sharded.kv)
    decode_s = max(read / bandwidth, 2 * facts.active_parameters * users / flops)
    # A request's prompt is computed once while its output takes `output` steps.
    tpot_s = decode_s + users * prefill_s / output
    rate = users / (prefill_s / output + tpot_s)
    return {
        "tpot_p50_ms": 1e3 * tpot_s,
        "ttft_p50_ms": 1e3 * (prefill_s + tpot_s),
        "e2e_p50_ms": 1e3 * (prefill_s + tpot_s * output),
        "interactivity_tok_s_user": 1 / tpot_s,
        "throughput_output_tok_s_device": rate / sharded.gpus,
        "throughput_total_tok_s_device": rate * (1 + prompt / output) / sharded.gpus,
    }


def parameters_read(facts: ModelFacts, tokens: float) -> float:
    """Parameters that a step of so many tokens reads; of a mixture, the experts that any token is routed to."""
    if not facts.moe:
        return facts.parameters
    share = facts.experts_per_token / facts.experts
    routed = (facts.parameters - facts.active_parameters) / (1 - share)  # in all experts together
    return float(facts.parameters - routed * (1 - share) ** max(tokens, 1.0))
