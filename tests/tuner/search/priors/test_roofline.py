"""The roofline against arithmetic by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.twin.api import MODELS, SYSTEMS
from tuner.search.priors.roofline import ShardedModel, parameters_read, roofline

LLAMA, R1, B300 = MODELS["llama-3.1-70b"], MODELS["deepseek-r1"], SYSTEMS["b300_sxm"]


def sharded(weights: str = "fp8", gpus: int = 1, kv: str = "fp8") -> ShardedModel:
    return ShardedModel(LLAMA, B300, weights, kv, gpus)


def test_one_user_waits_for_the_weights() -> None:
    """70.6 GB at 7.75 TB/s, and a cache of 1,536 tokens that adds 0.36 %."""
    figures = roofline(sharded(), 1024, 1024, 1)
    cache = 1536 * LLAMA.kv_bytes_per_token("fp8")
    decode_s = (LLAMA.parameters + cache) / 7.75e12
    prefill_s = 2 * LLAMA.active_parameters * 1024 / 4.5e15
    assert figures["tpot_p50_ms"] == pytest.approx(1e3 * (decode_s + prefill_s / 1024))
    assert figures["ttft_p50_ms"] == pytest.approx(1e3 * prefill_s + figures["tpot_p50_ms"])


def test_many_users_wait_for_arithmetic() -> None:
    users = 1e6
    tiny = roofline(sharded(), 1, 1024, users)
    flops = 2 * LLAMA.active_parameters * users / 4.5e15
    reads = users * 513 * LLAMA.kv_bytes_per_token("fp8") / 7.75e12
    prefill = users * 2 * LLAMA.active_parameters / 4.5e15 / 1024
    assert tiny["tpot_p50_ms"] == pytest.approx(
        1e3 * (max(flops, reads + LLAMA.parameters / 7.75e12) + prefill)
    )


def test_fewer_bits_and_more_gpus_are_faster() -> None:
    def speed(**changes: object) -> float:
        return roofline(sharded(**changes), 1024, 1024, 8)["interactivity_tok_s_user"]  # type: ignore[arg-type]

    assert speed(weights="bf16") < speed(weights="fp8") < speed(weights="nvfp4")
    assert speed(gpus=1) < speed(gpus=2) < speed(gpus=8)
    assert speed(kv="bf16") < speed(kv="fp8")


@given(st.floats(1, 4096), st.floats(1.01, 8))
def test_more_users_are_never_faster_and_never_less_in_all(users: float, times: float) -> None:
    few, many = (roofline(sharded(), 1024, 1024, count) for count in (users, users * times))
    assert many["interactivity_tok_s_user"] <= few["interactivity_tok_s_user"] * (1 + 1e-12)
    rate = "throughput_output_tok_s_device"
    assert many[rate] >= few[rate] * (1 - 1e-12)


def test_a_mixture_reads_the_active_experts_for_one_token_and_all_for_many() -> None:
    assert parameters_read(R1, 1) == pytest.approx(R1.active_parameters)
    assert parameters_read(R1, 1e5) == pytest.approx(R1.parameters)
    shares = [parameters_read(R1, tokens) for tokens in (1, 2, 8, 64)]
    assert (np.diff(shares) > 0).all()
    assert parameters_read(LLAMA, 5) == LLAMA.parameters
