"""A trial on the virtual clock: with the shipped tables and the adapters' own command lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadgen.prompts.build import build
from serving.engines import ENGINES
from serving.topology import Model, Topology
from serving.twin.api import read_prompt
from serving.twin.config import TwinConfig
from tests.tuner.samples.loaded import load
from tuner.config.groups.hardware import Hardware
from tuner.config.resolve import trial_config
from tuner.config.trial import TrialConfig
from tuner.trial.result import Completed, Failed, Measured
from tuner.trial.simulate import assemble_twin, coalesced, simulate_trial

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


def trial(
    engine: str = "vllm",
    *,
    source: str = LLAMA,
    tensor: int = 4,
    system: str = "b300_sxm",
    users: tuple[int, ...] = (4,),
    workload: dict[str, object] | None = None,
    twin: dict[str, object] | None = None,
    **knobs: object,
) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "engine": {"kind": engine, **knobs},
            "model": Model(name="m", source=source, context_tokens=4096, vocabulary=128256),
            "topology": Topology(tensor_parallel=tensor),
            "hardware": Hardware(
                name="twin",
                device="GPU",
                devices_per_node=8,
                twin=TwinConfig.model_validate({"system": system, **(twin or {})}),
            ),
            "workload": {
                "name": "w",
                "input_tokens": 512,
                "output_tokens": 64,
                "arrival": {"kind": "closed", "concurrency": users},
                "warmup_s": 2,
                "level_s": 10,
                **(workload or {}),
            },
        }
    )


def completed(measured: Measured) -> Completed:
    assert isinstance(measured.result, Completed), measured.result
    return measured.result


def failed(measured: Measured) -> Failed:
    assert isinstance(measured.result, Failed), measured.result
    return measured.result


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_each_framework_has_a_curve_that_bends(engine: str) -> None:
    result = completed(simulate_trial(trial(engine, users=(1, 16, 128))))
    assert all(point.valid for point in result.points), result.points
    rates = [point.metrics["throughput_output_tok_s"] for point in result.points]
    users = [point.metrics["interactivity_tok_s_user"] for point in result.points]
    joules = [point.metrics["energy_j_per_output_tok"] for point in result.points]
    assert rates == sorted(rates)
    assert users == sorted(users, reverse=True)
    assert joules == sorted(joules, reverse=True)
    assert all(170 < (p.metrics["power_w_device"] or 0) < 1100.1 for p in result.points)
    assert "aiconfigurator" in result.provenance["modelled"]
    assert engine in result.command.replace("-", "")


def test_a_point_has_the_exact_load() -> None:
    rates = {"arrival": {"kind": "poisson", "rate_per_s": [1.00000001]}}
    (point,) = completed(simulate_trial(trial(workload=rates))).points
    assert (point.load, point.load_value) == ("poisson 1/s", 1.00000001)
    (point,) = completed(simulate_trial(trial(users=(4,)))).points
    assert (point.load, point.load_value) == ("closed 4", 4.0)


def test_the_same_configuration_gives_the_same_figures_and_another_seed_others() -> None:
    first, again = (simulate_trial(trial()).result for _ in range(2))
    other = simulate_trial(trial(twin={"seed": 1})).result
    assert isinstance(first, Completed)
    assert isinstance(again, Completed)
    assert isinstance(other, Completed)
    assert first.points == again.points
    assert first.points != other.points


def test_weights_that_do_not_fit_are_out_of_memory() -> None:
    found = failed(
        simulate_trial(trial(source="deepseek-ai/DeepSeek-R1", tensor=1, system="h200_sxm"))
    )
    assert found.failure == "OutOfMemory"
    assert "modelled" in found.provenance


def test_a_cache_without_room_is_out_of_memory() -> None:
    config = trial(tensor=1, system="h200_sxm", gpu_memory_utilization=0.9)
    assert failed(simulate_trial(config)).failure == "OutOfMemory"


def test_a_step_without_room_kills_the_engine_under_load() -> None:
    knobs = {"mem_fraction_static": 0.98, "chunked_prefill_size": 32768}
    config = trial(
        "sglang",
        source="deepseek-ai/DeepSeek-R1",
        tensor=8,
        users=(64,),
        workload={"input_tokens": 3000},
        **knobs,
    )
    found = failed(simulate_trial(config))
    assert found.failure == "OutOfMemory"
    assert "Tried to allocate" in found.evidence
    roomy = config.model_copy(
        update={"engine": config.engine.model_copy(update={"mem_fraction_static": 0.85})}
    )
    completed(simulate_trial(roomy))


def test_flags_that_change_nothing_are_named() -> None:
    found = [completed(simulate_trial(trial(async_scheduling=each))) for each in (True, False)]
    assert found[0].points == found[1].points
    assert [each.provenance["without_effect"] for each in found] == [
        [],  # no flag, as it is the default
        ["--no-async-scheduling"],
    ]


def test_flags_that_contradict_are_bad_flags() -> None:
    config = trial(max_num_seqs=512, max_num_batched_tokens=256)
    found = failed(simulate_trial(config))
    assert found.failure == "BadFlags"
    assert "max_num_batched_tokens" in found.evidence


def test_a_model_without_measurements_is_said() -> None:
    found = failed(simulate_trial(trial(source="somebody/a-model")))
    assert "somebody/a-model" in found.evidence


def test_a_known_prefix_shortens_the_first_token() -> None:
    shared = {"shared_prefix": {"hit_rate": 0.8}, "input_tokens": 2048}
    ttft = {}
    for caching in (True, False):
        config = trial(workload=shared, enable_prefix_caching=caching)
        (point,) = completed(simulate_trial(config)).points
        ttft[caching] = point.metrics["ttft_p50_ms"] or 0.0
    assert ttft[True] < 0.6 * ttft[False]


def test_a_power_cap_costs_throughput_and_saves_energy() -> None:
    found = {}
    for cap_w in (1100, 600):
        config = trial(users=(256,), twin={"power": {"cap_w": cap_w}})
        (point,) = completed(simulate_trial(config)).points
        found[cap_w] = point.metrics
    assert (found[600]["throughput_output_tok_s"] or 0) < (
        found[1100]["throughput_output_tok_s"] or 0
    )
    assert (found[600]["power_w_device"] or 0) < 610
    assert (found[600]["energy_j_per_output_tok"] or 9) < (
        found[1100]["energy_j_per_output_tok"] or 0
    )


def test_speculation_makes_output_faster_when_few_ask() -> None:
    value = '{"method": "mtp", "num_speculative_tokens": 2}'
    rates = []
    for knobs in ({}, {"speculative_config": value}):
        (point,) = completed(simulate_trial(trial(users=(1,), **knobs))).points
        rates.append(point.metrics["interactivity_tok_s_user"] or 0.0)
    assert rates[1] > 1.5 * rates[0]


def test_pools_count_all_their_gpus_and_shield_output_from_prompts() -> None:
    load = {"input_tokens": 3000, "output_tokens": 200, "level_s": 20}
    one = trial(users=(48,), workload=load, tensor=2)
    pools = {"prefill": 2, "decode": 1, "prefill_topology": {"tensor_parallel": 1}}
    two = trial(users=(48,), workload=load, tensor=2, twin={"pools": pools})
    assert two.devices == 4
    gaps = []
    for config in (one, two):
        (point,) = completed(simulate_trial(config)).points
        gaps.append(point.metrics["itl_p99_ms"] or 0.0)
        rate = point.metrics["throughput_output_tok_s"] or 0.0
        assert point.metrics["throughput_output_tok_s_device"] == pytest.approx(
            rate / config.devices
        )
    assert gaps[1] < 0.5 * gaps[0]


def test_pools_of_data_parallel_engines_emulate_all_their_gpus() -> None:
    pools = {"prefill": 1, "decode": 2}
    config = trial(tensor=1, twin={"pools": pools})
    wide = config.model_copy(
        update={"topology": config.topology.model_copy(update={"data_parallel": 4})}
    )
    twin = wide.hardware.twin
    assert twin is not None
    _, assembled = assemble_twin(wide, twin)
    assert assembled.emulation.gpus == wide.devices == 12


def test_text_is_counted_as_on_the_wall_clock() -> None:
    """Four bytes a token, an answer's own among them: no quotes, no roles."""
    load = {
        "endpoint": "chat",
        "prompt": "text",
        "input_tokens": 40,
        "output_tokens": 60,
        "conversation": {"turns": 3, "next_tokens": 10},
    }
    config = trial(workload=load, users=(1,))
    source = build(config.workload, 128256)
    request = source.first(0)
    tokens, blocks = read_prompt(request.prompt, chat=True, block_tokens=16)
    said = json.loads(request.prompt)[0]["content"]
    assert tokens == -(-len(said) // 4)
    assert len(blocks) == tokens // 16
    following = source.next(request, " tok" * 60)
    assert following is not None
    longer, more = read_prompt(following.prompt, chat=True, block_tokens=16)
    assert longer >= tokens + 60
    assert list(more[: len(blocks)]) == list(blocks)
    assert all(point.valid for point in completed(simulate_trial(config)).points)


def test_what_is_too_long_is_refused_as_on_the_wall_clock(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [
        {
            "timestamp": 100 * i,
            "input_length": 6000 if i % 5 else 100,
            "output_length": 10,
            "hash_ids": [i],
        }
        for i in range(100)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    load = {
        "input_tokens": None,
        "output_tokens": None,
        "dataset": {"kind": "mooncake", "path": str(path)},
        "arrival": {"kind": "trace"},
        "level_s": 5,
    }
    (point,) = completed(simulate_trial(trial(workload=load))).points
    assert 0.7 < (point.metrics["error_rate"] or 0.0) < 0.9


def test_a_cap_that_no_clock_keeps_is_refused() -> None:
    found = failed(simulate_trial(trial(twin={"power": {"cap_w": 150}})))
    assert found.failure == "BadFlags"
    assert "150 W" in found.evidence


def test_events_of_several_tokens_lose_none() -> None:
    times = np.arange(10.0)
    tokens = np.array([1, 1, 2, 1, 1, 3, 1, 1, 1, 1], np.int32)
    at, counts = coalesced(times, tokens, 4)
    assert counts.sum() == tokens.sum()
    assert at.tolist() == [0, 3, 5, 9]
    assert counts.tolist() == [1, 4, 4, 4]


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"vllm", "sglang", "trtllm"}))
def test_other_engines_have_no_twin(engine: str) -> None:
    knobs = {"url": "http://127.0.0.1:1"} if engine == "external" else {}
    found = failed(simulate_trial(trial(engine, **knobs)))
    assert found.failure in ("BadFlags", "LaunchError")


@pytest.mark.parametrize("spread", [False, True])
def test_a_convoy_of_equal_requests_decides_nothing(spread: bool) -> None:
    """vLLM's default for DeepSeek-R1: 64 users in lockstep wait twelve seconds, 128 users one."""
    words = ["engine=vllm", "model=deepseek_r1", "space=none", "search=list"]
    fixed = ["workload.input_tokens=8192", "workload.output_tokens=1024"]
    loads = "workload.arrival.concurrency=[64,128]"
    config = load(["experiment=b300_deepseek", *words, loads, *([] if spread else fixed)])
    result = simulate_trial(trial_config(config, {})).result
    assert isinstance(result, Completed)
    at_64 = [point for point in result.points if point.load == "closed 64"]
    if spread:
        assert [point.valid for point in at_64] == [True]
        assert (at_64[0].metrics["ttft_p99_ms"] or 0) < 2000
        return
    assert [point.valid for point in at_64] == [False, False]
    assert "contradictory, measured twice" in at_64[1].invalid_because[0]
    valid = [point.load for point in result.points if point.valid]
    assert valid == ["closed 128"]
