"""The flags of a container image: its own Python prints the source, by a fake runtime."""

import sys

import pytest

from serving.engines.flags.extraction.extract import extract
from serving.engines.flags.extraction.source import source_of
from serving.errors import LaunchError
from tests.serving.engines.flags.test_extraction import VLLM
from tests.serving.process.containers.fixtures import IMAGE, FakeRuntime, runtime

__all__ = ["runtime"]
pytestmark = pytest.mark.process


def python_of_the_image(runtime: FakeRuntime) -> None:
    """The Python on the image's PATH, with the packages of the folder `site`."""
    path = runtime.folder / "bin" / "python3"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={runtime.folder}/site exec {sys.executable} -S "$@"\n')
    path.chmod(0o755)


def test_the_flags_of_an_image(runtime: FakeRuntime) -> None:
    python_of_the_image(runtime)
    site = runtime.folder / "site"
    for name, text in {
        **VLLM,
        "vllm/not_read.py": "raise SystemExit",
        "vllm/__init__.py": "raise SystemExit",
    }.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = site / "vllm-0.99.0.dist-info" / "METADATA"
    info.parent.mkdir()
    info.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.99.0\n")
    source = source_of(IMAGE)
    assert (source.framework, source.version) == ("vllm", "0.99.0")
    assert "vllm/not_read.py" not in source.files
    schema = extract(source)
    assert schema.provenance == f"syntax of the image {IMAGE}"
    assert "--max-num-seqs" in schema.flags
    (call,) = [call for call in runtime.calls() if call[0] == "run"]
    assert call[call.index("--network") + 1] == "none"


def test_an_image_without_a_framework_and_one_that_is_not_here(runtime: FakeRuntime) -> None:
    python_of_the_image(runtime)
    with pytest.raises(LaunchError, match="its Python has none of vLLM, SGLang and TensorRT-LLM"):
        source_of(IMAGE)
    with pytest.raises(LaunchError, match="nor an image that docker or podman has here"):
        source_of("site/unknown:1")
