"""A study as it might be: two engines, ten trials of four levels, two failures, four tiers."""

from pathlib import Path
from typing import Any

from loadgen import Closed, Workload
from serving.engines import LlamaCpp, Vllm
from serving.topology import Model, Topology
from tuner.config.groups.cluster import ClusterConfig
from tuner.config.groups.hardware import Constant, Hardware
from tuner.config.groups.objective import ObjectiveConfig, Slo, Tier
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Int, Point, Space
from tuner.config.groups.tracking import TrackingConfig
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.derive import derive
from tuner.results.ledger import Ledger
from tuner.trial.result import Completed, Failed, Measured, OperatingPoint, Timings

LADDER = (1, 2, 4, 8)
POINTS: tuple[Point, ...] = (
    {"engine": "llamacpp"},
    {"engine": "vllm"},
    {
        "engine": "llamacpp",
        "engine.llamacpp.parallel": 8,
        "engine.llamacpp.threads": 2,
        "engine.llamacpp.ubatch_size": 512,
        "engine.llamacpp.batch_size": 2048,
        "engine.llamacpp.cache_type_k": "q8_0",
        "engine.llamacpp.flash_attn": "on",
    },
    {"engine": "vllm", "engine.vllm.max_num_seqs": 16, "engine.vllm.enable_prefix_caching": False},
    {"engine": "llamacpp", "engine.llamacpp.parallel": 4, "engine.llamacpp.threads": 1},
    {"engine": "vllm", "engine.vllm.max_num_seqs": 4096},
    {"engine": "llamacpp", "engine.llamacpp.parallel": 2, "engine.llamacpp.cache_type_v": "q4_0"},
    {"engine": "vllm", "engine.vllm.max_num_seqs": 8, "engine.vllm.max_num_batched_tokens": 512},
    {"engine": "llamacpp", "engine.llamacpp.parallel": 1, "engine.llamacpp.threads": 2},
    {"engine": "vllm", "engine.vllm.max_num_seqs": 4, "engine.vllm.enable_prefix_caching": True},
)
FAILED = {
    4: ("OutOfMemory", "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate 768.00 MiB"),
    5: ("BadFlags", "error: argument --max-num-seqs: 4096 is [more] than the KV cache can hold"),
}
# number → ms per output token alone, ms more per further user, slots, ms to the first token
SPEEDS = {
    0: (8.1, 4.0, 4, 16),
    1: (52, 2.3, 256, 60),
    2: (8.4, 3.8, 8, 18),
    3: (48, 1.1, 16, 55),
    6: (7.9, 3.5, 2, 15),
    7: (50, 1.6, 8, 58),
    8: (7.6, 3.5, 1, 14),
    9: (49, 1.4, 4, 70),
}


def sample_config(
    uri: str | None = None, *, priced: bool = True, kind: str = "mlflow"
) -> StudyConfig:
    on = {"source": "an invented price list", "date": "2026-11-01"}
    return StudyConfig(
        name="laptop-frameworks",
        engine={"llamacpp": LlamaCpp(), "vllm": Vllm()},
        model=Model(
            name="smollm2-135m-instruct",
            source="smollm2-135m-instruct",
            context_tokens=512,
            vocabulary=49152,
        ),
        topology=Topology(cpus=2),
        hardware=Hardware(
            name="laptop",
            device="host",
            devices_per_node=1,
            kw_per_device=Constant(value=0.065, **on) if priced else None,
            usd_per_device_hour=Constant(value=0.09, **on) if priced else None,
        ),
        workload=Workload(
            name="laptop", input_tokens=32, output_tokens=32, arrival=Closed(concurrency=LADDER)
        ),
        slo=Slo(
            tiers={
                "bulk": Tier(ttft_p99_ms=5000),
                "standard": Tier(ttft_p99_ms=500, tpot_p50_ms=60),
                "premium": Tier(ttft_p99_ms=100, tpot_p50_ms=15),
                "instant": Tier(ttft_p99_ms=10, tpot_p50_ms=5),
            }
        ),
        space=Space(
            parameters={"engine.llamacpp.parallel": Int(type="int", low=1, high=16, log=True)}
        ),
        search=SearchConfig(trials=len(POINTS)),
        objective=ObjectiveConfig(),
        cluster=ClusterConfig(),
        tracking=TrackingConfig.model_validate({"kind": kind, "uri": uri}),
    )


def sample_point(config: TrialConfig, level: int, speed: tuple[float, ...]) -> OperatingPoint:
    alone_ms, further_ms, slots, first_ms = speed
    users = LADDER[level]
    busy = min(users, slots)
    tpot_ms = alone_ms + further_ms * (busy - 1) + 0.01 * users
    answer_ms = first_ms * busy + tpot_ms * 31
    ttft_ms = first_ms * busy + answer_ms * (users - busy) / slots
    rate = busy * 32 / answer_ms * (1000 - users)
    metrics: dict[str, float | None] = {
        "throughput_output_tok_s": rate,
        "throughput_total_tok_s": 2 * rate,
        "throughput_requests_s": rate / 32,
        "interactivity_tok_s_user": 1000 / tpot_ms,
        "ttft_p50_ms": ttft_ms,
        "ttft_p99_ms": ttft_ms * 1.3,
        "tpot_p50_ms": tpot_ms,
        "tpot_p99_ms": tpot_ms * 1.2,
        "itl_p99_ms": tpot_ms * 1.9,
        "e2e_p50_ms": ttft_ms + 31 * tpot_ms,
        "error_rate": 0.0,
        "requests_completed": 4 * rate / 32,
        "requests_failed": 0.0,
        "window_s": 4.0,
        "energy_j_per_output_tok": None,
    }
    derived, reasons = derive(metrics, config.topology.devices, config.hardware)
    reasons["ttft_p99_ms"] = "the slowest of 38 requests: 100 are needed for a p99"
    reasons["energy_j_per_output_tok"] = "no power source was metered"
    load, figures = f"closed {users}", {**metrics, **derived}
    return OperatingPoint(level, load, figures, reasons, load_value=float(users))


def sample_result(config: TrialConfig, number: int) -> Completed | Failed:
    start_s = 1.3 if config.engine.kind == "llamacpp" else 51.0
    command = f"{config.engine.kind}-serve --model '/models/SmolLM2 135M.gguf' --number {number}"
    facts: dict[str, Any] = {"host": "laptop", "cores": 2, "gpus": [], "engine_version": "b10411"}
    if number in FAILED:
        failure, evidence = FAILED[number]
        return Failed(config, failure, evidence, Timings(4.2, 0.0, 0.0), command, facts)
    points = tuple(sample_point(config, level, SPEEDS[number]) for level in range(len(LADDER)))
    timings = Timings(start_s + 24.6 + (8.1 if number == 0 else 1.9), start_s, 24.6)
    return Completed(config, points, timings, command, facts)


def sample_study(folder: Path, config: StudyConfig, numbers: range = range(len(POINTS))) -> None:
    """Writes the ledger of the sample study, or some of its trials, under `folder`."""
    with Ledger.open(folder) as ledger:
        for number in numbers:
            trial = trial_config(config, POINTS[number])
            ledger.asked(number, POINTS[number], trial.fingerprint)
            result = sample_result(trial, number)
            files = {"engine.log": f"log of trial {number}\n".encode()}
            if isinstance(result, Completed):
                files["records.parquet"] = b"PAR1\x00PAR1"
            ledger.finished(number, POINTS[number], Measured(result, files))
