"""An engine's command line as typed in a shell: of a start that was made, or of one that is planned."""

import shlex

from serving import probe
from serving.endpoint import Endpoint
from serving.engines import Engine, Launch, base
from serving.engines.access import shown
from serving.engines.base import PORT
from serving.errors import LaunchError
from serving.install import models
from serving.launch.contained import EnginePlace, shown_in_container
from serving.launch.located import version_here
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

HOST = probe.LOOPBACK
INLINE = "<("  # a file whose contents are in the command line


def twin_argv(twin: TwinConfig, python: str) -> tuple[str, ...]:
    """Precedes an engine's own command line where an emulation takes its place."""
    settings = twin.model_dump_json(exclude_defaults=True, exclude={"system"})
    config = () if settings == "{}" else ("--config", settings)
    return (python, "-m", "serving.twin", "--system", twin.system, *config, "--")


def shell_command(endpoint: Endpoint) -> str:
    """As typed in a shell: the variables that are set, then the command."""
    settings = [f"{key}={shlex.quote(value)}" for key, value in endpoint.environ]
    return " ".join([*settings, *map(_quoted, endpoint.argv)])


def plan_command(
    engine: Engine,
    model: Model,
    topology: Topology,
    twin: TwinConfig | None = None,
    *,
    apart: bool = False,
) -> str:
    """As `shell_command`, without starting or needing anything; the port reads `$PORT`.

    `apart`: as an engine that other hosts reach; its address reads `$HOST`. Raises LaunchError where the
    engine has no command for this model.
    """
    launch = Launch(
        executable=engine.executable or engine.default_executable,
        model_path=models.locate_or_name(model.source, engine.model_format),
        served_model=model.name,
        host=base.HOST if apart else HOST,
        port=PORT,
        topology=topology,
        context_tokens=model.context_tokens,
        devices=tuple(str(index) for index in range(topology.gpus)),
        revision=model.revision,
        version=None if twin is not None else version_here(engine),
    )
    if why := engine.refuses(topology, model.name):
        raise LaunchError(why)
    before = () if twin is None else twin_argv(twin, "python")
    more, hidden = shown(engine, emulated=twin is not None) if apart else ((), {})
    argv = (*before, *engine.command(launch), *more)
    environ = {**engine.environ(launch), **hidden}
    if twin is None:
        reads, place = (
            (launch.model_path, *engine.further_models),
            EnginePlace(None, launch.devices),
        )
        argv, environ = shown_in_container(engine, argv, environ, reads, place)
    settings = [f"{key}={_quoted(value)}" for key, value in sorted(environ.items())]
    return " ".join([*settings, *map(_quoted, argv)])


def _quoted(word: str) -> str:
    """For a shell, which is to expand `$PORT`, `$HOST` and the file of options, and nothing else."""
    shell = word in (PORT, base.HOST) or word.startswith(INLINE)
    return word if shell else shlex.quote(word)
