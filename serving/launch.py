"""`launched(spec)`: an engine for the length of a with block, verified to be the one that was started."""

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from serving import probe
from serving.endpoint import Endpoint
from serving.engines import Engine, External, Launch, base
from serving.engines.access import Access, granted, shown
from serving.engines.base import PORT, check_passed
from serving.engines.flags.installed import installed_version
from serving.engines.ready import Start, check_running, wait_ready
from serving.errors import BadFlags, LaunchError, PortTaken, Unhealthy
from serving.install import environments, models
from serving.process.process import supervised
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

HOST = probe.LOOPBACK
PORT_ATTEMPTS = 3
INLINE = "<("  # a file whose contents are in the command line


@dataclass(frozen=True, slots=True)
class Running:
    """`check()` raises ServingError unless this very engine still runs; `canary()`: unless it also makes
    progress, which costs it a request.
    """

    endpoint: Endpoint
    check: Callable[[], None]
    canary: Callable[[], None]


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to start, and where its log goes on the node.

    `twin`: an emulation of the engine is started in its place, with the same command line. `apart`: other
    hosts have to reach it, so it listens on its node's address and asks for an API key. `mark`: as in
    `supervised`.
    """

    engine: Engine
    model: Model
    topology: Topology
    log: Path
    twin: TwinConfig | None = None
    apart: bool = False
    mark: str = ""


@contextmanager
def launched(
    spec: LaunchSpec,
    *,
    devices: tuple[str, ...] = (),
    cores: tuple[int, ...] = (),
    host: str = HOST,
) -> Iterator[Running]:
    """Starts the engine on `devices` or pinned to `cores`, and stops it at the end of the block.

    `host`: the address on which it listens. Raises ServingError: its class says how it failed, its evidence is
    the line that says why.
    """
    engine, log = spec.engine, spec.log
    if isinstance(engine, External):
        yield _external(engine, spec.model)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        granted(engine, log, apart=spec.apart, emulated=spec.twin is not None) as access,
        ExitStack() as stack,
    ):
        for attempt in range(PORT_ATTEMPTS):
            try:
                began = time.monotonic()
                start = _start(spec, devices, host, access)
                own = stack.enter_context(_own_sockets(engine))
                process = stack.enter_context(
                    supervised(
                        (*start.argv, *access.argv),
                        {**own, **start.environ, **access.environ},
                        log,
                        grace_s=engine.stop_grace_s,
                        cores=cores,
                        inherits=start.inherits,
                        mark=spec.mark,
                    )
                )
                listeners = wait_ready(engine, process, start, log)
                break
            except PortTaken:
                stack.close()
                if attempt + 1 == PORT_ATTEMPTS:
                    raise
                log.unlink(missing_ok=True)
        endpoint = Endpoint(
            base_url=start.url,
            model=start.served_model,
            generation=process.generation,
            pid=process.engine,
            devices=devices or tuple(f"cpu:{core}" for core in cores),
            startup_s=time.monotonic() - began,
            argv=(*start.shown_argv, *access.shown_argv),
            environ=tuple(sorted({**start.environ, **access.shown_environ}.items())),
            engine_version=_version(engine, start),
            api_key=access.api_key,
            modelled=None if spec.twin is None else _modelled(start),
        )
        check = partial(check_running, engine, process, start, listeners, log)
        yield Running(endpoint, check, partial(check, canary=True))


@contextmanager
def _own_sockets(engine: base.BaseEngine) -> Iterator[dict[str, str]]:
    """A private folder for the sockets between the engine's processes, which leave them if they are killed."""
    if not engine.sockets_variable:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="wattfront-ipc-") as folder:
        yield {engine.sockets_variable: folder}


def _start(spec: LaunchSpec, devices: tuple[str, ...], host: str, access: Access) -> Start:
    engine, model, twin = spec.engine, spec.model, spec.twin
    check_passed(engine.kind, engine.env_passthrough)
    find = models.locate if twin is None else models.locate_or_name
    port = probe.free_port(host)
    path = executable(engine) if twin is None else engine.default_executable
    launch = Launch(
        executable=path,
        model_path=find(model.source, engine.model_format),
        served_model=model.name,
        host=host,
        port=port,
        topology=spec.topology,
        context_tokens=model.context_tokens,
        devices=devices,
        revision=model.revision,
        version=None if twin is not None else installed_version(path, engine.packages),
    )
    if twin is None:
        _check(engine, launch)
    before = () if twin is None else twin_argv(twin, sys.executable)
    shown_argv, environ = (*before, *engine.command(launch)), engine.environ(launch)
    launch = _with_options(engine, launch, spec.log)
    argv = (*before, *engine.command(launch))
    downloads = twin is None and not Path(launch.model_path).exists()
    inherits = engine.passed(downloads=downloads)
    served = engine.served_name(launch)
    return Start(argv, shown_argv, environ, inherits, host, port, served, access)


def _check(engine: base.BaseEngine, launch: Launch) -> None:
    """Raises LaunchError where the engine can't be started so."""
    if why := engine.refuses(launch.topology, launch.served_model):
        raise LaunchError(why)
    if fatal := [each.text for each in engine.findings(launch) if each.fatal]:
        raise BadFlags(f"engine.{engine.framework}: {'; '.join(fatal)}")


def _with_options(engine: base.BaseEngine, launch: Launch, log: Path) -> Launch:
    """Writes the engine's file of options beside its log, readable by its owner alone."""
    text = engine.options(launch)
    if not text:
        return launch
    path = log.with_name(f"{log.stem}-options.yaml")
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(text)
    return replace(launch, options_path=str(path))


def twin_argv(twin: TwinConfig, python: str) -> tuple[str, ...]:
    """Precedes an engine's own command line where an emulation takes its place."""
    settings = twin.model_dump_json(exclude_defaults=True, exclude={"system"})
    config = () if settings == "{}" else ("--config", settings)
    return (python, "-m", "serving.twin", "--system", twin.system, *config, "--")


def executable(engine: Engine) -> str:
    """The path of the engine's command. Raises LaunchError with what to do."""
    if engine.executable is not None:
        found = shutil.which(engine.executable)
        if found is None:
            raise LaunchError(
                f"no executable {engine.executable} (engine.{engine.kind}.executable)"
            )
        return found
    if engine.environment is not None:
        return str(environments.locate(engine.environment, engine.default_executable))
    found = shutil.which(engine.default_executable)
    if found is None:
        raise LaunchError(
            f"{engine.default_executable} is not on PATH: install it, or name its path in "
            f"engine.{engine.kind}.executable"
        )
    return found


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
    settings = sorted({**engine.environ(launch), **hidden}.items())
    return " ".join(
        [f"{key}={_quoted(value)}" for key, value in settings]
        + [_quoted(part) for part in (*before, *engine.command(launch), *more)]
    )


def version_here(engine: Engine) -> str | None:
    """The version of the engine that this machine has; None: it has none, or one that can't be told."""
    if not engine.packages:
        return None
    try:
        return installed_version(executable(engine), engine.packages)
    except LaunchError:
        return None


def _quoted(word: str) -> str:
    """For a shell, which is to expand `$PORT`, `$HOST` and the file of options, and nothing else."""
    shell = word in (PORT, base.HOST) or word.startswith(INLINE)
    return word if shell else shlex.quote(word)


def _version(engine: Engine, start: Start) -> str | None:
    """The version that the engine reports, else that of its environment."""
    path, key = engine.version_at
    data = probe.get_json(start.url + path, start.access.api_key) if path else None
    reported = str(data[key]) if isinstance(data, dict) and key in data else None
    if reported is not None and "unknown" not in reported:
        return reported
    if engine.executable is None and engine.environment in environments.RECIPES:
        return environments.RECIPES[engine.environment].version
    return reported


def _modelled(start: Start) -> str:
    data = probe.get_json(f"{start.url}/twin", start.access.api_key)
    return str(data["version"]) if isinstance(data, dict) and "version" in data else "twin"


def _external(engine: External, model: Model) -> Running:
    """Names the server. If it can't be reached, the load says why: it has all TLS options."""
    url, key = engine.base_url, os.environ.get(engine.key_variable, "").strip() or None
    names = probe.model_names(url, key)
    if names and model.name not in names:
        raise Unhealthy(f"{url} serves {', '.join(names)}, not {model.name} (model.name)")
    endpoint = Endpoint(url, model.name, "external", 0, (), 0.0, (), (), api_key=key)
    return Running(endpoint, lambda: None, lambda: None)
