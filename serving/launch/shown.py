"""An engine's command line as typed in a shell: of a start that was made, or of one that is planned."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from serving import probe
from serving.endpoint import Endpoint
from serving.engines import Engine, Launch, base
from serving.engines.access import shown
from serving.engines.base import PORT
from serving.errors import LaunchError
from serving.install import models
from serving.launch.contained import EnginePlace, shown_in_container
from serving.launch.located import version_here
from serving.launch.routers import ROUTERS, Backend, RouterStart, router_of
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

HOST = probe.LOOPBACK
VARIABLE = re.compile(r"\$[A-Z]+(?:_[A-Z0-9]+)*").fullmatch
BACKEND = re.compile(r"http://[\w.:]+:\$[A-Z]+_\d+").fullmatch
NEXT = " &\n"  # between the commands of several engines
INLINE = "<("  # a file whose contents are in the command line


def twin_argv(twin: TwinConfig, python: str) -> tuple[str, ...]:
    """Precedes an engine's own command line where an emulation takes its place."""
    settings = twin.model_dump_json(exclude_defaults=True, exclude={"system"})
    config = () if settings == "{}" else ("--config", settings)
    return (python, "-m", "serving.twin", "--system", twin.system, *config, "--")


def shell_command(endpoint: Endpoint) -> str:
    """As typed in a shell: the variables that are set, then the command. Several engines, then their router:
    each on a line of its own, in the background but for the last."""
    if endpoint.members:
        alone = replace(endpoint, members=())
        return NEXT.join(map(shell_command, (*endpoint.members, alone)))
    settings = [f"{key}={shlex.quote(value)}" for key, value in endpoint.environ]
    return " ".join([*settings, *map(for_shell, endpoint.argv)])


def plan_command(
    engine: Engine,
    model: Model,
    topology: Topology,
    twin: TwinConfig | None = None,
    *,
    apart: bool = False,
) -> str:
    """As `shell_command`, without starting or needing anything; the port reads `$PORT`, of several
    engines `$PREFILL_0`, `$DECODE_0`, `$ENGINE_0` and so on.

    `apart`: as an engine that other hosts reach; its address reads `$HOST`. Raises LaunchError where the
    engine has no command for this model.
    """
    if why := engine.refuses(topology, model.name):
        raise LaunchError(why)
    if not topology.routed:
        return _plan_one(engine, model, topology, twin, (PORT, ""), 0, apart=apart)
    lines, backends, first = [], [], 0
    for member in topology.members:
        port = f"${(member.role or 'engine').upper()}_{member.number}"
        own = engine.as_member(member)
        meeting = f"{port}_KV" if member.role else ""
        lines.append(
            _plan_one(own, model, member.topology, twin, (port, meeting), first, apart=False)
        )
        backends.append(Backend(member.role, f"http://{HOST}:{port}", meeting))
        first += member.topology.gpus
    lines.append(_plan_router(topology, engine.framework, backends, base.HOST if apart else HOST))
    return NEXT.join(lines)


def _plan_router(topology: Topology, framework: str, backends: Sequence[Backend], host: str) -> str:
    router = ROUTERS[router_of(topology, framework)]
    start = RouterStart(
        router.command, host, PORT, "$METRICS_PORT", backends, more=topology.router_args
    )
    return " ".join(map(for_shell, router.arguments(start)))


def _plan_one(
    engine: Engine,
    model: Model,
    topology: Topology,
    twin: TwinConfig | None,
    ports: tuple[str, str],
    first: int,
    *,
    apart: bool,
) -> str:
    """One engine, on GPUs from `first` on. `ports`: its own, and the one where others fetch its KV cache."""
    launch = Launch(
        executable=engine.executable or engine.default_executable,
        model_path=models.locate_or_name(model.source, engine.model_format),
        served_model=model.name,
        host=base.HOST if apart else HOST,
        port=ports[0],
        transfer_port=ports[1],
        topology=topology,
        context_tokens=model.context_tokens,
        devices=tuple(str(first + index) for index in range(topology.gpus)),
        revision=model.revision,
        version=None if twin is not None else version_here(engine),
    )
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
    settings = [f"{key}={for_shell(value)}" for key, value in sorted(environ.items())]
    return " ".join([*settings, *map(for_shell, argv)])


def for_shell(word: str) -> str:
    """For a shell, which is to expand `$PORT`, `$HOST` and the file of options, and nothing else."""
    if VARIABLE(word) or word.startswith(INLINE):
        return word
    return f'"{word}"' if BACKEND(word) else shlex.quote(word)
