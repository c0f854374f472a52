"""A machine on which nothing is installed, and a study that was run on it."""

from pathlib import Path

import pytest

from tests.tuner.samples.study import sample_config, sample_study
from tuner.config.load import save

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and nothing installed."""
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def study(bare_machine: Path) -> Path:
    """A study of ten trials that was run, tracked by a server that is gone."""
    folder = bare_machine / "studies" / "laptop-1"
    folder.mkdir(parents=True)
    config = sample_config("http://127.0.0.1:9")
    save(config, folder)
    sample_study(folder, config)
    return folder


def one_line(captured: Captured) -> str:
    """The complaint: one line on stderr, no traceback, nothing on stdout."""
    output, errors = captured.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("wattfront: ")
    return errors
