"""The sentence of a level: against emulated engines whose limit is known, and where there is none to name."""

from typing import Any

import pytest

from tests.tuner.samples.points import CONFIG
from tests.tuner.trial.test_simulate import completed, trial
from tuner.config.trial import TrialConfig
from tuner.trial.bottleneck import explained
from tuner.trial.result import OperatingPoint
from tuner.trial.simulate import simulate_trial

LONG = {"input_tokens": 2000, "output_tokens": 1000, "level_s": 60, "warmup_s": 20}


def sentences(config: TrialConfig) -> list[str]:
    """Of each level in rising order of load; empty where there is none."""
    result = completed(simulate_trial(config))
    found = explained(config, result.points)
    return [found.get(point.level, "") for point in result.points]


def test_a_limit_on_sequences_is_named_where_requests_wait_for_it() -> None:
    assert sentences(trial(users=(8, 16, 32, 64), max_num_seqs=16)) == [
        "",
        "",
        "32 users, but at most 16 run at once: max_num_seqs; 16 wait",
        "64 users, but at most 16 run at once: max_num_seqs; 48 wait",
    ]


@pytest.mark.parametrize(
    ("engine", "knobs"),
    [("vllm", {"gpu_memory_utilization": 0.6}), ("sglang", {"mem_fraction_static": 0.6})],
)
def test_a_full_cache_is_named_from_the_level_on_at_which_it_is(
    engine: str, knobs: dict[str, Any]
) -> None:
    few, first, second = sentences(
        trial(engine, tensor=1, users=(8, 64, 128), workload=LONG, **knobs)
    )
    assert few == ""
    assert first.startswith("KV cache full from 64 users on: ")
    assert second.startswith("KV cache full: ")
    assert "preemption" in first
    assert "wait" in first


def test_a_cache_that_can_not_be_preempted_is_named_as_full_as_well() -> None:
    """TensorRT-LLM reserves all of a request's output, so it preempts none."""
    knobs: dict[str, Any] = {"kv_cache_free_gpu_memory_fraction": 0.2}
    _, many = sentences(trial("trtllm", tensor=1, users=(4, 256), workload=LONG, **knobs))
    assert many.startswith("KV cache full: ")
    assert many.endswith(" wait")


def test_an_engine_with_room_and_an_expected_prefix_is_not_explained() -> None:
    shared = {"input_tokens": 2000, "shared_prefix": {"hit_rate": 0.5, "prefixes": 2}}
    assert sentences(trial(users=(8, 16), workload=shared)) == ["", ""]


def test_the_sum_of_two_pools_limits_nothing() -> None:
    pools = {"pools": {"prefill": 1, "decode": 1}}
    config = trial(users=(64,), max_num_seqs=16, twin=pools)
    (only,) = completed(simulate_trial(config)).points
    assert (only.metrics["engine_waiting_mean"] or 0) > 1
    assert explained(config, [only]) == {}


def point(level: int = 0, users: float | None = 64.0, **metrics: float) -> OperatingPoint:
    names = {"input_tokens_mean": "input_tokens_mean", "requests_completed": "requests_completed"}
    figures: dict[str, float | None] = {names.get(k, f"engine_{k}"): v for k, v in metrics.items()}
    return OperatingPoint(
        level, f"closed {users:g}" if users else "ramp", figures, load_value=users
    )


def said(found: OperatingPoint, **engine: Any) -> str:
    engines = {"engine": {"kind": "vllm", **engine}} if engine else {}
    config = TrialConfig.model_validate({**CONFIG.model_dump(), **engines})
    return explained(config, [found]).get(0, "")


def test_hits_that_the_workload_does_not_explain_are_named() -> None:
    text = "prefix cache serves 93% of prompt tokens, though the workload shares none"
    assert said(point(prefix_hit_share=0.93, input_tokens_mean=1000)) == text
    template = point(prefix_hit_share=0.3, input_tokens_mean=100)  # 30 tokens: a chat template
    assert said(template) == ""
    assert said(point(prefix_hit_share=0.05, input_tokens_mean=10_000)) == ""


QUEUED = {"running_mean": 16.0, "running_max": 16.0, "waiting_mean": 48.0}


def test_a_limit_that_is_not_known_is_not_named() -> None:
    assert said(point(**QUEUED)) == "64 users, but at most 16 run at once; 48 wait"
    assert said(point(**QUEUED | {"kv_cache_share_max": 0.85}), max_num_batched_tokens=64) == ""
    assert "max_num_seqs" in said(point(**QUEUED), max_num_seqs=16)
    assert said(point(**QUEUED), max_num_seqs=256) == ""


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"running_mean": 16.0, "running_max": 16.0},
        QUEUED | {"waiting_mean": 0.4},
        QUEUED | {"running_mean": 9.0},
        {"preemptions": 0.0, "kv_cache_share_max": 0.97},
        {"preemptions": 1.0, "requests_completed": 1000.0},
    ],
    ids=["nothing", "no queue", "a moment", "prefills", "full enough", "one in a thousand"],
)
def test_figures_that_support_no_sentence_have_none(metrics: dict[str, float]) -> None:
    assert said(point(**metrics)) == ""


def test_a_load_without_users_is_named_as_it_is() -> None:
    assert said(point(users=None, preemptions=31.0)) == "KV cache full: 31 preemptions"
