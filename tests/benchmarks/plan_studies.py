"""Random studies of emulated GPUs, run on the virtual clock, and how long they took."""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.tuner.samples.loaded import load
from tuner.config.errors import ConfigError
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished, Ledger
from tuner.results.reader import read
from tuner.study.capacity import Capacity
from tuner.study.planning.draws import Job
from tuner.study.planning.estimate import makespan_s
from tuner.study.study import Study
from tuner.trial.simulate import simulate_trial

MODELS = {
    "llama33_70b": ["vllm_gpu"],
    "llama31_8b": ["vllm_gpu"],
    "qwen3_32b": ["vllm_gpu"],
    "gpt_oss_120b": ["vllm_gpu"],
    "qwen3_30b_a3b": ["vllm_gpu"],
}
SPACES = {"vllm": "vllm_gpu", "sglang": "sglang_gpu", "trtllm": "trtllm_gpu"}
LOADS = (
    ("workload=twin",),
    ("workload=isl1k_osl1k", "workload.arrival.concurrency=[1,8,64]"),
    ("workload=isl1k_osl1k", "workload.arrival.concurrency=[4,32,256]"),
    ("workload=isl8k_osl1k", "workload.arrival.concurrency=[2,16]"),
    ("workload=inferencex_1k1k", "workload.arrival.concurrency=[1,16,128]"),
    ("workload=adaptive", "workload.arrival.levels=6", "workload.arrival.highest=256"),
    ("workload=twin", "workload.arrival={kind: poisson, rate_per_s: [1, 4, 12]}"),
    ("workload=shared_prefix", "workload.arrival.concurrency=[4,32]"),
)
SEARCHES = (
    ("search=list",),
    ("search=random", "search.trials=8"),
    ("search=tpe", "search.trials=14"),
    ("search=curve", "search.trials=12", "search.prior.kind=twin", "search.prune_risk=0.1"),
    ("search=curve", "search.trials=16", "search.prune_risk=0.1"),
    ("search=random", "search.trials=6", "search.confirm.candidates=2",
     "search.confirm.repeats_max=5"),
    ("search=tpe", "search.trials=9", "search.confirm.candidates=3", "search.confirm.repeats_max=6"),
    ("search=list", "space=none", "search.confirm.candidates=2", "search.confirm.repeats_max=6"),
    ("search=random", "search.trials=20", "search.budget.device_hours=1.5"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Took:
    """What a study took: seconds on its cluster, device-hours, trials of the search."""

    wall_s: float
    device_hours: float
    trials: int


def random_study(seed: int) -> tuple[str, StudyConfig, Capacity] | None:
    """Its name, configuration and cluster; None where the parts do not go together."""
    drawn = random.Random(seed)
    model = drawn.choice(list(MODELS))
    engines = drawn.choice([["vllm"], ["sglang"], ["trtllm"], ["vllm", "sglang"]])
    load_of, search = drawn.choice(LOADS), drawn.choice(SEARCHES)
    nodes, layout = drawn.choice([1, 1, 2, 4]), drawn.choice(["tp8", "tp4", "tp2"])
    spaces = [SPACES[engine] for engine in engines]
    words = [
        f"engine=[{','.join(engines)}]", f"model={model}", "hardware=b300_twin", "cluster=local",
        f"topology={layout}", "slo=interactive", *load_of,
        f"space=[{','.join(spaces)}]", *search, f"search.seed={seed}",
    ]  # fmt: skip
    if "space=none" in words:
        words = [word for word in words if not word.startswith("space=[")]
    try:
        config = load(words)
    except ConfigError:
        return None
    kind = " ".join(search[0].split("=")[1:]) + (" confirm" if "candidates" in str(search) else "")
    name = f"{model} {'+'.join(engines)}, {load_of[0].split('=')[1]}, {kind}, {nodes}×8"
    return name, config, Capacity(((8, 8),) * nodes)


def simulated(config: StudyConfig, capacity: Capacity) -> Took:
    """Runs a study trial by trial on the virtual clock; its trials are packed on the cluster afterwards."""
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder)) as ledger:
        study = Study(config, ledger, [])
        while (proposal := study.ask()) is not None:
            study.finished(proposal.number, simulate_trial(proposal.config, proposal.baseline))
        study.conclude()
        return packed(read(Path(folder)), capacity)


def packed(entries: list[object], capacity: Capacity) -> Took:
    """What the trials of a ledger take on a cluster: the search, then the repeats."""
    done = [entry for entry in entries if isinstance(entry, Finished)]
    parts = [[e for e in done if e.repeat is None], [e for e in done if e.repeat is not None]]
    wall_s = hours = 0.0
    for part in parts:
        jobs = [
            Job(e.result.config.topology, e.result.config.devices, e.result.timings.wall_s)
            for e in part
        ]
        wall_s += makespan_s(capacity, jobs) if jobs else 0.0
        hours += sum(job.device_s for job in jobs) / 3600
    return Took(wall_s, hours, len(parts[0]))
