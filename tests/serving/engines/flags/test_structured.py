"""Settings with knobs of their own: compilation and KV transfer, as each framework writes them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from serving.engines import BaseEngine, Launch, SgLang, TrtLlm, Vllm
from serving.engines.flags.schema import schema_of, versions
from serving.engines.flags.structured import Structured
from serving.topology import Topology

TARGET = Launch("x", "org/model", "m", "127.0.0.1", 8000, Topology(), 4096)
MODE = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_max_size": 256}


def added(engine: BaseEngine) -> list[str]:
    """The words that it has beyond those of the defaults."""
    plain = type(engine)().command(TARGET)
    return [word for word in engine.command(TARGET) if word not in plain]


def test_vllm_s_compilation_is_a_level_and_json() -> None:
    engine = Vllm.model_validate(
        {"compilation": {**MODE, "level": 3, "mode": "VLLM_COMPILE", "fuse_allreduce_rms": False}}
    )
    level, config, text = added(engine)
    assert (level, config) == ("-O3", "--compilation-config")
    assert json.loads(text) == {
        "mode": "VLLM_COMPILE",
        "cudagraph_mode": "FULL_DECODE_ONLY",
        "max_cudagraph_capture_size": 256,
        "pass_config": {"fuse_allreduce_rms": False},
    }


def test_sglang_s_graphs_are_flags() -> None:
    engine = SgLang.model_validate(
        {
            "compilation": {
                "cudagraph_decode": "full",
                "cudagraph_prefill": "disabled",
                "cudagraph_sizes": [1, 2, 4],
                "cudagraph_prefill_max_tokens": 2048,
                "cudagraph_padding": False,
            }
        }
    )
    assert " ".join(added(engine)) == (
        "--cuda-graph-backend-decode full --cuda-graph-backend-prefill disabled "
        "--cuda-graph-max-bs-prefill 2048 --cuda-graph-bs-decode 1 2 4 --disable-cuda-graph-padding"
    )


def test_transfer_in_each_framework() -> None:
    nixl: dict[str, Any] = {"role": "prefill", "connector": "NixlConnector"}
    flag, text = added(Vllm.model_validate({"kv_transfer": nixl}))
    assert (flag, json.loads(text)) == (
        "--kv-transfer-config",
        {"kv_connector": "NixlConnector", "kv_role": "kv_producer"},
    )
    fake = SgLang.model_validate({"kv_transfer": {"role": "decode", "connector": "fake"}})
    assert " ".join(added(fake)) == (
        "--disaggregation-mode decode --disaggregation-transfer-backend fake"
    )
    context = TrtLlm.model_validate(
        {"kv_transfer": {"role": "prefill", "max_tokens_in_buffer": 8192}}
    )
    assert json.loads(context.options(TARGET)) == {
        "cache_transceiver_config": {"backend": "DEFAULT", "max_tokens_in_buffer": 8192},
        "disable_overlap_scheduler": True,
    }


EVERYTHING: list[tuple[type[BaseEngine], dict[str, Any]]] = [
    (Vllm, {"compilation": {**MODE, "level": 0}}),
    (Vllm, {"compilation": {"cudagraph_sizes": [1, 8], "fuse_norm_quant": True}}),
    (Vllm, {"kv_transfer": {"role": "both", "connector": "OffloadingConnector", "extra": {"a": 1}}}),
    (SgLang, {"compilation": {"cudagraph_decode": "breakable", "cudagraph_max_size": 64}}),
    (SgLang, {"compilation": {"cudagraph_sizes": [1, 2], "cudagraph_padding": False}}),
    (SgLang, {"kv_transfer": {"role": "prefill", "connector": "nixl", "bootstrap_port": 9000}}),
    (TrtLlm, {"kv_transfer": {"role": "decode", "connector": "UCX"}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings"), EVERYTHING)
def test_every_version_knows_the_options(kind: type[BaseEngine], settings: dict[str, Any]) -> None:
    engine = kind.model_validate(settings)
    for version in versions(kind.framework):
        target = Launch("x", "/m", "m", "127.0.0.1", 8000, Topology(), 4096, version=version)
        assert engine.findings(target) == []
        known = schema_of(kind.framework, version).yaml
        if known and engine.options(target):
            assert set(json.loads(engine.options(target))) <= set(known)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Vllm, {"compilation": {}}),
        (Vllm, {"compilation": {"level": 2}}),
        (Vllm, {"kv_transfer": {"role": "none", "connector": "NixlConnector"}}),
        (SgLang, {"compilation": {"cudagraph_padding": True}}),
        (SgLang, {"kv_transfer": {"connector": "nixl"}}),
        (TrtLlm, {"kv_transfer": {}}),
    ],
)
def test_defaults_by_their_names_are_the_default(
    kind: type[BaseEngine], settings: dict[str, Any]
) -> None:
    engine = kind.model_validate(settings)
    assert engine.command(TARGET) == kind().command(TARGET)
    assert engine.canonical() == kind()


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        (Vllm, {"compilation": {"cudagraph_mode": "SOME"}}, "FULL_DECODE_ONLY"),
        (Vllm, {"compilation": {"level": 4}}, "0, 1, 2 or 3"),
        (Vllm, {"compilation": {"graphs": 1}}, "Extra"),
        (Vllm, {"compilation": MODE, "compilation_config": "{}"}, "set one of them"),
        (Vllm, {"speculation": {"method": "mtp"}, "speculative_config": "{}"}, "set one of them"),
        (Vllm, {"compilation": {**MODE, "cudagraph_sizes": [1, 2]}}, "the largest of"),
        (Vllm, {"kv_transfer": {"role": "prefill"}}, "needs `connector`"),
        (SgLang, {"kv_transfer": {"role": "both"}}, "'decode'"),
        (SgLang, {"kv_transfer": {"role": "prefill", "connector": "fake"}}, "role decode"),
        (
            SgLang,
            {"disable_decode_cuda_graph": True, "compilation": {"cudagraph_decode": "full"}},
            "contradicts",
        ),
    ],
)
def test_what_can_t_be_is_refused(
    kind: type[BaseEngine], settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        kind.model_validate(settings)


def test_an_inactive_setting_leaves_the_json_alone() -> None:
    engine = Vllm.model_validate({"speculation": {"method": "none"}, "speculative_config": "{}"})
    assert added(engine) == ["--speculative-config", "{}"]


def test_tables_name_knobs_that_there_are() -> None:
    for kind in (Vllm, SgLang, TrtLlm):
        for name, field in kind.model_fields.items():
            for each in getattr(field.annotation, "__args__", ()):
                if isinstance(each, type) and issubclass(each, Structured):
                    known = set(each.model_fields)
                    assert each.same_numerics <= known, name
                    assert set(each.unset_means) <= known, name
