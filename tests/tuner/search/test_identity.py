"""Two spellings of one configuration are one trial."""

from collections.abc import Sequence
from typing import Any

from tests.tuner.samples.loaded import load
from tuner.config.groups.space import Float
from tuner.config.resolve import trial_config
from tuner.search.factory import SearchSetup
from tuner.trial.behaviour import identity

STUDY = load([
    *("experiment=b300_vllm", "search=list", "search.prior.kind=none", "search.trials=9"),
    "search.points=[{engine.vllm.async_scheduling: true}, {engine.vllm.kv_cache_dtype: auto}, "
    "{engine.vllm.gpu_memory_utilization: 0.92}, {engine.vllm.gpu_memory_utilization: 0.89}]",
])  # fmt: skip


def test_a_point_of_defaults_repeats_the_default_trial() -> None:
    proposer = SearchSetup(STUDY).proposer()
    points = []
    while (proposal := proposer.ask()) is not None:
        points.append(dict(proposal.point))
    assert points == [{}, {"engine.vllm.gpu_memory_utilization": 0.89}]


def test_emulated_engines_have_defaults_of_their_own() -> None:
    twin = load(["experiment=b300", "engine=[vllm]", "space=vllm_gpu"])
    default = trial_config(twin, {})
    named = trial_config(twin, {"engine.vllm.gpu_memory_utilization": 0.92})
    automatic = trial_config(twin, {"engine.vllm.kv_cache_dtype": "auto"})
    assert identity(named) != identity(default) == default.fingerprint
    assert identity(automatic) == identity(default)
    assert automatic.fingerprint != default.fingerprint


class Binary:
    """A sampler that adds steps as floating-point numbers."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return low

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low + (step or 0.0)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[0]


def test_stepped_numbers_are_those_of_the_grid() -> None:
    fraction = Float(type="float", low=0.8, high=0.95, step=0.05)
    assert 0.8 + 0.05 != 0.85
    assert fraction.suggest("x", Binary()) == 0.85
    assert fraction.grid() == [0.8, 0.85, 0.9, 0.95]
