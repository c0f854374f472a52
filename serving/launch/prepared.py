"""What a node gets before the first trial: the environments that engines name, and the models of a hub."""

import os
from collections.abc import Callable, Sequence

from serving.engines import Engine, External
from serving.errors import LaunchError
from serving.install import environments
from serving.install.hub.needed import fetch_models
from serving.install.packages.recipes import RECIPES
from serving.launch.located import by_name, executable
from serving.topology import Model

Say = Callable[[str], None]


def prepare_node(
    engines: Sequence[Engine], model: Model, *, cpus: bool, say: Say
) -> dict[str, str]:
    """Installs and fetches what this node lacks. Model → commit. Raises LaunchError. `cpus`: without GPUs."""
    for name, version in missing_environments(engines, cpus=cpus):
        environments.install(name, say, version=version)
    return fetch_models(engines, model, os.environ, say)


def missing_environments(engines: Sequence[Engine], *, cpus: bool) -> list[tuple[str, str | None]]:
    """Name and version of each environment that the engines name and this node lacks."""
    lacking = dict[tuple[str, str | None], None]()
    for engine in engines:
        if isinstance(engine, External) or engine.container is not None:
            continue
        if engine.executable is not None and not by_name(engine):
            continue
        name = engine.environment or _by_version(engine, cpus=cpus)
        if name in RECIPES and environments.find(name, engine.version) is None:
            lacking[name, engine.version] = None
    return list(lacking)


def _by_version(engine: Engine, *, cpus: bool) -> str:
    """The environment for an engine that names its version alone, and is not here; else empty."""
    if engine.version is None:
        return ""
    try:
        executable(engine)
    except LaunchError:
        names = [name for name, recipe in RECIPES.items() if recipe.engine == engine.kind]
        fits = [name for name in names if name.endswith("-cpu") == cpus]
        return next(iter([*fits, *names]), "")
    return ""
