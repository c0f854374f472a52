"""An engine that nobody has: all that starts, watches and explains it is one class."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from serving import probe
from serving.engines.base import BaseEngine, Launch, ModelFormat, flags
from serving.engines.deaths.model import Death, DeathTable
from serving.errors import WeightsMissing
from serving.launch import LaunchSpec, launched, plan_command, shell_command
from serving.topology import Model, Positive, Topology
from tests.serving.conftest import STUB, stub_environ

BROKEN = Death(
    pattern=r"failed to load model: file is broken",
    error=WeightsMissing,
    remedy="Fetch the model again.",
    source="toy",
    version="1.0",
)


class Toy(BaseEngine):
    """As an adapter of a user's own would be."""

    default_executable: ClassVar[str] = str(STUB)
    model_format: ClassVar[ModelFormat] = "gguf"
    api_key_variable: ClassVar[str] = "LLAMA_API_KEY"
    deaths: ClassVar[DeathTable] = DeathTable((BROKEN,))

    kind: Literal["toy"] = "toy"
    parallel: Positive | None = Field(default=None, description="requests at once")

    def command(self, launch: Launch) -> list[str]:
        """The stub's."""
        own = {"--host": launch.host, "--port": launch.port, "--alias": launch.served_model}
        return [launch.executable, *flags(own), *self.knobs()]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "model.gguf"
    path.touch()
    return Model(name="toy-model", source=str(path), context_tokens=64, vocabulary=1000)


def spec(model: Model, pids: Path, tmp_path: Path, mode: str) -> LaunchSpec:
    engine = Toy(parallel=3, env=stub_environ(pids, mode), stop_grace_s=0.2)
    # The union of shipped engines is for what comes from outside.
    return LaunchSpec(engine, model, Topology(cpus=1), tmp_path / "log")  # type: ignore[arg-type]


def test_its_plan_names_its_knobs(model: Model) -> None:
    plan = plan_command(Toy(parallel=3), model, Topology(cpus=1))  # type: ignore[arg-type]
    assert plan.endswith("--host 127.0.0.1 --port $PORT --alias toy-model --parallel 3")


@pytest.mark.process
def test_it_serves_and_ends(model: Model, pids: Path, tmp_path: Path) -> None:
    with launched(spec(model, pids, tmp_path, "ok")) as running:
        endpoint = running.endpoint
        assert probe.completes(endpoint.base_url, "toy-model", None, 30) == 200
        assert "--parallel 3" in shell_command(endpoint)
        running.check()
        running.canary()
    assert not probe.taken(int(endpoint.base_url.rpartition(":")[2]))


@pytest.mark.process
def test_its_deaths_are_told_by_its_own_table(model: Model, pids: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(WeightsMissing, match="file is broken") as caught,
        launched(spec(model, pids, tmp_path, "crash")),
    ):
        pass
    assert caught.value.remedy == "Fetch the model again."
