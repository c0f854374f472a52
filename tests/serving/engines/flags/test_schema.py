"""The shipped schemas, and which of them an installed version gets."""

import pytest

from serving.engines import ENGINES, BaseEngine
from serving.engines.flags.schema import chosen, known_in, schema_of, versions

KNOWN = [(name, version) for name in ("vllm", "sglang", "trtllm") for version in versions(name)]


def test_versions_are_in_order() -> None:
    assert versions("vllm") == ("0.29.0", "0.32.0", "0.33.0")
    assert versions("sglang") == ("0.5.22", "0.5.23")
    assert versions("trtllm") == ("1.2.1", "1.3.0rc29")
    assert versions("llamacpp") == ()


@pytest.mark.parametrize(("name", "version"), KNOWN)
def test_every_schema_says_where_it_comes_from(name: str, version: str) -> None:
    schema = schema_of(name, version)
    assert (schema.framework, schema.version) == (name, version)
    assert schema.provenance
    assert schema.extracted.startswith("2026-")
    assert not set(schema.gone) & set(schema.flags)


@pytest.mark.parametrize(
    ("name", "version", "flags"),
    [
        ("vllm", "0.32.0", 316),
        ("vllm", "0.33.0", 320),
        ("sglang", "0.5.22", 521),
        ("sglang", "0.5.23", 531),
        ("trtllm", "1.2.1", 32),
        ("trtllm", "1.3.0rc29", 50),
    ],
)
def test_as_many_flags_as_the_real_parsers(name: str, version: str, flags: int) -> None:
    assert len(schema_of(name, version).flags) == flags


@pytest.mark.parametrize(
    ("installed", "version", "exact", "why"),
    [
        (
            None,
            "0.33.0",
            False,
            "version unknown here: flags of vLLM 0.33.0, the newest known",
        ),
        ("0.32.0+cpu", "0.32.0", True, "flags are those of vLLM 0.32.0"),
        ("0.33.0+cu130", "0.33.0", True, "flags are those of vLLM 0.33.0"),
        (
            "0.34.0.dev3",
            "0.33.0",
            False,
            "vLLM 0.34.0.dev3: flags of 0.33.0, the nearest older one known",
        ),
        ("0.31.2", "0.29.0", False, "vLLM 0.31.2: flags of 0.29.0, the nearest older one known"),
        ("0.9.1", "0.29.0", False, "vLLM 0.9.1: flags of 0.29.0, the oldest known"),
        ("main", "0.33.0", False, "vLLM main: flags of 0.33.0, the newest known"),
    ],
)
def test_the_nearest_older_version_is_taken(
    installed: str | None, version: str, exact: bool, why: str
) -> None:
    found = chosen("vllm", installed)
    assert found is not None
    assert (found.schema.version, found.exact, found.why) == (version, exact, why)


def test_names_are_found_in_every_spelling() -> None:
    vllm, trtllm = schema_of("vllm", "0.33.0"), schema_of("trtllm", "1.3.0rc29")
    assert vllm.find("max_num_seqs") == vllm.find("--max-num-seqs") == "--max-num-seqs"
    assert vllm.find("tp") == "--tensor-parallel-size"
    assert trtllm.find("ep_size") == "--moe_expert_parallel_size"
    assert trtllm.find("generation_config") == "--generation-config"
    assert vllm.find("nope") is None
    assert known_in("trtllm", "--served_model_name") == ["1.3.0rc29"]


@pytest.mark.parametrize(("name", "version"), KNOWN)
def test_defaults_that_adapters_state_are_those_of_every_version(name: str, version: str) -> None:
    """`unset_means` holds for all versions; None in a schema: computed, as async_scheduling."""
    schema = schema_of(name, version)
    for knob, value in ENGINES[name].unset_means.items():
        found = schema.find(knob)
        assert found is not None, knob
        assert schema.flags[found].default in (value, None), knob


@pytest.mark.parametrize("name", ["vllm", "sglang", "trtllm"])
def test_every_knob_of_an_adapter_is_a_flag_of_some_version(name: str) -> None:
    apart = {
        *("kind", "speculation", "cpu_kvcache_space_gib", "omp_threads", "llm_options"),
        *("cuda_graph_config", "kv_cache_config", "compilation", "kv_transfer"),
    }
    for knob in ENGINES[name].model_fields:
        if knob not in BaseEngine.model_fields and knob not in apart:
            assert known_in(name, knob), knob
