"""How a topology becomes flags of each framework: one table, and what a framework can't lay out. Pure.

In Wattfront's terms a trial takes tensor × pipeline × data parallel GPUs. With expert parallelism the data
parallel ranks share one model: each attends for its own requests, and the experts are spread over all ranks
(attention data parallelism). Without it they are whole replicas behind one port.
"""

from collections.abc import Mapping

from serving.topology import Layout, Topology

Words = dict[str, str | int | bool | None]
# Flags that only Wattfront sets, as they decide which GPUs and which port a trial takes → the setting for each.
RESERVED: Mapping[str, Mapping[str, str]] = {
    "vllm": {
        "--tensor-parallel-size": "topology.tensor_parallel",
        "--pipeline-parallel-size": "topology.pipeline_parallel",
        "--data-parallel-size": "topology.data_parallel",
        "--prefill-context-parallel-size": "",
        "--host": "workload.placement",
        "--port": "",
    },
    "sglang": {
        "--tp-size": "topology.tensor_parallel",
        "--pp-size": "topology.pipeline_parallel",
        "--dp-size": "topology.data_parallel",
        "--host": "workload.placement",
        "--port": "",
    },
    "trtllm": {
        "--tensor_parallel_size": "topology.tensor_parallel",
        "--pipeline_parallel_size": "topology.pipeline_parallel",
        "--context_parallel_size": "",
        "--host": "workload.placement",
        "--port": "",
    },
}


def refusal(kind: str, topology: Layout, knobs: Mapping[str, object]) -> str:
    """Why an engine can't lay a model out so; empty if it can. `knobs`: its own, or paths inside them."""
    match kind:
        case "sglang":
            return _sglang_refusal(topology, knobs.get("attn_dp_size")) or _ngram_refusal(
                topology, knobs
            )
        case "trtllm":
            return _trtllm_refusal(topology, knobs.get("enable_attention_dp"))
        case "nim":
            return _nim_refusal(topology)
        case "llamacpp":
            return _llamacpp_refusal(topology)
        case _:
            return ""


def vllm(topology: Topology) -> Words:
    """vLLM: data parallel ranks share the experts, or are replicas of a dense model, behind one port."""
    return {
        "--tensor-parallel-size": _beyond_one(topology.tensor_parallel),
        "--pipeline-parallel-size": _beyond_one(topology.pipeline_parallel),
        "--data-parallel-size": _beyond_one(topology.data_parallel),
        "--enable-expert-parallel": topology.expert_parallel,
    }


def sglang(topology: Topology, attention: int | None) -> Words:
    """SGLang: `--tp-size` counts the GPUs of one model, `--attn-dp-size` divides them for the attention, and
    `--dp-size` makes whole replicas. `attention`: the knob of that name."""
    shared = topology.expert_parallel
    data, tensor = topology.data_parallel, topology.tensor_parallel
    ranks = tensor * data if shared else tensor
    return {
        "--tp-size": _beyond_one(ranks),
        "--pp-size": _beyond_one(topology.pipeline_parallel),
        "--dp-size": None if shared else _beyond_one(data),
        "--attn-dp-size": attention or (_beyond_one(data) if shared else None),
        "--ep-size": ranks if shared else None,
    }


def trtllm(topology: Topology) -> tuple[Words, bool]:
    """TensorRT-LLM: `--tp_size` counts the GPUs of one model; the second value: whether each of them attends
    for its own requests, which is `enable_attention_dp`."""
    ranks = topology.tensor_parallel * topology.data_parallel
    words: Words = {
        "--tp_size": _beyond_one(ranks),
        "--pp_size": _beyond_one(topology.pipeline_parallel),
        "--ep_size": ranks if topology.expert_parallel else None,
    }
    return words, topology.data_parallel > 1


def _sglang_refusal(topology: Layout, attention: object) -> str:
    if not isinstance(attention, int) or attention == 1:
        return ""
    if topology.data_parallel > 1:
        return (
            f"SGLang can't combine topology.data_parallel={topology.data_parallel} with "
            f"attn_dp_size={attention}: use one of them"
        )
    if topology.tensor_parallel % attention:
        return (
            f"SGLang divides topology.tensor_parallel={topology.tensor_parallel} among "
            f"attn_dp_size={attention} ranks of the attention: it must be a multiple"
        )
    return ""


def _ngram_refusal(topology: Layout, knobs: Mapping[str, object]) -> str:
    """SGLang 0.5.22 and 0.5.23: "ngram speculative decoding does not support dp attention"."""
    inside = getattr(knobs.get("speculation"), "method", None)
    attention = knobs.get("attn_dp_size")
    shared = topology.expert_parallel and topology.data_parallel > 1
    if knobs.get("speculation.method", inside) != "ngram":
        return ""
    if shared or (isinstance(attention, int) and attention > 1):
        asked = (
            f"topology.data_parallel={topology.data_parallel} with experts in parallel"
            if shared
            else f"attn_dp_size={attention}"
        )
        return f"SGLang's n-gram speculation allows no data-parallel attention ({asked}): use one of them"
    return ""


def _trtllm_refusal(topology: Layout, attention: object) -> str:
    if topology.data_parallel == 1:
        return ""
    asked = f"topology.data_parallel={topology.data_parallel}"
    if not topology.expert_parallel:
        return (
            f"trtllm-serve starts no replicas ({asked}): set topology.expert_parallel=true for attention "
            "data parallelism, or data_parallel=1"
        )
    if topology.tensor_parallel > 1:
        return (
            f"TensorRT-LLM's attention is data-parallel over all ranks or none ({asked}, "
            f"tensor_parallel={topology.tensor_parallel}): set tensor_parallel=1"
        )
    if attention is False:
        return f"{asked} is attention data parallelism, and enable_attention_dp is false: set one of them"
    return ""


def _nim_refusal(topology: Layout) -> str:
    if topology.data_parallel > 1 or topology.expert_parallel:
        asked = "data_parallel" if topology.data_parallel > 1 else "expert_parallel"
        return (
            f"NIM has no setting for topology.{asked}, which its profile decides: use tensor_parallel "
            "and pipeline_parallel, or the engine itself (engine=vllm, engine=sglang)"
        )
    return ""


def _llamacpp_refusal(topology: Layout) -> str:
    if topology.data_parallel > 1 or topology.expert_parallel:
        asked = "data_parallel" if topology.data_parallel > 1 else "expert_parallel"
        return f"llama-server has no topology.{asked}: use one GPU, or pipeline_parallel"
    return ""


def _beyond_one(size: int) -> int | None:
    """A parallel size, or None for 1, the default of every engine."""
    return size if size > 1 else None
