"""Where an engine's command is, and of which version."""

import shutil

from serving.engines import Engine
from serving.engines.flags.installed import installed_version, same_version
from serving.errors import LaunchError
from serving.install import environments
from serving.install.packages.recipes import RECIPES
from serving.process.containers.owned import client_of


def located(engine: Engine) -> tuple[str, str | None]:
    """The path of the engine's command, on the node or in its image, and its version. Raises LaunchError."""
    if engine.container is not None:
        path = engine.executable or engine.default_executable
        return path, engine.container.version_of(engine.framework)
    path = executable(engine)
    return path, installed_version(path, engine.packages)


def version_here(engine: Engine) -> str | None:
    """The version of the engine that this machine has; None: it has none, or one that can't be told."""
    if not engine.packages:
        return None
    try:
        return located(engine)[1]
    except LaunchError:
        return None


def executable(engine: Engine) -> str:
    """The path of the engine's command, or of its container's runtime. Raises LaunchError with what to do."""
    if engine.container is not None:
        return client_of(engine.container.runtime, engine.kind)
    if engine.executable is not None and not by_name(engine):
        found = shutil.which(engine.executable)
        if found is None:
            raise LaunchError(
                f"no executable {engine.executable} (engine.{engine.kind}.executable)"
            )
        return found
    if engine.environment is not None:
        name, command = engine.environment, engine.default_executable
        return str(environments.locate(name, command, engine.version))
    found = shutil.which(engine.default_executable)
    if engine.version is not None:
        return _of_version(engine, engine.version, found)
    if found is None:
        raise LaunchError(
            f"{engine.default_executable} is not on PATH: install it, or name its path in "
            f"engine.{engine.kind}.executable"
        )
    return found


def router_executable(environment: str, command: str) -> str:
    """The path of a router's command: in its environment, else on PATH. Raises LaunchError with what to do."""
    if environments.find(environment) is not None:
        return str(environments.locate(environment, command, None))
    found = None if command == "python" else shutil.which(command)
    if found is None:
        raise LaunchError(
            f"there is no {environment}, which spreads requests over several engines: run `wattfront engines "
            f"install {environment}`, or choose another by topology.router"
        )
    return found


def by_name(engine: Engine) -> bool:
    """Whether it names its command as it is called anyway, and a version: an environment may have it."""
    return engine.executable == engine.default_executable and engine.version is not None


def _of_version(engine: Engine, version: str, on_path: str | None) -> str:
    """The command on PATH where it has the version, else that of the environment that has it."""
    there = None if on_path is None else installed_version(on_path, engine.packages)
    if on_path is not None and (there is None or same_version(there, version)):
        return on_path
    found = environments.having(engine.kind, version)
    if len(found) == 1:
        return str(environments.locate(found[0].name, engine.default_executable, version))
    key = f"engine.{engine.kind}"
    if found:
        names = " and ".join(each.name for each in found)
        raise LaunchError(
            f"{names} are installed in version {version}: choose by {key}.environment"
        )
    has = "is not on PATH" if there is None else f"on PATH is {there}"
    commands = " or ".join(
        f"`wattfront engines install {recipe.name}=={version}`"
        for recipe in RECIPES.values()
        if recipe.engine == engine.kind
    )
    todo = f"run {commands}, or name" if commands else "name"
    raise LaunchError(
        f"{engine.default_executable} {version} ({key}.version): the command {has}, and no environment "
        f"has it: {todo} its path in {key}.executable"
    )
