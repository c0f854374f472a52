"""The version of an engine, from the metadata beside its executable: nothing of it is imported."""

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path

from packaging.version import InvalidVersion, Version

SHEBANG_BYTES = 1024


def installed_version(executable: str, packages: Sequence[str]) -> str | None:
    """The version of the first of these packages in the Python environment of an executable.

    `executable`: a path, or a name on PATH. None: no such environment has one.
    """
    folders = [str(folder) for folder in package_folders(executable)]
    for package in packages:
        context = DistributionFinder.Context(name=package, path=folders)
        for distribution in MetadataPathFinder.find_distributions(context):
            if version := _version(distribution):
                return version
    return None


def same_version(one: str, other: str) -> bool:
    """Whether two versions differ in their local part at most: 0.32.0 and 0.32.0+cpu are one."""
    try:
        return Version(Version(one).public) == Version(Version(other).public)
    except InvalidVersion:
        return one == other


def package_folders(executable: str) -> list[Path]:
    """Where packages of an executable's Python environment are; empty if there is no such executable."""
    found = shutil.which(executable)
    return [] if found is None else list(_folders(Path(found)))


def _version(distribution: Distribution) -> str | None:
    metadata = distribution.metadata
    return metadata["Version"] if metadata is not None and "Version" in metadata else None


def _folders(executable: Path) -> Iterator[Path]:
    """Where packages of the executable's environment are: that of its Python first."""
    prefixes = dict.fromkeys(
        path.parent.parent
        for path in (*_interpreter(executable), executable, executable.resolve())
        if path.parent.name == "bin"
    )
    for prefix in prefixes:
        for library in ("lib", "lib64"):
            for name in ("site-packages", "dist-packages"):
                yield from sorted((prefix / library).glob(f"python3*/{name}"))


def _interpreter(executable: Path) -> Iterator[Path]:
    """The Python that a script names in its first lines, directly or through a shell."""
    try:
        with executable.open("rb") as file:
            head = file.read(SHEBANG_BYTES).decode(errors="replace")
    except OSError:
        return
    if not head.startswith("#!"):
        return
    lines = head.splitlines()
    # Paths too long for the kernel: `#!/bin/sh`, then `'''exec' /long/path/python "$0" "$@"`.
    text = lines[1] if "exec" in "".join(lines[1:2]) else lines[0][2:]
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    for word in words:
        if re.fullmatch(r"/.*/python[\d.]*", word):
            yield Path(word)
            return
