"""What is named on the command line: an engine's environment, its version, or a wheel of it."""

from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from serving.install.packages.pip import InstallError
from serving.install.packages.recipes import RECIPES
from serving.install.requirements import pinned_package

ALIASES = {"trtllm": "tensorrt-llm", "llama.cpp": "llamacpp"}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """`version`: None: the pinned one. `wheel`: the file that has it."""

    name: str
    version: str | None = None
    wheel: Path | None = None

    @property
    def pip_args(self) -> tuple[str, ...]:
        """With which pip finds the wheel."""
        return () if self.wheel is None else ("--find-links", str(self.wheel.parent))


def spec_of(text: str) -> EngineSpec:
    """`vllm`, `vllm==0.32.0`, or the path of a wheel. Raises InstallError."""
    if text.endswith(".whl"):
        return _of_wheel(Path(text))
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    pins = [] if requirement is None else [*requirement.specifier]
    exact = len(pins) == 1 and pins[0].operator == "==" and "*" not in pins[0].version
    if requirement is None or not (exact or not pins) or requirement.extras or requirement.url:
        name = next((each for each in RECIPES if text.startswith(each)), "vllm")
        raise InstallError(f"{text}: write NAME or NAME==VERSION, for example {name}==0.1.2")
    name = ALIASES.get(text.partition("=")[0].strip(), canonicalize_name(requirement.name))
    return EngineSpec(name, pins[0].version if pins else None)


def _of_wheel(path: Path) -> EngineSpec:
    try:
        package, version, _, _ = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise InstallError(f"{path}: {error}") from error
    if not path.is_file():
        raise InstallError(f"there is no wheel at {path}")
    packages = {canonicalize_name(pinned_package(name)): name for name in reversed(RECIPES)}
    if package not in packages:
        raise InstallError(f"{path}: no engine has the package {package}: {', '.join(packages)}")
    return EngineSpec(packages[package], str(version), path.absolute())


def normal(version: str) -> str:
    """A version as packages are named: 0.33.0rc1 for 0.33.0-rc1; as it is, where it is none."""
    try:
        return str(Version(version))
    except InvalidVersion:
        return version
