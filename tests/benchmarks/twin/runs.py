"""Simulates one point with the flags of its recipe under InferenceX's load.

Load (InferenceX, utils/bench_serving): C users in a closed loop that all start at once; 10 × C prompts; lengths
uniform in [0.8 L, L]; no prefix cache; metrics over the whole run, ramp and drain included.
Flags: benchmarks/single_node/fixed_seq_len/*.sh at 843c6254f (2026-08-22), by model and system.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.twin.config import Power, TwinConfig
from serving.twin.engine import assemble as assembly
from serving.twin.engine.emulation import Emulation
from serving.twin.engine.engine import Engine, HostCosts
from serving.twin.engine.request import Request
from serving.twin.errors import FlagError, NoTable, TwinOutOfMemory
from serving.twin.setup import Setup
from serving.twin.tables.catalog import MODELS
from serving.twin.tables.library import Library
from tests.benchmarks.twin.points import Config
from tests.serving.twin.emulations import run_closed_loop

ROUNDS, SHORTEST = 10, 0.8
ACCEPTANCE = (
    0.89  # of draft tokens: 3.39 tokens a step with 3 drafts, InferenceX's value for Qwen3.5
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Metrics of a simulated run; tokens are input and output. `reason`: why there is no prediction."""

    ttft_s: float = 0.0
    mean_ttft_s: float = 0.0
    p99_ttft_s: float = 0.0
    tpot_s: float = 0.0
    mean_tpot_s: float = 0.0
    tokens_s_gpu: float = 0.0
    watts_gpu: float = 0.0
    duration_s: float = 0.0
    reason: str = ""


def setup_of(config: Config) -> Setup:
    """The engine settings that the recipe's flags give."""
    make = {"sglang": _sglang, "vllm": _vllm, "trtllm": _trtllm}[config.framework]
    return make(config)


def _setup(config: Config, **flags: object) -> Setup:
    facts = MODELS[config.model]
    named = [hub for hub, weights in facts.checkpoints.items() if weights == config.weights]
    plain = [hub for hub, weights in facts.checkpoints.items() if weights == "bf16"]
    return Setup(
        framework=config.framework,  # type: ignore[arg-type]
        model=(named or plain)[0],
        served_model="",
        host="",
        port=0,
        context_tokens=config.isl + config.osl + 20,
        weights="auto" if named else config.weights,
        tensor=config.tensor,
        data=config.data,
        expert=config.expert,
        lockstep=config.data > 1,
        prefix_caching=False,
        draft_tokens=config.drafts,
        **flags,  # type: ignore[arg-type]
    )


def _sglang(config: Config) -> Setup:
    hopper, deepseek = config.system == "h200_sxm", config.model == "deepseek-r1"
    chunk, fraction, most, receive = 32768, 0.82, 512, 1
    if not hopper and config.model != "glm-5":
        receive = 30 if config.users >= 16 else 10
    if deepseek and config.weights == "nvfp4":
        chunk, fraction, most = 16384, 0.85, 256
    elif deepseek and config.tensor == 4:
        chunk, fraction, most, receive = 8192, 0.95, 32, 10
    elif deepseek and not hopper:
        most = 128
    elif config.model == "qwen3.5-397b-a17b":
        fraction, most = 0.80 if config.weights != "bf16" else 0.82, 128
        if config.weights == "fp8_block":
            chunk, most = 16384, max(128, config.users)
            receive = 10 if config.system == "b300_sxm" else receive
    elif config.model == "glm-5":
        fraction, most = 0.85, max(128, config.users)
    wide = config.weights == "bf16" or (hopper and config.model != "qwen3.5-397b-a17b")
    return _setup(
        config,
        kv="bf16" if wide else "fp8",
        max_sequences=most,
        step_tokens=chunk,
        mixed=False,
        reserve="estimate",
        memory_fraction=fraction,
        block_tokens=1 if hopper else 64,
        receive_steps=receive,
    )


def _vllm(config: Config) -> Setup:
    budget, fraction, kv, most = 8192, 0.9, "fp8", 1024
    if config.model == "minimax-m2.5":
        budget = 2 * config.isl if config.system != "h200_sxm" else 8192
        fraction = 0.95 if config.system == "h200_sxm" else 0.9
    elif config.model == "kimi-k2.5":
        kv, most = ("bf16", config.users) if config.weights == "int4" else ("fp8", config.users)
        fraction = 0.95 if config.weights == "int4" else 0.9
    elif config.model == "gpt-oss-120b":
        kv = "bf16" if config.system == "h200_sxm" else "fp8"
        most = 512
    return _setup(
        config,
        kv=kv,
        max_sequences=most,
        step_tokens=budget,
        memory_fraction=fraction,
        block_tokens=32,
    )


def _trtllm(config: Config) -> Setup:
    budget = max(8192, -(-(config.users + config.isl + 64) // 64) * 64)
    fraction, kv = 0.8, "fp8"
    if config.model == "gpt-oss-120b":
        budget, fraction = 20000, 0.85
        kv = "bf16" if config.system == "h200_sxm" else "fp8"
    elif config.system == "h200_sxm":
        fraction = 0.75
    return _setup(
        config,
        kv=kv,
        max_sequences=max(16, -(-config.users // config.data)),
        step_tokens=budget,
        chunked=False,
        reserve="all",
        memory_fraction=fraction,
        block_tokens=32,
    )


def requests_of(config: Config, seed: int = 0) -> list[Request]:
    random = np.random.default_rng(seed)
    count = ROUNDS * config.users
    prompts = random.integers(int(SHORTEST * config.isl), config.isl, count, endpoint=True)
    outputs = random.integers(int(SHORTEST * config.osl), config.osl, count, endpoint=True)
    pairs = zip(prompts.tolist(), outputs.tolist(), strict=True)
    return [Request(number, prompt, output) for number, (prompt, output) in enumerate(pairs)]


def outcome_of(emulation: Emulation, done: Sequence[Request]) -> Outcome:
    served = [request for request in done if not request.rejection and request.generated > 1]
    if not served:
        return Outcome(reason=done[0].rejection if done else "nothing was served")
    ttft = np.array([request.first_token_s - request.arrived_s for request in served])
    tpot = np.array([(r.last_token_s - r.first_token_s) / (r.generated - 1) for r in served])
    tokens = sum(request.prompt_tokens + request.generated for request in served)
    seconds, gpus = emulation.now_s, emulation.gpus
    return Outcome(
        ttft_s=float(np.median(ttft)),
        mean_ttft_s=float(ttft.mean()),
        p99_ttft_s=float(np.percentile(ttft, 99)),
        tpot_s=float(np.median(tpot)),
        mean_tpot_s=float(tpot.mean()),
        tokens_s_gpu=tokens / seconds / gpus,
        watts_gpu=sum(emulation.energy_j(seconds)) / seconds / gpus,
        duration_s=seconds,
    )


Watch = Callable[[Engine], None]


def twin(config: Config, power: Power | None = None) -> TwinConfig:
    return TwinConfig(
        system=config.system,
        power=power or Power(),
        noise=0.0,
        acceptance=ACCEPTANCE,
    )


def simulate(
    config: Config,
    library: Library,
    host: HostCosts | None,
    *,
    power: Power | None = None,
    watch: Watch | None = None,
) -> tuple[Outcome, list[Request]]:
    """Runs a point. `host`: None for the shipped costs. `watch` gets the engine before it starts."""
    try:
        emulation = built(config, library, host, power)
    except (NoTable, FlagError, TwinOutOfMemory) as error:
        return Outcome(reason=str(error)), []
    if watch:
        watch(emulation.engines[0])
    done = run_closed_loop(emulation, requests_of(config), config.users)
    return outcome_of(emulation, done), done


def built(
    config: Config, library: Library, host: HostCosts | None, power: Power | None = None
) -> Emulation:
    """The emulation of a point. Raises NoTable, FlagError, TwinOutOfMemory."""
    setup = setup_of(config)
    assembled = assembly.assemble(setup, twin(config, power), library)
    emulation = assembled.emulation
    if host is not None:
        with_costs(emulation, host)
    return emulation


def with_costs(emulation: Emulation, host: HostCosts) -> None:
    """Replaces the shipped host costs."""
    emulation.host = host
    for engine in emulation.all_engines:
        engine.host = host
