"""Prefill and decode engines: the settings and the command line of each, by framework."""

from typing import Any

import pytest

from serving.engines import BaseEngine, LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.launch import NEXT, plan_command
from serving.topology import Model, Topology

MODEL = Model(name="m", source="org/m", context_tokens=8192, vocabulary=1000)


def split(**more: Any) -> Topology:
    return Topology.model_validate(
        {"tensor_parallel": 4, "prefill": {"tensor_parallel": 1, "replicas": 2}, **more}
    )


def commands(engine: BaseEngine, topology: Topology) -> list[str]:
    return plan_command(engine, MODEL, topology).split(NEXT)  # type: ignore[arg-type]


def test_vllm_hands_over_by_nixl_unless_told_otherwise() -> None:
    engine = Vllm(max_num_seqs=256, prefill_knobs={"max_num_seqs": 16})
    *prefill, decode, router = commands(engine, split())
    assert len(prefill) == 2
    for number, command in enumerate(prefill):
        assert f"CUDA_VISIBLE_DEVICES={number} " in command
        assert f"--port $PREFILL_{number} " in command
        assert f"VLLM_NIXL_SIDE_CHANNEL_PORT=$PREFILL_{number}_KV " in command
        assert "--max-num-seqs 16" in command
        assert '{"kv_connector": "NixlConnector", "kv_role": "kv_producer"}' in command
        assert "--tensor-parallel-size" not in command
    assert "CUDA_VISIBLE_DEVICES=2,3,4,5 " in decode
    assert "--tensor-parallel-size 4" in decode
    assert "--max-num-seqs 256" in decode
    assert '"kv_role": "kv_consumer"' in decode
    assert router.startswith("vllm-router --host 127.0.0.1 --port $PORT --vllm-pd-disaggregation ")
    assert '--prefill "http://127.0.0.1:$PREFILL_1" --decode "http://127.0.0.1:$DECODE_0"' in router
    assert "--disable-retries" in router


def test_the_connector_is_the_users() -> None:
    engine = Vllm.model_validate({"kv_transfer": {"connector": "MooncakeConnector"}})
    prefill, *_ = commands(engine, split())
    assert '{"kv_connector": "MooncakeConnector", "kv_role": "kv_producer"}' in prefill


def test_sglang_has_modes_and_a_port_where_the_roles_meet() -> None:
    *prefill, decode, router = commands(SgLang(), split(router_args=["--policy", "round_robin"]))
    assert "--disaggregation-mode prefill" in prefill[0]
    assert "--disaggregation-bootstrap-port $PREFILL_1_KV" in prefill[1]
    assert "--disaggregation-mode decode" in decode
    assert "--disaggregation-bootstrap-port" not in decode
    assert '--pd-disaggregation --prefill "http://127.0.0.1:$PREFILL_0" $PREFILL_0_KV' in router
    assert router.endswith("--policy round_robin")


def test_tensorrt_llm_has_its_yaml_and_its_proxy() -> None:
    *prefill, decode, proxy = commands(TrtLlm(version="1.2.1"), split())
    assert '"cache_transceiver_config": {"backend": "DEFAULT"}' in prefill[0]
    assert '"disable_overlap_scheduler": true' in prefill[0]
    assert '"cache_transceiver_config": {"backend": "DEFAULT"}' in decode
    assert "disable_overlap_scheduler" not in decode
    assert proxy.startswith("trtllm-serve disaggregated -c <(echo ")
    assert '"context_servers": {"num_instances": 2, "urls": ["127.0.0.1:$PREFILL_0"' in proxy


def test_replicas_are_equal_but_for_ports_and_gpus() -> None:
    first, second, router = commands(Vllm(), Topology(tensor_parallel=2, replicas=2))
    assert second == first.replace("0,1", "2,3").replace("$ENGINE_0", "$ENGINE_1")
    assert '--worker-urls "http://127.0.0.1:$ENGINE_0" "http://127.0.0.1:$ENGINE_1"' in router


@pytest.mark.parametrize(
    ("engine", "topology", "why"),
    [
        (LlamaCpp(), split(), "llamacpp has no prefill engines of their own"),
        (Nim(), split(), "nim has no prefill engines of their own"),
        (
            Vllm(prefill_knobs={"max_num_seqs": 8}),
            Topology(),
            "prefill_knobs needs topology.prefill",
        ),
        (Vllm(prefill_knobs={"max_num_sqs": 8}), split(), "the engine has no knob max_num_sqs"),
        (Vllm(prefill_knobs={"max_num_seqs": 0}), split(), "max_num_seqs: Input should be greater"),
        (
            TrtLlm(),
            split(prefill={"data_parallel": 2}),
            "trtllm-serve starts no replicas (topology.data_parallel=2)",
        ),
    ],
)
def test_what_can_not_be_laid_out_says_why(
    engine: BaseEngine, topology: Topology, why: str
) -> None:
    assert why in engine.refuses(topology, "m")
    assert "\n" not in engine.refuses(topology, "m")
