"""The metrics of an emulated engine: on the virtual clock as on its page, and the same every time."""

import asyncio
from typing import Any

import pytest

from serving.telemetry.engine_metrics.page import parse
from serving.twin.api import Request
from serving.twin.frameworks.dialects import DIALECTS, EngineInfo
from serving.twin.server.wall_clock import WallClock
from tests.tuner.trial.test_simulate import completed, trial
from tuner.metrics.catalogue.engine import QUEUES
from tuner.trial.metering import VirtualSampler
from tuner.trial.result import Timings
from tuner.trial.simulate import assemble_twin, simulate_trial

POOLS = {"pools": {"prefill": 1, "decode": 1}}
SPECULATIVE: dict[str, dict[str, Any]] = {
    "vllm": {"speculative_config": '{"method":"eagle3","num_speculative_tokens":3,"model":"x"}'},
    "sglang": {
        "extra_args": ("--speculative-algorithm", "EAGLE", "--speculative-num-draft-tokens", "4")
    },
    "trtllm": {},
}


@pytest.mark.parametrize("engine", DIALECTS)
def test_the_server_s_page_and_the_virtual_clock_say_the_same(engine: str) -> None:
    config = trial(engine, tensor=1, **SPECULATIVE[engine])
    assert config.twin is not None
    parsed, assembled = assemble_twin(config, config.twin)
    emulation = assembled.emulation
    for number in range(40):
        emulation.submit(Request(number, 500, 20 + 20 * number), 0.0)
    while emulation.now_s < 6:
        emulation.advance()
    sampler = VirtualSampler(emulation, config.engine.metrics_page)
    sampler.reach(emulation.now_s)
    virtual = {name: values[-1] for name, values in sampler.trace().values.items()}
    loop = asyncio.new_event_loop()
    clock = WallClock(emulation, loop, print, print)
    info = EngineInfo(parsed.setup, assembled.kv_tokens, assembled.weights_bytes, "v", 1.0)
    path = config.engine.metrics_page.paths[0]
    page = DIALECTS[parsed.setup.framework].page(path, info, clock.counters())
    clock.close()
    loop.close()
    assert page is not None
    found = parse(page.body, config.engine.metrics_page)
    if engine == "sglang":  # the page has the queues of two pools with a single one, as 0
        assert (found.pop("prefill_queue"), found.pop("decode_queue")) == (0, 0)
        virtual = {k: v for k, v in virtual.items() if not k.endswith("_queue")}
    assert found == pytest.approx(virtual)
    assert found["running"] > 0
    assert 0 < found["kv_cache_share"] <= 1
    accepted = found.get("acceptance", found.get("accepted_drafts", 0))
    assert bool(accepted) == bool(SPECULATIVE[engine])


def test_every_level_has_the_metrics_and_they_repeat() -> None:
    config = trial(users=(4, 64), max_num_seqs=16)
    once, again = (completed(simulate_trial(config)).points for _ in range(2))
    assert [point.metrics for point in once] == [point.metrics for point in again]
    for point in once:
        known = {name for name in QUEUES if point.metrics[name] is not None}
        assert known == set(QUEUES) - {"engine_draft_acceptance"}
        assert point.reasons["engine_draft_acceptance"] == "no tokens were drafted"


def test_half_of_a_prompt_that_is_shared_is_half_hits() -> None:
    shared = {"input_tokens": 2000, "shared_prefix": {"hit_rate": 0.5, "prefixes": 2}}
    (point,) = completed(simulate_trial(trial(workload=shared))).points
    assert point.metrics["engine_prefix_hit_share"] == pytest.approx(0.5, abs=0.03)


def test_two_pools_have_their_queues() -> None:
    (point,) = completed(simulate_trial(trial("sglang", users=(64,), twin=POOLS))).points
    assert (point.metrics["engine_prefill_queue_max"] or 0) > 0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_parts_of_the_start_are_those_of_the_emulated_log(engine: str) -> None:
    timings: Timings = completed(simulate_trial(trial(engine))).timings
    assert timings.weight_load_s == pytest.approx(0.5 * timings.startup_s, abs=0.01)
    assert timings.engine_warmup_s == pytest.approx(0.15 * timings.startup_s, abs=0.5)
