"""How an engine's command is started: as it is, or by the runtime of its container."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from serving.engines import Engine
from serving.engines.access import Access
from serving.engines.ready import Start, tail
from serving.errors import ContainerFailed, EngineExited, LaunchError, ServingError
from serving.process.containers import images, mounts
from serving.process.containers.command import (
    CLIENT,
    Mount,
    Run,
    client_environ,
    inside,
    run_argv,
)
from serving.process.containers.config import LABELLED, PYXIS, Container
from serving.process.containers.images import Image
from serving.process.containers.owned import client_of, owned
from serving.process.containers.steps import step_name
from serving.process.environ import ACCELERATED, PROXIES, covered
from serving.process.leftovers import MARK, new_mark
from serving.process.process import Identity

RC = '#!/bin/sh\nexec "$@"\n'  # in place of an image's entrypoint, for enroot
SHOWN_RC = "<(echo 'exec \"$@\"')"


@dataclass(frozen=True, slots=True)
class Command:
    """What is started, and how that is shown: `argv` and `environ` may have secrets and names of this start."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    inherits: tuple[str, ...]
    shown_argv: tuple[str, ...]
    shown_environ: Mapping[str, str]
    identity: Identity


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """Where an engine runs: the image of its container, if any, and its GPUs or the cores of its own."""

    image: Image | None
    devices: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()


def image_on_node(engine: Engine, log: Path) -> Image | None:
    """The image of the engine's container, fetched if needed; None: it has none.

    Raises ServingError by what the runtime says.
    """
    container = engine.container
    if container is None:
        return None
    client = client_of(container.runtime, engine.kind)
    return images.ready(container, client, log, partial(_explained, engine, log))


def check_container(engine: Engine) -> None:
    """Raises ServingError where the runtime of the engine's container is missing, or lacks an image that is not
    to be fetched."""
    container = engine.container
    if container is None:
        return
    client = client_of(container.runtime, engine.kind)
    if container.runtime == PYXIS:
        _slurm_node(engine)
    found = images.find(container, client)
    if found is None and (container.pull == "never" or container.is_file):
        raise ContainerFailed(
            f"image {container.image} is not on this node (engine.{engine.kind}.container, pull: "
            f"{container.pull})"
        )


def _slurm_node(engine: Engine) -> str:
    """Slurm's name of this node. Raises LaunchError where this process is in no step of a job."""
    node = os.environ.get("SLURMD_NODENAME", "")
    if not node or not os.environ.get("SLURM_JOB_ID"):
        raise LaunchError(
            f"engine.{engine.kind}.container.runtime=pyxis: this process is in no Slurm job on its own node "
            "(SLURM_JOB_ID and SLURMD_NODENAME are not both set): start Wattfront, or Ray's nodes, by srun or "
            "sbatch, or name another runtime"
        )
    return node


def _explained(engine: Engine, log: Path, code: int | None) -> ServingError:
    found = engine.diagnose(code, tail(log), log, "start")
    if type(found) is EngineExited:
        return ContainerFailed(found.evidence, log, phase="start", remedy=found.remedy)
    return found


def _of_node(engine: Engine, *, downloads: bool) -> dict[str, str]:
    """The variables of this node that the engine gets in its container. `downloads`: with its secrets."""
    secrets = engine.secrets if downloads else ()
    named = (*PROXIES, *ACCELERATED, *engine.inherits, *secrets, *engine.env_passthrough)
    return covered(os.environ, named)


@contextmanager
def commanded(
    engine: Engine, start: Start, access: Access, place: EnginePlace, mark: str, log: Path
) -> Iterator[Command]:
    """The command of one start. A container is removed at the end of the block. Raises EngineLeft."""
    with ExitStack() as stack:
        if engine.container is None or place.image is None:
            sockets = stack.enter_context(_own_sockets(engine))
            yield Command(
                (*start.argv, *access.argv),
                {**sockets, **start.environ, **access.environ},
                start.inherits,
                (*start.shown_argv, *access.shown_argv),
                {**start.environ, **access.shown_environ},
                Identity(mark),
            )
            return
        yield stack.enter_context(
            _contained(engine, engine.container, start, access, place, mark, log)
        )


@contextmanager
def _own_sockets(engine: Engine) -> Iterator[dict[str, str]]:
    """A private folder for the sockets between the engine's processes, which leave them if they are killed."""
    if not engine.sockets_variable:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="wattfront-ipc-") as folder:
        yield {engine.sockets_variable: folder}


@contextmanager
def _contained(
    engine: Engine,
    container: Container,
    start: Start,
    access: Access,
    place: EnginePlace,
    mark: str,
    log: Path,
) -> Iterator[Command]:
    assert place.image is not None, "checked by commanded"
    client, mark = client_of(container.runtime, engine.kind), mark or new_mark()
    mounts.check_volumes(container, engine.kind)
    seen, cache = _seen(container, start.reads)
    for folder in cache.values():  # a daemon would make it in the name of root
        Path(folder).mkdir(parents=True, exist_ok=True)
    files = mounts.once([*seen, *mounts.of_paths((*start.files, *access.argv))])
    mounts.check_paths(container, files, engine.kind)
    node = _of_node(engine, downloads=bool(cache))
    shown_argv, shown_environ = shown_in_container(
        engine,
        (*start.shown_argv, *access.shown_argv),
        {**start.environ, **access.shown_environ},
        start.reads,
        place,
    )
    with ExitStack() as stack:
        given = {**cache, **start.environ, **access.environ}
        if container.runtime == "apptainer":  # its temporary folder is that of the node
            given |= stack.enter_context(_own_sockets(engine))
        variables = inside(node, given, files, container, place.devices)
        run = replace(
            _run(engine, container, place, variables),
            client=client,
            image=place.image.name,
            command=(*start.argv, *access.argv),
            mounts=files,
        )
        identity = Identity(mark)
        if container.runtime in LABELLED:
            mine = stack.enter_context(owned(container.runtime, client, mark, log))
            identity = Identity(mark, mine.root, mine.after)
            run = replace(run, labels=mine.labels, cidfile=str(mine.cidfile))
        elif container.runtime == PYXIS:
            mine = stack.enter_context(owned(PYXIS, client, mark, log))
            identity = Identity(mark, mine.root, mine.after)
            run = replace(run, step=step_name(mark), mark=MARK, node=_slurm_node(engine))
        elif run.rc:
            run = replace(run, rc=str(_rc_file(log)))
        environ = client_environ(container, variables)
        yield Command(run_argv(run), environ, CLIENT, shown_argv, shown_environ, identity)


def shown_in_container(
    engine: Engine,
    argv: tuple[str, ...],
    environ: Mapping[str, str],
    reads: Iterable[str],
    place: EnginePlace,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """An engine's command line and variables, in its container if any: without what is of one start alone.

    Raises LaunchError.
    """
    container = engine.container
    if container is None:
        return argv, dict(environ)
    seen, cache = _seen(container, tuple(reads))
    node, given = _of_node(engine, downloads=bool(cache)), {**cache, **environ}
    variables = inside(node, given, seen, container, place.devices)
    run = replace(_run(engine, container, place, variables), command=argv, mounts=seen)
    set_here = {k: v for k, v in variables.items() if k not in node or k in given}
    return run_argv(run), client_environ(container, set_here)


def _run(engine: Engine, container: Container, place: EnginePlace, names: Iterable[str]) -> Run:
    """Of the engine's image, as its runtime takes it. Raises LaunchError."""
    labelled = container.runtime in LABELLED
    by_image = engine.starts_by_image and engine.executable is None
    if by_image and container.runtime == PYXIS:
        raise LaunchError(
            f"engine.{engine.kind}.container.runtime=pyxis: srun needs a command: name that of the image in "
            f"engine.{engine.kind}.executable, or take runtime=enroot"
        )
    replaced = container.runtime == "enroot" and not (by_image or container.keep_entrypoint)
    return Run(
        container,
        container.client,
        container.image if labelled else str(images.local_path(container)),
        (),
        names=tuple(sorted(names)),
        gpus=place.devices,
        cores=place.cores,
        locks_memory=mounts.may_lock_memory(container.runtime),
        by_image=by_image,
        rc=SHOWN_RC if replaced else "",
    )


def _seen(container: Container, reads: Sequence[str]) -> tuple[tuple[Mount, ...], dict[str, str]]:
    """What the container sees of the node, and the variables that name the cache of models in it: empty where
    all models are there as files."""
    configured = [*map(Mount.of, container.volumes)]
    local = [*mounts.of_paths(reads)]
    if all(Path(path).exists() for path in reads):
        return mounts.once([*configured, *local]), {}
    cache, variables = mounts.hub_cache(os.environ)
    return mounts.once([*configured, *local, *cache]), variables


def _rc_file(log: Path) -> Path:
    path = log.with_name(f"{log.stem}-rc.sh")
    path.write_text(RC)
    path.chmod(0o700)
    return path
