"""The studies of a --multirun."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tuner.config.compose.loader import Loader, opened, parsed
from tuner.config.errors import ConfigError, suggestion

STUDIES_MAX = 10_000  # of one --multirun


def multirun(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """Each combination of the values of a sweep: `a=1,2`, `b=range(1,4)`, `c=choice(x,y)`, `d=glob(*)`."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with opened(config_dir) as loader:
        found = parsed(overrides, loader)
        _check_sweeps(found, loader)
        batches = BasicSweeper.split_arguments(found, max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def _check_sweeps(overrides: Sequence[Any], loader: Loader) -> None:
    """Raises ConfigError for a sweep without values, one that can't be listed, and for too many studies."""
    studies = 1
    for override in overrides:
        if not override.is_sweep_override():
            continue
        line = override.input_line
        if not override.is_discrete_sweep():
            raise ConfigError(f"{line}: an interval has no values to list: use range(…) or a,b,c")
        if override.is_range_sweep() and not override.value().step:
            raise ConfigError(f"{line}: a step of 0 never ends")
        if override.is_range_sweep() and not _finite(override.value()):
            raise ConfigError(f"{line}: a range needs finite ends")
        values = sum(1 for _ in islice(override.sweep_iterator(), STUDIES_MAX + 1))
        if not values:
            known = loader.get_group_options(override.key_or_group)
            raise ConfigError(f"{line}: nothing matches; {suggestion('', known)}")
        studies *= values
    if studies > STUDIES_MAX:
        raise ConfigError(f"--multirun: more than {STUDIES_MAX:,} studies")


def _finite(sweep: Any) -> bool:
    return all(math.isfinite(each) for each in (sweep.start, sweep.stop, sweep.step))
