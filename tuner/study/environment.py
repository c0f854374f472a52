"""What the processes that a study starts inherit of its environment."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from serving.process.environ import ACCELERATED, PYTHON, RAY, inherited
from serving.telemetry.sources.config import Ipmi, Redfish
from serving.telemetry.sources.ipmi import CREDENTIALS as IPMI_CREDENTIALS
from serving.telemetry.sources.redfish import CREDENTIALS as REDFISH_CREDENTIALS
from tuner.config.study import StudyConfig


@contextmanager
def narrowed(names: Iterable[str]) -> Iterator[None]:
    """This process's environment without all that `names` do not cover: for starting others in the block.

    No other thread may need the rest meanwhile.
    """
    before = dict(os.environ)
    kept = inherited(before, names)
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        for name in before.keys() - kept.keys():
            os.environ.setdefault(name, before[name])


def needed_by_simulation() -> tuple[str, ...]:
    """The variables that a process of the virtual clock needs, names or patterns."""
    return (*ACCELERATED, *PYTHON)


def needed_by_ray(study: StudyConfig) -> tuple[str, ...]:
    """The variables that the local Ray needs for the study's engines, meters and load, names or patterns.

    Of secrets: those with which these engines download a model, `env_passthrough`, headers of requests, and the
    user and password of a management controller if one is read.
    """
    emulated = study.hardware.twin is not None
    engines = (engine.passed(downloads=not emulated) for engine in study.engine.values())
    names = [*RAY, *(name for passed in engines for name in passed)]
    names += study.workload.request.headers_from_env.values()
    for source in () if emulated else study.power.sources.values():
        if isinstance(source, Redfish):
            names += REDFISH_CREDENTIALS
        if isinstance(source, Ipmi):
            names += IPMI_CREDENTIALS
    return tuple(names)
