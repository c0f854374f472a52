"""Engines of a topology: roles, GPUs and cores."""

from hypothesis import given
from hypothesis import strategies as st

from serving.topology import Layout, Topology

sizes = st.integers(1, 8)
layouts = st.builds(
    Layout,
    tensor_parallel=sizes,
    pipeline_parallel=sizes,
    data_parallel=sizes,
    replicas=st.integers(1, 4),
)


@given(layouts, st.none() | layouts)
def test_the_gpus_of_a_topology_are_those_of_its_engines(
    own: Layout, prefill: Layout | None
) -> None:
    topology = Topology(**dict(own), prefill=prefill)
    members = topology.members
    assert sum(each.topology.gpus for each in members) == topology.gpus == topology.devices
    assert all(each.topology.members[0].topology == each.topology for each in members)
    roles = [each.role for each in members]
    if prefill is None:
        assert roles == [""] * own.replicas
    else:
        assert roles == ["prefill"] * prefill.replicas + ["decode"] * own.replicas
    assert topology.cores == 0


@given(st.integers(1, 16), sizes, st.none() | layouts)
def test_each_engine_without_gpus_has_its_cores(
    cpus: int, replicas: int, prefill: Layout | None
) -> None:
    topology = Topology(cpus=cpus, replicas=replicas, prefill=prefill)
    assert (topology.gpus, topology.devices) == (0, 1)
    assert topology.cores == cpus * len(topology.members)
    assert topology.fits(0, topology.cores)
    assert not topology.fits(8, topology.cores - 1)
