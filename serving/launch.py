"""`launched(engine, …)`: a running, proven engine for the length of a with block."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving import environments, models, probe
from serving.endpoint import Endpoint
from serving.engines import Engine, External, Launch
from serving.errors import EngineExited, LaunchError, StartTimeout, Unhealthy
from serving.process import Supervised, supervised
from serving.topology import Model, Topology

HOST = "127.0.0.1"
POLL_S = 0.05
LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Running:
    """`check()` raises ServingError unless this very engine still runs."""

    endpoint: Endpoint
    check: Callable[[], None]


@contextmanager
def launched(
    engine: Engine,
    model: Model,
    topology: Topology,
    *,
    devices: tuple[str, ...] = (),
    cores: tuple[int, ...] = (),
    log: Path,
) -> Iterator[Running]:
    """Raises ServingError: of a class that says how it failed, with the line of the log that says why."""
    if isinstance(engine, External):
        yield _external(engine, model)
        return
    port = probe.free_port(HOST)
    launch = Launch(
        executable=executable(engine),
        model_path=models.locate(model.source, engine.model_format),
        served_model=model.name,
        host=HOST,
        port=port,
        topology=topology,
        context_tokens=model.context_tokens,
        devices=devices,
    )
    argv, environ, began = engine.command(launch), engine.environ(launch), time.monotonic()
    log.touch()
    with supervised(argv, environ, log, cores=cores) as process:
        _wait_ready(engine, process, port, log)
        url = f"http://{HOST}:{port}"
        endpoint = Endpoint(
            base_url=url,
            model=model.name,
            generation=process.generation,
            pid=process.engine,
            devices=devices or tuple(f"cpu:{core}" for core in cores),
            startup_s=time.monotonic() - began,
            argv=tuple(argv),
            environ=tuple(sorted(environ.items())),
            engine_version=_version(engine, url),
        )
        yield Running(endpoint, lambda: _check(engine, process, log))


def executable(engine: Engine) -> str:
    """The path of the engine's command. Raises LaunchError with what to do."""
    if engine.executable is not None:
        found = shutil.which(engine.executable)
        if found is None:
            raise LaunchError(f"no executable {engine.executable} (engine.{engine.kind}.executable)")
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


def plan_command(engine: Engine, model: Model, topology: Topology) -> str:
    """The same without starting or needing anything; the port is not known yet."""
    devices = tuple(str(index) for index in range(topology.gpus))
    path = models.locate_or_name(model.source, engine.model_format)
    name = engine.executable or engine.default_executable
    launch = Launch(name, path, model.name, HOST, 0, topology, model.context_tokens, devices)
    argv = [part if part != "0" else "$PORT" for part in engine.command(launch)]
    settings = [f"{key}={shlex.quote(value)}" for key, value in sorted(engine.environ(launch).items())]
    return " ".join([*settings, *(part if part == "$PORT" else shlex.quote(part) for part in argv)])


def tail(log: Path) -> str:
    """The end of a log, as text."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LOG_TAIL_BYTES, 0))
        return file.read().decode(errors="replace")


def _wait_ready(engine: Engine, process: Supervised, port: int, log: Path) -> None:
    """Ready is: a process of our tree holds the port, and its health page answers 200."""
    deadline = time.monotonic() + engine.start_timeout_s
    url = f"http://{HOST}:{port}{engine.health_path}"
    while True:
        if not process.alive():
            raise _death(engine, process, log)
        if probe.listens(process.tree(), port) and probe.healthy(url):
            return
        if probe.taken(port) and not probe.listens(process.tree(), port):
            raise LaunchError(f"port {port} was taken by another process between choosing and using it", log)
        if time.monotonic() > deadline:
            lines = tail(log).strip().splitlines()
            last = lines[-1] if lines else "the log is empty"
            raise StartTimeout(f"not ready within {engine.start_timeout_s:g} s; last line: {last}", log)
        time.sleep(POLL_S)


def _check(engine: Engine, process: Supervised, log: Path) -> None:
    if not process.alive():
        raise _death(engine, process, log)


def _death(engine: Engine, process: Supervised, log: Path) -> Exception:
    deadline = time.monotonic() + 2.0
    while process.exit_code() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    code = process.exit_code()
    if code in (126, 127) and "could not start" in tail(log):
        return LaunchError(tail(log).strip().splitlines()[-1], log)
    if code is None:
        return EngineExited("the engine and its supervisor were killed", log)
    return engine.diagnose(code, tail(log), log)


def _version(engine: Engine, url: str) -> str | None:
    path, key = engine.version_at
    data = probe.get_json(url + path) if path else None
    return str(data[key]) if isinstance(data, dict) and key in data else None


def _external(engine: External, model: Model) -> Running:
    url = engine.url.rstrip("/").removesuffix("/v1")
    names = probe.model_names(url)
    if not names:
        raise Unhealthy(f"{url}/v1/models does not answer with a list of models")
    if model.name not in names:
        raise Unhealthy(f"{url} serves {', '.join(names)}, not {model.name} (model.name)")
    endpoint = Endpoint(url, model.name, "external", 0, (), 0.0, (), ())
    return Running(endpoint, lambda: None)
