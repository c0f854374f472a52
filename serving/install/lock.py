"""Locks: every package of an environment with its version and the SHA-256 of its files.

Those that ship hold for one platform and the pinned versions. They leave out packages whose builds differ from
index to index (PyTorch for the CPU); `make lock` writes them. The lock of any other version is made when it is
first installed, and kept with the environment. No lock names an index.
"""

import hashlib
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.errors import LaunchError

FOLDER = Path(__file__).parent / "locks"
PLATFORM = ("linux", "x86_64", (3, 11))
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock. `hashes`: SHA-256 of each file that may be installed."""

    version: str
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lock:
    """Canonical name → pin."""

    pins: Mapping[str, Pin] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As pip reads it; the same lock always has the same text."""
        return "".join(
            " \\\n    ".join(
                [
                    f"{name}=={pin.version}",
                    *(f"--hash=sha256:{each}" for each in sorted(pin.hashes)),
                ]
            )
            + "\n"
            for name, pin in sorted(self.pins.items())
        )

    @property
    def sha256(self) -> str:
        """Of its text: two environments with the same one have the same packages."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def over(self, other: "Lock") -> "Lock":
        """This one, and of the other what this one lacks."""
        return Lock({**other.pins, **self.pins})

    def satisfies(self, requirements: Sequence[Requirement]) -> bool:
        """Whether it has a version of each that fits."""
        return all(
            (pin := self.pins.get(canonicalize_name(each.name))) is not None
            and each.specifier.contains(pin.version, prereleases=True)
            for each in requirements
        )


def parse_lock(text: str, source: object) -> Lock:
    """Raises LaunchError for anything but `NAME==VERSION --hash=sha256:…`: a lock has no options of pip."""
    pins: dict[str, Pin] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        pin, hashes = _PIN.fullmatch(words[0]), [_HASH.fullmatch(word) for word in words[1:]]
        found = frozenset(each[1] for each in hashes if each)
        if pin is None or not hashes or None in hashes:
            raise LaunchError(
                f"{source}: `{line.strip()[:60]}` is no line of a lock: expected NAME==VERSION and its "
                "--hash=sha256:… of 64 digits"
            )
        pins[canonicalize_name(pin[1])] = Pin(pin[2], found)
    if not pins:
        raise LaunchError(f"{source}: an empty lock")
    return Lock(pins)


def read_lock(path: Path) -> Lock:
    """Raises LaunchError."""
    try:
        return parse_lock(path.read_text(), path)
    except OSError as error:
        raise LaunchError(f"lock {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LaunchError(f"lock {path}: not UTF-8 text") from error


def lock_of(name: str, requirements: Sequence[Requirement]) -> Path | None:
    """The lock that ships for an environment on this platform; None without one that fits the requirements."""
    path = FOLDER / f"{name}.txt"
    here = (sys.platform, platform.machine(), sys.version_info[:2])
    if here != PLATFORM or not path.is_file():
        return None
    return path if read_lock(path).satisfies(requirements) else None


def locked_versions(path: Path) -> dict[str, str]:
    """Canonical name → version of every package of a lock."""
    pins = (line.split()[0] for line in path.read_text().splitlines() if "==" in line)
    return {
        canonicalize_name(name): version for name, _, version in (p.partition("==") for p in pins)
    }
