"""The flags of a whole study against the versions of its engines."""

from typing import Any

import pytest

from tests.tuner.samples.loaded import load
from tuner.config.errors import ConfigError
from tuner.trial.flag_check import FlagVerdict, judge_flags

REAL = ("experiment=b300_frameworks", "search.prior.kind=none")


def verdict(*words: str, **versions: str | None) -> FlagVerdict:
    return judge_flags(load([*REAL, *words]), versions)


def test_ready_experiments_pass_in_every_version() -> None:
    for versions in (
        {"vllm": "0.32.0", "sglang": "0.5.22", "trtllm": "1.2.1"},
        {"vllm": "0.33.0", "sglang": "0.5.23", "trtllm": "1.3.0rc29"},
    ):
        found = verdict(**versions)
        assert (found.errors, found.warnings) == ((), ())
        assert found.used[0] == f"engine.vllm: flags are those of vLLM {versions['vllm']}"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["engine.vllm.extra_args=[--max-num-seqz,'3']"],
            "engine.vllm: vLLM 0.33.0 has no --max-num-seqz; did you mean --max-num-seqs or "
            "--max-num-active-seqs?",
        ),
        (
            ["engine.vllm.flags.data_parallel_size=8"],
            "engine.vllm: --data-parallel-size is set by Wattfront: use topology.data_parallel",
        ),
        (
            ["engine.sglang.attention_backend=tritn"],
            "engine.sglang: --attention-backend tritn: SGLang 0.5.23 takes triton, torch_native, "
            "flex_attention, dsa, nsa, qsa, dsv4, compressed, fa3, fa4, flashinfer, "
            "llada2_cfg_flashinfer and 13 more; did you mean triton?",
        ),
        (
            [
                "space.parameters.engine.sglang.schedule_policy="
                "{type: categorical, choices: [fcfs, lpmm]}"
            ],
            "engine.sglang: --schedule-policy lpmm: SGLang 0.5.23 takes lpm, random, fcfs, "
            "dfs-weight, lof, priority, routing-key, hrrn, shortest-prefill-first; did you mean lpm?",
        ),
    ],
)
def test_a_flag_that_the_version_refuses_is_an_error(words: list[str], line: str) -> None:
    assert verdict(*words).errors == (line,)


def test_a_deprecated_flag_is_a_warning() -> None:
    found = verdict("engine.sglang.extra_args=[--enable-dp-attention]")
    assert found.errors == ()
    assert found.warnings == (
        "engine.sglang: --enable-dp-attention is deprecated in SGLang 0.5.23: use --attn-dp-size",
    )


def test_another_version_than_the_configured_one_is_an_error() -> None:
    found = verdict("engine.vllm.version=0.32.0", vllm="0.33.0+cu130")
    assert found.errors == (
        "engine.vllm.version: 0.32.0 is configured, and 0.33.0+cu130 is installed",
    )


def test_versions_of_a_space_have_their_own_flags() -> None:
    versions = "space.parameters.engine.vllm.version={type: categorical, choices: [0.32.0, 0.33.0]}"
    only_new = "engine.vllm.extra_args=[--monokernel]"
    assert verdict(only_new, vllm="0.33.0").errors == ()
    (line,) = verdict(only_new, versions, vllm="0.33.0").errors
    assert line.startswith("engine.vllm: vLLM 0.32.0 has no --monokernel")


def test_an_unknown_version_is_said() -> None:
    assert "engine.vllm: vLLM 0.40.0: flags of 0.33.0, the nearest older one known" in (
        verdict(vllm="0.40.0").used
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["engine.vllm.flags.enable_eplb=3"],
            "engine.vllm.flags.enable_eplb: --enable-eplb is a switch: true or false, not 3",
        ),
        (
            ["space.parameters.engine.vllm.flags.moe_backend={type: categorical, choices: [auto, tritn]}"],
            "space.parameters.engine.vllm.flags.moe_backend: 'tritn' is not possible there",
        ),
        (
            ["space.parameters.engine.trtllm.cuda_graph_config.nope={type: bool}"],
            "engine.trtllm.cuda_graph_config.nope is not a setting",
        ),
    ],
)  # fmt: skip
def test_flags_have_types(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load([*REAL, *words])
    assert line in str(refused.value)


def test_flags_and_variables_are_knobs_of_a_space() -> None:
    from tuner.config.resolve import trial_config
    from tuner.search.space import SearchSpace

    words: list[str] = [
        "space.parameters.engine.vllm.flags.moe_backend={type: categorical, choices: [auto, triton]}",
        "space.parameters.engine.vllm.env.VLLM_X={type: categorical, choices: [1, 2]}",
        "space.parameters.engine.trtllm.llm_options.moe_config.backend="
        "{type: categorical, choices: [CUTLASS, TRTLLM]}",
    ]
    study = load([*REAL, *words])
    point: dict[str, Any] = {
        "engine": "vllm",
        "engine.vllm.flags.moe_backend": "triton",
        "engine.vllm.env.VLLM_X": 2,
    }
    config = trial_config(study, point)
    assert config.engine.flags == {"moe_backend": "triton"}
    assert config.engine.env == {"VLLM_X": "2"}
    assert config.fingerprint != trial_config(study, {"engine": "vllm"}).fingerprint
    assert "engine.vllm.flags.moe_backend" in SearchSpace.of(study).active(point)
    inner = {"engine": "trtllm", "engine.trtllm.llm_options.moe_config.backend": "TRTLLM"}
    assert trial_config(study, inner).engine.model_dump()["llm_options"] == {
        "moe_config": {"backend": "TRTLLM"}
    }
