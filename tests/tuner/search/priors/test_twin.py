"""The prediction of a trial: against the same trial on the virtual clock, and where there is none."""

from statistics import median

import pytest

from loadgen.workload.workload import Workload
from serving.topology import Topology
from serving.twin.api import MODELS
from tests.tuner.trial.test_simulate import failed, trial
from tuner.config.trial import TrialConfig
from tuner.search.priors.twin import (
    NOT_PREDICTED,
    LoadPrediction,
    NoPrediction,
    mean_lengths,
    predicted_curve,
)
from tuner.trial.result import Completed
from tuner.trial.simulate import simulate_trial

DEEPSEEK = next(hub for hub, it in MODELS["deepseek-r1"].checkpoints.items() if it == "nvfp4")
LENGTHS = {"kind": "range_ratio", "tokens": 1024, "ratio": 0.8}
LONG = {"kind": "range_ratio", "tokens": 4096, "ratio": 0.8}


def long_trial(
    engine: str = "vllm",
    *,
    prompt: object = LENGTHS,
    output: object = 256,
    users: tuple[int, ...] = (2, 16, 64),
    topology: Topology | None = None,
    **knobs: object,
) -> TrialConfig:
    """Levels long enough for the loop to forget how it began."""
    workload = {
        "input_tokens": prompt,
        "output_tokens": {"kind": "range_ratio", "tokens": output, "ratio": 0.5},
        "warmup_s": 20,
        "level_s": 60,
        "level_max_s": 90,
        "request_timeout_s": 600,
    }
    config = trial(engine, users=users, workload=workload, **knobs)  # type: ignore[arg-type]
    model = config.model.model_copy(update={"context_tokens": 8192})
    topology = topology or config.topology
    return config.model_copy(update={"model": model, "topology": topology})


# Layouts, frameworks, prompts longer than a step, precisions, a power cap, few places, ranks in lockstep.
CONFIGS = {
    "vllm": long_trial(),
    "sglang": long_trial("sglang"),
    "trtllm": long_trial("trtllm"),
    "one GPU": long_trial(topology=Topology(tensor_parallel=1), users=(2, 16)),
    "long prompts": long_trial(prompt=LONG, users=(2, 16)),
    "short steps": long_trial(max_num_batched_tokens=512, max_num_seqs=128),
    "fp8": long_trial("sglang", quantization="fp8", kv_cache_dtype="fp8_e4m3"),
    "capped": long_trial(twin={"power": {"cap_w": 700}}),
    "few places": long_trial(max_num_seqs=16, users=(8, 64)),
    "experts": long_trial(source=DEEPSEEK, topology=Topology(tensor_parallel=8), users=(4, 64)),
    "ranks": long_trial(
        source=DEEPSEEK, topology=Topology(data_parallel=8, expert_parallel=True), users=(8, 64)
    ),
}
COMPARED = (
    "throughput_output_tok_s_device",
    "throughput_total_tok_s_device",
    "interactivity_tok_s_user",
    "tpot_p50_ms",
    "power_w_device",
    "energy_j_per_output_tok",
)


def predicted(config: TrialConfig) -> tuple[LoadPrediction, ...]:
    curve = predicted_curve(config)
    assert not isinstance(curve, NoPrediction), curve
    return curve


def no_prediction(config: TrialConfig) -> NoPrediction:
    curve = predicted_curve(config)
    assert isinstance(curve, NoPrediction), curve
    return curve


@pytest.fixture(scope="module")
def all_errors() -> dict[str, dict[str, list[float]]]:
    """By metric and configuration."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in (*COMPARED, "ttft_p50_ms")}
    for name, config in CONFIGS.items():
        result = simulate_trial(config).result
        assert isinstance(result, Completed), result
        curve = predicted(config)
        assert [each.load for each in curve] == [point.load for point in result.points]
        for metric, by_name in found.items():
            by_name[name] = [
                level.metrics[metric] / (point.metrics[metric] or 0.0) - 1
                for level, point in zip(curve, result.points, strict=True)
            ]
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("metric", COMPARED)
def test_it_is_close_to_the_virtual_clock(
    metric: str, all_errors: dict[str, dict[str, list[float]]]
) -> None:
    sizes = {name: max(map(abs, each)) for name, each in all_errors[metric].items()}
    every = [abs(error) for each in all_errors[metric].values() for error in each]
    assert median(every) < 0.015, sizes
    assert max(every) < 0.07, sizes


@pytest.mark.thorough
def test_first_tokens_are_predicted_less_well(
    all_errors: dict[str, dict[str, list[float]]],
) -> None:
    every = [abs(error) for each in all_errors["ttft_p50_ms"].values() for error in each]
    assert median(every) < 0.1
    assert max(every) < 0.5


def test_what_fails_on_the_virtual_clock_is_predicted_to_fail_in_the_same_words() -> None:
    for config in (
        trial(tensor=1, system="h200_sxm"),
        trial(max_num_batched_tokens=32, max_num_seqs=64),
        trial(source="nobody/knows"),
        trial(tensor=3),
        trial(workload={"input_tokens": 9000}),
    ):
        failure, predicted_failure = failed(simulate_trial(config)), no_prediction(config)
        assert predicted_failure.failure == failure.failure
        evidence = predicted_failure.evidence.partition(" pid=")[0]
        assert evidence
        assert failure.evidence.partition(" pid=")[0].startswith(evidence)


def test_what_has_no_closed_form_is_not_predicted() -> None:
    real = trial()
    hardware = real.hardware.model_copy(update={"twin": None})
    for config, said in (
        (real.model_copy(update={"hardware": hardware}), "has no twin"),
        (trial(workload={"arrival": {"kind": "poisson", "rate_per_s": [1]}}), "closed loops"),
        (trial(twin={"pools": {"prefill": 1, "decode": 1}}), "no closed form"),
        (trial(workload={"output_tokens": 1}), "one token"),
    ):
        found = no_prediction(config)
        assert found.failure == NOT_PREDICTED
        assert said in found.evidence


def test_lengths_are_means_of_what_is_drawn() -> None:
    arrival = {"kind": "closed", "concurrency": [1]}
    part = {"input_tokens": 100, "output_tokens": 10}
    prefix = {"shared_prefix": {"hit_rate": 0.5}}
    for asked, expected in (
        (part, (100, 10, 0)),
        ({**part, **prefix}, (100, 10, 50)),
        ({**part, "input_tokens": LENGTHS}, (921.5, 10, 0)),
        (
            {"mixture": [{**part, "weight": 3}, {**part, "input_tokens": 500, "weight": 1}]},
            (200, 10, 0),
        ),
    ):
        workload = Workload.model_validate({"name": "w", "arrival": arrival, **asked})
        assert mean_lengths(workload) == pytest.approx(expected, rel=2e-3)


def test_an_adaptive_ladder_is_predicted_at_each_doubling() -> None:
    arrival = {"kind": "adaptive", "lowest": 2, "highest": 20, "tiers": {"any": {}}}
    curve = predicted(trial(workload={"arrival": arrival}))
    assert [each.users for each in curve] == [2, 4, 8, 16]
