"""What a study's processes inherit: what its engines and meters need, and nothing of the tracker."""

import os
from typing import Any

import pytest

from serving.engines import Vllm
from serving.process.environ import RAY, inherited
from serving.telemetry.sources.config import Ipmi, PowerConfig, Redfish
from tests.tuner.samples.study import sample_config
from tuner.study.environment import narrowed, needed_by_ray, needed_by_simulation

SECRETS = (
    *("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "OPENAI_API_KEY", "IPMI_PASSWORD"),
    *("WATTFRONT_REDFISH_PASSWORD", "HF_TOKEN", "NGC_API_KEY", "SITE_TOKEN"),
)
BMC = "https://bmc.example/redfish/v1/Chassis/1/Power"


def reaching(**changes: Any) -> set[str]:
    """The secrets that reach the local Ray of a study."""
    study = sample_config().model_copy(update=changes)
    return set(inherited(dict.fromkeys(SECRETS, "x"), needed_by_ray(study)))


def power(**sources: Any) -> PowerConfig:
    return PowerConfig(sources=sources)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"engine": {"vllm": Vllm()}}, {"HF_TOKEN"}),
        ({"engine": {"vllm": Vllm(env_passthrough=("SITE_TOKEN",))}}, {"HF_TOKEN", "SITE_TOKEN"}),
        (
            {"power": power(bmc=Redfish(kind="redfish", url=BMC))},
            {"HF_TOKEN", "WATTFRONT_REDFISH_PASSWORD"},
        ),
        ({"power": power(bmc=Ipmi(kind="ipmi"))}, {"HF_TOKEN", "IPMI_PASSWORD"}),
    ],
)
def test_ray_gets_what_this_study_needs(changes: dict[str, Any], needed: set[str]) -> None:
    assert reaching(**changes) == needed


def test_the_virtual_clock_needs_no_secret() -> None:
    assert inherited(dict.fromkeys(SECRETS, "x"), needed_by_simulation()) == {}


def test_the_environment_is_whole_again_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    before = dict(os.environ)
    with narrowed(RAY):
        assert "AWS_SECRET_ACCESS_KEY" not in os.environ
        assert os.environ["PATH"] == before["PATH"]
        os.environ["RAY_MADE_IN_THE_BLOCK"] = "1"
    del os.environ["RAY_MADE_IN_THE_BLOCK"]
    assert dict(os.environ) == before


def test_tune_copies_no_key_into_a_runtime_environment() -> None:
    """Pins what `run_trials` relies on: a set of names in a module of Ray Tune."""
    from ray.tune.execution import class_cache

    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
    assert isinstance(class_cache.ENV_VARS_TO_PROPAGATE, set)
    left = {each for each in class_cache.ENV_VARS_TO_PROPAGATE if each.startswith("AWS_")}
    assert left in (keys, set())
