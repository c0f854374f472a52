"""What we use of Hydra that is not its public interface, and may change with any version."""

import inspect

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

WHY = (
    "hydra changed: tuner.config.compose.multirun expands sweeps with BasicSweeper.split_arguments, "
    "which is no public interface. Keep hydra-core at its pinned version, or change multirun and this test."
)


def test_hydra_expands_sweeps_through_the_interface_that_we_use() -> None:
    split = getattr(BasicSweeper, "split_arguments", None)
    assert split is not None, WHY
    assert isinstance(inspect.getattr_static(BasicSweeper, "split_arguments"), staticmethod), WHY
    assert list(inspect.signature(split).parameters) == ["overrides", "max_batch_size"], WHY
    assert split([], max_batch_size=None) == [[[]]], WHY
