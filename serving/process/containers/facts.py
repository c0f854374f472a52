"""What the container runtimes of this machine are, and can do. Every question has a deadline."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from serving.errors import ContainerFailed, ServingError
from serving.process.containers.config import LABELLED, PYXIS, Container, Runtime, client_name
from serving.process.containers.images import ask, fetch_command, find, local_path
from serving.process.containers.owned import sweep

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
START = "start its daemon (systemctl start docker), and see that this account may use its socket"
TOOLKIT = (
    "install the NVIDIA Container Toolkit, and run `nvidia-ctk cdi generate` (docs/containers.md)"
)
ROOTLESS = (
    "a rootless docker has a network of its own, so that no engine in it is reached: use podman, or docker "
    "with its system daemon"
)


@dataclass(frozen=True, slots=True)
class RuntimeFact:
    """One line about a runtime. `fix`: what to do where it is no use."""

    name: str
    usable: bool
    found: str
    fix: str = ""


def runtime_facts(images: Sequence[str], *, gpus: bool) -> Iterator[RuntimeFact]:
    """Of the runtimes that are here, and of these images in each. `gpus`: this machine has some.

    Containers that dead owners have left are ended, and named.
    """
    here = [name for name in RUNTIMES if _is_here(name)]
    if not here:
        named = ", ".join(name for name in RUNTIMES if name != PYXIS)
        found = f"none of {named} on PATH, and no Slurm with pyxis"
        yield RuntimeFact("containers", not images, found, "" if not images else named)
        return
    usable = list[Runtime]()
    for name in here:
        fact = _fact(name, gpus=gpus)
        yield fact
        if fact.usable or name not in LABELLED:
            usable.append(name)
    for image in images:
        for name in usable:
            yield _image(name, image)
    yield from _left_behind(usable)


def _is_here(name: Runtime) -> bool:
    """Slurm may have no pyxis."""
    if shutil.which(client_name(name)) is None:
        return False
    if name != PYXIS:
        return True
    try:
        return "--container-image" in ask("srun", "--help").out
    except ContainerFailed:
        return False


def _fact(name: Runtime, *, gpus: bool) -> RuntimeFact:
    try:
        version = _version(name)
        support, fix = _gpu_support(name)
    except ContainerFailed as error:
        return RuntimeFact(name, False, error.evidence, START if name in LABELLED else "")
    if not gpus and fix != ROOTLESS:
        fix = ""
    return RuntimeFact(name, not fix, f"{version}; {support}", fix)


def _version(name: Runtime) -> str:
    """Of the daemon, where there is one. Raises ContainerFailed."""
    words = {"docker": ("version", "--format", "{{.Server.Version}}"), "enroot": ("version",)}
    answer = ask(client_name(name), *words.get(name, ("--version",)))
    if answer.code:
        raise ContainerFailed(answer.last_line)
    return (
        f"{name} {answer.out.strip().splitlines()[-1].split()[-1]}" if answer.out.strip() else name
    )


def _gpu_support(name: Runtime) -> tuple[str, str]:
    """In words, and what to do where there is none. Raises ContainerFailed."""
    if name == "apptainer":
        return "GPUs by --nv", ""
    if name in ("enroot", PYXIS):
        there = shutil.which("nvidia-container-cli")
        return (
            ("GPUs by libnvidia-container", "") if there else ("no nvidia-container-cli", TOOLKIT)
        )
    devices = cdi_devices()
    cdi = f"{len(devices)} CDI names" if devices else "no CDI names"
    if name == "podman":
        return cdi, "" if devices else TOOLKIT
    info = _json(ask(name, "info", "--format", "{{json .}}").out)
    if any("rootless" in str(each) for each in info.get("SecurityOptions") or ()):
        return "rootless", ROOTLESS
    runtimes = info.get("Runtimes")
    nvidia = isinstance(runtimes, Mapping) and "nvidia" in runtimes
    found = f"{'runtime nvidia' if nvidia else 'no runtime nvidia'}, {cdi}"
    return found, "" if nvidia or devices else TOOLKIT


def cdi_devices() -> list[str]:
    """The CDI names of GPUs that the toolkit lists; empty without it. Raises ContainerFailed."""
    if shutil.which("nvidia-ctk") is None:
        return []
    answer = ask("nvidia-ctk", "cdi", "list")
    return [
        line.strip()
        for line in answer.out.splitlines()
        if line.strip().startswith("nvidia.com/gpu=")
    ]


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _image(name: Runtime, image: str) -> RuntimeFact:
    title = f"image {image}"
    try:
        found = find(Container(runtime=name, image=image), name)
    except ServingError as error:
        return RuntimeFact(title, False, error.evidence)
    if found is None:
        container = Container(runtime=name, image=image)
        how = fetch_command(container, _fetcher(name), local_path(container))
        return RuntimeFact(title, False, f"{name} does not have it", " ".join(how))
    return RuntimeFact(title, True, f"{name} has it: {found.digest or found.name}")


def _fetcher(name: Runtime) -> str:
    return "enroot" if name == PYXIS else name


def _left_behind(runtimes: Sequence[Runtime]) -> Iterator[RuntimeFact]:
    try:
        ended = sweep(runtimes)
    except ServingError as error:
        yield RuntimeFact("containers left behind", False, error.evidence)
        return
    if ended:
        yield RuntimeFact(
            "containers left behind",
            True,
            f"ended those of dead owners: {', '.join(each[:12] for each in ended)}",
        )
