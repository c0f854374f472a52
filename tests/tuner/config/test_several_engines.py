"""Several engines in a trial: what a study may ask for, and what it may not."""

import pytest

from tests.tuner.samples.loaded import load
from tuner.cli.preflight import check_one_engine
from tuner.config.errors import ConfigError
from tuner.config.resolve import trial_config
from tuner.trial.behaviour import behaviour, identity
from tuner.trial.flag_check import judge_flags

SPLIT = "+topology.prefill={tensor_parallel: 2, replicas: 2}"
B300 = ("experiment=b300_vllm", "space=none", "topology.tensor_parallel=4")


def test_layouts_of_roles_are_knobs_of_a_space() -> None:
    space = (
        "space.parameters.topology.prefill.replicas={type: int, low: 1, high: 2}",
        "space.parameters.engine.vllm.prefill_knobs.max_num_seqs={type: categorical, choices: [8, 16]}",
    )
    study = load(
        ["experiment=b300_vllm", "topology.tensor_parallel=4", SPLIT, *(f"++{s}" for s in space)]
    )
    point = {"topology.prefill.replicas": 1, "engine.vllm.prefill_knobs.max_num_seqs": 16}
    trial = trial_config(study, point)
    assert (trial.devices, len(trial.topology.members)) == (6, 2)
    prefill = trial.engine.as_member(trial.topology.members[0])
    assert prefill.model_dump()["max_num_seqs"] == 16


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["engine=llamacpp", "model=llama31_8b"], "llamacpp has no prefill engines of their own"),
        (["workload.placement=apart", "cluster=existing"], "set workload.placement=beside"),
        (["topology.router=sglang"], "refuses prompts of token ids: set workload.prompt=text"),
        (["topology.replicas=2"], "12 GPUs do not fit a node of HGX B300, which has 8"),
        (
            ["model=llama33_70b", "topology.prefill={tensor_parallel: 1}", "hardware=h100"],
            "on 1 GPU of a prefill engine",
        ),
    ],
)
def test_what_can_not_be_is_one_line(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trial_config(load([*B300, SPLIT, *words]), {})
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["topology.replicas=2"], ["topology.router=vllm"], [SPLIT]])
def test_emulated_engines_together_are_for_the_virtual_clock(words: list[str]) -> None:
    study = load([*B300, "hardware=b300_twin", *words])
    with pytest.raises(ConfigError, match=r"on the virtual clock only: use `wattfront simulate`"):
        check_one_engine(study)
    check_one_engine(load([*B300, *words]))


def test_a_knob_of_the_roles_is_another_configuration_where_there_are_roles_alone() -> None:
    def trials(*words: str) -> set[str]:
        knob = "engine.vllm.kv_transfer.connector"
        return {
            identity(trial_config(load([*B300, *words, *more]), {}))
            for more in ([], [f"+{knob}=NixlConnector"], [f"+{knob}=MooncakeConnector"])
        }

    assert len(trials()) == 1
    assert len(trials(SPLIT)) == 2, "NIXL is what vLLM's roles have unless told otherwise"


def test_behaviour_is_that_of_both_roles() -> None:
    def behaves(*words: str) -> object:
        return behaviour(trial_config(load([*B300, SPLIT, *words]), {}))

    plain = behaves()
    assert behaves() == plain
    assert behaves("+engine.vllm.prefill_knobs={max_num_seqs: 8}") != plain
    assert behaves("+engine.vllm.prefill_knobs={stream_interval: 1}") == plain, "its default"


def test_flags_of_prefill_engines_are_checked_before_anything_starts() -> None:
    wrong = [*B300, SPLIT, "+engine.vllm.prefill_knobs={attention_backend: NO_SUCH}"]
    verdict = judge_flags(load(wrong), {"vllm": "0.32.0"})
    assert any("attention-backend" in line for line in verdict.errors), verdict
    assert judge_flags(load([*B300, SPLIT]), {"vllm": "0.32.0"}).errors == ()
