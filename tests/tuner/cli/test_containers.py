"""A study whose container can't run on this machine ends before a device is taken, in one line."""

from pathlib import Path

import pytest

from tests.serving.process.containers.fixtures import IMAGE, FakeRuntime, runtime
from tuner.cli.exit_codes import ExitCode
from tuner.cli.parser import main

__all__ = ["runtime"]
pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("mode", "container", "says"),
    [
        ("down", f"{{image: '{IMAGE}'}}", "docker: Cannot connect to the Docker daemon"),
        ("", "{image: 'site/no:1', pull: never}", "image site/no:1 is not on this node"),
        ("", "{image: '/no/such.sif'}", "image /no/such.sif is not on this node"),
        ("", "{image: x, runtime: enroot}", "enroot is not on PATH of this node"),
    ],
)
def test_what_the_node_lacks(
    mode: str,
    container: str,
    says: str,
    runtime: FakeRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(runtime.folder / "bin"))
    model = tmp_path / "model.gguf"
    model.touch()
    runtime.mode(mode)
    settings = [f"engine.llamacpp.container={container}", f"model.source={model}", "tracking=none"]
    assert main(["tune", "experiment=laptop", *settings]) == ExitCode.MISSING
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"wattfront: {says}")
    assert not (tmp_path / "studies").exists()
