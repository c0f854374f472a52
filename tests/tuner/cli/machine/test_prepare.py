"""What a study fetches on this machine before it starts, and what it finds out on the way."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from serving.install.hub.cache import ModelCache
from tests.serving.gpu.memory.samples import LLAMA_70B
from tests.serving.install.hub.fake_hub import COMMIT, FakeHub
from tests.serving.install.hub.fixtures import FILES, MODEL, fake
from tuner.cli.exit_codes import Missing
from tuner.cli.machine.prepare import engines_tried, prepare_machine
from tuner.config.errors import ConfigError
from tuner.config.load import load
from tuner.config.study import StudyConfig

__all__ = ["fake"]
ONE = ["experiment=b300_vllm", "hardware=h100", "space=none", "search=random"]


def study(*words: str, source: str = MODEL, gpus: int = 1, cluster: str = "local") -> StudyConfig:
    here = [f"cluster={cluster}", "cluster.gpus=8", f"topology.tensor_parallel={gpus}"]
    return load([*ONE, f"model.source={source}", *here, *words])


def test_models_are_fetched_before_the_first_trial(fake: FakeHub) -> None:
    prepare_machine(study(), Console())
    assert ModelCache(MODEL).complete(None) == COMMIT


def test_what_does_not_fit_is_known_before_its_weights_are_fetched(
    fake: FakeHub, tmp_path: Path
) -> None:
    files = {**FILES, "config.json": json.dumps(LLAMA_70B).encode()}
    fake.add("org/seventy", files)
    config = study(source="org/seventy")
    with pytest.raises(ConfigError, match=r"topology: org/seventy needs at least 132 GiB a GPU"):
        prepare_machine(config, Console())
    assert not any(path.endswith(".safetensors") for path in fake.files())
    prepare_machine(study(source="org/seventy", gpus=4), Console())
    assert ModelCache("org/seventy").complete(None) == COMMIT


def test_a_refusal_ends_the_study_before_it_starts(fake: FakeHub) -> None:
    fake.gated = {MODEL}
    with pytest.raises(
        Missing, match=r"org/tiny-1B is gated: ask .*\(cluster\.prepare=false leaves"
    ):
        prepare_machine(study(), Console())
    fake.asked.clear()
    prepare_machine(study("cluster.prepare=false"), Console())
    prepare_machine(study("hardware=b300_twin"), Console())
    prepare_machine(study(cluster="existing"), Console())
    assert fake.asked == []


def test_versions_that_a_space_tries_are_needed() -> None:
    words = "space.parameters.engine.vllm.version={type: categorical, choices: [0.32.0, 0.33.0]}"
    assert [each.version for each in engines_tried(study(words))] == ["0.32.0", "0.33.0"]
    assert [each.version for each in engines_tried(study())] == [None]
