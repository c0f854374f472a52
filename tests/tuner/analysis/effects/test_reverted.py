"""Effects of single changes, their intervals, and the changes that can be spared."""

import numpy as np
import pytest

from tests.tuner.analysis.effects.test_knob_effects import CONFIG, EVERY_OTHER, POINTS, trials
from tests.tuner.samples.landscape import rate
from tuner.analysis.effects.reverted import (
    Changes,
    dispensable,
    kept,
    kept_shares,
    reverted,
    spreads_of,
    without_effect,
)
from tuner.analysis.surrogate import Surrogate, fit_surrogate
from tuner.config.groups.space import Point
from tuner.config.load import load
from tuner.trial.engine_settings import EngineSettings

THREADS, BATCH, CACHE = (
    f"engine.llamacpp.{knob}" for knob in ("threads", "batch_size", "cache_type_k")
)
ALL = Changes({}, {THREADS: 4, BATCH: 1024, CACHE: "q8_0"})


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    found = fit_surrogate(CONFIG, trials(tmp_path_factory.mktemp("study"), EVERY_OTHER))
    assert found is not None
    return found


def test_intervals_hold_the_truth(surrogate: Surrogate) -> None:
    (bulk, _) = spreads_of(surrogate)
    assert bulk is not None
    inside = []
    for point in POINTS:
        changes = Changes({}, dict(point))
        for path, effect in reverted(surrogate, 0, bulk, changes).items():
            if effect is None:
                continue
            without = changes.point(surrogate.space, [path])
            true = rate(without) / rate(point) - 1
            inside.append(effect.low <= true <= effect.high)
    assert len(inside) > 30
    assert np.mean(inside) >= 0.9


def test_a_setting_that_names_the_default_is_without_effect(surrogate: Surrogate) -> None:
    plain = Changes({}, {THREADS: 4, CACHE: "f16"})  # the study configures f16
    assert without_effect(surrogate, plain) == [CACHE]
    assert reverted(surrogate, 0, 1.6, plain)[CACHE] is None
    assert dispensable(surrogate, 0, plain)[0] == CACHE


def test_what_brings_nothing_can_be_spared(surrogate: Surrogate) -> None:
    dropped = dispensable(surrogate, 0, ALL)
    assert CACHE in dropped
    assert THREADS not in dropped
    share = kept(surrogate, 0, 1.6, ALL, [THREADS, BATCH])
    assert share is not None
    assert share.low <= 1 <= share.high


@pytest.mark.parametrize(
    ("whole", "default", "few", "share"),
    [
        (10.0, 0.0, 5.0, 0.5),
        (10.0, 8.0, 10.0, 1.0),
        (10.0, 10.0, 12.0, 0.0),
        (10.0, 5.0, 0.0, -1.0),
    ],
)
def test_shares_of_a_gain(whole: float, default: float, few: float, share: float) -> None:
    assert float(kept_shares(whole, default, few)) == share


def test_flags_that_the_emulator_ignores_are_never_credited() -> None:
    settings = EngineSettings(load(["experiment=b300"]))
    point: Point = {"engine": "vllm", "topology.tensor_parallel": 2}
    ignored = {"engine.vllm.async_scheduling": False, "engine.vllm.enable_prefix_caching": False}
    assert settings.same({**point, **ignored, "engine.vllm.kv_cache_dtype": "auto"}, point)
