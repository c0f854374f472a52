"""Emulations with a formula for a step's time: the loop itself, without tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.twin.config import Power
from serving.twin.engine.batch import Batch, Scheduling
from serving.twin.engine.blocks import Blocks
from serving.twin.engine.emulation import Emulation, Transfer
from serving.twin.engine.engine import Engine, HostCosts, Noise
from serving.twin.engine.power import Machine, PowerModel, Work
from serving.twin.engine.rank import Rank
from serving.twin.engine.request import Request, Times

MACHINE = Machine(bandwidth_bytes_s=8e12, peak_flop_s=4.5e15, most_w=1100.0)


@dataclass(frozen=True)
class Linear:
    """Seconds: each step, each prompt token, each request that decodes."""

    base_s: float = 0.01
    prompt_s: float = 1e-5
    decode_s: float = 1e-4

    def step_s(
        self, prefill_tokens: int, prefill_attended: float, decodes: int, decode_context: float
    ) -> float:
        return self.base_s + self.prompt_s * prefill_tokens + self.decode_s * decodes

    def decodes_s(self, decodes: int, contexts: Times) -> Times:
        return np.full(len(contexts), self.base_s + self.decode_s * decodes)


def work(batch: Batch) -> Work:
    tokens = batch.prefill_tokens + batch.decodes
    return Work(140e9 * tokens, 70e9 + batch.decodes * batch.context * 40960)


def rank_of(scheduling: Scheduling, blocks: Blocks, seed: int = 0) -> Rank:
    return Rank(scheduling, blocks, np.random.default_rng(seed))


def engine_of(
    ranks: Sequence[Rank],
    *,
    times: Linear | None = None,
    host: HostCosts | None = None,
    noise: float = 0.0,
    power: Power | None = None,
) -> Engine:
    return Engine(
        ranks,
        times or Linear(),
        host=host or HostCosts(),
        power=PowerModel(MACHINE, power or Power()),
        work=work,
        gpus_per_rank=2,
        noise=Noise(noise, np.random.default_rng(1)),
    )


def emulation_of(
    scheduling: Scheduling,
    *,
    blocks: int = 10_000,
    block_tokens: int = 16,
    prefix_caching: bool = False,
    ranks: int = 1,
    times: Linear | None = None,
    host: HostCosts | None = None,
    noise: float = 0.0,
) -> Emulation:
    made = [
        rank_of(scheduling, Blocks(blocks, block_tokens, prefix_caching=prefix_caching), seed)
        for seed in range(ranks)
    ]
    return Emulation(
        [engine_of(made, times=times, host=host, noise=noise)], host=host or HostCosts()
    )


def disaggregated(prefill: int, decode: int, *, bytes_s: float = 1e12) -> Emulation:
    def engines(count: int, scheduling: Scheduling) -> list[Engine]:
        return [
            engine_of([rank_of(scheduling, Blocks(10_000, 16, prefix_caching=False))])
            for _ in range(count)
        ]

    return Emulation(
        engines(prefill, Scheduling(64, 8192)),
        host=HostCosts(),
        decoders=engines(decode, Scheduling(256, 8192)),
        transfer=Transfer(bytes_per_token=1e5, bytes_s=bytes_s, latency_s=0.0),
    )


def drive(emulation: Emulation, requests: Sequence[Request], users: int) -> list[Request]:
    """A closed loop: each user's next request comes at the end of the one before."""
    left = iter(requests)
    done: list[Request] = []
    for _, request in zip(range(users), left, strict=False):
        emulation.submit(request, 0.0)
    while emulation.next_s is not None:
        turn = emulation.advance()
        for request in turn.done:
            done.append(request)
            if (following := next(left, None)) is not None:
                emulation.submit(following, turn.at_s)
    return done


def drawn(count: int, seed: int = 0, prompt: int = 600, output: int = 200) -> list[Request]:
    random = np.random.default_rng(seed)
    prompts = random.integers(1, prompt + 1, count)
    outputs = random.integers(1, output + 1, count)
    return [
        Request(number, int(p), int(o))
        for number, (p, o) in enumerate(zip(prompts, outputs, strict=True))
    ]
