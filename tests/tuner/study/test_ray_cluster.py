"""What a cluster can hold, and what its nodes lack."""

from pathlib import Path

import pytest

from serving.engines.vllm import Vllm
from serving.install.doctor import checks
from serving.install.hub.cache import ModelCache
from serving.topology import Model, Topology
from tests.serving.install.hub.fake_hub import COMMIT, FakeHub
from tests.serving.install.hub.fixtures import fake
from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import Capacity, ClusterError
from tuner.study.joining.nodes import alive_nodes, ask_each, missing_files
from tuner.study.joining.prepare import prepare_nodes
from tuner.study.local_cluster import local_capacity
from tuner.study.ray_cluster import connected

__all__ = ["fake"]
TP8, CORES = Topology(tensor_parallel=8), Topology(cpus=4)


def test_a_load_apart_needs_cores_on_other_nodes() -> None:
    two = Capacity(((8, 0), (8, 0)), (16, 16))
    two.check_apart(TP8, 16)
    with pytest.raises(
        ClusterError, match=r"needs 17 cores for the load on other nodes .* have 16"
    ):
        two.check_apart(TP8, 17)
    with pytest.raises(ClusterError, match=r"needs 1 core .* have 0: add a node"):
        Capacity(((8, 0),), (16,)).check_apart(TP8, 1)
    Capacity(((8, 0), (0, 0)), (0, 4)).check_apart(TP8, 4)


def test_engines_on_cores_leave_the_load_its_own() -> None:
    full = Capacity(((0, 4), (0, 4)), (4, 4), ids=("x", "y"))
    full.check_apart(CORES, 4)
    with pytest.raises(ClusterError, match=r"needs 5 cores .* have 4"):
        full.check_apart(CORES, 5)
    assert full.place(CORES, [], load_cores=4) == "x"
    assert full.place(CORES, [("x", CORES)], load_cores=1) is None
    assert full.place(CORES, [("x", CORES)]) == "y"
    uneven = Capacity(((0, 1), (0, 1)), (1, 2), ids=("x", "y"))
    assert uneven.place(Topology(cpus=1), [], load_cores=2) == "x"


def test_as_many_loads_as_trials_at_a_time() -> None:
    halves = Capacity(((8, 0), (8, 0)), (3, 3))
    with pytest.raises(ClusterError, match=r"8 cores for the load of 4 trials at a time.* have 6"):
        halves.check_apart(Topology(tensor_parallel=4), 2)
    halves.check_apart(TP8, 2)


def test_a_local_cluster_counts_the_cores_that_ray_gets() -> None:
    assert local_capacity(ClusterConfig(cpus=0, gpus=2, nodes=2)).cores == (1, 1)


@pytest.mark.process
def test_what_a_node_lacks(tmp_path: Path, fake: FakeHub) -> None:
    """Files are named, models are fetched, and a node that can't is named."""
    here, gone = tmp_path / "a.csv", tmp_path / "b.csv"
    here.touch()
    model = Model(name="m", source="org/tiny-1B", context_tokens=64, vocabulary=100)
    none = model.model_copy(update={"source": "org/none"})
    said: list[str] = []
    with connected(ClusterConfig(cpus=1, gpus=0)):
        nodes = alive_nodes()
        assert missing_files([here], nodes) == []
        (found,) = ask_each(checks, ["vllm"], nodes=nodes).values()
        (line,) = missing_files([here, gone], nodes)
        prepare_nodes([Vllm()], model, nodes, cpus=True, say=said.append)
        with pytest.raises(ClusterError, match=r"^node \S+: there is no model org/none at "):
            prepare_nodes([Vllm()], none, nodes, cpus=True, say=said.append)
    assert line.startswith(f"{gone} on ")
    assert {"python", "disk", "vllm"} <= {check.name for check in found}
    assert ModelCache("org/tiny-1B").complete(None) == COMMIT
    assert said[0].startswith(
        f"preparing nodes: 0 of 1 ready; {nodes[0]['NodeManagerHostname']}: org/tiny-1B at"
    )
