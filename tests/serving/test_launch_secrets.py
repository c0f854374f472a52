"""What of its node's secrets an engine gets, and that none is kept."""

from pathlib import Path

import pytest

from serving.engines import LlamaCpp
from serving.errors import EngineExited, LaunchError
from serving.topology import Model
from tests.serving.test_launch import model, script, started, stub

__all__ = ["model"]
pytestmark = pytest.mark.process


def test_a_variable_to_pass_on_must_be_set(model: Model, pids: Path, tmp_path: Path) -> None:
    engine = stub(pids, env_passthrough=("NOBODY_SET_THIS",))
    with (
        pytest.raises(
            LaunchError, match=r"engine\.llamacpp\.env_passthrough: NOBODY_SET_THIS is not"
        ),
        started(engine, model, log=tmp_path / "log"),
    ):
        pass


def test_the_evidence_of_a_death_holds_no_secret(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    monkeypatch.setenv("SITE", "s3cret-place")
    run = script(tmp_path / "engine", 'echo "error: refused: $MY_TOKEN $SITE"; exit 3')
    engine = LlamaCpp(executable=run, env_passthrough=("MY_TOKEN", "SITE"))
    with (
        pytest.raises(EngineExited, match=r"error: refused: \*\*\* \*\*\*") as death,
        started(engine, model, log=tmp_path / "log"),
    ):
        pass
    assert "s3cret" not in str(death.value)
