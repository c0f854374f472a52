"""Which node a trial gets beside others, and what it waits for."""

from serving.topology import Topology
from tuner.study.capacity import Capacity

ONE, TWO, FOUR = (Topology(tensor_parallel=n) for n in (1, 2, 4))
CORES = Topology(cpus=2)
BUSY = Capacity(((8, 4), (8, 4)), (16, 16), ids=("x", "y"), names=("a", "b"), left=((3, 4), (8, 1)))


def test_the_fullest_node_with_room() -> None:
    assert BUSY.place(TWO, []) == "x"
    assert BUSY.place(FOUR, []) == "y"
    assert BUSY.place(TWO, [("x", TWO)]) == "y"
    assert BUSY.place(CORES, []) == "x"


def test_never_more_than_what_others_leave() -> None:
    running = [("x", TWO), ("y", FOUR), ("y", FOUR)]
    assert BUSY.place(ONE, running) == "x"
    assert BUSY.place(ONE, [*running, ("x", ONE)]) is None
    assert BUSY.place(Topology(cpus=2), [("x", Topology(cpus=4))]) is None


def test_a_trial_of_a_node_that_is_gone_takes_nothing() -> None:
    assert BUSY.place(Topology(tensor_parallel=8), [("z", FOUR)]) == "y"


def test_not_more_trials_at_once_than_configured() -> None:
    assert Capacity(((8, 0),), at_once=1).place(ONE, [("0", ONE)]) is None


def test_what_a_trial_waits_for() -> None:
    text = BUSY.waits_for(Topology(tensor_parallel=8), [("y", ONE)])
    assert text == "8 GPUs: node b has 7 free, node a has 3 free"
    many = Capacity(((8, 0),) * 32)
    assert many.waits_for(CORES, []).endswith("29 more nodes less")
    assert Capacity(()).waits_for(ONE, []) == "1 GPU: there is no node"


def test_the_largest_layout() -> None:
    assert Capacity(((8, 2), (4, 16))).largest == (8, 16)
    assert Topology(tensor_parallel=8).fits(8, 0)
    assert not Topology(tensor_parallel=8).fits(4, 64)
    assert not Topology(cpus=4).fits(8, 2)


def test_nodes_may_be_left_out() -> None:
    assert BUSY.without({"y"}).place(FOUR, []) is None
    assert BUSY.without({"y"}).place(TWO, []) == "x"
    assert BUSY.without(()) == BUSY
    assert BUSY.without({"y"}).largest == BUSY.largest
