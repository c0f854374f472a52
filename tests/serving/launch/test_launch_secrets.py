"""What of its node's secrets an engine gets, and that none is kept. Its sockets are reached by nobody else."""

import stat
from pathlib import Path

import psutil
import pytest

from serving.engines import LlamaCpp
from serving.errors import EngineExited, LaunchError
from serving.topology import Model
from tests.serving.launch.test_launched import model, script, started, stub

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


def test_its_sockets_are_in_a_private_folder_that_goes_with_it(
    model: Model, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaCpp, "sockets_variable", "ITS_SOCKETS")
    with started(stub(pids), model, log=tmp_path / "log") as running:
        folder = Path(psutil.Process(running.endpoint.pid).environ()["ITS_SOCKETS"])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "left-behind").touch()
        assert "ITS_SOCKETS" not in dict(running.endpoint.environ)
    assert not folder.exists()
