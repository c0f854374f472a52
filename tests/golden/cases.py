"""What is run for the golden outputs: studies, plans and command lines, each by its arguments."""

from collections.abc import Sequence

LIVE = "studies_0.1.0"  # the folder whose ledgers a study of today must give again
OLDER = "older"  # where a study finds the one that it takes for a prior
OLDER_STUDY = "tpe"
RESUMED, KEPT_SHARE = "tpe", 0.55  # the study that is cut, and the share of its ledger that is left
MIRRORED = "confirm"  # the study that is written to MLflow as well

_BF16 = "meta-llama/Llama-3.3-70B-Instruct"
_FP4, _FP8 = "nvidia/Llama-3.3-70B-Instruct-FP4", "nvidia/Llama-3.3-70B-Instruct-FP8"

# Levels are long so that each trial takes its process some tenths of a second. The search is asked for trial
# n + 2 when it has heard of trial n, and not yet of n + 1: on trials of milliseconds, and on trials that
# fail at once, it may hear of both, and then propose something else.
_LOAD = (
    "workload.input_tokens=1024",
    "workload.output_tokens=32",
    "workload.level_s=100",
    "workload.level_max_s=300",
    "workload.arrival.concurrency=[8,32]",
)
# What the experiments were when the studies were recorded.
_ONCE = ("search.confirm.candidates=0", "search.confirm.repeats_max=16")
_DEEPSEEK = ("engine=vllm", "model=deepseek_r1", "space=[vllm_gpu,moe_layouts]")
_DEEPSEEK_ONCE = (*_DEEPSEEK[:2], "space=[vllm_gpu_0_1,moe_layouts]")
_SPACE_ONCE = "space=[vllm_gpu_0_1,sglang_gpu_0_1,trtllm_gpu_0_1,llama33_70b_precision]"


def _points(*points: dict[str, str | int | float]) -> str:
    """As an override; no value has a character that Hydra would read."""
    each = ["{" + ", ".join(f"{k}: {v}" for k, v in point.items()) + "}" for point in points]
    return f"search.points=[{', '.join(each)}]"


def _vllm(source: str, size: int, watts: int | None = None) -> dict[str, str | int | float]:
    limit = {} if watts is None else {"power.limit_w": watts}
    return {"model.source": source, "topology.tensor_parallel": size, **limit}


# Name → overrides of `simulate`. The order counts: a study may take an earlier one for a prior.
STUDIES: dict[str, Sequence[str]] = {
    "tpe": (
        "experiment=b300",
        *_ONCE,
        _SPACE_ONCE,
        "search=tpe",
        "search.trials=8",
        "search.startup_trials=2",
        *_LOAD,
    ),
    "curve": (
        "experiment=b300_deepseek",
        *_DEEPSEEK_ONCE,
        *_ONCE,
        "search.trials=7",
        "search.startup_trials=3",
        "space.parameters.topology.tensor_parallel.choices=[4,8]",
        "space.parameters.topology.data_parallel.choices=[1,2]",
        *_LOAD,
    ),
    "list": (
        "experiment=b300_energy",
        *_ONCE,
        "search=list",
        "search.trials=7",
        _points(
            {"engine": "vllm", "topology.tensor_parallel": 2, "power.limit_w": 700},
            {"engine": "trtllm", "topology.tensor_parallel": 4, "power.limit_w": 500},
            {
                "engine": "vllm",
                "topology.tensor_parallel": 1,
                "engine.vllm.gpu_memory_utilization": 0.1,
            },
            {
                "engine": "vllm",
                "engine.vllm.max_num_seqs": 1024,
                "engine.vllm.max_num_batched_tokens": 512,
            },
        ),
        *_LOAD,
    ),
    "confirm": (
        "experiment=b300",
        "engine=[vllm]",
        "space=[vllm_gpu_0_1]",
        "search=random",
        "search.trials=5",
        "search.screening.level_s=60",
        "search.confirm.candidates=2",
        "search.confirm.repeats_min=2",
        "search.confirm.repeats_max=2",
        "~slo.tiers.bulk",
        "~slo.tiers.premium",
        *_LOAD[:-1],
        "workload.arrival.concurrency=[16]",
    ),
    "prune": (
        "experiment=b300",
        "engine=[vllm]",
        "space=[vllm_gpu_0_1,llama33_70b_precision,power_cap]",
        "search=list",
        *_ONCE,
        "search.trials=11",
        "search.default_first=false",
        "search.prune_risk=0.45",
        _points(
            *(_vllm(_FP4, size) for size in (8, 4, 2, 1)),
            *(_vllm(_FP4, size, 900) for size in (8, 4, 2, 1)),
            _vllm(_FP8, 8, 600),
            _vllm(_BF16, 8, 500),
            _vllm(_BF16, 4, 500),
        ),
        *_LOAD,
    ),
    "roofline": (
        "experiment=b300",
        "search=curve",
        _SPACE_ONCE,
        *_ONCE,
        "search.trials=7",
        "search.prior.kind=roofline",
        *_LOAD,
    ),
    "ledger_prior": (
        "experiment=b300",
        "search=curve",
        _SPACE_ONCE,
        *_ONCE,
        "search.trials=6",
        "search.prior.kind=ledger",
        f"search.prior.study={OLDER}",
        *_LOAD,
    ),
}

PLANS: dict[str, Sequence[str]] = {
    "b300_frameworks": ("search.prior.kind=none",),
    "b300_vllm": ("search=qmc", "search.trials=6", "search.prior.kind=none"),
    "b300_deepseek": (*_DEEPSEEK, "search.trials=48"),
    "b300_energy": ("search.trials=6",),
    "laptop": (),
    "laptop_frameworks": (),
}

_TINY = ("simulate", "experiment=b300", "engine=[vllm]", "space=none", "search=list", "--workers=1")

# A command line of `python -m`, by its words; its exit code is recorded.
EXITS: Sequence[str] = (
    "tuner --help",
    "tuner nosuch",
    "tuner simulate --workers 0 experiment=b300",
    "tuner simulate experiment=b300 search.trails=3",
    "tuner simulate experiment=b300_vllm",
    "tuner simulate engine=nosuch",
    "tuner plan experiment=nosuch",
    "tuner plan experiment=b300 --cfg job",
    "tuner tune -m experiment=laptop search.trials=1,0",
    "tuner bench experiment=b300_vllm cluster=local engine.vllm.executable=/no/such/vllm",
    "tuner report nosuch",
    "tuner resume nosuch",
    "tuner resume studies/broken",
    "tuner models fetch nosuch",
    "tuner twin list",
    " ".join(("tuner", *_TINY, "slo.tiers.bulk.ttft_p99_ms=0.001", "~slo.tiers.standard"))
    + " ~slo.tiers.premium name=unmet output_dir=made",
    "tuner report made/*",
    "loadgen --help",
    "loadgen",
    "loadgen http://127.0.0.1:1 --concurrency 1 --rate 1",
    "loadgen http://127.0.0.1:1 --concurrency one",
    "loadgen http://127.0.0.1:1 --workload nosuch.yaml",
    "loadgen http://127.0.0.1:1 --duration 1",
)
