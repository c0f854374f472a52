"""What earlier ledgers show: found on the same hardware and clock, whatever else lies in the folder."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.samples.loaded import load
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.results.ledger import LEDGER, Ledger
from tuner.study.planning.earlier import factors_of
from tuner.study.planning.speed import speed_of
from tuner.trial.result import Completed, Measured, OperatingPoint, Timings


def study(hardware: str = "b300") -> StudyConfig:
    return load(["experiment=b300_vllm", "space=none", f"hardware={hardware}"])


def written(folder: Path, config: StudyConfig, *, slower: float, later: float) -> None:
    """A ledger of one trial whose requests and start took so many times what is expected."""
    folder.mkdir()
    trial = trial_config(config, {})
    speed = speed_of(trial, "b300_sxm")
    points = tuple(
        OperatingPoint(i, f"closed {users:g}", {"e2e_mean_ms": 1e3 * slower * seconds}, load_value=users)
        for i, (users, seconds) in enumerate(zip(speed.users, speed.latency_s, strict=True))
    )  # fmt: skip
    times = Timings(later * speed.start_s + 600 + 7, later * speed.start_s, 600)
    with Ledger.open(folder) as ledger:
        ledger.asked(0, {}, trial.fingerprint)
        ledger.finished(0, {}, Measured(Completed(trial, points, times, "serve"), {}))


def test_factors_of_the_same_hardware(tmp_path: Path) -> None:
    for name, slower in (("one", 2.0), ("two", 8.0)):
        written(tmp_path / name, study(), slower=slower, later=3.0)
    written(tmp_path / "other", study("h200"), slower=100.0, later=100.0)
    found = factors_of(study(), tmp_path)
    assert found.keys() == {"vllm"}
    factors = found["vllm"]
    assert factors.studies == 2
    assert factors.latency == pytest.approx(math.log(4), abs=0.01)
    assert factors.start == pytest.approx(math.log(3), abs=0.01)
    assert factors.overhead_s == pytest.approx(7)
    assert factors.load == pytest.approx(0, abs=0.2)  # 600 s of levels, as expected
    assert factors_of(study(), tmp_path, without=tmp_path / "two")["vllm"].studies == 1


def test_virtual_studies_tell_nothing_of_real_ones(tmp_path: Path) -> None:
    written(tmp_path / "one", study(), slower=2.0, later=3.0)
    assert factors_of(study(), tmp_path, virtual=True) == {}


def test_what_is_no_ledger_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "good", study(), slower=2.0, later=1.0)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / LEDGER).write_bytes(b"\xff{nothing\n" * 50)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    assert factors_of(study(), tmp_path)["vllm"].studies == 1
    assert factors_of(study(), tmp_path / "nowhere") == {}


def test_one_odd_study_counts_as_one(tmp_path: Path) -> None:
    written(tmp_path / "odd", study(), slower=1e6, later=1.0)
    factors = factors_of(study(), tmp_path)["vllm"]
    assert factors.latency == 0.0  # no speed of any machine
    assert replace(factors, overhead_s=None).studies == 1
