"""Containers that end with their owner: found by labels, and by a file that has the container's id."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import serving
from serving.errors import EngineLeft, LaunchError
from serving.process.containers import steps
from serving.process.containers.config import LABELLED, PYXIS, Runtime, client_name
from serving.process.containers.finish import (
    MARK_LABEL,
    NODE_LABEL,
    PROGRAM,
    Silent,
    finish,
    id_in,
    inspected,
    labelled,
    state_of,
)
from serving.process.generation import generation, pid_of
from serving.process.locks import private_folder
from serving.process.reap import alive

BOOT = Path("/proc/sys/kernel/random/boot_id")
MARK = re.compile(r"(\d+-\d+)\.[0-9a-f]+")
CID_FILE = re.compile(rf"container-(docker|podman|pyxis)-([^-]+)-({MARK.pattern})\.cid")


def client_of(runtime: Runtime, kind: str = "") -> str:
    """The path of a runtime's command. Raises LaunchError."""
    found = shutil.which(client_name(runtime))
    if found is None:
        where = f" (engine.{kind}.container.runtime)" if kind else ""
        raise LaunchError(
            f"{client_name(runtime)} is not on PATH of this node{where}: install it, or name another runtime"
        )
    return found


def node() -> str:
    """Where a pid of ours means the same process: this boot, pid namespace and user."""
    boot = BOOT.read_text().strip().replace("-", "")
    return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}.{os.getuid()}"


@dataclass(slots=True)
class Owned:
    """A container that this process is about to start. `after`: what its supervisor runs at its end."""

    runtime: Runtime
    client: str
    mark: str
    cidfile: Path
    after: tuple[str, ...]
    _root: str | None = field(default=None, init=False)

    @property
    def labels(self) -> Mapping[str, str]:
        """By which it is found."""
        return {MARK_LABEL: self.mark, NODE_LABEL: node()}

    def root(self) -> int | None:
        """The pid of its first process; None: it does not run, or the runtime does not say."""
        if self._root is None and self.runtime == PYXIS:
            self._root = steps.first_process(self.mark)
        elif self._root is None and (cid := id_in(self.cidfile)):
            try:
                facts = inspected(self.client, [cid])
            except Silent:
                return None
            pid = state_of(facts[0]).get("Pid") if facts else None
            self._root = generation(pid) if isinstance(pid, int) and pid > 1 else None
        return pid_of(self._root) if self._root is not None and alive(self._root) else None


@contextmanager
def owned(runtime: Runtime, client: str, mark: str, log: Path) -> Iterator[Owned]:
    """A container for the length of a with block. Raises EngineLeft at its end if it does not end.

    `log`: gets what the runtime says of its death.
    """
    here = node()
    # Its name starts a search for the containers of dead owners, whichever engine starts next.
    cidfile = private_folder() / f"container-{runtime}-{here.split('.')[1]}-{mark}.cid"
    root = str(Path(serving.__file__).parent.parent)
    program = steps.PROGRAM if runtime == PYXIS else PROGRAM
    python = (sys.executable, "-S", "-E", "-c", program, root)
    after = (*python, client, mark, here, str(cidfile), str(log))
    container = Owned(runtime, client, mark, cidfile, after)
    if runtime == PYXIS:  # the others' commands write it
        cidfile.write_text(steps.step_name(mark))
    try:
        yield container
    finally:
        if why := _ended(runtime, client, mark, cidfile, log):
            raise EngineLeft(why)


def _ended(runtime: str, client: str, mark: str, cidfile: Path, log: Path | None = None) -> str:
    """Why a container did not end; empty: it did."""
    if runtime == PYXIS:
        return steps.finish_step(client, mark, cidfile)
    return finish(client, mark, node(), cidfile, log)


def remove(mark: str) -> None:
    """Ends the container of this mark, if one is left. Raises EngineLeft."""
    for path in _files():
        if (found := CID_FILE.fullmatch(path.name)) and found[3] == mark:
            _finish(path, found)


def sweep(runtimes: Iterable[Runtime] = ()) -> list[str]:
    """Ends the containers of this user whose owners are dead. Returns their ids, or that of their file.

    Those of `runtimes` are also looked for by their labels. Raises EngineLeft if one does not end: it occupies
    a device, and no engine may be measured beside it.
    """
    ended = []
    for path in _files():
        found = CID_FILE.fullmatch(path.name)
        if found and found[2] == node().split(".")[1] and not alive(found[4]):
            ended.append(id_in(path) or path.name)
            _finish(path, found)
    for runtime in sorted({*runtimes} & LABELLED):
        if client := shutil.which(runtime):
            ended += _sweep_labelled(client)
    return ended


def ownerless(client: str) -> dict[str, str]:
    """Id → mark of the containers of this node and user whose owners are dead. Raises Silent."""
    found = {}
    for facts in inspected(client, labelled(client, node=node())):
        config = facts.get("Config")
        labels = config.get("Labels") if isinstance(config, Mapping) else None
        mark = labels.get(MARK_LABEL) if isinstance(labels, Mapping) else None
        owner = MARK.fullmatch(mark) if isinstance(mark, str) else None
        if owner and not alive(owner[1]):
            found[str(facts.get("Id", ""))] = owner[0]
    return found


def _sweep_labelled(client: str) -> list[str]:
    try:
        found = ownerless(client)
    except Silent:
        return []  # whoever needs this runtime now says what it does not answer
    nowhere = private_folder() / "container-none.cid"
    for mark in found.values():
        if why := finish(client, mark, node(), nowhere):
            raise EngineLeft(why)
    return list(found)


def _files() -> list[Path]:
    return sorted(private_folder().glob("container-*.cid"))


def _finish(path: Path, found: re.Match[str]) -> None:
    client = shutil.which("srun" if found[1] == PYXIS else found[1])
    if client is None:
        return
    if why := _ended(found[1], client, found[3], path):
        raise EngineLeft(why)
