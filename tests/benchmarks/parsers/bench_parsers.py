"""`make bench-parsers`: what vLLM's and SGLang's own parsers say to random points of the ready spaces.

Needs the environments vllm-cpu and sglang-cpu (`wattfront engines install`). Ends with 1 if a point is refused.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.engines import Launch
from serving.install import environments
from tests.benchmarks.parsers.models import architectures, write_model
from tests.tuner.samples.drawn import drawn_trials
from tests.tuner.samples.loaded import load

HERE = Path(__file__).parent
TIMEOUT_S = 3600
BLACKWELL, HOPPER = (10, 3), (9, 0)
GPUS: Mapping[str, Mapping[str, Any]] = {
    "b300": {"name": "NVIDIA B300", "capability": BLACKWELL, "gib": 268.6},
    "b200": {"name": "NVIDIA B200", "capability": (10, 0), "gib": 178.4},
    "h200": {"name": "NVIDIA H200", "capability": HOPPER, "gib": 139.8},
    "h100": {"name": "NVIDIA H100", "capability": HOPPER, "gib": 79.6},
}
MLA = {
    "b300": "ready/b300_moe,parts/mla_blackwell,speculation",
    "h200": "ready/h200_moe,parts/mla_hopper,speculation",
}
GQA = {
    "b200": "ready/b200_moe,parts/gqa_blackwell",
    "h100": "ready/h100_moe,parts/gqa_hopper",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A space on a GPU, with the model that the parser reads."""

    gpu: str
    space: str
    model: str


CASES = (
    *(Case(gpu, f"ready/{gpu}_dense", "dense") for gpu in GPUS),
    *(Case(gpu, f"ready/{gpu}_moe", "moe") for gpu in GPUS),
    *(Case(gpu, space, "mla") for gpu, space in MLA.items()),
    *(Case(gpu, space, "moe") for gpu, space in GQA.items()),
)


def verdicts(engine: str, case: Case, points: int, folder: Path) -> tuple[str, list[str]]:
    """(The engine's version, its error for each point.)"""
    # vLLM asks CUDA kernels which precisions they have.
    model = write_model(case.model, folder, quantized=engine != "vllm")
    study = load([
        *("experiment=b300_frameworks", f"hardware={case.gpu}", "search=qmc"),
        *("search.prior.kind=none", f"engine=[{engine}]", f"space=[{case.space}]"),
    ])  # fmt: skip
    argvs = []
    for trial in drawn_trials(study, points):
        launch = Launch("x", str(model), "m", "127.0.0.1", 8000, trial.topology, 4096)
        words = trial.engine.command(launch)
        start = words.index(str(model)) if engine == "vllm" else words.index("--model-path")
        argvs.append(words[start:])
    asked, answer = folder / "cases.json", folder / "verdicts.json"
    about = {"gpu": GPUS[case.gpu], "architectures": architectures(case.model)}
    asked.write_text(json.dumps({**about, "cases": argvs}))
    python = environments.locate(f"{engine}-cpu", "python")
    ended = subprocess.run(
        [str(python), str(HERE / f"by_{engine}.py"), str(asked), str(answer)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CACHE_ROOT": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{engine}: {ended.stderr[-2000:]}")
    found = json.loads(answer.read_text())
    return found["version"], found["verdicts"]


def main(argv: Sequence[str]) -> int:
    """Prints a line for each space and engine, and the errors by their numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--engine", choices=("vllm", "sglang"))
    parser.add_argument("--space", help="a part of the names of the spaces")
    asked = parser.parse_args(argv)
    refused = 0
    for engine in [asked.engine] if asked.engine else ["vllm", "sglang"]:
        for case in CASES:
            if asked.space and asked.space not in case.space:
                continue
            with tempfile.TemporaryDirectory() as folder:
                version, found = verdicts(engine, case, asked.points, Path(folder))
            errors = Counter(each for each in found if each)
            refused += errors.total()
            lines = [f"{engine} {version}: {case.space}: {errors.total()} of {len(found)} refused"]
            lines += [f"  {count} × {error}" for error, count in errors.most_common(8)]
            sys.stdout.write("\n".join([*lines, ""]))
            sys.stdout.flush()
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
