"""Whole studies through the command line: their ends, good and bad, and going on after each."""

import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import Wattfront
from tuner.results.ledger import results
from tuner.trial.result import Failed

pytestmark = pytest.mark.process

TRIALS = 4


def asked(wattfront: Wattfront) -> list[str]:
    return [line["fingerprint"] for line in wattfront.lines() if line["status"] == "asked"]


def finished(wattfront: Wattfront) -> list[int]:
    return [line["number"] for line in results_of(wattfront)]


def results_of(wattfront: Wattfront) -> list[dict[str, Any]]:
    lines = [line for line in wattfront.lines() if "number" in line]
    return [line for line in lines if line["status"] != "asked"]


def test_a_study_runs_to_its_end_and_its_report_says_the_same(wattfront: Wattfront) -> None:
    code, output = wattfront.run("tune", *wattfront.stub(), f"search.trials={TRIALS}")
    assert code == 0, output
    assert finished(wattfront) == list(range(TRIALS))
    assert len(set(asked(wattfront))) == TRIALS
    assert "Pareto" in output
    for name in ("pareto.html", "pareto.png", "ledger.jsonl", "study.yaml"):
        assert (wattfront.study() / name).stat().st_size > 0
    for folder in (wattfront.study() / "trials").iterdir():
        assert {path.name for path in folder.iterdir()} >= {"engine.log", "records.parquet"}
    code, report = wattfront.run("report", wattfront.study().name)
    assert code == 0, report
    assert report[report.index("Pareto") :][:400] in output


def test_interrupted_once_it_finishes_what_runs_and_goes_on_later(wattfront: Wattfront) -> None:
    driver = wattfront.start("tune", *wattfront.stub(), f"search.trials={TRIALS}")
    with driver:
        wattfront.wait_for("asked", 2)
        wattfront.wait_for_engine()
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert "resume" in output
    assert finished(wattfront) == [0, 1]
    assert wattfront.leftovers() == []
    goes_on(wattfront)


def test_interrupted_twice_it_stops_now_and_goes_on_later(wattfront: Wattfront) -> None:
    driver = wattfront.start(
        "tune", *wattfront.stub(), f"search.trials={TRIALS}", "workload.level_s=15"
    )
    with driver:
        wattfront.wait_for("asked", 1)
        wattfront.wait_for_engine()
        driver.send_signal(signal.SIGINT)
        time.sleep(1)  # two signals at once are one signal
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert finished(wattfront) == []
    assert wattfront.leftovers() == []


def test_killed_in_the_middle_it_loses_and_doubles_nothing(wattfront: Wattfront) -> None:
    driver = wattfront.start("tune", *wattfront.stub(), f"search.trials={TRIALS}")
    with driver:
        wattfront.wait_for("asked", 3)
        wattfront.wait_for_engine()
        driver.kill()
        driver.wait(timeout=20)
        assert wattfront.leftovers() == []
    assert finished(wattfront) == [0, 1]
    goes_on(wattfront)


def test_a_trial_whose_worker_is_killed_runs_again_before_others(
    wattfront: Wattfront,
) -> None:
    driver = wattfront.start("tune", *wattfront.stub(), "search.trials=2")
    with driver:
        wattfront.wait_for("asked", 1)
        wattfront.wait_for_engine()
        killed = wattfront.engine_processes()
        (slot,) = [p.pid for p in wattfront.marked() if ".train" in " ".join(p.info["cmdline"])]
        os.kill(slot, signal.SIGKILL)
        output, _ = driver.communicate(timeout=120)
    assert driver.returncode in (0, 3), output  # on a busy machine no level may be valid
    attempts = [(line["number"], line["status"]) for line in wattfront.lines() if "number" in line]
    assert attempts == [
        (0, "asked"),
        (0, "attempt"),
        (0, "completed"),
        (1, "asked"),
        (1, "completed"),
    ]
    assert "WorkerDied: the Ray worker that ran the trial died; retry 1 of 2" in output
    assert not set(killed) & set(wattfront.engine_processes())
    assert wattfront.leftovers() == []


def goes_on(wattfront: Wattfront) -> None:
    """Resumed, the study is that of an undisturbed run: same trials, in the same order, each once."""
    before = results_of(wattfront)
    code, output = wattfront.run("resume", str(wattfront.study()))
    assert code == 0, output
    assert sorted(finished(wattfront)) == list(range(TRIALS))
    assert len(set(asked(wattfront))) == len(asked(wattfront)) == TRIALS
    assert results_of(wattfront)[: len(before)] == before


def test_failures_are_results(wattfront: Wattfront) -> None:
    """Five ways to fail and one to succeed, in one study: it goes on through all of them."""
    modes = ["ok", "crash", "oom", "flags", "hang", "die", "errors"]
    points = ", ".join(f"{{engine.llamacpp.env.STUB_MODE: {mode}}}" for mode in modes)
    code, output = wattfront.run(
        "tune",
        *wattfront.stub(),
        "search=list",
        "space=none",
        "search.default_first=false",
        f"search.points=[{points}]",
        f"search.trials={len(modes)}",
        "engine.llamacpp.start_timeout_s=6",
    )
    assert code in (0, 3), output  # on a busy machine no level may be valid
    found = {entry.number: entry.result for entry in results(wattfront.study())}
    failures = {n: each for n, each in found.items() if isinstance(each, Failed)}
    classes = [failures[n].failure if n in failures else "completed" for n in sorted(found)]
    assert classes == [
        "completed",
        "EngineExited",
        "OutOfMemory",
        "BadFlags",
        "StartTimeout",
        "EngineExited",
        "EndpointErrors",
    ]
    evidence = {mode: failures[n].evidence for n, mode in enumerate(modes) if n in failures}
    assert "file is broken" in evidence["crash"]
    assert "failed to allocate buffer" in evidence["oom"]
    assert "--no-such-flag" in evidence["flags"]
    assert "stub says no" in evidence["errors"]
    for failure in ("OutOfMemory", "BadFlags", "StartTimeout"):
        assert failure in output
    assert wattfront.engine_processes() == []


def test_nothing_feasible_has_an_exit_code_of_its_own(wattfront: Wattfront) -> None:
    code, output = wattfront.run("tune", *wattfront.stub("crash"), "search.trials=1")
    assert code == 3, output
    assert "file is broken" in output
