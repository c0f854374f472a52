"""pip, as the engines' environments are built with it: its index and options are the user's."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from serving.errors import LaunchError
from serving.install.lock import Lock, Pin
from serving.process.environ import ACCELERATED, PIP, inherited

# pip's exit code for an exception of its own; what it refuses to install is code 1.
PIP_EXCEPTION = 2
NEAREST = 5  # versions that are named where one does not exist
_AVAILABLE = "Available versions:"


class InstallError(LaunchError):
    """An environment could not be built; the evidence has the step that failed, and pip's last error line."""


@dataclass(frozen=True, slots=True)
class Pip:
    """The pip of a Python. `name`: of the environment, in errors. `arguments`: where it finds packages.

    `keeps`: an open file that its process keeps open, so that a lock on it outlives the caller's death.
    """

    python: Path
    name: str
    arguments: tuple[str, ...] = ()
    keeps: int | None = None

    def run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Runs any command in pip's environment. Raises InstallError where it can't be started."""
        environ = inherited(os.environ, ACCELERATED, PIP)
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=environ,
                pass_fds=() if self.keeps is None else (self.keeps,),
            )
        except OSError as error:
            raise InstallError(f"{self.name}: {command[0]}: {error.strerror}") from error

    def required(self, command: Sequence[str]) -> str:
        """As `run`; returns what is printed. Raises InstallError where it fails."""
        return _passed(self.run(command), command, self.name)

    def __call__(self, *arguments: str) -> str:
        """Runs pip. Raises InstallError.

        A refusal, such as a version that does not exist, is exit code 1. An exception inside pip is code 2 and
        may be transient: a timeout, or metadata that was read incompletely ("TypeError: expected string or
        bytes-like object, got 'NoneType'", pypa/pip#13204). It is retried once in the same environment.
        """
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
        outcome = self.run(command)
        # An unknown option is code 2 as well, without a traceback.
        if outcome.returncode == PIP_EXCEPTION and "Traceback" in outcome.stderr:
            outcome = self.run(command)
        return _passed(outcome, command, self.name)

    def locked(self, lock: Lock) -> None:
        """Installs a lock: these files, and none else. Raises InstallError."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "lock.txt")
            path.write_text(lock.text)
            by_hash = ("--require-hashes", "--no-deps", "-r", str(path))
            self("install", "--quiet", *self.arguments, *by_hash)

    def resolved(
        self,
        requirements: Sequence[Requirement],
        *more: str,
        known: Lock | None = None,
        dry: bool = True,
    ) -> Lock:
        """The lock of what pip chooses for the requirements; `dry`: nothing is installed. Raises InstallError.

        `known`: versions and hashes that hold in any case.
        """
        known = known or Lock()
        with tempfile.TemporaryDirectory() as scratch:
            report, pins = Path(scratch, "report.json"), Path(scratch, "pins.txt")
            pins.write_text("".join(f"{n}=={pin.version}\n" for n, pin in known.pins.items()))
            words = ["--dry-run", "--ignore-installed"] if dry else []
            words += ["-c", str(pins)] if known.pins else []
            self("install", "--quiet", "--report", str(report), *words, *more, *self.arguments,
                 *map(str, requirements))  # fmt: skip
            return _reported(json.loads(report.read_text()), self.name, known)

    def versions(self, package: str) -> list[Version]:
        """Those that can be had here, newest first; empty: none, or no index answers."""
        command = [
            str(self.python),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "index",
            "versions",
        ]
        outcome = self.run([*command, "--pre", *self.arguments, package])
        found = []
        for line in outcome.stdout.splitlines():
            if line.strip().startswith(_AVAILABLE):
                for word in line.partition(":")[2].split(","):
                    try:
                        found.append(Version(word.strip()))
                    except InvalidVersion:
                        continue
        return sorted(found, reverse=True)

    def require(self, package: str, version: str) -> None:
        """Raises InstallError with the nearest versions where there is no such one."""
        known = self.versions(package)
        if not known:
            raise InstallError(
                f"{self.name}: no version of {package} is to be had: the index is out of reach or has none "
                "(PIP_INDEX_URL, --pip-args='--index-url …'); without a network: --wheelhouse FOLDER"
            )
        wanted = Version(version)
        if any(wanted == each or wanted.public == each.public for each in known):
            return
        raise InstallError(
            f"{self.name}: {package} has no version {version}; {nearest(wanted, known)}"
        )


def nearest(wanted: Version, known: Sequence[Version]) -> str:
    """Names the versions next to one that does not exist, and the newest."""
    above = sorted(each for each in known if each > wanted)
    below = sorted((each for each in known if each < wanted), reverse=True)
    close = [*above[:2], *below[: NEAREST - len(above[:2])]]
    close += above[2 : 2 + NEAREST - len(close)]
    close.sort(reverse=True)
    newest = "" if max(known) in close else f" (newest: {max(known)})"
    return f"nearest: {', '.join(map(str, close))}{newest}"


def _reported(report: object, name: str, known: Lock) -> Lock:
    """The lock of pip's installation report (version 1)."""
    pins: dict[str, Pin] = {}
    try:
        for each in report["install"]:  # type: ignore[index]
            metadata, info = each["metadata"], each["download_info"]["archive_info"]
            package, version = canonicalize_name(metadata["name"]), metadata["version"]
            held = known.pins.get(package)
            hashes = held.hashes if held else frozenset([info["hashes"]["sha256"]])
            pins[package] = Pin(version, hashes)
    except (KeyError, TypeError) as error:
        raise InstallError(
            f"{name}: pip's report lacks {error}: a package without SHA-256, such as a folder or a "
            "repository, can't be locked"
        ) from error
    return Lock(pins)


def _passed(outcome: "subprocess.CompletedProcess[str]", command: Sequence[str], name: str) -> str:
    if outcome.returncode:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        errors = [line for line in lines if "ERROR" in line or "Error" in line]
        raise InstallError(f"{name}: `{' '.join(command[:5])} …` failed: {(errors or lines)[-1]}")
    return outcome.stdout
