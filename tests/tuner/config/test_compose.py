"""What we use of Hydra that is not its public interface, and may change with any version."""

import inspect

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode

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


def test_hydra_searches_folders_and_lists_what_is_missing_as_we_use_it() -> None:
    """`tuner.config.compose.loader` and `choices`: a folder in the search path, `???` in the defaults tree."""
    path = create_config_search_path("file:///ours")
    path.prepend("own", "file:///mine", "schema")
    providers = [each.provider for each in path.get_path()]
    assert providers.index("main") < providers.index("own") < providers.index("schema")
    assert list(inspect.signature(Hydra.create_main_hydra2).parameters) == [
        "task_name",
        "config_search_path",
    ]
    listed = inspect.signature(ConfigLoaderImpl.compute_defaults_list)
    assert list(listed.parameters) == ["self", "config_name", "overrides", "run_mode"]
    source = inspect.getsource(ConfigLoaderImpl.compute_defaults_list)
    assert "skip_missing=run_mode == RunMode.MULTIRUN" in source
    assert RunMode.MULTIRUN
