"""`make bench-search`: searches replayed on exhaustive landscapes and on published measurements.

Each run is saved as it ends, so that a stopped benchmark resumes. The file's name has a digest of the code:
changed code runs anew.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.search import report as search_report
from tests.benchmarks.search.landscapes import SPECS, Landscape, cache_folder, landscape
from tests.benchmarks.search.methods import METHODS, parsed
from tests.benchmarks.search.priors import Prior, distorted
from tests.benchmarks.search.published import PUBLISHED, published
from tests.benchmarks.search.replay import Run, replay
from tests.benchmarks.search.report import Key, Runs
from tests.benchmarks.tables import put

ROOT = Path(__file__).parents[3]
CODE = (
    "tests/benchmarks/search/methods.py",
    "tests/benchmarks/search/priors.py",
    "tuner/search/space.py",
)
PLAIN = ("oracle", "random", "optuna-qmc", "optuna-nsga2", "optuna-tpe", "optuna-tpex4")
FIRST_SEED = 1000  # settings were chosen by runs on landscapes of the twin with seeds below 200
SEEDS, BUDGET = 20, 128
FOREIGN_BUDGET = 48  # of the published landscapes, which are small
# Of a search that costs more, and is done by then; with priors, or four at once.
OWN_BUDGET, VARIANT_BUDGET = 48, 32


@dataclass(frozen=True, slots=True)
class Task:
    landscape: str
    method: str
    seed: int
    budget: int


def worked(task: Task) -> tuple[Task, Run]:
    land = landscapes(task.landscape)
    factory, prior_share, batch = parsed(task.method)
    prior = None if prior_share is None else _prior(task.landscape, task.seed, prior_share)
    method = factory(land, task.seed, batch, prior)
    return task, replay(land, method, task.seed, min(task.budget, len(land)), batch=batch)


@lru_cache(maxsize=40)
def _prior(name: str, seed: int, share: float) -> Prior:
    return distorted(landscapes(name), seed, share)


@cache
def landscapes(name: str) -> Landscape:
    return landscape(name) if name in SPECS else published()[name]


class Kept:
    """One JSON line a run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"runs-{code_digest()}.jsonl"
        self._runs: dict[Task, Run] = {}
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                saved = json.loads(line)
                run = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["run"].items()}
                self._runs[Task(**saved["task"])] = Run(**run)

    def get(self, task: Task) -> Run | None:
        return self._runs.get(task)

    def add(self, task: Task, run: Run) -> None:
        self._runs[task] = run
        with self._file.open("a") as file:
            file.write(json.dumps({"task": asdict(task), "run": asdict(run)}) + "\n")


def code_digest() -> str:
    """Of the searches, of the bench, and of what the landscapes are made of."""
    files = [ROOT / name for name in CODE]
    files += [
        Path(__file__).with_name(f"{name}.py") for name in ("landscapes", "published", "replay")
    ]
    files += sorted((ROOT / "tuner" / "search").rglob("*.py"))
    files += sorted((ROOT / "serving" / "twin").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def wanted(args: argparse.Namespace) -> list[Task]:
    tasks = []
    for name in args.landscapes:
        foreign = name not in SPECS
        budget = min(args.budget, FOREIGN_BUDGET) if foreign else args.budget
        for method in args.methods:
            if foreign and "+prior" in method:
                continue  # too few pairs with equal GPUs to say how right a prior is
            if name.endswith("-8k") and _most(method) == VARIANT_BUDGET:
                continue  # with priors, and four at once, at one length: they are the dearest
            most = min(budget, _most(method))
            first = 0 if foreign else FIRST_SEED
            tasks += [Task(name, method, first + i, most) for i in range(args.seeds)]
    return tasks


def _most(method: str) -> int:
    if not method.startswith("curve"):
        return BUDGET
    return OWN_BUDGET if method == "curve" else VARIANT_BUDGET


def runs_of(tasks: Sequence[Task], kept: Kept, processes: int) -> Runs:
    left = [task for task in tasks if kept.get(task) is None]
    began_s = time.monotonic()
    for done, (task, run) in enumerate(_worked(left, processes), 1):
        kept.add(task, run)
        if done % 20 == 0 or done == len(left):
            spent = (time.monotonic() - began_s) / 60
            print(f"{done} of {len(left)} runs, {spent:.1f} minutes", flush=True)  # noqa: T201
    found: Runs = {}
    for task in tasks:
        run = kept.get(task)
        assert run is not None, "all are done"
        found.setdefault(Key(task.landscape, task.method), []).append(run)
    return found


def _worked(tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, Run]]:
    # Not forked: only a new process heeds how many threads its arithmetic may have.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(worked, tasks)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--write", type=Path, metavar="FILE", help="the tables, as Markdown, and a plot beside it")
    add("--seeds", type=int, default=SEEDS)
    add("--budget", type=int, default=BUDGET, help="trials")
    add("--processes", type=int, default=os.cpu_count() or 1)
    add(
        "--methods", nargs="+", metavar="NAME[+prior80|+prior50][xBATCH]", default=default_methods()
    )
    add("--landscapes", nargs="+", default=None, help=f"of {', '.join(SPECS)}, and published ones")
    add(
        "--held-back",
        action="store_true",
        help="on landscapes that no setting was chosen by, for the last run",
    )
    args = parser.parse_args(argv)
    for method in args.methods:
        try:
            parsed(method)
        except ValueError as error:
            parser.error(str(error))
    known = [*SPECS, *published()]
    if args.landscapes is None:
        args.landscapes = [
            n for n in known if n not in SPECS or SPECS[n].held_back == args.held_back
        ]
    if unknown := set(args.landscapes) - set(known):
        parser.error(f"no landscape {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return args


def default_methods() -> list[str]:
    """The stock samplers, and all others with each prior and four at once."""
    own = [name for name in METHODS if not any(name in method for method in PLAIN)]
    manners = ("", "+prior80", "+prior50", "x4")
    return [*PLAIN, *(f"{name}{manner}" for name in own for manner in manners)]


def main(argv: Sequence[str] | None = None) -> int:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for the processes that follow
    args = arguments(argv)
    if not PUBLISHED.exists():
        print("published measurements: the file is not there, left out")  # noqa: T201
    runs = runs_of(wanted(args), Kept(cache_folder()), args.processes)
    text = search_report.document(runs, {name: landscapes(name) for name in args.landscapes})
    print(text)  # noqa: T201
    if args.write:
        name = f"{args.write.stem}_held_back.png" if args.held_back else f"{args.write.stem}.png"
        picture = args.write.with_name(name)
        search_report.picture(runs, picture)
        put(
            f"{text}\n![Share of the hypervolume by trials]({picture.name})\n",
            args.write,
            mark(args),
        )
    return 0


def mark(args: argparse.Namespace) -> str:
    return "bench-search-held-back" if args.held_back else "bench-search"


if __name__ == "__main__":
    sys.exit(main())
