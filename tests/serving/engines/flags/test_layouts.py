"""Layouts in each framework's terms: the GPUs that a trial takes are those that its processes use."""

from dataclasses import replace
from typing import Any

import pytest

from serving.engines import BaseEngine, Launch, LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.engines.flags.schema import schema_of, versions
from serving.engines.flags.speculation import SgLangSpeculation
from serving.errors import LaunchError
from serving.launch import plan_command
from serving.topology import Model, Topology

MODEL = Model(name="m", source="org/model", context_tokens=4096, vocabulary=1000)
NGRAM = SgLangSpeculation(method="ngram", depth=4)


def argv(engine: BaseEngine, **topology: Any) -> list[str]:
    target = Launch("x", "org/model", "m", "127.0.0.1", 8000, Topology(**topology), 4096)
    return engine.command(target)


def value(words: list[str], *names: str) -> int:
    return next((int(words[words.index(name) + 1]) for name in names if name in words), 1)


def processes(engine: BaseEngine, words: list[str]) -> int:
    """GPUs that the engine's own flags ask for."""
    match engine:
        case Vllm():
            tensor, pipeline = "--tensor-parallel-size", "--pipeline-parallel-size"
            data = "--data-parallel-size"
        case SgLang():
            tensor, pipeline, data = "--tp-size", "--pp-size", "--dp-size"
        case _:
            tensor, pipeline, data = "--tp_size", "--pp_size", ""
    return value(words, tensor) * value(words, pipeline) * value(words, data)


LAYOUTS = [
    {"tensor_parallel": tensor, "data_parallel": data, "pipeline_parallel": pipeline,
     "expert_parallel": expert}
    for tensor in (1, 2, 8)
    for data in (1, 2, 8)
    for pipeline in (1, 2)
    for expert in (False, True)
]  # fmt: skip


@pytest.mark.parametrize("engine", [Vllm(), SgLang(), TrtLlm()], ids=lambda e: e.kind)
def test_every_layout_uses_the_gpus_that_it_takes_or_is_refused(engine: BaseEngine) -> None:
    taken = 0
    for layout in LAYOUTS:
        topology = Topology(**layout)
        if not engine.refuses(topology, "m"):
            assert processes(engine, argv(engine, **layout)) == topology.gpus, layout
            taken += 1
    assert taken >= len(LAYOUTS) / 3


DP8_EP = {"data_parallel": 8, "expert_parallel": True}


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Vllm(), ["--data-parallel-size", "8", "--enable-expert-parallel"]),
        (SgLang(), ["--tp-size", "8", "--attn-dp-size", "8", "--ep-size", "8"]),
        (TrtLlm(), ["--tp_size", "8", "--ep_size", "8"]),
    ],
)
def test_attention_data_parallel_with_experts_on_all_gpus(
    engine: BaseEngine, words: list[str]
) -> None:
    found = " ".join(argv(engine, **DP8_EP))
    assert " ".join(words) in found
    assert ("enable_attention_dp" in found) == isinstance(engine, TrtLlm)
    assert "--dp-size" not in found


def test_tensor_and_attention_data_parallel_together() -> None:
    found = " ".join(argv(SgLang(), tensor_parallel=2, data_parallel=4, expert_parallel=True))
    assert "--tp-size 8 --attn-dp-size 4 --ep-size 8" in found


@pytest.mark.parametrize(
    ("engine", "layout", "why"),
    [
        (TrtLlm(), {"data_parallel": 8}, "trtllm-serve starts no replicas"),
        (
            TrtLlm(),
            {"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": True},
            "data-parallel over all ranks or none",
        ),
        (Nim(), {"data_parallel": 8}, "NIM has no setting for topology.data_parallel"),
        (Nim(), {"expert_parallel": True}, "NIM has no setting for topology.expert_parallel"),
        (LlamaCpp(), {"data_parallel": 2}, "llama-server has no topology.data_parallel"),
        (SgLang(attn_dp_size=3), {"tensor_parallel": 4}, "it must be a multiple"),
        (SgLang(attn_dp_size=2), {"data_parallel": 2}, "use one of them"),
        (SgLang(attn_dp_size=2, speculation=NGRAM), {"tensor_parallel": 2}, "n-gram"),
        (SgLang(speculation=NGRAM), {"data_parallel": 2, "expert_parallel": True}, "n-gram"),
    ],
)
def test_what_a_framework_can_not_lay_out_is_refused_with_the_reason(
    engine: Any, layout: dict[str, Any], why: str
) -> None:
    assert why in engine.refuses(Topology(**layout), "m")
    with pytest.raises(LaunchError, match=why):
        plan_command(engine, MODEL, Topology(**layout))


def test_sglang_refuses_a_colon_in_the_served_name() -> None:
    assert "colon" in SgLang().refuses(Topology(), "llama:70b")


@pytest.mark.parametrize("version", versions("sglang"))
def test_layout_flags_are_known_to_every_version(version: str) -> None:
    schema = schema_of("sglang", version)
    for flag in ("tp-size", "pp-size", "dp-size", "attn-dp-size", "ep-size", "enable-metrics"):
        assert schema.find(flag), flag


def test_the_served_name_of_a_version_without_a_flag_for_it(tmp_path: Any) -> None:
    """TensorRT-LLM 1.2.1 lists the model's folder, or its id on the hub."""
    target = Launch("x", "org/model", "m", "127.0.0.1", 8000, Topology(), 4096, version="1.2.1")
    engine, local = TrtLlm(), tmp_path / "Llama-70B"
    local.mkdir()
    assert "--served_model_name" not in engine.command(target)
    assert engine.served_name(target) == "org/model"
    assert engine.served_name(replace(target, model_path=str(local))) == "Llama-70B"
    newer = replace(target, version="1.3.0rc29")
    assert "--served_model_name" in engine.command(newer)
    assert engine.served_name(newer) == "m"
