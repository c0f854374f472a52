"""Trials in parallel: as many as the resources say, each on devices of its own, and on a cluster of others."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from loadgen import Adaptive
from tests.e2e.conftest import REPO, Wattfront
from tuner.results.ledger import Finished, results
from tuner.study.local_cluster import ALONE
from tuner.trial.result import Completed

pytestmark = pytest.mark.process

PARALLEL = "engine.llamacpp.parallel"
TOGETHER = "engine.llamacpp.env.STUB_TOGETHER"

EMPTY_WITHIN = """
import sys, time, ray
from ray import serve
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + float(sys.argv[2])
while left := dict(serve.status().applications):
    assert time.monotonic() < deadline, f"still in Serve: {left}"
    time.sleep(0.2)
"""


@pytest.fixture
def uses(tmp_path: Path) -> Path:
    folder = tmp_path / "uses"
    folder.mkdir()
    return folder


def points(*several: dict[str, Any]) -> list[str]:
    written = [
        "{" + ", ".join(f"{path}: {value}" for path, value in point.items()) + "}"
        for point in several
    ]
    return [
        "search=list",
        "space=none",
        "search.default_first=false",
        f"search.points=[{', '.join(written)}]",
        f"search.trials={len(several)}",
        "engine.llamacpp.start_timeout_s=90",
    ]


def on_gpus(uses: Path) -> list[str]:
    return [
        "hardware=h200",
        "topology=tp1",
        "cluster.nodes=2",
        "cluster.gpus=2",
        f"engine.llamacpp.env.STUB_USES={uses}",
    ]


def reports(uses: Path) -> list[dict[str, Any]]:
    """What each engine said, with `end`: when it was last seen alive."""
    return [
        {**json.loads(path.read_text()), "end": path.stat().st_mtime}
        for path in uses.glob("[0-9]*")
        if not path.suffix
    ]


def finished(wattfront: Wattfront) -> list[Finished]:
    """The results of all studies of a folder; a refused one has none."""
    return [each for study in wattfront.folder.glob("studies/*") for each in results(study)]


def test_one_gpu_trials_run_four_at_once_and_two_gpu_trials_two(
    wattfront: Wattfront, uses: Path
) -> None:
    """No engine is ready before four, or two, run at once: a study that packs worse times out."""
    ones = [{PARALLEL: n, TOGETHER: "'4'"} for n in range(1, 6)]
    twos = [{PARALLEL: n, TOGETHER: "'2'", "topology.tensor_parallel": 2} for n in range(1, 3)]
    stub = [word for word in wattfront.stub() if not word.startswith("topology")]
    arguments = [*stub, *on_gpus(uses), *points(*ones, *twos)]
    code, output = wattfront.run("tune", *arguments)
    assert code == 0, output
    found = finished(wattfront)
    assert [each.result.status for each in found] == ["completed"] * 7, output
    engines = reports(uses)
    assert sorted(len(engine["devices"]) for engine in engines) == [1] * 5 + [2] * 2
    assert len({engine["node"] for engine in engines}) == 2
    for one, other in combinations(engines, 2):
        if one["start"] < other["end"] and other["start"] < one["end"]:
            assert one["node"] != other["node"] or not {*one["devices"]} & {*other["devices"]}


def test_a_trial_that_fits_no_node_ends_the_study_before_it_begins(
    wattfront: Wattfront, uses: Path
) -> None:
    stub = [word for word in wattfront.stub() if not word.startswith("topology")]
    large = [{PARALLEL: 1}, {"topology.tensor_parallel": 4}]
    arguments = [*stub, *on_gpus(uses), *points(*large)]
    code, output = wattfront.run("tune", *arguments)
    assert code == 4, output
    assert "no node can hold a trial that needs 4 GPUs" in output
    assert len(output.strip().splitlines()) == 1, output
    assert not (wattfront.folder / "studies").exists()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One of somebody else. A short path: Ray puts sockets into it."""
    for key, value in ALONE.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PYTHONPATH", str(REPO))  # as if installed on its nodes
    with tempfile.TemporaryDirectory(prefix="wf-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)  # not its `temp_dir`: Cluster writes elsewhere too
        node = {
            "num_cpus": 1,
            "num_gpus": 0,
            "node_ip_address": "127.0.0.1",
            "include_dashboard": False,
        }
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def shards_on(node: Any) -> list[psutil.Process]:
    """Processes of the load generator that this node of Ray started."""
    (raylet,) = [each.process.pid for each in node.all_processes["raylet"]]
    found = []
    for process in psutil.Process(raylet).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
            found += [process] if "loadgen.worker.process" in process.cmdline() else []
    return found


def test_the_load_goes_to_other_nodes_or_is_refused_before_a_trial(
    wattfront: Wattfront, cluster: Cluster
) -> None:
    arguments = [
        "tune",
        *wattfront.stub(),
        "cluster=existing",
        f"cluster.address={cluster.address}",
        "search.trials=1",
        "workload=laptop_adaptive",
        "workload.arrival={kind: adaptive, highest: 8, levels: 3}",
        "workload.placement=apart",
        "workload.shards=2",
    ]
    code, output = wattfront.run(*arguments)
    assert code == 4, output
    assert f"the Ray cluster at {cluster.address} asks for no token: anybody who" in output
    assert (
        output.strip().splitlines()[-1].startswith("wattfront: trial 0: workload.placement: apart")
    )
    assert finished(wattfront) == []
    other = cluster.add_node(num_cpus=2, num_gpus=0, node_ip_address="127.0.0.1")
    with wattfront.start(*arguments) as driver:
        deadline = time.monotonic() + 120
        while len(shards_on(other)) < 2 and driver.poll() is None:
            assert time.monotonic() < deadline, "no shards came up"
            time.sleep(0.05)
        output, _ = driver.communicate(timeout=120)
    assert driver.returncode in (0, 3), output  # on a busy machine no level may be valid
    (found,) = finished(wattfront)
    assert isinstance(found.result, Completed), output
    loads = [point.load for point in found.result.points]
    assert sorted(loads, key=lambda load: int(load.split()[1])) == loads
    assert 2 <= len(loads) <= 3
    arrival = found.result.config.workload.arrival
    assert isinstance(arrival, Adaptive)
    assert set(arrival.tiers) == {"bulk", "standard", "premium"}
    assert shards_on(other) == []
    assert wattfront.leftovers(within_s=15) == []


def test_a_killed_driver_leaves_nothing_on_a_cluster_that_goes_on(
    wattfront: Wattfront, cluster: Cluster
) -> None:
    driver = wattfront.start(
        "tune",
        *wattfront.stub(),
        "cluster=existing",
        f"cluster.address={cluster.address}",
        "workload.level_s=80",
        "workload.level_max_s=90",
    )
    with driver:
        wattfront.wait_for("asked", 1)
        wattfront.wait_for_engine()
        driver.kill()
        driver.wait(timeout=20)
        assert wattfront.leftovers(within_s=15) == []
    command = [sys.executable, "-c", EMPTY_WITHIN, cluster.address, "15"]
    subprocess.run(command, check=True, timeout=60)
