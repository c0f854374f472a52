"""A study over an invented landscape, of which each knob's effect is known."""

import math
from typing import Any

from loadgen import Closed
from tests.tuner.samples.study import sample_config
from tuner.config.groups.objective import Slo, Tier
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.space import Categorical, Int, Point, Space
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.search import Proposal
from tuner.trial.result import Completed, Measured, OperatingPoint, Timings

LOADS = (1, 2, 4, 8)
SPACE = Space(
    parameters={
        "engine.llamacpp.threads": Int(type="int", low=1, high=4),
        "engine.llamacpp.batch_size": Categorical(type="categorical", choices=(256, 512, 1024)),
        "engine.llamacpp.cache_type_k": Categorical(type="categorical", choices=("f16", "q8_0")),
    }
)
WALL_S = 360.0


def landscape(search: SearchConfig, **changed: Any) -> StudyConfig:
    config = sample_config()
    arrival = config.workload.model_copy(update={"arrival": Closed(concurrency=LOADS)})
    plain = {"threads": 1, "batch_size": 256, "cache_type_k": "f16"}
    one = {"llamacpp": config.engine["llamacpp"].model_copy(update=plain)}
    tiers = {"bulk": Tier(ttft_p99_ms=5000), "fast": Tier(tpot_p50_ms=15)}
    return config.model_copy(
        update={
            "engine": one,
            "workload": arrival,
            "space": SPACE,
            "slo": Slo(tiers=tiers),
            "search": search,
            **changed,
        }
    )


def rate(point: Point) -> float:
    """Threads bring 30 each, the batch 5 or 10 (as its number), the cache's type nothing."""
    threads = float(point.get("engine.llamacpp.threads", 1))
    batch = float(point.get("engine.llamacpp.batch_size", 256))
    return 100 + 30 * (threads - 1) + 5 * math.log2(batch / 256)


def result_of(config: StudyConfig, point: Point) -> Completed:
    points = []
    for level, users in enumerate(LOADS):
        tok_s = rate(point) * (1 - 0.5 ** (level + 1))
        metrics: dict[str, float | None] = {
            "throughput_output_tok_s": tok_s,
            "throughput_output_tok_s_device": tok_s,
            "interactivity_tok_s_user": tok_s / users,
            "ttft_p99_ms": 100.0 * users,
            "tpot_p50_ms": 1000 * users / tok_s,
            "error_rate": 0.0,
        }
        load = f"closed {users}"
        points.append(OperatingPoint(level, load, metrics, load_value=float(users)))
    timings = Timings(WALL_S, 20, 300)
    return Completed(trial_config(config, point), tuple(points), timings, "serve")


def measured(config: StudyConfig, proposal: Proposal) -> Measured:
    return Measured(result_of(config, proposal.point), {})
