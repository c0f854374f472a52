"""Knobs that are no single flag: speculative decoding, TensorRT-LLM's YAML, any flag by its name."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.endpoint import Endpoint
from serving.engines import BaseEngine, Launch, Nim, SgLang, TrtLlm, Vllm
from serving.engines.base import FlagValue
from serving.engines.flags.speculation import VllmSpeculation
from serving.launch import plan_command, shell_command
from serving.topology import Model, Topology

MODEL = Model(name="m", source="org/model", context_tokens=4096, vocabulary=1000)
TARGET = Launch("x", "org/model", "m", "127.0.0.1", 8000, Topology(), 4096)
MTP = {"method": "mtp", "depth": 3}
EAGLE = {"method": "eagle3", "depth": 2, "model": "org/draft"}


def words(engine: BaseEngine) -> str:
    return " ".join(engine.command(TARGET))


def test_speculation_with_the_model_s_own_layers() -> None:
    assert '--speculative-config {"method": "mtp", "num_speculative_tokens": 3}' in words(
        Vllm.model_validate({"speculation": MTP})
    )
    assert (
        "--speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
        "--speculative-num-draft-tokens 4" in words(SgLang.model_validate({"speculation": MTP}))
    )
    assert json.loads(TrtLlm.model_validate({"speculation": MTP}).options(TARGET)) == {
        "speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}
    }


def test_speculation_with_a_model_that_drafts() -> None:
    assert '"model": "org/draft"' in words(Vllm.model_validate({"speculation": EAGLE}))
    assert "--speculative-draft-model-path org/draft" in words(
        SgLang.model_validate({"speculation": EAGLE})
    )
    assert "org/draft" in TrtLlm.model_validate({"speculation": EAGLE}).options(TARGET)
    with pytest.raises(ValidationError, match="needs `model`"):
        VllmSpeculation(method="eagle3")


@pytest.mark.parametrize("kind", [Vllm, SgLang, TrtLlm])
@pytest.mark.parametrize("method", ["none", "mtp", "eagle", "eagle3", "draft_model", "ngram"])
def test_every_method_of_a_framework_has_a_name_there(kind: Any, method: str) -> None:
    asked = {"speculation": {"method": method, "model": "org/draft"}}
    if kind is TrtLlm and method == "eagle":
        with pytest.raises(ValidationError):
            kind.model_validate(asked)
    else:
        engine = kind.model_validate(asked)
        assert (words(engine) != words(kind())) == (method != "none")


@pytest.mark.parametrize("kind", [Vllm, SgLang, TrtLlm])
def test_no_method_is_no_flag(kind: Any) -> None:
    assert words(kind.model_validate({"speculation": {"depth": 4}})) == words(kind())
    assert kind.model_validate({"speculation": {"depth": 4}}).canonical() == kind().canonical()


def test_options_of_the_yaml_are_written_from_knobs() -> None:
    engine = TrtLlm.model_validate({
        "cuda_graph_config": {"max_batch_size": 512},
        "kv_cache_config": {"dtype": "fp8"},
        "enable_attention_dp": True,
        "kv_cache_free_gpu_memory_fraction": 0.85,
        "llm_options": {"disable_overlap_scheduler": True},
    })  # fmt: skip
    assert json.loads(engine.options(TARGET)) == {
        "cuda_graph_config": {"max_batch_size": 512},
        # This section takes the place of the flag of the fraction.
        "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.85},
        "enable_attention_dp": True,
        "disable_overlap_scheduler": True,
    }
    assert TrtLlm().options(TARGET) == ""


def test_a_shown_command_has_the_options_in_it() -> None:
    """Bash runs it as it stands."""
    engine = TrtLlm.model_validate({"cuda_graph_config": {"max_batch_size": 512}})
    inline = """<(echo '{"cuda_graph_config": {"max_batch_size": 512}}')"""
    assert f"--config {inline}" in plan_command(engine, MODEL, Topology())
    shown = Endpoint("", "m", "", 0, (), 0.0, ("trtllm-serve", "--config", inline), ())
    assert shell_command(shown) == f"trtllm-serve --config {inline}"


def test_a_whole_yaml_can_not_be_combined_with_single_options() -> None:
    with pytest.raises(ValidationError, match="move its contents to llm_options"):
        TrtLlm.model_validate({"extra_llm_api_options": "/a.yaml", "enable_attention_dp": True})


def test_any_flag_by_its_name() -> None:
    engine = Vllm(flags={"moe_backend": "triton", "enable-eplb": True, "max_num_seqs": 64})
    assert engine.max_num_seqs == 64  # it has a knob of its own, which is the same setting
    assert words(engine).endswith("--max-num-seqs 64 --moe-backend triton --enable-eplb")
    assert engine == Vllm(flags={"moe_backend": "triton", "enable-eplb": True}, max_num_seqs=64)
    nim = Nim(flags={"enable_eplb": True, "moe-backend": "triton"})
    assert nim.environ(TARGET)["NIM_PASSTHROUGH_ARGS"] == "--enable-eplb --moe-backend triton"


def test_values_that_an_engine_takes_by_itself_are_no_difference() -> None:
    named = Vllm(
        async_scheduling=True,
        gpu_memory_utilization=0.92,
        kv_cache_dtype="auto",
        flags={"moe_backend": "auto"},
    )
    assert named.canonical() == Vllm()
    assert words(Vllm(async_scheduling=True)) == words(Vllm())
    assert "--no-async-scheduling" in words(Vllm(async_scheduling=False))
    assert Vllm(gpu_memory_utilization=0.9).canonical() != Vllm()
    # An emulated engine has other defaults where the framework's changed.
    assert named.canonical(literal=False).gpu_memory_utilization == 0.92


def test_a_default_of_some_versions_is_one_where_the_version_is_known() -> None:
    """0.29 has 1; the later ones compute it."""
    flags: dict[str, FlagValue] = {"cp_kv_cache_interleave_size": 1}
    assert Vllm(flags=flags, version="0.29.0").canonical().flags == {}
    assert Vllm(flags=flags, version="0.33.0").canonical().flags == flags
    assert Vllm(flags=flags).canonical().flags == flags


def test_a_cpu_backend_of_sglang_is_switched_on() -> None:
    cores = Launch("sglang", "/m", "m", "127.0.0.1", 8000, Topology(cpus=2), 4096)
    assert SgLang().environ(cores)["SGLANG_USE_CPU_ENGINE"] == "1"
    assert "SGLANG_USE_CPU_ENGINE" not in SgLang().environ(TARGET)


def test_numbers_are_variables_too() -> None:
    engine = Vllm.model_validate({"env": {"VLLM_X": 1, "VLLM_Y": 0.5}})
    assert engine.env == {"VLLM_X": "1", "VLLM_Y": "0.5"}


def test_shown_options_are_one_word_of_a_shell(tmp_path: Path) -> None:
    engine = TrtLlm(llm_options={"note": "it's"})
    shown = engine.command(TARGET)[engine.command(TARGET).index("--config") + 1]
    assert shlex.split(shown[2:-1])[1] == json.dumps({"note": "it's"})
