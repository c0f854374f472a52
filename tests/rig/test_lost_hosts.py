"""A host that can't be reached for a while, and one that is lost for good, in the middle of a study."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.conftest import Studies, start_head, start_workers
from tests.rig.hosts import Host, hosts
from tuner.trial.result import Failed

pytestmark = pytest.mark.process

PARALLEL, GPUS = "engine.llamacpp.parallel", "topology.tensor_parallel"
# A dead host is found within 10 to 20 s instead of minutes.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "10",
}
PARTITION_S = 4.0


@pytest.fixture(scope="module")
def rig() -> Iterator[list[Host]]:
    """Two GPUs on b, four on c."""
    with hosts("a", "b", "c") as rig:
        start_head(rig[0], "--num-cpus=2", "--num-gpus=0", **HEALTH)
        start_workers(rig[1], **HEALTH)
        start_workers(rig[2], gpus=4, **HEALTH)
        yield rig


def wait_for_engine(studies: Studies, processes: int) -> None:
    deadline = time.monotonic() + 180
    while len(list((studies.folder / "pids").iterdir())) < processes:
        assert time.monotonic() < deadline, "no engine came up"
        time.sleep(0.05)


def test_a_partition_that_heals(rig: list[Host], tmp_path: Path) -> None:
    """The engine's host can't be reached for some seconds: shorter than what makes it dead for Ray."""
    studies = Studies(tmp_path, rig[0])
    points = studies.arguments(f"{{{PARALLEL}: 1, {GPUS}: 4}}")
    with studies.start(*points, "workload.level_s=8", "workload.level_max_s=20") as driver:
        wait_for_engine(studies, 2)
        rig[2].cut_off()
        time.sleep(PARTITION_S)
        rig[2].reconnect()
        output, _ = driver.communicate(timeout=240)
    assert driver.returncode in (0, 3), output
    assert [each.result.status for each in studies.results()] == ["completed"], output


def test_a_lost_host_costs_its_layouts_and_no_more(rig: list[Host], tmp_path: Path) -> None:
    """c holds the large layout and is lost while that runs; what fits b is measured, and the study resumes."""
    studies = Studies(tmp_path, rig[0])
    points = [
        f"{{{PARALLEL}: 1, {GPUS}: 4}}",
        f"{{{PARALLEL}: 1, {GPUS}: 2}}",
        f"{{{PARALLEL}: 2, {GPUS}: 4}}",
        f"{{{PARALLEL}: 2, {GPUS}: 2}}",
    ]
    with studies.start(*studies.arguments(*points), "cluster.wait_s=10") as driver:
        wait_for_engine(studies, 2)
        rig[2].lose()
        output, _ = driver.communicate(timeout=300)
    assert driver.returncode in (0, 3), output
    assert "Best of each tier" in output or "no configuration" in output.lower()
    ended = {each.number: each.result for each in studies.results()}
    lost = ended[0]
    assert isinstance(lost, Failed), output
    assert lost.failure == "NodeLost"
    assert (
        lost.evidence == "no node is left that holds 4 GPUs: node b has 2 free, node a has 0 free"
    )
    assert {result.config.topology.gpus for result in ended.values() if result is not lost} == {2}
    code, output = studies.run("resume", str(studies.study()))
    assert code in (0, 3), output
