"""Prefix caches are emptied where prompts share prefixes and the engine can, else the trial says so."""

from dataclasses import replace
from typing import Any

import pytest

import loadgen
from serving.engines import LlamaCpp, SgLang, Vllm
from serving.twin.config import TwinConfig
from tests.loadgen.fake_server import fake_server
from tests.tuner.samples.points import CONFIG
from tests.tuner.trial.quality.test_collect import serving
from tuner.config.trial import TrialConfig
from tuner.trial.quality import prefix_cache
from tuner.trial.quality.prefix_cache import PREFIX_CACHE, RESET, PrefixCache, prefix_cache_of

SHARED = {"shared_prefix": {"hit_rate": 0.5}}


def trial(engine: Any, **workload: Any) -> TrialConfig:
    data = CONFIG.model_dump()
    changed = {"workload": {**data["workload"], **workload}, "engine": engine.model_dump()}
    return TrialConfig.model_validate({**data, **changed})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (trial(Vllm(), **SHARED), RESET),
        (trial(SgLang(), **SHARED), RESET),
        (trial(Vllm()), None),  # prompts of their own
        (trial(LlamaCpp(), **SHARED), "kept between levels: llamacpp can't empty it"),
        (trial(SgLang(), **SHARED, placement="apart"), RESET),
        (
            trial(Vllm(), **SHARED, placement="apart"),
            "kept between levels: workload.placement=apart opens the port to others",
        ),
    ],
)
def test_what_is_done(config: TrialConfig, said: str | None) -> None:
    assert prefix_cache_of(config).facts().get(PREFIX_CACHE) == said


def test_an_emulated_engine_is_left_alone() -> None:
    config = trial(Vllm(), **SHARED)
    hardware = config.hardware.model_copy(update={"twin": TwinConfig(system="b300_sxm")})
    cache = prefix_cache_of(config.model_copy(update={"hardware": hardware}))
    assert (cache.reset, cache.facts()) == (None, {})


def test_the_variable_that_opens_the_reset_is_not_in_the_command_to_copy() -> None:
    cache = prefix_cache_of(trial(Vllm(), **SHARED))
    assert cache.opened(Vllm(env={"A": "1"})).env == {"VLLM_SERVER_DEV_MODE": "1", "A": "1"}
    with serving(lambda _: (200, b"")) as (endpoint, _):
        started = replace(endpoint, environ=(("A", "1"), ("VLLM_SERVER_DEV_MODE", "1")))
    assert cache.closed(started).environ == (("A", "1"),)


def test_an_engine_that_is_still_busy_is_asked_again() -> None:
    answers = iter([400, 400, 200])
    cache = PrefixCache(SgLang.cache_reset, "")
    with serving(lambda _: (next(answers), b"")) as (endpoint, seen):
        before = cache.emptied(endpoint)
        assert before is not None
        before()
    assert [each["path"] for each in seen] == ["/flush_cache"] * 3
    assert {each["key"] for each in seen} == {"Bearer k"}
    assert cache.facts() == {PREFIX_CACHE: RESET}


def test_an_engine_that_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "PATIENCE_S", 0.3)
    cache = PrefixCache(Vllm.cache_reset, "")
    with serving(lambda _: (404, b"")) as (endpoint, _):
        before = cache.emptied(endpoint)
        assert before is not None
        before()
    said = "kept between levels: /reset_prefix_cache gave status 404"
    assert cache.facts() == {PREFIX_CACHE: said}


@pytest.mark.process
def test_it_is_emptied_before_each_level_while_nothing_is_on_its_way() -> None:
    changes = {
        "input_tokens": 4, "output_tokens": 4, "warmup_s": 0.05, "level_s": 0.2, "level_max_s": 2.0,
        "arrival": {"kind": "closed", "concurrency": [2, 3]},
    }  # fmt: skip
    seen = list[tuple[int, int]]()
    with fake_server() as server:
        loadgen.run(
            server.url,
            "m",
            trial(LlamaCpp(), **changes).workload,
            before_level=lambda: seen.append((len(server.served), server.in_flight)),
        )
    assert len(seen) == 2
    assert seen[0][0] == 0 < seen[1][0]


def test_each_engine_behind_a_router_is_emptied() -> None:
    cache = PrefixCache(SgLang.cache_reset, "")
    with (
        serving(lambda _: (404, b"")) as (router, asked),
        serving(lambda _: (200, b"")) as (one, first),
        serving(lambda _: (200, b"")) as (two, second),
    ):
        before = cache.emptied(replace(router, members=(one, two)))
        assert before is not None
        before()
    assert ([each["path"] for each in first], [each["path"] for each in second]) == (
        ["/flush_cache"],
        ["/flush_cache"],
    )
    assert asked == []
    assert cache.facts() == {PREFIX_CACHE: RESET}
