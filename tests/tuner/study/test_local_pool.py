"""Studies on the virtual clock, and the step times that they rest on, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line
from tuner.cli.folders import SIMULATED
from tuner.cli.parser import main
from tuner.config.load import load, save
from tuner.results.ledger import LEDGER, read, results
from tuner.trial.result import Completed

__all__ = ["bare_machine"]

SMALL = (
    "experiment=b300",
    "search=random",
    "workload.arrival.concurrency=[1,16]",
    "workload.output_tokens=32",
    "workload.level_s=4",
)


def only_study(folder: Path) -> Path:
    (study,) = [path.parent for path in folder.glob("studies/*/study.yaml")]
    return study


@pytest.mark.process
def test_a_simulated_study_leaves_a_ledger_and_a_report_that_say_modelled(
    bare_machine: Path, capsys: Captured
) -> None:
    assert main(["simulate", *SMALL, "search.trials=6", "--workers", "2"]) == 0
    output = capsys.readouterr().out
    study = only_study(bare_machine)
    entries = results(study)
    assert sorted(entry.number for entry in entries) == list(range(6))
    assert all(entry.modelled for entry in entries)
    assert any(isinstance(entry.result, Completed) for entry in entries)
    assert "modelled" in output[output.index("Pareto") :]
    assert (study / "pareto.png").stat().st_size > 0
    assert main(["report", str(study)]) == 0


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here")
def test_a_sampler_that_lacks_its_library_says_so_before_the_first_trial(
    bare_machine: Path, capsys: Captured
) -> None:
    assert main(["simulate", *SMALL, "search.kind=gp"]) == 4
    assert one_line(capsys).rstrip() == (
        "wattfront: search=gp needs torch: pip install 'wattfront[gp]'; search=curve needs none"
    )
    assert not list(bare_machine.glob("studies/*"))


@pytest.mark.process
def test_the_same_seed_finds_the_same_whatever_the_number_of_workers(bare_machine: Path) -> None:
    found = []
    for workers in ("1", "3"):
        folder = bare_machine / workers
        where = f"output_dir={folder}"
        main(["simulate", *SMALL, "search.trials=5", "--workers", workers, where])
        (study,) = folder.iterdir()
        entries = sorted(results(study), key=lambda entry: entry.number)
        found.append([(e.point, getattr(e.result, "points", None)) for e in entries])
    assert found[0] == found[1]


def test_real_hardware_is_not_simulated(capsys: Captured) -> None:
    assert main(["simulate", "experiment=b300_vllm"]) == 2
    assert "hardware=b300_twin" in one_line(capsys)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            (
                "experiment=b300_vllm",
                "+space.parameters.hardware.twin.power.cap_w={type: float, low: 500, high: 900}",
            ),
            "is real",
        ),
        (
            (
                "experiment=b300",
                "engine=[external]",
                "space=none",
                "engine.external.url=http://127.0.0.1:1",
            ),
            "an engine that runs already can't be",
        ),
        (
            ("experiment=b300", "+space.parameters.hardware.twin.noise={type: bool}"),
            "a search varies",
        ),
    ],
)
def test_what_can_t_be_emulated_is_refused_at_once(
    overrides: tuple[str, ...], said: str, capsys: Captured
) -> None:
    assert main(["simulate", *overrides]) == 2
    assert said in capsys.readouterr().err


def test_a_broken_table_of_one_s_own_is_one_line(bare_machine: Path, capsys: Captured) -> None:
    folder = bare_machine / "home" / "twin"
    folder.mkdir(parents=True)
    (folder / "half.npz").touch()
    assert main(["twin", "list"]) == 4
    assert "half.npz" in one_line(capsys)


def test_pools_are_not_for_the_wall_clock(capsys: Captured) -> None:
    pools = "+hardware.twin.pools={prefill: 1, decode: 1}"
    assert main(["tune", *SMALL, pools]) == 2
    assert "wattfront simulate" in one_line(capsys)


@pytest.mark.process
def test_an_interrupted_simulation_gives_up_what_runs_and_goes_on_later(bare_machine: Path) -> None:
    command = [sys.executable, "-m", "tuner", "simulate", *SMALL, "search.trials=40"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    driver = subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while (
            not any(bare_machine.glob("studies/*/ledger.jsonl"))
            or len(results(only_study(bare_machine))) < 4
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=30) == 130
    finally:
        driver.kill()
    study = only_study(bare_machine)
    lines = [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]
    asked = sum(line["status"] == "asked" for line in lines)
    assert len(results(study)) <= asked < 40
    assert main(["resume", str(study)]) == 0
    assert sorted(entry.number for entry in results(study)) == list(range(40))
    assert {entry.result.provenance["clock"] for entry in results(study)} == {"virtual"}


@pytest.mark.process
def test_one_that_was_stopped_before_its_first_result_goes_on_as_it_was(bare_machine: Path) -> None:
    assert main(["simulate", *SMALL, "search.trials=2"]) == 0
    study = only_study(bare_machine)
    (study / "ledger.jsonl").write_bytes(b"")
    assert main(["resume", str(study)]) == 0
    assert {entry.result.provenance["clock"] for entry in results(study)} == {"virtual"}


@pytest.mark.process
def test_a_killed_driver_takes_its_workers_along(bare_machine: Path) -> None:
    command = [sys.executable, "-m", "tuner", "simulate", *SMALL, "search.trials=500"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    driver = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        workers: list[psutil.Process] = []
        while len(workers) < 3:  # and the tracker of their resources
            assert time.monotonic() < deadline
            workers = psutil.Process(driver.pid).children(recursive=True)
            time.sleep(0.1)
        time.sleep(2)  # into their work
    finally:
        driver.kill()
        driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert alive == []


def test_step_times_are_listed_with_their_source(capsys: Captured) -> None:
    assert main(["twin", "list", "--model", "llama-3.1-8b", "--system", "b300_sxm"]) == 0
    output = capsys.readouterr().out
    assert "aiconfigurator-core" in output
    assert "modelled" in output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list", "--model", "llama-8b"], 2, "llama-3.1-8b"),
        (["list", "--system", "b300"], 2, "b300_sxm"),
        (["build"], 2, "--model"),
        (
            ["build", "--model", "qwen3-32b", "--system", "b300_sxm", "--framework", "vllm"],
            4,
            "wattfront[twin]",
        ),
    ],
)
def test_what_the_twin_can_t_do_is_one_line(
    arguments: list[str], code: int, said: str, capsys: Captured
) -> None:
    assert main(["twin", *arguments]) == code
    assert said in one_line(capsys)


@pytest.mark.parametrize("layout", ["4", "4/1", "0/1/1", "2/1/3", "a/b/c"])
def test_a_layout_that_is_none_is_refused(layout: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(["twin", "build", "--layout", layout])
    assert end.value.code == 2
    assert layout in capsys.readouterr().err


def steps(study: Path) -> list[tuple[object, ...]]:
    return [
        (e.number, dict(e.point), e.fingerprint, getattr(e.result, "points", None))
        for e in read(study)
    ]


@pytest.mark.process
def test_a_study_that_was_killed_goes_on_with_as_many_workers_to_the_same_trials(
    bare_machine: Path,
) -> None:
    """A search that learns: what it proposes depends on the order of results, and on how many run at once."""
    learning = (*SMALL, "search.kind=tpe", "search.startup_trials=2", "search.trials=9")
    assert main(["simulate", *learning, "--workers", "3"]) == 0
    study = only_study(bare_machine)
    whole, lines = steps(study), (study / LEDGER).read_bytes().splitlines(keepends=True)
    for kept in (7, len(lines) - 6):
        (study / LEDGER).write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
        assert main(["resume", str(study)]) == 0
        assert steps(study) == whole


def test_only_simulated_studies_have_workers(bare_machine: Path, capsys: Captured) -> None:
    folder = bare_machine / "studies" / "real"
    folder.mkdir(parents=True)
    save(load(["experiment=laptop"]), folder)
    assert main(["resume", "real", "--workers", "2"]) == 2
    assert "only simulated studies" in one_line(capsys)
    (folder / SIMULATED).write_text("many\n")
    assert main(["resume", "real"]) == 4
    assert "'many' is not a number of processes" in one_line(capsys)
