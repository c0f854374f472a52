"""The death, or silence, of any one process costs one trial at most, which is tried again."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.e2e.conftest import Wattfront

pytestmark = pytest.mark.process

MEASURED = (0, 3)  # on a busy machine no level may be valid


def statuses(wattfront: Wattfront) -> list[tuple[int, str]]:
    lines = wattfront.lines()
    return [(line["number"], line["status"]) for line in lines if "number" in line]


def ours(wattfront: Wattfront, name: str) -> list[psutil.Process]:
    """Of this test's study: the processes whose name or command holds these words."""
    return [p for p in wattfront.marked() if name in f"{p.name()} {' '.join(p.cmdline())}"]


def named(wattfront: Wattfront, name: str, within_s: float = 60) -> psutil.Process:
    deadline = time.monotonic() + within_s
    while not (found := ours(wattfront, name)):
        assert time.monotonic() < deadline, f"no process {name}"
        time.sleep(0.1)
    return found[0]


def ends_well(wattfront: Wattfront, driver: "subprocess.Popen[str]") -> str:
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode in MEASURED, output
    assert wattfront.leftovers() == []
    return output


def test_a_result_needs_no_actor_but_the_slot_that_measured_it(wattfront: Wattfront) -> None:
    """The board only carries progress: killed twice, nothing is lost and nothing is tried again."""
    with wattfront.start("tune", *wattfront.stub(), "search.trials=2") as driver:
        wattfront.wait_for_engine(180)
        named(wattfront, "ray::Board").kill()
        wattfront.wait_for("completed", 1)
        wattfront.wait_for_engine(180)
        named(wattfront, "ray::Board").kill()
        ends_well(wattfront, driver)
    done = [(0, "asked"), (0, "completed"), (1, "asked"), (1, "completed")]
    assert statuses(wattfront) == done


def test_a_slot_that_stands_still_is_killed_and_its_trial_runs_again(wattfront: Wattfront) -> None:
    options = ["search.trials=1", "cluster.dead_after_s=20"]
    with wattfront.start("tune", *wattfront.stub(), *options) as driver:
        wattfront.wait_for_engine(180)
        named(wattfront, ".train").suspend()
        output = ends_well(wattfront, driver)
    assert statuses(wattfront) == [(0, "asked"), (0, "attempt"), (0, "completed")]
    assert "WorkerDied" in output
    assert "retry 1 of 2" in output


def test_a_cluster_that_stands_still_ends_the_study_with_its_reason(wattfront: Wattfront) -> None:
    options = ["search.trials=4", "cluster.dead_after_s=40"]
    with wattfront.start("tune", *wattfront.stub(), *options) as driver:
        wattfront.wait_for_engine(180)
        named(wattfront, "gcs_server").suspend()
        output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 4, output
    assert "(GCS) has not answered for" in output
    assert "the study stops after 40 s" in output
    assert wattfront.leftovers(60) == []
    code, output = wattfront.run("resume", str(wattfront.study()))
    assert code in MEASURED, output
    assert sorted(n for n, status in statuses(wattfront) if status == "completed") == [0, 1, 2, 3]


def test_the_death_of_one_node_costs_the_trial_that_ran_there(wattfront: Wattfront) -> None:
    options = ["search.trials=2", "cluster.nodes=2", "workload.level_s=12"]
    with wattfront.start("tune", *wattfront.stub(), *options) as driver:
        wattfront.wait_for("asked", 2)
        deadline = time.monotonic() + 90
        while len(wattfront.engine_processes()) < 4:
            assert time.monotonic() < deadline, "no two engines came up"
            time.sleep(0.05)
        _head, *others = sorted(ours(wattfront, "raylet/raylet"), key=lambda p: p.create_time())
        assert len(others) == 1
        os.kill(others[0].pid, signal.SIGKILL)
        ends_well(wattfront, driver)
    found = statuses(wattfront)
    assert sorted(n for n, status in found if status == "completed") == [0, 1]
    assert [status for _, status in found].count("attempt") == 1


def test_a_supervisor_that_is_stopped_or_killed_leaves_no_engine(wattfront: Wattfront) -> None:
    """Stopped, the trial ends in order. Killed, the trial runs again. Engines never run side by side."""
    with wattfront.start("tune", *wattfront.stub(), "search.trials=2") as driver:
        wattfront.wait_for_engine(180)
        first = wattfront.engine_processes()
        supervisor_of(first).suspend()
        wattfront.wait_for("completed", 1, 180)
        assert not set(first) & set(wattfront.engine_processes())
        wattfront.wait_for_engine(180)
        supervisor_of(wattfront.engine_processes()).kill()
        output = ends_well(wattfront, driver)
    done = [(0, "asked"), (0, "completed"), (1, "asked"), (1, "attempt"), (1, "completed")]
    assert statuses(wattfront) == done
    assert "SupervisorDied: the engine and its supervisor were killed; retry 1 of 2" in output


def supervisor_of(engine: list[int]) -> psutil.Process:
    parents = [psutil.Process(pid).parent() for pid in engine]
    (found,) = {each for each in parents if each and "supervise.py" in " ".join(each.cmdline())}
    return found
