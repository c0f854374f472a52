"""Locks of the engines' environments: every package with its version and the SHA-256 of its files.

A lock holds for one platform. It leaves out packages whose builds differ from index to index (PyTorch for the
CPU): they come from the index that the user names, unchecked. `make lock` writes the files.
"""

import platform
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent / "locks"
PLATFORM = ("linux", "x86_64", (3, 11))


def lock_of(name: str, requirements: tuple[Requirement, ...]) -> Path | None:
    """The lock of an environment on this platform; None without one that satisfies the requirements."""
    path = FOLDER / f"{name}.txt"
    here = (sys.platform, platform.machine(), sys.version_info[:2])
    if here != PLATFORM or not path.is_file():
        return None
    versions = locked_versions(path)
    fits = all(
        (version := versions.get(canonicalize_name(each.name))) is not None
        and each.specifier.contains(version, prereleases=True)
        for each in requirements
    )
    return path if fits else None


def locked_versions(path: Path) -> dict[str, str]:
    """Canonical name → version of every package of a lock."""
    pins = (line.split()[0] for line in path.read_text().splitlines() if "==" in line)
    return {
        canonicalize_name(name): version for name, _, version in (p.partition("==") for p in pins)
    }
