"""The engines' own virtual environments: $WATTFRONT_HOME/engines/NAME/VERSION, several side by side."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.engines.flags.installed import same_version
from serving.errors import LaunchError
from serving.install.lock import Lock
from serving.install.packages.pip import InstallError, Pip
from serving.install.packages.recipes import (
    RECIPES,
    Job,
    Progress,
    Recipe,
    python_of,
    write_llama_server,
)
from serving.process import home as kept

# Its contents are the version; without it an environment is not complete.
MARKER = "wattfront-installed"
RECORD, LOCK, USED = "wattfront-environment.json", "wattfront-lock.txt", "wattfront-used"
UNKNOWN = "?"
GIB = 1 << 30


class Record(BaseModel):
    """What is written into an environment when it is complete."""

    model_config = ConfigDict(frozen=True)

    python: str = ""
    lock_sha256: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """One version of an engine on this machine. Not `complete`: it was interrupted, or is being installed."""

    name: str
    version: str
    folder: Path
    complete: bool = True

    @property
    def record(self) -> Record:
        """Empty for one of an older Wattfront, or where it can't be read."""
        try:
            return Record.model_validate_json((self.folder / RECORD).read_bytes())
        except (OSError, ValidationError):
            return Record()

    @property
    def used_unix_s(self) -> float | None:
        """When an engine was last started from it; None: never."""
        try:
            return (self.folder / USED).stat().st_mtime
        except OSError:
            return None

    @property
    def fault(self) -> str:
        """Why it does not work; empty if nothing is missing."""
        spec = self.name if self.version == UNKNOWN else f"{self.name}=={self.version}"
        again = f"`wattfront engines remove {spec}`, then install it again"
        if not self.complete:
            return f"not complete: run `wattfront engines install {spec}`"
        for path in (python_of(self.folder), self.folder / "bin" / RECIPES[self.name].executable):
            if not os.access(path, os.X_OK):
                link = f" (a link to {path.resolve()})" if path.is_symlink() else ""
                return f"broken, there is no {path}{link}: {again}"
        return ""


def home() -> Path:
    """$WATTFRONT_HOME, else the XDG data directory's `wattfront`."""
    return kept.home()


def recipe_of(name: str) -> Recipe:
    """Raises InstallError."""
    if name not in RECIPES:
        raise InstallError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    return RECIPES[name]


def folder(name: str, version: str | None = None) -> Path:
    """Where the environment of a version is installed; None: the pinned one."""
    return home() / "engines" / name / (version or RECIPES[name].version)


def every() -> list[Environment]:
    """All on this machine, complete or not."""
    return [each for name in RECIPES for each in _of(name)]


def _of(name: str) -> Iterator[Environment]:
    base = home() / "engines" / name
    # An older Wattfront installed the one version that it knew into the folder itself.
    if (version := _marked(base)) or (base / "pyvenv.cfg").exists():
        yield Environment(name, version or UNKNOWN, base, complete=bool(version))
    with suppress(OSError):
        for each in sorted(base.iterdir()):
            if each.name.startswith("."):
                continue
            if version := _marked(each):
                yield Environment(name, version, each)
            elif (each / "pyvenv.cfg").exists():
                yield Environment(name, each.name, each, complete=False)


def _marked(where: Path) -> str:
    try:
        return (where / MARKER).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def find(name: str, version: str | None = None) -> Environment | None:
    """The complete environment of a version; None: the pinned one."""
    here = [each for each in _of(name) if each.complete]
    return _version_among(here, name, version) if here else None


def _version_among(
    found: Sequence[Environment], name: str, version: str | None
) -> Environment | None:
    """0.32 is 0.32.0, and 0.32.0+cpu where no build is named."""
    wanted = version or recipe_of(name).version
    exact = next((each for each in found if each.version == wanted), None)
    if exact is not None or "+" in wanted:
        return exact
    return next((each for each in found if same_version(each.version, wanted)), None)


def installed() -> dict[str, Path]:
    """Name → folder of the environments that are complete and of the version that their extra pins."""
    return {name: found.folder for name in RECIPES if (found := find(name))}


def having(kind: str, version: str) -> list[Environment]:
    """The complete environments of a version, whichever recipe built it, for an engine of this kind."""
    names = [recipe.name for recipe in RECIPES.values() if recipe.engine == kind]
    return [found for name in names if (found := find(name, version))]


def locate(name: str, executable: str, version: str | None = None) -> Path:
    """The path of an environment's executable. Raises LaunchError with the command that installs it."""
    if name not in RECIPES:
        raise LaunchError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    found = find(name, version)
    if found is None:
        spec = name if version is None else f"{name}=={version}"
        others = ", ".join(each.version for each in _of(name) if each.complete)
        here = f" (here: {others}, as engine.{RECIPES[name].engine}.version)" if others else ""
        raise LaunchError(
            f"environment {spec} is not installed: run `wattfront engines install {spec}`{here}"
        )
    path = found.folder / "bin" / executable
    if executable == "llama-server":
        write_llama_server(path)
    return path


def environment_of(executable: str) -> Environment | None:
    """The environment that an executable belongs to; None: it is none of ours."""
    where = Path(executable).absolute().parent.parent
    return next((each for each in every() if each.folder == where), None)


def started(executable: str) -> str:
    """Notes the use of the environment of this executable. Returns its lock's SHA-256; empty: it has none."""
    found = environment_of(executable)
    if found is None:
        return ""
    with suppress(OSError):  # another user's
        (found.folder / USED).touch()
    return found.record.lock_sha256


def install(
    name: str,
    say: Progress = lambda _: None,
    pip_args: Sequence[str] = (),
    *,
    version: str | None = None,
    lock: Lock | None = None,
) -> Path:
    """Builds the environment unless it is complete; an interrupted build is not. Raises LaunchError.

    `version`: None: the pinned one. `lock`: its packages; None: those that ship, or are chosen and locked now.
    """
    recipe = recipe_of(name)
    wanted = version or recipe.version
    where = folder(name, wanted)
    with _alone(where, f"{name} {wanted}", say) as held:
        found = find(name, wanted)
        if found is None:
            pip = Pip(python_of(where), f"{name} {wanted}", tuple(pip_args), held)
            job = Job(
                recipe, wanted, where, pip, say, lambda other: install(other, say, pip_args), lock
            )
            _build(job)
            return where
        if lock is not None and found.record.lock_sha256 != lock.sha256:
            raise InstallError(
                f"{name} {wanted} is installed with other packages than this lock: remove it first "
                f"(`wattfront engines remove {name}=={wanted}`)"
            )
        return found.folder


@contextmanager
def _alone(where: Path, title: str, say: Progress) -> Iterator[int]:
    """One builder per folder; a second one waits, and then finds the environment complete.

    Yields the open file of the lock. A pip that inherits it keeps the lock when its caller is killed.
    """
    where.parent.mkdir(parents=True, exist_ok=True)
    with where.with_name(f".{where.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{title}: waiting for another process that installs it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _build(job: Job) -> None:
    recipe, where, pip = job.recipe, job.where, job.pip
    shutil.rmtree(where, ignore_errors=True)
    check_space(where.parent, recipe.needs_gib * GIB, pip.name)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, where, ignore_errors=True)
        lock = recipe.build(job)
        job.tell(f"checking that {recipe.executable} runs")
        pip.required([str(where / "bin" / recipe.executable), *recipe.check])
        (where / LOCK).write_text(lock.text)
        python = next((each.name for each in where.glob("lib/python*")), "").removeprefix("python")
        record = Record(python=python, lock_sha256=lock.sha256, size_bytes=size_of(where))
        (where / RECORD).write_text(record.model_dump_json())
        part = where / f"{MARKER}.part"
        part.write_text(job.version)
        part.rename(where / MARKER)
        stack.pop_all()


def check_space(where: Path, needed_bytes: float, what: str) -> None:
    """Raises InstallError where the disk of a folder has less."""
    free = shutil.disk_usage(where).free
    if free < needed_bytes:
        raise InstallError(
            f"{what} needs about {needed_bytes / GIB:.1f} GiB in {where}, and {free / GIB:.1f} GiB are "
            "free: free some, or set WATTFRONT_HOME to a larger disk"
        )


def size_of(where: Path) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for base, _, names in os.walk(where):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{base}/{name}").st_size
    return total


def remove(name: str, version: str | None = None) -> Path:
    """Removes an environment, complete or not. Raises InstallError where there is none, or it is in use."""
    wanted = version or recipe_of(name).version
    found = _version_among([*_of(name)], name, wanted)
    if found is None:
        here = ", ".join(each.version for each in _of(name)) or "none"
        raise InstallError(f"no environment {name}=={wanted} to remove; installed: {here}")
    if pid := _user_of(found.folder):
        raise InstallError(f"{name} {wanted} is in use by process {pid}: stop it first")
    if other := next((each for each in every() if _stands_on(each, found)), None):
        raise InstallError(
            f"{other.name} {other.version} stands on {name} {wanted}: remove it first"
        )
    with _alone(folder(name, wanted), f"{name} {wanted}", lambda _: None):
        (found.folder / MARKER).unlink(missing_ok=True)  # from here on it is not complete
        for each in found.folder.iterdir():
            if each.suffix == ".lock":  # of a version in it, which may be installed at this moment
                continue
            if each.is_symlink() or not each.is_dir():
                each.unlink()
            elif not ((each / MARKER).exists() or (each / "pyvenv.cfg").exists()):
                shutil.rmtree(each)  # in the folder of an older Wattfront other versions may be
        with suppress(OSError):
            found.folder.rmdir()
    return found.folder


def _stands_on(one: Environment, other: Environment) -> bool:
    if one == other:
        return False
    for path in one.folder.glob("lib/python*/site-packages/shared.pth"):
        if path.read_text().startswith(f"{other.folder}/"):
            return True
    return False


def _user_of(where: Path) -> int | None:
    """A process that was started from a folder."""
    mark = f"{where}/".encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark in each.read_bytes() and int(each.parent.name) != os.getpid():
                return int(each.parent.name)
    return None
