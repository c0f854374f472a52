"""What this machine has and lacks for each engine, and what to do about it."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.engines import ENGINES, BaseEngine
from serving.engines.base import ModelFormat
from serving.install import environments, models
from serving.install.hub.cache import cached_models, is_offline
from serving.install.packages.recipes import RECIPES
from serving.probe import free_port
from serving.process import home as kept
from serving.process.containers.facts import runtime_facts
from serving.process.environ import ACCELERATED, HUB_TOKENS, inherited
from serving.telemetry.base import SourceError
from serving.telemetry.nvml import driver
from serving.telemetry.sources import rapl

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `fix`: what to do where the state is not ok."""

    name: str
    state: Literal["ok", "warn", "missing"]
    found: str
    fix: str = ""


def checks(engines: Sequence[str], images: Sequence[str] = ()) -> list[Check]:
    """Checks of the machine, of its container runtimes and these images, then of each engine."""
    found = [*_machine(), *_containers(images)]
    for name in engines:
        found += _engine(name, ENGINES[name])
    return found


def _machine() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok", version)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield Check("processor", "ok", f"{os.cpu_count()} cores, {memory:.0f} GiB of memory")
    yield _shared_memory()
    yield _open_files()
    yield Check("ports", "ok", f"loopback has free ports, for example {free_port()}")
    yield _gpus()
    yield _processor_power()
    free = shutil.disk_usage(_existing(environments.home())).free / GIB
    state: Literal["ok", "warn"] = "ok" if free > 10 else "warn"
    fix = (
        "" if state == "ok" else "engines need 4 GiB and more: set WATTFRONT_HOME to a larger disk"
    )
    yield Check("disk", state, f"{free:.0f} GiB free for {environments.home()}", fix)
    for source in models.SOURCES:
        yield _model(source)
    yield _hub()


def _containers(images: Sequence[str]) -> Iterator[Check]:
    for fact in runtime_facts(images, gpus=bool(driver().gpus)):
        yield Check(fact.name, "ok" if fact.usable else "warn", fact.found, fact.fix)


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    size = shutil.disk_usage(path).total / GIB if path.exists() else 0.0
    if size >= 1:
        return Check("shared memory", "ok", f"/dev/shm has {size:.1f} GiB")
    fix = "workers of an engine exchange tensors there: `docker run --shm-size=16g`, or remount it"
    return Check("shared memory", "warn", f"/dev/shm has {size:.2f} GiB", fix)


def _open_files() -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= 16384:
        return Check("open files", "ok", f"limit {hard}")
    return Check(
        "open files",
        "warn",
        f"limit {hard}",
        "each user takes a connection: `ulimit -n 65536` (LimitNOFILE= under systemd)",
    )


def _gpus() -> Check:
    nvidia = driver()
    if nvidia.gpus:
        names = ", ".join(sorted({gpu.name for gpu in nvidia.gpus}))
        return Check("GPU", "ok", f"{len(nvidia.gpus)} × {names}, driver {nvidia.version}")
    why = nvidia.absent_because or "NVML sees no device"
    return Check(
        "GPU", "warn", why, "CPU engines only; for GPUs install NVIDIA's driver (libnvidia-ml.so.1)"
    )


def _model(source: str) -> Check:
    forms: tuple[ModelFormat, ...] = ("gguf", "safetensors")
    here = [path for form in forms if (path := models.locate_or_name(source, form)) != source]
    if here:
        return Check(f"model {source}", "ok", ", ".join(here))
    return Check(f"model {source}", "warn", "not fetched", f"wattfront models fetch {source}")


def _hub() -> Check:
    """The cache of models of a hub, which engines read."""
    root, environ = kept.hub_cache(os.environ), os.environ
    here = cached_models(environ)
    free = shutil.disk_usage(_existing(root)).free / GIB
    token = any(environ.get(name) for name in HUB_TOKENS)
    found = f"{len(here)} of a hub in {root}, {free:.0f} GiB free; HF_TOKEN is {'' if token else 'not '}set"
    return Check("models", "ok", found + ("; HF_HUB_OFFLINE" if is_offline(environ) else ""))


def _engine(name: str, engine: type[BaseEngine]) -> Iterator[Check]:
    if not engine.default_executable:
        yield Check(name, "ok", "nothing to install: set engine.external.url", "")
        return
    managed = [recipe for recipe in RECIPES.values() if recipe.engine == name]
    here = [each for each in environments.every() if RECIPES[each.name].engine == name]
    for each in here:
        title = f"{each.name} {each.version} at {each.folder}"
        fault, _, fix = each.fault.partition(": ")
        yield Check(name, "warn" if fault else "ok", f"{title}: {fault}" if fault else title, fix)
    if found := shutil.which(engine.default_executable):
        runs, output = _version(found)
        if runs:
            yield Check(name, "ok", f"{found}: {output}")
        else:
            fix = (
                f"see what `{found} --version` prints, or name another in engine.{name}.executable"
            )
            yield Check(name, "warn", f"{found} does not run: {output}", fix)
        return
    if any(not each.fault for each in here):
        return
    install = " or ".join(f"`wattfront engines install {recipe.name}`" for recipe in managed)
    path = f"name its path in engine.{name}.executable"
    fix = f"{install}, or {path}" if install else f"install it and {path}"
    yield Check(name, "missing", f"no {engine.default_executable} on PATH", fix)


def _version(path: str) -> tuple[bool, str]:
    """Whether `--version` succeeds, and the last line it prints."""
    try:
        outcome = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=inherited(os.environ, ACCELERATED),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    lines = (outcome.stdout + outcome.stderr).strip().splitlines()
    return outcome.returncode == 0, lines[-1] if lines else f"exit code {outcome.returncode}"


def _processor_power() -> Check:
    """By reading it: permissions alone do not show whether a reading works."""
    try:
        with rapl.opened() as source:
            names = ", ".join(device.name for device in source.devices)
            return Check("processor power", "ok", f"RAPL counts joules of {names}")
    except SourceError as error:
        fix = "without it cpu_power_w and dram_power_w are unavailable; GPU energy does not need it"
        return Check("processor power", "warn", str(error).removeprefix("RAPL: "), fix)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
