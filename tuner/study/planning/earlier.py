"""What the ledgers of earlier studies show of an engine's speed, against what would have been expected."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np

from loadgen import Workload
from tuner.config.resolve import searched_workload
from tuner.config.study import StudyConfig
from tuner.results.ledger import LEDGER, Finished, LedgerError
from tuner.results.reader import Reader
from tuner.study.planning.draws import Factors
from tuner.study.planning.ladder import expected_loads, users_at
from tuner.study.planning.speed import Speed, speed_of
from tuner.trial.duration import levels_s
from tuner.trial.result import VIRTUAL, Completed

STUDIES_MAX, FOLDERS_MAX = 8, 400
TRIALS_MAX = 12  # of a study
LEDGER_BYTES = 1 << 18  # read of each: its first trials
FARTHEST = math.log(20)  # a ratio beyond it is no speed of this machine


def factors_of(
    config: StudyConfig, folder: Path, *, virtual: bool = False, without: Path | None = None
) -> dict[str, Factors]:
    """Engine → what the newest studies in a folder show of it, on the same hardware and the same clock.

    Damaged and foreign ledgers are left out, and the study `without`.
    """
    found: dict[str, list[Factors]] = defaultdict(list)
    wanted = {engine.kind for engine in config.engine.values()}
    for study in _newest(folder):
        if study == without:
            continue
        for engine, factors in _study_factors(config, study, virtual).items():
            if engine in wanted and len(found[engine]) < STUDIES_MAX:
                found[engine].append(factors)
        if all(len(found[engine]) >= STUDIES_MAX for engine in wanted):
            break
    return {engine: _together(each) for engine, each in found.items() if each}


def _newest(folder: Path) -> list[Path]:
    """Folders with a ledger, the latest first. Links are not followed."""
    dated = list[tuple[float, Path]]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    ledger = Path(entry.path) / LEDGER
                    if ledger.is_file() and not ledger.is_symlink():
                        dated.append((ledger.stat().st_mtime, Path(entry.path)))
    except OSError:
        return []
    return [path for _, path in sorted(dated, reverse=True)[:FOLDERS_MAX]]


def _study_factors(config: StudyConfig, study: Path, virtual: bool) -> Mapping[str, Factors]:
    rows: dict[str, list[_Ratios]] = defaultdict(list)
    try:
        entries = Reader(study).new(LEDGER_BYTES)
    except (LedgerError, OSError):
        return {}
    for entry in entries:
        if isinstance(entry, Finished) and _alike(config, entry, virtual):
            mine = rows[entry.engine]
            if len(mine) < TRIALS_MAX and (row := _ratios(config, entry, virtual)) is not None:
                mine.append(row)
    return {engine: _study_mean(mine) for engine, mine in rows.items() if mine}


def _alike(config: StudyConfig, entry: Finished, virtual: bool) -> bool:
    result = entry.result
    same = result.config.hardware.name == config.hardware.name
    clock = (result.provenance.get("clock") == VIRTUAL) == virtual
    return isinstance(result, Completed) and same and clock


@dataclass(frozen=True, slots=True)
class _Ratios:
    """Of a trial: logarithms of measured / expected, None where unknown; seconds besides start and load."""

    latency: float | None
    start: float | None
    load: float | None
    overhead_s: float


def _ratios(config: StudyConfig, entry: Finished, virtual: bool) -> _Ratios | None:
    result = entry.result
    assert isinstance(result, Completed), "checked by `_alike`"
    speed = speed_of(result.config, config.search.prior.system, virtual=virtual)
    if speed.fails:
        return None
    times, latencies, load = result.timings, _latency_ratios(result, speed), None
    workload = result.config.workload
    if not result.pruned and _load_of(workload) == _load_of(searched_workload(config)):
        users = users_at(workload, speed, expected_loads(workload, speed))
        load = _log_ratio(times.load_s, float(levels_s(workload, users, speed.at(users)).sum()))
    return _Ratios(
        median(latencies) if latencies else None,
        _log_ratio(times.startup_s, speed.start_s),
        load,
        max(0.0, times.wall_s - times.startup_s - times.load_s),
    )


def _load_of(workload: Workload) -> Workload:
    """The workload without what does not change how long it takes."""
    return workload.model_copy(update={"name": "", "seed": 0, "prompt_salt": None})


def _latency_ratios(result: Completed, speed: Speed) -> list[float]:
    ratios = list[float]()
    for point in result.points:
        mean_ms, load = point.metrics.get("e2e_mean_ms"), point.load_value
        if point.valid and mean_ms and load:
            users = users_at(result.config.workload, speed, np.array([load]))
            ratio = _log_ratio(mean_ms / 1e3, float(speed.at(users)[0]))
            if ratio is not None:
                ratios.append(ratio)
    return ratios


def _log_ratio(measured: float, expected: float) -> float | None:
    if not (measured > 0 and expected > 0 and math.isfinite(measured)):
        return None
    ratio = math.log(measured / expected)
    return ratio if abs(ratio) <= FARTHEST else None


def _study_mean(trials: Sequence[_Ratios]) -> Factors:
    return Factors(
        _mean([each.latency for each in trials]) or 0.0,
        _mean([each.start for each in trials]) or 0.0,
        1,
        median(each.overhead_s for each in trials),
        _mean([each.load for each in trials]),
    )


def _together(studies: Sequence[Factors]) -> Factors:
    overheads = [each.overhead_s for each in studies if each.overhead_s is not None]
    return Factors(
        fmean(each.latency for each in studies),
        fmean(each.start for each in studies),
        len(studies),
        median(overheads) if overheads else None,
        _mean([each.load for each in studies]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
