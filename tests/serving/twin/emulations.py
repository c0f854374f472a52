"""Emulations whose step time is a formula, to test the engine loop without tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.twin.config import Power
from serving.twin.engine.batch import Batch, SchedulerConfig
from serving.twin.engine.emulation import Emulation, Transfer
from serving.twin.engine.engine import Engine, HostCosts, Noise
from serving.twin.engine.kv_blocks import BlockPool
from serving.twin.engine.power import GpuPeaks, PowerModel, Work
from serving.twin.engine.rank import Rank
from serving.twin.engine.request import Request, Times

GPU = GpuPeaks(bandwidth_bytes_s=8e12, peak_flop_s=4.5e15, max_w=1100.0)


@dataclass(frozen=True)
class LinearStepTime:
    """Seconds per step, per prompt token and per decoding request."""

    base_s: float = 0.01
    prompt_s: float = 1e-5
    decode_s: float = 1e-4

    def step_s(
        self, prefill_tokens: int, prefill_attended: float, decodes: int, decode_context: float
    ) -> float:
        return self.base_s + self.prompt_s * prefill_tokens + self.decode_s * decodes

    def decode_steps_s(self, decodes: int, contexts: Times) -> Times:
        return np.full(len(contexts), self.base_s + self.decode_s * decodes)


def work(batch: Batch) -> Work:
    tokens = batch.prefill_tokens + batch.decodes
    return Work(140e9 * tokens, 70e9 + batch.decodes * batch.context * 40960)


def rank_of(scheduler: SchedulerConfig, blocks: BlockPool, seed: int = 0) -> Rank:
    return Rank(scheduler, blocks, np.random.default_rng(seed))


def engine_of(
    ranks: Sequence[Rank],
    *,
    times: LinearStepTime | None = None,
    host: HostCosts | None = None,
    noise: float = 0.0,
    power: Power | None = None,
) -> Engine:
    return Engine(
        ranks,
        times or LinearStepTime(),
        host=host or HostCosts(),
        power=PowerModel(GPU, power or Power()),
        work=work,
        gpus_per_rank=2,
        noise=Noise(noise, np.random.default_rng(1)),
    )


def emulation_of(
    scheduler: SchedulerConfig,
    *,
    blocks: int = 10_000,
    block_tokens: int = 16,
    prefix_caching: bool = False,
    ranks: int = 1,
    times: LinearStepTime | None = None,
    host: HostCosts | None = None,
    noise: float = 0.0,
) -> Emulation:
    made = [
        rank_of(scheduler, BlockPool(blocks, block_tokens, prefix_caching=prefix_caching), seed)
        for seed in range(ranks)
    ]
    return Emulation(
        [engine_of(made, times=times, host=host, noise=noise)], host=host or HostCosts()
    )


def disaggregated(prefill: int, decode: int, *, bytes_s: float = 1e12) -> Emulation:
    def engines(count: int, scheduler: SchedulerConfig) -> list[Engine]:
        return [
            engine_of([rank_of(scheduler, BlockPool(10_000, 16, prefix_caching=False))])
            for _ in range(count)
        ]

    return Emulation(
        engines(prefill, SchedulerConfig(64, 8192)),
        host=HostCosts(),
        decode_engines=engines(decode, SchedulerConfig(256, 8192)),
        transfer=Transfer(bytes_per_token=1e5, bytes_s=bytes_s, latency_s=0.0),
    )


def run_closed_loop(emulation: Emulation, requests: Sequence[Request], users: int) -> list[Request]:
    """Each user sends the next request when the one before is done. Returns requests in order of completion."""
    waiting = iter(requests)
    done: list[Request] = []
    for _, request in zip(range(users), waiting, strict=False):
        emulation.submit(request, 0.0)
    while emulation.next_s is not None:
        event = emulation.advance()
        for request in event.done:
            done.append(request)
            if (following := next(waiting, None)) is not None:
                emulation.submit(following, event.at_s)
    return done


def random_requests(
    count: int, seed: int = 0, max_prompt: int = 600, max_output: int = 200
) -> list[Request]:
    random = np.random.default_rng(seed)
    prompts = random.integers(1, max_prompt + 1, count)
    outputs = random.integers(1, max_output + 1, count)
    return [
        Request(number, int(p), int(o))
        for number, (p, o) in enumerate(zip(prompts, outputs, strict=True))
    ]
