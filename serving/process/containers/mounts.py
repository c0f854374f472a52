"""What of the node an engine in a container sees: the model, the cache of models, and what is configured."""

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from serving.errors import LaunchError
from serving.process.containers.command import Mount
from serving.process.containers.config import PYXIS, Container

SYS_RESOURCE = 1 << 24  # the capability to raise limits


def check_volumes(container: Container, kind: str) -> None:
    """Raises LaunchError for a configured volume whose source this node lacks."""
    for volume in container.volumes:
        source = Mount.of(volume).source
        if not Path(source).exists():
            raise LaunchError(f"engine.{kind}.container.volumes: there is no {source} on this node")


def check_paths(container: Container, files: Iterable[Mount], kind: str) -> None:
    """Raises LaunchError for a path that the runtime can't be told: pyxis has a list of all in one word."""
    if container.runtime != PYXIS:
        return
    for path in (path for each in files for path in (each.source, each.target)):
        if set(",:") & set(path):
            raise LaunchError(
                f"engine.{kind}.container.runtime=pyxis can't be told {path}: it has a comma or a colon"
            )


def of_paths(words: Iterable[str]) -> Iterator[Mount]:
    """The files and folders among these words, to read at the same paths, with what their links lead to."""
    for word in words:
        path = Path(word)
        if path.is_absolute() and path.exists():
            yield Mount.same(word)
            for folder in sorted(_linked(path)):
                yield Mount.same(str(folder))


def _linked(path: Path) -> set[Path]:
    """The folders outside of `path` that its links lead to: a cache of models has links to its blobs."""
    inner = [path, *path.iterdir()] if path.is_dir() else [path]
    targets = {each.resolve() for each in inner if each.is_symlink()}
    folders = {
        target if target.is_dir() else target.parent for target in targets if target.exists()
    }
    return {folder for folder in folders if not folder.is_relative_to(path)}


def hub_cache(node: Mapping[str, str]) -> tuple[list[Mount], dict[str, str]]:
    """The cache of Hugging Face at its own path, and the variables that name it."""
    general = node.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = node.get("HF_HOME") or str(Path(general, "huggingface"))
    paths, variables = [home], {"HF_HOME": home}
    if hub := node.get("HF_HUB_CACHE"):
        paths, variables = [*paths, hub], {**variables, "HF_HUB_CACHE": hub}
    offline = node.get("HF_HUB_OFFLINE", "") not in ("", "0")
    return [Mount.same(path, read_only=offline) for path in paths], variables


def once(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """The first mount of each target."""
    found: dict[str, Mount] = {}
    for mount in mounts:
        found.setdefault(mount.target.rstrip("/") or "/", mount)
    return tuple(found.values())


def may_lock_memory(runtime: str) -> bool:
    """Whether a container may lock all memory: docker's daemon allows it, others what this account may."""
    if runtime == "docker":
        return True
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return hard == resource.RLIM_INFINITY or bool(_capabilities() & SYS_RESOURCE)


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    line = next((each for each in status.splitlines() if each.startswith("CapEff:")), "CapEff: 0")
    return int(line.split()[1], 16) if os.geteuid() == 0 else 0
