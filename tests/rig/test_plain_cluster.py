"""Studies on a cluster that was started by `ray start` and nothing else, over three hosts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.conftest import HEAD, QUIET, Studies, on_host, start_head, start_workers, until
from tests.rig.hosts import Host, hosts

pytestmark = pytest.mark.process

PARALLEL = "engine.llamacpp.parallel"
AHEAD_S = 5000

TENANT = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_gpus=1, num_cpus=0, scheduling_strategy="SPREAD")
class Tenant:
    def present(self): pass
held = [Tenant.remote() for _ in range(2)]
ray.get([each.present.remote() for each in held])
print("holds", flush=True)
sys.stdin.read()
"""
JOIN = """
import sys
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import ClusterError
from tuner.study.joining.address import address_of, authenticated
try:
    address = address_of(sys.argv[1])
    with authenticated(address):
        print("joined")
except ClusterError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[list[Host]]:
    """Two GPUs on b and c, none on a. The monotonic clock of a is ahead, as if it had booted earlier."""
    with hosts("a", "b", "c", ahead_s={"a": AHEAD_S}) as rig:
        start_head(rig[0], "--num-cpus=2", "--num-gpus=0")
        start_workers(*rig[1:])
        yield rig


@pytest.fixture
def studies(rig: list[Host], tmp_path: Path) -> Studies:
    return Studies(tmp_path, rig[0])


def test_beside_and_on_every_host_although_there_is_a_token_file(
    rig: list[Host], studies: Studies
) -> None:
    """Two-GPU trials, one on each host at a time. The cluster asks for no token."""
    rig[0].run(
        [
            "sh",
            "-c",
            "mkdir -p $HOME/.ray; echo 0123456789abcdef0123456789abcdef > $HOME/.ray/auth_token",
        ]
    )
    points = [f"{{{PARALLEL}: {n}, topology.tensor_parallel: 2}}" for n in range(1, 4)]
    code, output = studies.run(*studies.arguments(*points))
    assert code in (0, 3), output
    found = studies.results()
    assert [each.result.status for each in found] == ["completed"] * 3, output
    assert {each.result.provenance["host"] for each in found} == {"b", "c"}
    rig[0].run(["sh", "-c", "rm -r $HOME/.ray"])


def test_apart(studies: Studies) -> None:
    """The load runs on a, which has no GPU and another clock, and the engine on b or c."""
    code, output = studies.run(
        *studies.arguments(f"{{{PARALLEL}: 2}}"), "workload.placement=apart", "workload.shards=1"
    )
    assert code in (0, 3), output
    (found,) = studies.results()
    assert found.result.status == "completed", output
    for point in found.result.points:
        assert 0 <= point.metrics["ttft_p50_ms"] < AHEAD_S * 500


def test_other_tenants_are_waited_for_and_the_wait_ends(rig: list[Host], studies: Studies) -> None:
    tenant = rig[0].start([sys.executable, "-c", TENANT, HEAD], env=QUIET, stdin=-1, stdout=-1)
    with tenant, until(tenant, "holds"):
        wanted = studies.arguments(f"{{{PARALLEL}: 1, topology.tensor_parallel: 2}}")
        code, output = studies.run(*wanted, "cluster.wait_s=20")
        assert code == 4, output
        last = output.strip().splitlines()[-1]
        assert "waited 2" in last
        assert "2 GPUs: node c has 1 free, node b has 1 free" in last
        with studies.start("resume", str(studies.study())) as driver, until(driver, "waits for"):
            assert tenant.stdin is not None
            tenant.stdin.close()
            output, _ = driver.communicate(timeout=240)
        assert driver.returncode in (0, 3), output
    assert [each.result.status for each in studies.results()] == ["completed"]


def test_a_layout_that_no_node_holds_is_never_proposed(studies: Studies) -> None:
    arguments = [word for word in studies.arguments("{}") if not word.startswith("search")]
    code, output = studies.run(
        *arguments,
        "search=grid",
        "+space.parameters.topology.tensor_parallel={type: categorical, choices: [1, 2, 4]}",
        "search.trials=3",
        "search.confirm.candidates=0",
    )
    assert code in (0, 3), output
    assert "1 of 3 layouts of the space, which are 1 of 3 configurations, fit no node" in output
    assert sorted(each.result.config.topology.gpus for each in studies.results()) == [1, 2]


def test_an_address_where_nobody_is_is_one_line(rig: list[Host]) -> None:
    assert "no Ray cluster at 10.77.0.1:6380" in on_host(rig[0], JOIN, "10.77.0.1:6380")
    assert "no Ray cluster at 10.77.0.9:6379" in on_host(rig[0], JOIN, "10.77.0.9:6379")
