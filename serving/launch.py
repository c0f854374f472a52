"""`launched(engine, …)`: a running, proven engine for the length of a with block."""

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
from serving.errors import EngineExited, EngineRestarted, LaunchError, StartTimeout, Unhealthy
from serving.install import environments, models
from serving.process.process import Supervised, generations, supervised
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

HOST = "127.0.0.1"
POLL_S, SLOW_POLL_S = 0.05, 0.25
PORT_ATTEMPTS = 3
COMING_AND_GOING_S = 1.0
DEATH_S = 2.0
LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Running:
    """`check()` raises ServingError unless this very engine still runs."""

    endpoint: Endpoint
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Start:
    argv: tuple[str, ...]
    environ: dict[str, str]
    port: int
    served_model: str


class PortTaken(LaunchError):
    """Somebody else took the port between choosing and using it: tried again with another."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to stand up, and where its log goes on the node.

    `twin`: the same command line goes to an emulation of the engine, supervised as that would be.
    """

    engine: Engine
    model: Model
    topology: Topology
    log: Path
    twin: TwinConfig | None = None


@contextmanager
def launched(
    order: Order, *, devices: tuple[str, ...] = (), cores: tuple[int, ...] = ()
) -> Iterator[Running]:
    """Raises ServingError: its class says how it failed, its evidence is the line that says why."""
    engine, log = order.engine, order.log
    if isinstance(engine, External):
        yield _external(engine, order.model)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for attempt in range(PORT_ATTEMPTS):
            try:
                began = time.monotonic()
                start = _start(order, devices)
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
            model=order.model.name,
            generation=process.generation,
            pid=process.engine,
            devices=devices or tuple(f"cpu:{core}" for core in cores),
            startup_s=time.monotonic() - began,
            argv=start.argv,
            environ=tuple(sorted(start.environ.items())),
            engine_version=_version(engine, f"http://{HOST}:{start.port}"),
            modelled=None if order.twin is None else _modelled(f"http://{HOST}:{start.port}"),
        )
        yield Running(endpoint, lambda: _check(engine, process, start.port, listeners, log))


def _start(order: Order, devices: tuple[str, ...]) -> Start:
    engine, model, twin = order.engine, order.model, order.twin
    find = models.locate if twin is None else models.locate_or_name
    launch = Launch(
        executable=executable(engine) if twin is None else engine.default_executable,
        model_path=find(model.source, engine.model_format),
        served_model=model.name,
        host=HOST,
        port=probe.free_port(HOST),
        topology=order.topology,
        context_tokens=model.context_tokens,
        devices=devices,
    )
    argv, environ = tuple(engine.command(launch)), engine.environ(launch)
    if twin is not None:
        argv = (*twin_argv(twin, sys.executable), *argv)
    return Start(argv, environ, launch.port, model.name)


def twin_argv(twin: TwinConfig, python: str) -> tuple[str, ...]:
    """What stands before an engine's own command line when an emulation takes its place."""
    told = twin.model_dump_json(exclude_defaults=True, exclude={"system"})
    config = () if told == "{}" else ("--config", told)
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
    """As a person would type it: what is set in the environment, then the command."""
    settings = [f"{key}={shlex.quote(value)}" for key, value in endpoint.environ]
    return " ".join([*settings, shlex.join(endpoint.argv)])


def plan_command(
    engine: Engine, model: Model, topology: Topology, twin: TwinConfig | None = None
) -> str:
    """The same without starting or needing anything; the port is not known yet."""
    devices = tuple(str(index) for index in range(topology.gpus))
    path = models.locate_or_name(model.source, engine.model_format)
    name = engine.executable or engine.default_executable
    before = () if twin is None else twin_argv(twin, "python")
    probe_ports = (10001, 20002)  # What differs between two ports is the port.
    typed = []
    for port in probe_ports:
        launch = Launch(name, path, model.name, HOST, port, topology, model.context_tokens, devices)
        settings = sorted(engine.environ(launch).items())
        typed.append(
            [f"{key}={shlex.quote(value)}" for key, value in settings]
            + [shlex.quote(part) for part in (*before, *engine.command(launch))]
        )
    return " ".join(
        one if one == other else one.replace(str(probe_ports[0]), "$PORT")
        for one, other in zip(*typed, strict=True)
    )


def tail(log: Path) -> str:
    """The end of a log, as text."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LOG_TAIL_BYTES, 0))
        return file.read().decode(errors="replace")


def _taken(process: Supervised, port: int) -> bool:
    """Whether somebody else holds the port, for longer than sockets that come and go can look like it.

    One may come between looking at the port and at the tree; and of an engine that is dying the socket may be
    there a moment longer than the process that held it.
    """
    deadline = time.monotonic() + COMING_AND_GOING_S
    while time.monotonic() < deadline:
        if not probe.listening(port) or probe.holders(process.tree(), port):
            return False
        time.sleep(POLL_S)
    return True


def _wait_ready(engine: Engine, process: Supervised, start: Start, log: Path) -> frozenset[str]:
    """Ready: our tree and nobody else holds the port, health answers 200, our model is listed.

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
    deadline = time.monotonic() + DEATH_S
    while process.alive():
        if generations(probe.holders(process.tree(), port)) & listeners:
            return
        # A process that was just killed lets go of its port a moment before it counts as dead.
        if time.monotonic() > deadline:
            raise EngineRestarted(f"port {port} is no longer held by who held it at the start", log)
        time.sleep(POLL_S)
    raise _death(engine, process, log)


def _death(engine: Engine, process: Supervised, log: Path) -> Exception:
    deadline = time.monotonic() + DEATH_S
    while process.exit_code() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    code = process.exit_code()
    if code in (126, 127) and "could not start" in tail(log):
        return LaunchError(tail(log).strip().splitlines()[-1], log)
    if code is None:
        return EngineExited("the engine and its supervisor were killed", log)
    return engine.diagnose(code, tail(log), log)


def _version(engine: Engine, url: str) -> str | None:
    """What the engine says; what was installed, where it does not know itself."""
    path, key = engine.version_at
    data = probe.get_json(url + path) if path else None
    told = str(data[key]) if isinstance(data, dict) and key in data else None
    if told is not None and "unknown" not in told:
        return told
    if engine.executable is None and engine.environment in environments.RECIPES:
        return environments.RECIPES[engine.environment].version
    return told


def _modelled(url: str) -> str:
    told = probe.get_json(f"{url}/twin")
    return str(told["version"]) if isinstance(told, dict) and "version" in told else "twin"


def _external(engine: External, model: Model) -> Running:
    url = engine.url.rstrip("/").removesuffix("/v1")
    names = probe.model_names(url)
    if not names:
        raise Unhealthy(f"{url}/v1/models does not answer with a list of models")
    if model.name not in names:
        raise Unhealthy(f"{url} serves {', '.join(names)}, not {model.name} (model.name)")
    endpoint = Endpoint(url, model.name, "external", 0, (), 0.0, (), ())
    return Running(endpoint, lambda: None)
