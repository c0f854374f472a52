"""`launched(spec)`: an engine for the length of a with block, verified to be the one that was started."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving import probe
from serving.endpoint import Endpoint
from serving.engines import Engine, External, Launch
from serving.engines.base import PORT
from serving.errors import EngineExited, EngineRestarted, LaunchError, StartTimeout, Unhealthy
from serving.install import environments, models
from serving.process.process import Supervised, generations, supervised
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

HOST = "127.0.0.1"
POLL_S, SLOW_POLL_S = 0.05, 0.25
PORT_ATTEMPTS = 3
TRANSIENT_SOCKET_S = 1.0
EXIT_S = 2.0
LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Running:
    """`check()` raises ServingError unless this very engine still runs."""

    endpoint: Endpoint
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to start an engine, on one port."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    port: int
    served_model: str


class PortTaken(LaunchError):
    """Another process took the port between its choice and its use: retried on another port."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to start, and where its log goes on the node.

    `twin`: an emulation of the engine is started in its place, with the same command line.
    """

    engine: Engine
    model: Model
    topology: Topology
    log: Path
    twin: TwinConfig | None = None


@contextmanager
def launched(
    spec: LaunchSpec, *, devices: tuple[str, ...] = (), cores: tuple[int, ...] = ()
) -> Iterator[Running]:
    """Starts the engine on `devices` or pinned to `cores`, and stops it at the end of the block.

    Raises ServingError: its class says how it failed, its evidence is the line that says why.
    """
    engine, log = spec.engine, spec.log
    if isinstance(engine, External):
        yield _external(engine, spec.model)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for attempt in range(PORT_ATTEMPTS):
            try:
                began = time.monotonic()
                start = _start(spec, devices)
                process = stack.enter_context(
                    supervised(
                        start.argv, start.environ, log, grace_s=engine.stop_grace_s, cores=cores
                    )
                )
                listeners = _wait_ready(engine, process, start, log)
                break
            except PortTaken:
                stack.close()
                if attempt + 1 == PORT_ATTEMPTS:
                    raise
                log.unlink(missing_ok=True)
        endpoint = Endpoint(
            base_url=f"http://{HOST}:{start.port}",
            model=spec.model.name,
            generation=process.generation,
            pid=process.engine,
            devices=devices or tuple(f"cpu:{core}" for core in cores),
            startup_s=time.monotonic() - began,
            argv=start.argv,
            environ=tuple(sorted(start.environ.items())),
            engine_version=_version(engine, f"http://{HOST}:{start.port}"),
            modelled=None if spec.twin is None else _modelled(f"http://{HOST}:{start.port}"),
        )
        yield Running(endpoint, lambda: _check(engine, process, start.port, listeners, log))


def _start(spec: LaunchSpec, devices: tuple[str, ...]) -> Start:
    engine, model, twin = spec.engine, spec.model, spec.twin
    find = models.locate if twin is None else models.locate_or_name
    port = probe.free_port(HOST)
    launch = Launch(
        executable=executable(engine) if twin is None else engine.default_executable,
        model_path=find(model.source, engine.model_format),
        served_model=model.name,
        host=HOST,
        port=port,
        topology=spec.topology,
        context_tokens=model.context_tokens,
        devices=devices,
        revision=model.revision,
    )
    argv, environ = tuple(engine.command(launch)), engine.environ(launch)
    if twin is not None:
        argv = (*twin_argv(twin, sys.executable), *argv)
    return Start(argv, environ, port, model.name)


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
    return " ".join([*settings, shlex.join(endpoint.argv)])


def plan_command(
    engine: Engine, model: Model, topology: Topology, twin: TwinConfig | None = None
) -> str:
    """As `shell_command`, without starting or needing anything; the port reads `$PORT`.

    Raises LaunchError where the engine has no command for this model.
    """
    launch = Launch(
        executable=engine.executable or engine.default_executable,
        model_path=models.locate_or_name(model.source, engine.model_format),
        served_model=model.name,
        host=HOST,
        port=PORT,
        topology=topology,
        context_tokens=model.context_tokens,
        devices=tuple(str(index) for index in range(topology.gpus)),
        revision=model.revision,
    )
    before = () if twin is None else twin_argv(twin, "python")
    settings = sorted(engine.environ(launch).items())
    return " ".join(
        [f"{key}={_quoted(value)}" for key, value in settings]
        + [_quoted(part) for part in (*before, *engine.command(launch))]
    )


def _quoted(word: str) -> str:
    """For a shell, which is to expand `$PORT` and nothing else."""
    return word if word == PORT else shlex.quote(word)


def tail(log: Path) -> str:
    """The last LOG_TAIL_BYTES of a log, as text; empty if there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LOG_TAIL_BYTES, 0))
        return file.read().decode(errors="replace")


def _taken(process: Supervised, port: int) -> bool:
    """Whether another process holds the port, seen for longer than a socket of our own can look like that.

    Ours may appear between the look at the port and the look at the process tree; and the socket of an engine
    that is exiting may outlive the process that held it for a moment.
    """
    deadline = time.monotonic() + TRANSIENT_SOCKET_S
    while time.monotonic() < deadline:
        if not probe.listening(port) or probe.holders(process.tree(), port):
            return False
        time.sleep(POLL_S)
    return True


def _wait_ready(engine: Engine, process: Supervised, start: Start, log: Path) -> frozenset[str]:
    """Waits until our process tree alone holds the port, health answers 200 and the model is listed.

    Returns the generations of the processes that hold the port.
    """
    began, port, url = time.monotonic(), start.port, f"http://{HOST}:{start.port}"
    listeners: frozenset[int] = frozenset()
    while True:
        if not process.alive():
            if not listeners and _taken(process, port):
                raise PortTaken(f"port {port} was taken by another process", log)
            raise _death(engine, process, log)
        if probe.listening(port):
            listeners = probe.holders(process.tree(), port)
            if not listeners and _taken(process, port):
                raise PortTaken(f"port {port} was taken by another process", log)
            if listeners and probe.healthy(url + engine.health_path):
                names = probe.model_names(url)
                if start.served_model in names:
                    return generations(listeners)
                if names:
                    raise Unhealthy(
                        f"the engine serves {', '.join(names)}, not {start.served_model}", log
                    )
        waited_s = time.monotonic() - began
        if waited_s > engine.start_timeout_s:
            last = (tail(log).strip().splitlines() or ["the log is empty"])[-1]
            raise StartTimeout(
                f"not ready within {engine.start_timeout_s:g} s; last line: {last}", log
            )
        time.sleep(POLL_S if waited_s < 5 else SLOW_POLL_S)


def _check(
    engine: Engine, process: Supervised, port: int, listeners: frozenset[str], log: Path
) -> None:
    deadline = time.monotonic() + EXIT_S
    while process.alive():
        if generations(probe.holders(process.tree(), port)) & listeners:
            return
        # A process that was just killed releases its port a moment before it counts as dead.
        if time.monotonic() > deadline:
            raise EngineRestarted(
                f"port {port} is no longer held by the process that held it at the start", log
            )
        time.sleep(POLL_S)
    raise _death(engine, process, log)


def _death(engine: Engine, process: Supervised, log: Path) -> Exception:
    deadline = time.monotonic() + EXIT_S
    while process.exit_code() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    code = process.exit_code()
    if code in (126, 127) and "could not start" in tail(log):
        return LaunchError(tail(log).strip().splitlines()[-1], log)
    if code is None:
        return EngineExited("the engine and its supervisor were killed", log)
    return engine.diagnose(code, tail(log), log)


def _version(engine: Engine, url: str) -> str | None:
    """The version that the engine reports, else that of its environment."""
    path, key = engine.version_at
    data = probe.get_json(url + path) if path else None
    reported = str(data[key]) if isinstance(data, dict) and key in data else None
    if reported is not None and "unknown" not in reported:
        return reported
    if engine.executable is None and engine.environment in environments.RECIPES:
        return environments.RECIPES[engine.environment].version
    return reported


def _modelled(url: str) -> str:
    data = probe.get_json(f"{url}/twin")
    return str(data["version"]) if isinstance(data, dict) and "version" in data else "twin"


def _external(engine: External, model: Model) -> Running:
    url = engine.url.rstrip("/").removesuffix("/v1")
    names = probe.model_names(url)
    if not names:
        raise Unhealthy(f"{url}/v1/models does not answer with a list of models")
    if model.name not in names:
        raise Unhealthy(f"{url} serves {', '.join(names)}, not {model.name} (model.name)")
    endpoint = Endpoint(url, model.name, "external", 0, (), 0.0, (), ())
    return Running(endpoint, lambda: None)
