"""How a study's ledger, its resume and its MLflow grow with its trials: the rows of a table.

`python -m tests.benchmarks.growth_ledger [TRIALS …]`. Trials are those of a short simulated study, again and
again under other numbers and points.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.tuner.samples.loaded import load
from tuner.config.load import save
from tuner.config.study import StudyConfig
from tuner.results.ledger import LEDGER, Ledger, read
from tuner.results.reader import Reader
from tuner.search import Proposal
from tuner.study.study import Study
from tuner.tracking.observer import mirror
from tuner.trial.result import Measured
from tuner.trial.simulate import simulate_trial

TRIALS = (500, 2000)
SAMPLES = 8  # trials that are really simulated
ASKS = 50  # over which the cost of one is averaged
MIRRORED = 200  # trials that are written to MLflow


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a study of so many trials, with what it should be at most."""

    trials: int
    what: str
    value: float
    unit: str
    limit: float | None = None


def rows(trials: int) -> Iterator[Row]:
    """What a ledger costs, from its first line to MLflow."""
    more = ("search=qmc", f"search.trials={trials + ASKS}", "search.confirm.candidates=0")
    config = load(["experiment=b300", *more])
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        study.mkdir()
        save(config, study)
        write_s = _timed(lambda: _write(study, config, trials))
        size = (study / LEDGER).stat().st_size / trials / 1000
        yield Row(trials, "ledger", size, "kB a trial", 6.0)
        yield Row(trials, "write", write_s / trials * 1000, "ms a trial")
        yield Row(trials, "read", _timed(lambda: read(study)), "s")
        yield from _resumed(study, config, trials)
        yield from _mirrored(study, config)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield Row(trials, "peak memory of all of it", peak_mb, "MB")


def _write(study: Path, config: StudyConfig, trials: int) -> None:
    """The study up to that trial; its results are samples of each engine."""
    samples = dict[str, Measured]()
    with Ledger.open(study) as ledger:
        source = Study(config, ledger, [])
        for _ in range(trials):
            proposal = source.ask()
            assert proposal is not None
            source.finished(proposal.number, _sample(samples, proposal))


def _sample(samples: dict[str, Measured], proposal: Proposal) -> Measured:
    """The curve of one of the first trials, as that of another trial with the same engine."""
    kind = f"{proposal.config.engine.kind} {proposal.number % SAMPLES}"
    if kind not in samples:
        samples[kind] = simulate_trial(proposal.config)
    measured = samples[kind]
    return Measured(replace(measured.result, config=proposal.config), {})


def _resumed(study: Path, config: StudyConfig, trials: int) -> Iterator[Row]:
    began = time.perf_counter()
    with Ledger.open(study) as ledger:
        source = Study(config, ledger, [])
        yield Row(
            trials, "resume", time.perf_counter() - began, "s", 10.0 if trials <= 2000 else None
        )
        samples = dict[str, Measured]()
        reader = Reader(study)
        reader.new()
        ask_s = finish_s = tail_s = 0.0
        for _ in range(ASKS):
            began = time.perf_counter()
            proposal = source.ask()
            ask_s += time.perf_counter() - began
            assert proposal is not None
            measured = _sample(samples, proposal)
            began = time.perf_counter()
            source.finished(proposal.number, measured)
            finish_s += time.perf_counter() - began
            tail_s += _timed(reader.new)
    yield Row(trials, "ask", ask_s / ASKS * 1000, "ms")
    yield Row(trials, "record a result", finish_s / ASKS * 1000, "ms")
    yield Row(trials, "read what was added", tail_s / ASKS * 1000, "ms")


def _mirrored(study: Path, config: StudyConfig) -> Iterator[Row]:
    """Into the database beside the study, of the first trials alone: those cost what all others cost."""
    part = study.parent / "part"
    part.mkdir()
    save(config, part)
    count = min(MIRRORED, sum(entry.result is not None for entry in read(study)))
    kept = iter((study / LEDGER).read_bytes().splitlines(keepends=True))
    done, lines = 0, list[bytes]()
    while done < count:
        lines.append(next(kept))
        done += b'"completed"' in lines[-1][:24] or b'"failed"' in lines[-1][:24]
    (part / LEDGER).write_bytes(b"")
    mirror(part, config)  # opens and migrates
    (part / LEDGER).write_bytes(b"".join(lines))
    took_s = _timed(lambda: mirror(part, config))
    yield Row(count, "MLflow catches up", took_s / count, "s a trial", 0.1)


def _timed(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def main() -> None:
    """Prints the rows of the numbers of trials that are given."""
    for trials in map(int, sys.argv[1:] or TRIALS):
        for row in rows(trials):
            limit = "" if row.limit is None else f"   at most {row.limit:g}"
            figure = f"{row.what:<26} {row.value:>10.3f} {row.unit:<12}"
            sys.stdout.write(f"{row.trials:>6}  {figure}{limit}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
