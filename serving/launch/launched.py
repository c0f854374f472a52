"""`one_launched(spec)`: an engine for the length of a with block, verified to be the one that was started."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from serving import probe
from serving.endpoint import Endpoint
from serving.engines import Engine, External, Launch, base
from serving.engines.access import Access, check_passed, granted
from serving.engines.ready import Start, check_running, wait_ready
from serving.errors import BadFlags, LaunchError, PortTaken, Unhealthy
from serving.install import environments, models
from serving.install.hub.needed import pinned_revision
from serving.launch.contained import Command, EnginePlace, commanded, image_on_node
from serving.launch.located import located
from serving.launch.shown import HOST, twin_argv
from serving.process.process import supervised
from serving.topology import Model, Role, Topology
from serving.twin.config import TwinConfig

PORT_ATTEMPTS = 3


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
    role: Role = ""  # of several engines: what this one does


@contextmanager
def one_launched(
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
        image = image_on_node(engine, log) if spec.twin is None else None
        place = EnginePlace(image, devices, cores)
        for attempt in range(PORT_ATTEMPTS):
            try:
                began = time.monotonic()
                start = _start(spec, devices, host, access)
                command = stack.enter_context(
                    commanded(engine, start, access, place, spec.mark, log)
                )
                process = stack.enter_context(
                    supervised(
                        command.argv,
                        command.environ,
                        log,
                        grace_s=engine.stop_grace_s,
                        cores=cores,
                        inherits=command.inherits,
                        identity=command.identity,
                    )
                )
                listeners = wait_ready(engine, process, start, log)
                break
            except PortTaken:
                stack.close()
                if attempt + 1 == PORT_ATTEMPTS:
                    raise
                log.unlink(missing_ok=True)
        startup_s = time.monotonic() - began
        endpoint = replace(
            _endpoint(spec, start, command, place),
            generation=process.generation,
            pid=process.outside() or process.engine,
            startup_s=startup_s,
        )
        check = partial(check_running, engine, process, start, listeners, log)
        yield Running(endpoint, check, partial(check, canary=True))


def _endpoint(spec: LaunchSpec, start: Start, command: Command, place: EnginePlace) -> Endpoint:
    """What answers there, as it says itself; which process that is, is left out."""
    twin, access = spec.twin is not None, start.access
    return Endpoint(
        base_url=start.url,
        model=start.served_model,
        generation="",
        pid=0,
        devices=place.devices or tuple(f"cpu:{core}" for core in place.cores),
        startup_s=0.0,
        argv=command.shown_argv,
        environ=tuple(sorted(command.shown_environ.items())),
        engine_version=_version(spec.engine, start),
        engine_lock="" if twin or place.image else environments.started(start.argv[0]),
        image_digest="" if place.image is None else place.image.digest or "",
        api_key=access.api_key,
        meeting_port=int(start.transfer_port) or None,
        modelled=_modelled(start) if twin else None,
    )


def _start(spec: LaunchSpec, devices: tuple[str, ...], host: str, access: Access) -> Start:
    engine, model, twin = spec.engine, spec.model, spec.twin
    check_passed(engine.kind, engine.env_passthrough)
    find = models.locate if twin is None else models.locate_or_name
    port = probe.free_port(host)
    path, version = located(engine) if twin is None else (engine.default_executable, None)
    launch = Launch(
        executable=path,
        model_path=find(model.source, engine.model_format),
        served_model=model.name,
        host=host,
        port=port,
        topology=spec.topology,
        context_tokens=model.context_tokens,
        devices=devices,
        revision=model.revision if twin else pinned_revision(engine, model, os.environ),
        version=version,
        transfer_port=probe.free_port(host) if spec.role else 0,
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
    return Start(
        *(argv, shown_argv, environ, inherits, host, port, served, access),
        reads=(launch.model_path, *engine.further_models),
        files=(launch.options_path,) if launch.options_path else (),
        contained=twin is None and engine.container is not None,
        transfer_port=launch.transfer_port,
    )


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


def _version(engine: Engine, start: Start) -> str | None:
    """The version that the engine reports, else that of its environment."""
    path, key = engine.version_at
    data = probe.get_json(start.url + path, start.access.api_key) if path else None
    reported = str(data[key]) if isinstance(data, dict) and key in data else None
    if reported is not None and "unknown" not in reported:
        return reported
    found = environments.environment_of(start.argv[0])
    return reported if found is None else found.version


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
